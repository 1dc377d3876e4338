"""Texts that a pattern matches, made at random: of an expression from its syntax tree."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from waf_core.operators import Operator
from waf_core.operators.needs import NotUnderstoodError, group_ignores_case, ignores_case, one_byte, parse
from waf_core.operators.phrases import Phrases
from waf_core.operators.regex import Rx
from waf_core.scan.hyperscan_set import Pattern

MAX_TEXT = 300
"""Bytes; expressions with large numbers make longer ones."""

FEW = 4
"""So often more than it must a part is usually repeated; now and then MANY times."""

MANY = 40

LARGE_PATTERN_BYTES = 1500

READABLE = sum(1 << byte for byte in range(32, 127))
PLAIN = sum(1 << byte for byte in b"abcdefghijklmnopqrstuvwxyz0123456789 ")


def operator_of(pattern: Pattern) -> Operator:
    """The operator that has such a pattern."""
    return Rx(pattern) if isinstance(pattern, bytes) else Phrases(list(pattern))


def text_of(pattern: Pattern, rng: random.Random) -> bytes | None:
    """A text that is not too long; None when there is none this time."""
    text = matching(pattern, rng) if isinstance(pattern, bytes) else rng.choice(pattern)
    return text if text is not None and len(text) <= MAX_TEXT else None


def matching(pattern: bytes, rng: random.Random) -> bytes | None:
    """One of them, unless what it looks at besides (`\\b`, `^`) prevents a match; None when the tree cannot be read."""
    tree = parse(pattern)
    if tree is None:
        return None
    out = bytearray()
    try:
        _write(tree, ignores_case(tree), rng, out)
    except NotUnderstoodError:
        return None
    return bytes(out)


def cut_matches(patterns: Iterable[Pattern]) -> Callable[[random.Random, int], bytes]:
    """Makes texts of about a size: pieces, cut at random, of what one of the large expressions matches, of which each
    byte is news to an automaton.  They end with a match."""
    rng = random.Random(1)
    large = [p for p in patterns if isinstance(p, bytes) and len(p) > LARGE_PATTERN_BYTES]
    pools = [[text for _ in range(MANY) if (text := text_of(pattern, rng))] for pattern in large]

    def make(rng: random.Random, size: int) -> bytes:
        pool = rng.choice(pools)
        out = b""
        while len(out) < size:
            text = rng.choice(pool)
            end = rng.randrange(len(text) + 1)
            out += text[:end] if rng.random() < 0.5 else text[end // 2 : end]
            if rng.random() < 0.3:
                out += b"%c" % rng.randrange(32, 127)
        return out[:size] + b" " + rng.choice(pool)

    return make


def _write(items: Iterable[tuple[Any, Any]], ignore_case: bool, rng: random.Random, out: bytearray) -> None:
    for node, argument in items:
        kind = str(node)
        if kind == "AT":
            continue
        if kind in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, child = argument
            more = rng.randrange(MANY) if rng.random() < 0.03 else rng.choice((0, 0, 0, 1, 1, rng.randrange(FEW)))
            for _ in range(min(least + more, int(most))):
                _write(child, ignore_case, rng, out)
        elif kind == "SUBPATTERN":
            _, add, remove, child = argument
            _write(child, group_ignores_case(add, remove, ignore_case), rng, out)
        elif kind == "BRANCH":
            _write(rng.choice(argument[1]), ignore_case, rng, out)
        else:
            out.append(_one(one_byte(kind, argument, ignore_case), rng))


def _one(members: int, rng: random.Random) -> int:
    wanted = rng.random()
    for likely, some in ((0.7, PLAIN), (0.97, READABLE)):
        if wanted < likely and members & some:
            members &= some
            break
    return rng.choice([byte for byte in range(256) if members >> byte & 1])
