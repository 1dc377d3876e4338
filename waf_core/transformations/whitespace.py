"""White space and NUL: compress, remove, replace, trim.

White space is C's isspace() and 0xA0, the no-break space (ModSecurity does the same).
"""

from __future__ import annotations

from typing import Final

from waf_core.octets import NUL, single_spaces
from waf_core.transformations import KEEPS, transformation
from waf_core.transformations.pieces import before_word, in_pieces
from waf_core.turns import LONG_BYTES

_SPACE: Final = b" \t\n\r\f\v"
_SPACE_NBSP: Final = _SPACE + b"\xa0"
_BLANKS: Final = bytes.maketrans(_SPACE_NBSP, b" " * len(_SPACE_NBSP))
"""Byte -> what stands for it."""


@transformation("compressWhitespace", effects=((_SPACE_NBSP, b" "),), growth=1, joined=b"", indexes=KEEPS)
def compress_whitespace(value: bytes) -> bytes:
    out = value.translate(_BLANKS)
    out = in_pieces(single_spaces, out, before_word) if len(out) > LONG_BYTES else single_spaces(out)
    return value if out == value else out


@transformation("removeWhitespace", effects=((_SPACE_NBSP, b""),), growth=1, joined=b"", indexes=KEEPS)
def remove_whitespace(value: bytes) -> bytes:
    out = value.translate(None, _SPACE_NBSP)
    return value if len(out) == len(value) else out


@transformation("removeNulls", effects=((b"\0", b""),), growth=1, joined=b"", indexes=KEEPS)
def remove_nulls(value: bytes) -> bytes:
    return value.replace(b"\0", b"") if NUL in value else value


@transformation("replaceNulls", effects=((b"\0", b" "),), growth=1, joined=b"", indexes=KEEPS)
def replace_nulls(value: bytes) -> bytes:
    return value.replace(b"\0", b" ") if NUL in value else value


@transformation("trim", effects=((_SPACE, b""),), growth=1, indexes=KEEPS)
def trim(value: bytes) -> bytes:
    return value.strip(_SPACE)


@transformation("trimLeft", effects=((_SPACE, b""),), growth=1, indexes=KEEPS)
def trim_left(value: bytes) -> bytes:
    return value.lstrip(_SPACE)


@transformation("trimRight", effects=((_SPACE, b""),), growth=1, indexes=KEEPS)
def trim_right(value: bytes) -> bytes:
    return value.rstrip(_SPACE)
