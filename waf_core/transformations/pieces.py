"""Long values, transformed piece by piece.

A call that reads a megabyte may take a fifth of a second, and tens of times the value for what it is taken apart into;
meanwhile no other thread runs.  So a value is cut where a function does the same to both parts as to the whole.
This module is not compiled (waf_core/turns.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from waf_core.octets import BACKSLASH
from waf_core.transformations import Transformation
from waf_core.turns import LONG_BYTES

Cut = Callable[[bytes, int, int], int]
"""(value, start, place): where to cut from `place` on, if a piece begins at `start`.  Behind the end: nowhere."""


def pieces(value: bytes, cut: Cut) -> Iterator[bytes]:
    start, size = 0, len(value)
    while start < size:
        place = start + LONG_BYTES
        end = min(cut(value, start, place), size) if place < size else size
        yield value[start:end]
        start = end


def in_pieces(function: Transformation, value: bytes, cut: Cut) -> bytes:
    """function(value), for a function that gives back the very piece that it leaves as it is."""
    out: list[bytes] = []
    changed = False
    for piece in pieces(value, cut):
        form = function(piece)
        changed |= form is not piece
        out.append(form)
    return b"".join(out) if changed else value


def anywhere(value: bytes, start: int, place: int) -> int:
    """For what looks at each byte by itself."""
    return place


def _before(expression: bytes) -> Cut:
    """Before what matches it."""
    search = re.compile(expression).search

    def cut(value: bytes, start: int, place: int) -> int:
        found = search(value, place)
        return found.start() if found else len(value)

    return cut


before_percent = _before(b"%")
"""For escapes that begin with it and have no other one."""

before_ampersand = _before(b"&")
"""For entities."""

before_no_mark = _before(rb"[^-*/<!>]")
"""For marks of comments (but for `#`): before a byte that none has."""

before_word = _before(rb"[^ /(]")
"""For spaces, and those before `/` and `(`."""

_before_backslash = _before(rb"\\")


def before_letter(value: bytes, start: int, place: int) -> int:
    """For letters of UTF-8: before what is not within one."""
    for end in range(place, min(place + 3, len(value))):
        if value[end] & 0xC0 != 0x80:
            return end
    return place + 3


def before_backslashes(value: bytes, start: int, place: int) -> int:
    """For escapes that begin with a backslash, and have at most one more, right behind it."""
    if value[place] != BACKSLASH:
        return _before_backslash(value, start, place)
    head = value[start:place]
    run = len(head) - len(head.rstrip(b"\\"))
    if run < len(head):
        return place - run
    return place + run % 2  # there is nothing else in the piece: each second one is taken by the first
