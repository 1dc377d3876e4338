"""Base64 and hexadecimal, lenient as attackers need them to be."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from waf_core.octets import span, table_of
from waf_core.transformations import ENDS, transformation

_DIGITS: Final = table_of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_NOT_BASE64: Final = bytes(byte for byte in range(256) if not _DIGITS[byte])
_HEX: Final = table_of(b"0123456789abcdefABCDEF")
_PADDING: Final = (b"", b"", b"==", b"=")
_decode: Final = binascii.a2b_base64


def _decode_quads(text: bytes) -> bytes:
    """Decode base64 digits; a lone digit at the end carries no byte and is dropped."""
    odd = len(text) & 3
    if not odd:
        return _decode(text)
    return _decode(text[:-1] if odd == 1 else text + _PADDING[odd])


@transformation("base64Decode", growth=0.75, indexes=ENDS)
def base64_decode(value: bytes) -> bytes:
    """Decode up to the first byte outside the alphabet (padding may be missing)."""
    if value.isalnum():
        return _decode_quads(value)
    return _decode_quads(value[: span(value, _DIGITS, 0)])


@transformation("base64DecodeExt", growth=0.75)
def base64_decode_ext(value: bytes) -> bytes:
    """Decode and skip every byte outside the alphabet (RFC 2045), padding in the midst of it too, as PHP does."""
    return _decode_quads(value.translate(None, _NOT_BASE64))


@transformation("base64Encode")
def base64_encode(value: bytes) -> bytes:
    return base64.b64encode(value)


@transformation("hexEncode")
def hex_encode(value: bytes) -> bytes:
    return value.hex().encode()


@transformation("hexDecode", growth=1, indexes=ENDS)
def hex_decode(value: bytes) -> bytes:
    """Decode the leading hexadecimal pairs; what is no hexadecimal ends it."""
    return bytes.fromhex(value[: span(value, _HEX, 0) & ~1].decode("ascii"))
