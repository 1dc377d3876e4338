"""`t:cmdLine`: the spelling tricks of shells undone (ModSecurity manual, cmdLine)."""

from __future__ import annotations

from typing import Final

from waf_core.transformations import transformation

_ESCAPES: Final = b"\"'\\^"
_SEPARATORS: Final = b" ,;\t\r\n"
_TO_SPACES: Final = bytes.maketrans(_SEPARATORS, b" " * len(_SEPARATORS))
_SPECIAL: Final = _ESCAPES + _SEPARATORS


@transformation(
    "cmdLine",
    effects=(
        (b"\"'\\^", b""),
        (b",;\t\r\n ", b" "),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz"),
    ),
    growth=1,
    joined=b"",
)
def cmd_line(value: bytes) -> bytes:
    r"""Delete `\ " ' ^`, turn runs of `, ; white space` into one space, delete
    spaces before `/` and `(`, lower the case."""
    out = value.lower()
    if len(out.translate(None, _SPECIAL)) != len(out):
        out = out.translate(_TO_SPACES, _ESCAPES)
        # Each round halves every run of spaces.
        while out.find(b"  ") >= 0:
            out = out.replace(b"  ", b" ")
        out = out.replace(b" /", b"/").replace(b" (", b"(")
    return value if out == value else out
