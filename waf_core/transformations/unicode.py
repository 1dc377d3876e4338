"""`t:utf8toUnicode`: UTF-8 sequences become `%uXXXX`, which t:urlDecodeUni folds to a byte."""

from __future__ import annotations

import re

from waf_core.octets import NUL
from waf_core.transformations import KEEPS, transformation

# Overlong forms are decoded too (as ModSecurity does): C0 AF must end up as "/".
_SEQUENCE = re.compile(rb"[\xc0-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf7][\x80-\xbf]{3}")


def _escape(match: re.Match[bytes]) -> bytes:
    sequence = match.group()
    code = sequence[0] & (0xFF >> (len(sequence) + 1))
    for byte in sequence[1:]:
        code = code << 6 | byte & 0x3F
    return b"%%u%04x" % code


@transformation(
    "utf8toUnicode",
    effects=((b"\0" + bytes(range(0x80, 0x100)), b"%0123456789abcdefghijklmnopqrstuvwxyz"),),
    indexes=KEEPS,
)
def utf8_to_unicode(value: bytes) -> bytes:
    """NUL bytes go, but for one at the end (as in ModSecurity, v2 and v3): `%2<NUL>7` is `%27` to what comes next."""
    if NUL in value:
        shorter = value.replace(b"\0", b"") + (b"\0" if value[-1] == NUL else b"")
        value = value if shorter == value else shorter
    if value.isascii():
        return value
    return _SEQUENCE.sub(_escape, value)
