"""`t:removeComments`, `t:removeCommentsChar`, `t:replaceComments`."""

from __future__ import annotations

import re
from typing import Final

from waf_core.octets import HASH
from waf_core.transformations import KEEPS, MOVES, transformation
from waf_core.transformations.pieces import before_no_mark, in_pieces
from waf_core.turns import LONG_BYTES, give_way

_MARK: Final = rb"(?:/\*|\*/|<!--|-->|--)"
_MARKS: Final = re.compile(_MARK + _MARK + b"{0,63}")
"""(`{1,64}` would hide from `re` what a match may begin with: it would take four times as long.)"""

_TURN: Final = 64
"""So many comments or marks take some microseconds."""


@transformation("replaceComments", effects=((b"*", b" "),), growth=1, indexes=MOVES)
def replace_comments(value: bytes) -> bytes:
    """Each C comment, also one that never ends, becomes one space."""
    begin = value.find(b"/*")
    if begin < 0:
        return value
    kept: list[bytes] = []
    end = 0
    while begin >= 0:
        kept.append(value[end:begin])
        if len(kept) % _TURN == 0:
            give_way()
        close = value.find(b"*/", begin + 2)
        end = len(value) if close < 0 else close + 2
        begin = value.find(b"/*", end)
    kept.append(value[end:])
    return b" ".join(kept)


@transformation("removeComments", effects=((b"*-#!", b" "),), growth=1, indexes=MOVES)
def remove_comments(value: bytes) -> bytes:
    """C and HTML comments go, of one that never ends a space is left; `--` and `#` end the value."""
    if not _begins_comment(value):
        return value
    kept: list[bytes] = []
    end = turn = 0
    c = html = dashes = sharp = -1
    while True:
        # Each kind is looked for again when what was found of it is behind.
        if c < end:
            c = _next(value, b"/*", end)
        if html < end:
            html = _next(value, b"<!--", end)
        if dashes < end:
            dashes = _next(value, b"--", end)
        if sharp < end:
            sharp = _next(value, b"#", end)
        comment, last = min(c, html), min(dashes, sharp)
        begin = min(comment, last)
        if begin > end:
            kept.append(value[end:begin])
        if begin == last:  # also where there is nothing more
            break
        closing = b"*/" if begin == c else b"-->"
        end = value.find(closing, begin + (2 if begin == c else 4)) + len(closing)
        if end < len(closing):
            kept.append(b" ")
            break
        turn += 1
        if turn % _TURN == 0:
            give_way()
    return b"".join(kept)


def _next(value: bytes, mark: bytes, start: int) -> int:
    """Where there is one from `start` on; behind the end if there is none."""
    found = value.find(mark, start)
    return found if found >= 0 else len(value)


def _begins_comment(value: bytes) -> bool:
    """Anywhere?  (`<!--` has `--`.)"""
    return HASH in value or value.find(b"--") >= 0 or value.find(b"/*") >= 0


@transformation("removeCommentsChar", effects=((b"*-#!", b""),), growth=1, joined=b"", indexes=KEEPS)
def remove_comments_char(value: bytes) -> bytes:
    """The marks that open or close comments go, their content stays."""
    if value.find(b"--") >= 0 or value.find(b"/*") >= 0 or value.find(b"*/") >= 0:
        value = in_pieces(_unmarked, value, before_no_mark) if len(value) > LONG_BYTES else _unmarked(value)
    # It is part of no other mark, and what it parts is none.
    return value.translate(None, b"#") if HASH in value else value


def _unmarked(value: bytes) -> bytes:
    if len(value) <= 2 * LONG_BYTES:
        return _MARKS.sub(b"", value)
    # It is made of marks.
    kept: list[bytes] = []
    end = 0
    for turn, marks in enumerate(_MARKS.finditer(value), 1):
        if turn % _TURN == 0:
            give_way()
        if marks.start() > end:
            kept.append(value[end : marks.start()])
        end = marks.end()
    kept.append(value[end:])
    return b"".join(kept)
