"""`t:urlDecode`, `t:urlDecodeUni`, `t:urlEncode` (RFC 3986 and `%uXXXX`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from waf_core.octets import PERCENT, PLUS
from waf_core.transformations import ANYTHING, KEEPS, Transformation, transformation
from waf_core.transformations.escapes import PAIRS, Meanings, low_byte, unescape
from waf_core.transformations.pieces import anywhere, before_percent, in_pieces, pieces
from waf_core.turns import LONG_BYTES

_split: Final = re.compile(rb"%([0-9a-fA-F]{2})").split
_split_uni: Final = re.compile(rb"%([0-9a-fA-F]{2}|[uU][0-9a-fA-F]{4})").split
_bad: Final = re.compile(rb"%(?![0-9a-fA-F]{2})").search
_KEPT: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*")
_ENCODED: Final = [bytes((b,)) if b in _KEPT else b"+" if b == 0x20 else b"%%%02x" % b for b in range(256)]


def _meanings(unicode_map: Mapping[int, int]) -> Meanings:
    """Of two digits, and of `uXXXX`, by the table of SecUnicodeMapFile: code point -> byte."""

    def meaning(escape: bytes) -> bytes:
        if len(escape) == 2:
            return bytes((int(escape, 16),))
        mapped = unicode_map.get(int(escape[1:], 16))
        return low_byte(escape[1:]) if mapped is None else bytes((mapped & 0xFF,))

    return Meanings(meaning, PAIRS)


_STANDARD: Final = _meanings({})


@transformation("urlDecode", effects=((b"+", b" "), (b"%", ANYTHING)), growth=1, joined=b"", indexes=KEEPS)
def url_decode(value: bytes) -> bytes:
    """Decode `%HH` and `+`; an incomplete escape stays as it is."""
    return _decode(value, _split, _STANDARD)


def _decode(value: bytes, split: Callable[[bytes], list[bytes]], meanings: Meanings) -> bytes:
    if PLUS in value:
        value = value.replace(b"+", b" ")
    return unescape(value, split, meanings, before_percent) if PERCENT in value else value


@transformation("urlDecodeUni", effects=((b"+", b" "), (b"%", ANYTHING)), growth=1, joined=b"", indexes=KEEPS)
def url_decode_uni(value: bytes) -> bytes:
    """As t:urlDecode, and `%uXXXX` becomes the low byte of its code point."""
    return _decode(value, _split_uni, _STANDARD)


def url_decode_uni_by_map(unicode_map: Mapping[int, int]) -> Transformation:
    """t:urlDecodeUni with the best-fit table of SecUnicodeMapFile: code point -> byte."""
    meanings = _meanings(unicode_map)

    def decode(value: bytes) -> bytes:
        return _decode(value, _split_uni, meanings)

    return decode


@transformation("urlEncode")
def url_encode(value: bytes) -> bytes:
    return in_pieces(_encode, value, anywhere) if len(value) > LONG_BYTES else _encode(value)


def _encode(value: bytes) -> bytes:
    return b"".join([_ENCODED[b] for b in value])


def has_bad_escape(value: bytes) -> bool:
    """Is there a `%` without two hexadecimal digits?"""
    if PERCENT not in value:
        return False
    if len(value) <= LONG_BYTES:
        return _bad(value) is not None
    return any(_bad(piece) is not None for piece in pieces(value, before_percent))
