"""`t:utf8toUnicode`: UTF-8 sequences become `%uXXXX`, which t:urlDecodeUni folds to a byte."""

from __future__ import annotations

import re
from typing import Final

from waf_core.octets import NUL
from waf_core.transformations import KEEPS, transformation
from waf_core.transformations.escapes import Meanings, unescape
from waf_core.transformations.pieces import before_letter

# Overlong forms are decoded too (as ModSecurity does): C0 AF must end up as "/".
_split: Final = re.compile(rb"([\xc0-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf7][\x80-\xbf]{3})").split


def _meaning(sequence: bytes) -> bytes:
    code = sequence[0] & (0xFF >> (len(sequence) + 1))
    for byte in sequence[1:]:
        code = code << 6 | byte & 0x3F
    return b"%%u%04x" % code


_MEANINGS: Final = Meanings(_meaning, ())


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
    return value if value.isascii() else unescape(value, _split, _MEANINGS, before_letter)
