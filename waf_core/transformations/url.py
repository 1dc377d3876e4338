"""`t:urlDecode`, `t:urlDecodeUni`, `t:urlEncode` (RFC 3986 and `%uXXXX`)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from waf_core.transformations import ANYTHING, Transformation, transformation
from waf_core.transformations.javascript import low_byte

_HEX = b"0123456789abcdefABCDEF"
_BYTE = {bytes((a, b)): bytes((int(bytes((a, b)), 16),)) for a in _HEX for b in _HEX}
_UNICODE = re.compile(rb"[uU][0-9a-fA-F]{4}")
_KEPT = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*")
_ENCODED = [bytes((b,)) if b in _KEPT else b"+" if b == 0x20 else b"%%%02x" % b for b in range(256)]


@transformation("urlDecode", effects=((b"+", b" "), (b"%", ANYTHING)), growth=1, joined=b"")
def url_decode(value: bytes) -> bytes:
    """Decode `%HH` and `+`; an incomplete escape stays as it is."""
    if b"+" in value:
        value = value.replace(b"+", b" ")
    if b"%" not in value:
        return value
    first, *rest = value.split(b"%")
    out = [first]
    for part in rest:
        byte = _BYTE.get(part[:2])
        if byte is None:
            out.append(b"%")
            out.append(part)
        else:
            out.append(byte)
            out.append(part[2:])
    return b"".join(out)


def _decode_uni(value: bytes, unicode_map: Mapping[int, int] | None) -> bytes:
    if b"+" in value:
        value = value.replace(b"+", b" ")
    if b"%" not in value:
        return value
    first, *rest = value.split(b"%")
    out = [first]
    for part in rest:
        byte = _BYTE.get(part[:2])
        if byte is not None:
            out.append(byte)
            out.append(part[2:])
        elif _UNICODE.match(part):
            mapped = unicode_map.get(int(part[1:5], 16)) if unicode_map else None
            out.append(low_byte(part[1:5]) if mapped is None else bytes((mapped & 0xFF,)))
            out.append(part[5:])
        else:
            out.append(b"%")
            out.append(part)
    return b"".join(out)


@transformation("urlDecodeUni", effects=((b"+", b" "), (b"%", ANYTHING)), growth=1, joined=b"")
def url_decode_uni(value: bytes) -> bytes:
    """As t:urlDecode, and `%uXXXX` becomes the low byte of its code point."""
    return _decode_uni(value, None)


def url_decode_uni_by_map(unicode_map: Mapping[int, int]) -> Transformation:
    """t:urlDecodeUni with the best-fit table of SecUnicodeMapFile: code point -> byte."""

    def decode(value: bytes) -> bytes:
        return _decode_uni(value, unicode_map)

    return decode


@transformation("urlEncode")
def url_encode(value: bytes) -> bytes:
    return b"".join([_ENCODED[b] for b in value])
