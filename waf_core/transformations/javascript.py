r"""`t:jsDecode` and `t:escapeSeqDecode`: backslash escapes of JavaScript and of ANSI C."""

from __future__ import annotations

import re
from typing import Final

from waf_core.octets import BACKSLASH
from waf_core.transformations import ANYTHING, KEEPS, transformation
from waf_core.transformations.escapes import PAIRS, Meanings, low_byte, unescape
from waf_core.transformations.pieces import before_backslashes

_CONTROL: Final = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_split_js: Final = re.compile(rb"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[0-3][0-7]{0,2}|[4-7][0-7]?|.)", re.DOTALL).split
_split_c: Final = re.compile(rb"\\([xX][0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL).split


def _meaning(escape: bytes) -> bytes:
    """In both: what neither knows stands for itself (ModSecurity, Coraza)."""
    if escape[0] in b"01234567":
        return bytes((int(escape, 8) & 0xFF,))
    if len(escape) == 1:
        return _CONTROL.get(escape, escape)
    return bytes((int(escape[1:], 16),)) if len(escape) == 3 else low_byte(escape[1:])


_KNOWN: Final = [
    *(bytes((b,)) for b in range(256)),
    *(b"x" + pair for pair in PAIRS),
    *(digits % b for b in range(256) for digits in (b"%o", b"%02o", b"%03o")),
]
_MEANINGS: Final = Meanings(_meaning, _KNOWN)


@transformation("jsDecode", effects=((b"\\", ANYTHING),), growth=1, joined=b"\\", indexes=KEEPS)
def js_decode(value: bytes) -> bytes:
    return unescape(value, _split_js, _MEANINGS, before_backslashes) if BACKSLASH in value else value


@transformation("escapeSeqDecode", effects=((b"\\", ANYTHING),), growth=1, joined=b"\\", indexes=KEEPS)
def escape_seq_decode(value: bytes) -> bytes:
    """Of an escape that ANSI C does not know only the backslash goes (ModSecurity, Coraza)."""
    return unescape(value, _split_c, _MEANINGS, before_backslashes) if BACKSLASH in value else value
