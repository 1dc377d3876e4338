"""A trial of the Hyperscan that is installed: does it find what it should?

What it does not find is not asked of RE2 either, so that a library which misses matches would let attacks pass.  And
some do: Vectorscan 5.4.12 (in the packages from 0.7.22 on) misses two classes of bytes in a row, with anything before
them, by where they lie in the text (VectorCamp/vectorscan, issues 358 and 382).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

Prepare = Callable[[Sequence[bytes]], Callable[[bytes], Collection[int]]]
"""From expressions to what tells the numbers of those that a text has."""

CASES = (
    ([rb"run.*\|\s*sh"], b"run -f http://example.com/2 2>&1 | sh"),
    ([rb"""\x5c['"`].*['"`] *or"""], b"""\\"1 by 9 desc' or 1"""),
    ([rb"""['"`].*?[;,]\s*(?:and|or)\b"""], b"'x; or 1"),
    (
        [rb"<%[\s\S]+%>", rb"<[^<>]+:(?:include|use|set|body)", rb"[$#]{[\s\S]+\([\s\S]*\)[\s\S]*}"],
        b"<%out.print(1);int a%>",
    ),
    ([rb"(?i)[a-z_]+\s*\([^)]*\)", rb"[0-9a-f]{8}-[0-9a-f]{4}"], b"x = Eval ( 1 )"),
)
"""Expressions, and a text that has the first of them, wherever in a longer one it stands."""

SHIFTS = range(0, 100, 3)
"""Bytes ahead of the text: vectors have 16, 32 or 64."""

ENDS = (b"", b"\n", b"z" * 40)


def missed(prepare: Prepare) -> Iterator[tuple[bytes, bytes]]:
    """Expressions and texts in which they should have been found."""
    for expressions, text in CASES:
        match = prepare(expressions)
        for shift in SHIFTS:
            for ahead in (b"a" * shift, b" " * shift):
                for end in ENDS:
                    longer = ahead + text + end
                    if 0 not in match(longer):
                        yield expressions[0], longer
