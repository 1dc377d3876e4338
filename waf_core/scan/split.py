"""Patterns that are too large for Hyperscan, in pieces: `x(?:a|b|c|d)y` -> `x(?:a|b)y`, `x(?:c|d)y`.

The pieces together find what the whole finds.  Only a group that is taken exactly once may be split,
and that holds for the groups around it too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_PIECES = 128
_QUANTIFIERS = frozenset(b"*+?{")


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
    i, end = 0, len(pattern)
    while i < end:
        byte = pattern[i]
        if byte == 0x5C:
            i += 2
            continue
        if byte == 0x5B:
            i = _class_end(pattern, i)
            continue
        if byte == 0x28:
            start = i + 1
            if pattern[start : start + 2] == b"?:":
                start += 2
            elif pattern[start : start + 1] == b"?":
                close = pattern.find(b")", start)
                if close == -1 or not pattern[start + 1 : close].isalpha():
                    return []
                i = close + 1
                continue
            current = _Group(start, parent=current)
        elif byte == 0x7C and current is not None:
            current.bars.append(i)
        elif byte == 0x29:
            if current is None:
                return []
            current.end = i
            current.repeated = pattern[i + 1 : i + 2] != b"" and pattern[i + 1] in _QUANTIFIERS
            found.append(current)
            current = current.parent
        i += 1
    return found if current is None else []


def _class_end(pattern: bytes, i: int) -> int:
    i += 1
    if pattern[i : i + 1] == b"^":
        i += 1
    if pattern[i : i + 1] == b"]":
        i += 1
    while i < len(pattern) and pattern[i] != 0x5D:
        if pattern[i : i + 2] == b"[:":
            i = pattern.find(b":]", i) + 1
        i += 2 if pattern[i] == 0x5C else 1
    return i + 1


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
