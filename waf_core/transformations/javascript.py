r"""`t:jsDecode` and `t:escapeSeqDecode`: backslash escapes of JavaScript and of ANSI C."""

from __future__ import annotations

import re

from waf_core.octets import BACKSLASH
from waf_core.transformations import ANYTHING, KEEPS, transformation

_CONTROL = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}
_JS = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([0-3][0-7]{0,2}|[4-7][0-7]?)|(.))", re.DOTALL)
_C = re.compile(rb"\\(?:[xX]([0-9a-fA-F]{2})|([0-7]{1,3})|(.))", re.DOTALL)


def low_byte(digits: bytes) -> bytes:
    """The byte a four-digit escape stands for; U+FF01..U+FF5E are ASCII in full width."""
    code = int(digits[2:], 16)
    if digits[:2].lower() == b"ff" and 0 < code < 0x5F:
        code += 0x20
    return bytes((code,))


def _decode_js(match: re.Match[bytes]) -> bytes:
    unicode, hexadecimal, octal, other = match.groups()
    if unicode is not None:
        return low_byte(unicode)
    if hexadecimal is not None:
        return bytes((int(hexadecimal, 16),))
    if octal is not None:
        return bytes((int(octal, 8),))
    return _CONTROL.get(other, other)


def _decode_c(match: re.Match[bytes]) -> bytes:
    hexadecimal, octal, other = match.groups()
    if hexadecimal is not None:
        return bytes((int(hexadecimal, 16),))
    if octal is not None:
        return bytes((int(octal, 8) & 0xFF,))
    return _CONTROL.get(other, other)


@transformation("jsDecode", effects=((b"\\", ANYTHING),), growth=1, joined=b"\\", indexes=KEEPS)
def js_decode(value: bytes) -> bytes:
    if BACKSLASH not in value:
        return value
    return _JS.sub(_decode_js, value)


@transformation("escapeSeqDecode", effects=((b"\\", ANYTHING),), growth=1, joined=b"\\", indexes=KEEPS)
def escape_seq_decode(value: bytes) -> bytes:
    """Of an escape that ANSI C does not know only the backslash goes (ModSecurity, Coraza)."""
    if BACKSLASH not in value:
        return value
    return _C.sub(_decode_c, value)
