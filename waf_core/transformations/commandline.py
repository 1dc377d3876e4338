"""`t:cmdLine`: the spelling tricks of shells undone (ModSecurity manual, cmdLine)."""

from __future__ import annotations

from typing import Final

from waf_core.octets import SPACE, single_spaces
from waf_core.transformations import KEEPS, transformation
from waf_core.transformations.pieces import before_word, in_pieces
from waf_core.turns import LONG_BYTES

_ESCAPES: Final = b"\"'\\^"
_SEPARATORS: Final = b" ,;\t\r\n"
_PLAIN: Final = bytes(range(256)).lower().translate(bytes.maketrans(_SEPARATORS, b" " * len(_SEPARATORS)))
"""Byte -> what stands for it."""


@transformation(
    "cmdLine",
    effects=(
        (b"\"'\\^", b""),
        (b",;\t\r\n ", b" "),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz"),
    ),
    growth=1,
    joined=b"",
    indexes=KEEPS,
)
def cmd_line(value: bytes) -> bytes:
    r"""Delete `\ " ' ^`, turn runs of `, ; white space` into one space, delete
    spaces before `/` and `(`, lower the case."""
    out = value.translate(_PLAIN, _ESCAPES)
    if SPACE in out:
        out = in_pieces(_fewer_spaces, out, before_word) if len(out) > LONG_BYTES else _fewer_spaces(out)
    return value if out == value else out


def _fewer_spaces(value: bytes) -> bytes:
    return single_spaces(value).replace(b" /", b"/").replace(b" (", b"(")
