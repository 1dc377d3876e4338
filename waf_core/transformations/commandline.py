"""`t:cmdLine`: the spelling tricks of shells undone (ModSecurity manual, cmdLine)."""

from __future__ import annotations

import re

from waf_core.transformations import transformation

_ESCAPES = b"\"'\\^"
_SEPARATORS = re.compile(rb"[ ,;\t\r\n]+")
_SPACE_BEFORE = re.compile(rb" ([/(])")
_find_separator = _SEPARATORS.search
_CAN_CHANGE = re.compile(rb"[\"'\\^,;\t\r\n A-Z]")


@transformation(
    "cmdLine",
    effects=(
        (b"\"'\\^", b""),
        (b",;\t\r\n ", b" "),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz"),
    ),
    growth=1,
)
def cmd_line(value: bytes) -> bytes:
    r"""Delete `\ " ' ^`, turn runs of `, ; white space` into one space, delete
    spaces before `/` and `(`, lower the case."""
    if not _CAN_CHANGE.search(value):
        return value
    out = value.translate(None, _ESCAPES)
    if _find_separator(out):
        out = _SPACE_BEFORE.sub(rb"\1", _SEPARATORS.sub(b" ", out))
    out = out.lower()
    return value if out == value else out
