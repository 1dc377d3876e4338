"""Base64 and hexadecimal, lenient as attackers need them to be."""

from __future__ import annotations

import base64
import binascii
import re

from waf_core.transformations import transformation

_BASE64_PREFIX = re.compile(rb"[A-Za-z0-9+/]*")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_SQL_HEX = re.compile(rb"0[xX]((?:[0-9a-fA-F]{2})+)")


def _decode_quads(text: bytes) -> bytes:
    """Decode base64 digits; a lone digit at the end carries no byte and is dropped."""
    if len(text) % 4 == 1:
        text = text[:-1]
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4))


@transformation("base64Decode")
def base64_decode(value: bytes) -> bytes:
    """Decode up to the first byte outside the alphabet (padding may be missing)."""
    match = _BASE64_PREFIX.match(value)
    return _decode_quads(match.group()) if match else b""


@transformation("base64DecodeExt")
def base64_decode_ext(value: bytes) -> bytes:
    """Decode and skip every byte outside the alphabet; stops at padding (RFC 2045)."""
    text = _NOT_BASE64.sub(b"", value.split(b"=", 1)[0])
    return _decode_quads(text)


@transformation("base64Encode")
def base64_encode(value: bytes) -> bytes:
    return base64.b64encode(value)


@transformation("hexEncode")
def hex_encode(value: bytes) -> bytes:
    return value.hex().encode()


@transformation("hexDecode")
def hex_decode(value: bytes) -> bytes:
    """Decode the leading hexadecimal pairs; what is no hexadecimal ends it."""
    match = re.match(rb"(?:[0-9a-fA-F]{2})*", value)
    return bytes.fromhex(match.group().decode()) if match else b""


@transformation("sqlHexDecode", touches=b"xX")
def sql_hex_decode(value: bytes) -> bytes:
    """`0x414243` -> `ABC`, anywhere in the value (MySQL literals)."""
    if b"0x" not in value and b"0X" not in value:
        return value
    return _SQL_HEX.sub(lambda match: bytes.fromhex(match.group(1).decode()), value)
