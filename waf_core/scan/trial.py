"""A trial of the Hyperscan that is installed: does it find what it should?

What it does not find is not asked of RE2 either, so that a library which misses matches would let attacks pass.  And
some do: Vectorscan 5.4.12 (in the packages from 0.7.22 on) misses two classes of bytes in a row, with anything before
them, by where they lie in the text (VectorCamp/vectorscan, issues 358 and 382).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

Found = Callable[[list[bytes], bytes], set[int]]
"""Numbers of the expressions that are found in a text."""

CASES = (
    ([rb"run.*\|\s*sh"], b"run -f http://example.com/2 2>&1 | sh", 0),
    ([rb"""\x5c['"`].*['"`] *or"""], b"""\\"1 by 9 desc' or 1""", 0),
    ([rb"""['"`].*?[;,]\s*(?:and|or)\b"""], b"'x; or 1", 0),
    (
        [rb"<%[\s\S]+%>", rb"<[^<>]+:(?:include|use|set|body)", rb"[$#]{[\s\S]+\([\s\S]*\)[\s\S]*}"],
        b"<%out.print(1);int a%>",
        0,
    ),
    ([rb"(?i)[a-z_]+\s*\([^)]*\)", rb"[0-9a-f]{8}-[0-9a-f]{4}"], b"x = Eval ( 1 )", 0),
)
"""Expressions, a text, and which of them it has, wherever in a longer one it stands."""

SHIFTS = range(0, 100, 3)
"""Bytes ahead of the text: vectors have 16, 32 or 64."""

ENDS = (b"", b"\n", b"z" * 40)


def missed(found: Found) -> Iterator[tuple[bytes, bytes]]:
    """Expressions and texts in which they should have been found."""
    for expressions, text, number in CASES:
        for shift in SHIFTS:
            for ahead in (b"a" * shift, b" " * shift):
                for end in ENDS:
                    if number not in found(expressions, ahead + text + end):
                        yield expressions[number], ahead + text + end
