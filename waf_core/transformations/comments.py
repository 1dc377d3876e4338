"""`t:removeComments`, `t:removeCommentsChar`, `t:replaceComments`."""

from __future__ import annotations

import re
from typing import Final

from waf_core.transformations import KEEPS, MOVES, transformation

_C_COMMENT: Final = re.compile(rb"/\*.*?(?:\*/|\Z)", re.DOTALL)
_ANY_COMMENT: Final = re.compile(rb"/\*.*?(?:\*/|(\Z))|<!--.*?(?:-->|(\Z))|(?:--|#).*\Z", re.DOTALL)
_COMMENT_MARKS: Final = re.compile(rb"/\*|\*/|<!--|-->|--|#")


@transformation("replaceComments", effects=((b"*", b" "),), growth=1, indexes=MOVES)
def replace_comments(value: bytes) -> bytes:
    """Each C comment, also one that never ends, becomes one space."""
    if value.find(b"/*") < 0:
        return value
    return _C_COMMENT.sub(b" ", value)


@transformation("removeComments", effects=((b"*-#!", b" "),), growth=1, indexes=MOVES)
def remove_comments(value: bytes) -> bytes:
    """C and HTML comments go, of one that never ends a space is left; `--` and `#` end the value."""
    out = _ANY_COMMENT.sub(_rest, value)
    return value if out == value else out


def _rest(comment: re.Match[bytes]) -> bytes:
    return b"" if comment.lastindex is None else b" "


@transformation("removeCommentsChar", effects=((b"*-#!", b""),), growth=1, joined=b"", indexes=KEEPS)
def remove_comments_char(value: bytes) -> bytes:
    """The marks that open or close comments go, their content stays."""
    out = _COMMENT_MARKS.sub(b"", value)
    return value if out == value else out
