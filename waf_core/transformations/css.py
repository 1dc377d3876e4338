r"""`t:cssDecode`: CSS 2.x escapes, `\` and one to six hex digits."""

from __future__ import annotations

import re
from typing import Final

from waf_core.octets import BACKSLASH
from waf_core.transformations import ANYTHING, KEEPS, transformation
from waf_core.transformations.escapes import PAIRS, Meanings, unescape
from waf_core.transformations.pieces import before_backslashes

_split: Final = re.compile(rb"\\([0-9a-fA-F]{1,6}[ \t\r\n\f\v]?|.|\Z)", re.DOTALL).split
_DIGITS: Final = b"0123456789abcdefABCDEF"


def _meaning(escape: bytes) -> bytes:
    if not escape or escape[0] not in _DIGITS:
        # A line continuation and the last backslash disappear, any other escaped byte stands for itself.
        return b"" if escape == b"\n" else escape
    digits = escape.rstrip(b" \t\r\n\f\v")
    code = int(digits[-2:], 16)
    # The full-width forms U+FF01..U+FF5E stand for ASCII (ModSecurity css_decode).
    full_width = len(digits) >= 4 and digits[-4:-2].lower() == b"ff"
    if full_width and not digits[:-4].strip(b"0") and 0 < code < 0x5F:
        code += 0x20
    return bytes((code,))


_MEANINGS: Final = Meanings(
    _meaning, [b"", *(bytes((b,)) for b in range(256)), *PAIRS, *(pair + b" " for pair in PAIRS)]
)


@transformation("cssDecode", effects=((b"\\", ANYTHING),), growth=1, joined=b"\\", indexes=KEEPS)
def css_decode(value: bytes) -> bytes:
    return unescape(value, _split, _MEANINGS, before_backslashes) if BACKSLASH in value else value
