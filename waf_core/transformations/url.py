"""`t:urlDecode`, `t:urlDecodeUni`, `t:urlEncode` (RFC 3986 and `%uXXXX`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from waf_core.octets import PERCENT, PLUS
from waf_core.transformations import ANYTHING, KEEPS, Transformation, transformation
from waf_core.transformations.escapes import BYTES, Escapes

_split: Final = re.compile(rb"%([0-9a-fA-F]{2})").split
_split_uni: Final = re.compile(rb"%([0-9a-fA-F]{2}|[uU][0-9a-fA-F]{4})").split
_bad: Final = re.compile(rb"%(?![0-9a-fA-F]{2})").search
_KEPT: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*")
_ENCODED: Final = [bytes((b,)) if b in _KEPT else b"+" if b == 0x20 else b"%%%02x" % b for b in range(256)]


@transformation("urlDecode", effects=((b"+", b" "), (b"%", ANYTHING)), growth=1, joined=b"", indexes=KEEPS)
def url_decode(value: bytes) -> bytes:
    """Decode `%HH` and `+`; an incomplete escape stays as it is."""
    return _decode(value, _split, BYTES)


def _decode(value: bytes, split: Callable[[bytes], list[bytes]], escapes: dict[bytes, bytes]) -> bytes:
    """`split` gives text and what stands behind `%` in turns."""
    if PLUS in value:
        value = value.replace(b"+", b" ")
    if PERCENT not in value:
        return value
    pieces = split(value)
    if len(pieces) == 1:
        return value
    for number in range(1, len(pieces), 2):
        pieces[number] = escapes[pieces[number]]
    return b"".join(pieces)


_STANDARD: Final = Escapes()


@transformation("urlDecodeUni", effects=((b"+", b" "), (b"%", ANYTHING)), growth=1, joined=b"", indexes=KEEPS)
def url_decode_uni(value: bytes) -> bytes:
    """As t:urlDecode, and `%uXXXX` becomes the low byte of its code point."""
    return _decode(value, _split_uni, _STANDARD)


def url_decode_uni_by_map(unicode_map: Mapping[int, int]) -> Transformation:
    """t:urlDecodeUni with the best-fit table of SecUnicodeMapFile: code point -> byte."""
    escapes = Escapes(unicode_map)

    def decode(value: bytes) -> bytes:
        return _decode(value, _split_uni, escapes)

    return decode


@transformation("urlEncode")
def url_encode(value: bytes) -> bytes:
    return b"".join([_ENCODED[b] for b in value])


def has_bad_escape(value: bytes) -> bool:
    """Is there a `%` without two hexadecimal digits?"""
    return PERCENT in value and _bad(value) is not None
