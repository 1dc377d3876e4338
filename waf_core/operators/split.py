"""Patterns that are too large for Hyperscan, in pieces: `x(?:a|b|c|d)y` -> `x(?:a|b)y`, `x(?:c|d)y`.

The pieces together find what the whole finds.  Only a group that is taken exactly once may be split,
and that holds for the groups around it too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from waf_core.operators.spelling import CLASS, ESCAPE

MAX_PIECES = 128
_QUANTIFIERS = frozenset(b"*+?{")

PARTS = re.compile(rb"[^\\\[()|]+|" + ESCAPE + b"|" + CLASS + b"|.", re.DOTALL)
"""Of an expression: a parenthesis or a bar is one by itself."""


@dataclass(slots=True)
class _Group:
    """`start` and `end` enclose the alternatives; `bars` are the positions of `|` between them."""

    start: int
    end: int = 0
    bars: list[int] = field(default_factory=list)
    parent: _Group | None = None
    repeated: bool = False

    @property
    def splittable(self) -> bool:
        group: _Group | None = self
        while group is not None:
            if group.repeated:
                return False
            group = group.parent
        return bool(self.bars)


def groups(pattern: bytes) -> list[_Group]:
    """All groups of a pattern, in the order of their ends; an empty list when it cannot be read."""
    found: list[_Group] = []
    current: _Group | None = None
    flags_only = False
    for part in PARTS.finditer(pattern):
        token, place = part[0], part.end()
        if token == b"(":
            start = place
            if pattern[start : start + 2] == b"?:":
                start += 2
            elif pattern[start : start + 1] == b"?":
                close = pattern.find(b")", start)
                if close == -1 or not pattern[start + 1 : close].isalpha():
                    return []
                flags_only = True
                continue
            current = _Group(start, parent=current)
        elif token == b"|":
            if current is not None:
                current.bars.append(place - 1)
        elif token != b")":
            continue
        elif flags_only:
            flags_only = False
        elif current is None:
            return []
        else:
            current.end = place - 1
            current.repeated = place < len(pattern) and pattern[place] in _QUANTIFIERS
            found.append(current)
            current = current.parent
    return found if current is None else []


def halves(pattern: bytes) -> tuple[bytes, bytes] | None:
    """Split the largest group that may be split, in the middle of its text."""
    candidates = [group for group in groups(pattern) if group.splittable]
    if not candidates:
        return None
    group = max(candidates, key=lambda g: g.end - g.start)
    middle = (group.start + group.end) // 2
    bar = min(group.bars, key=lambda position: abs(position - middle))
    head, tail = pattern[: group.start], pattern[group.end :]
    return head + pattern[group.start : bar] + tail, head + pattern[bar + 1 : group.end] + tail
