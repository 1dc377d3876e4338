"""`t:removeComments`, `t:removeCommentsChar`, `t:replaceComments`."""

from __future__ import annotations

import re
from typing import Final

from waf_core.octets import HASH
from waf_core.transformations import KEEPS, MOVES, transformation

_ANY_COMMENT: Final = re.compile(rb"/\*.*?(?:\*/|(\Z))|<!--.*?(?:-->|(\Z))|(?:--|#).*\Z", re.DOTALL)
_COMMENT_MARKS: Final = re.compile(rb"/\*|\*/|<!--|-->|--|#")


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
        close = value.find(b"*/", begin + 2)
        end = len(value) if close < 0 else close + 2
        begin = value.find(b"/*", end)
    kept.append(value[end:])
    return b" ".join(kept)


@transformation("removeComments", effects=((b"*-#!", b" "),), growth=1, indexes=MOVES)
def remove_comments(value: bytes) -> bytes:
    """C and HTML comments go, of one that never ends a space is left; `--` and `#` end the value."""
    return _ANY_COMMENT.sub(_rest, value) if _begins_comment(value) else value


def _begins_comment(value: bytes) -> bool:
    """Anywhere?  (`<!--` has `--`.)"""
    return HASH in value or value.find(b"--") >= 0 or value.find(b"/*") >= 0


def _rest(comment: re.Match[bytes]) -> bytes:
    return b"" if comment.lastindex is None else b" "


@transformation("removeCommentsChar", effects=((b"*-#!", b""),), growth=1, joined=b"", indexes=KEEPS)
def remove_comments_char(value: bytes) -> bytes:
    """The marks that open or close comments go, their content stays."""
    return _COMMENT_MARKS.sub(b"", value) if _begins_comment(value) or value.find(b"*/") >= 0 else value
