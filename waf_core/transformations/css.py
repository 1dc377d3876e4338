r"""`t:cssDecode`: CSS 2.x escapes, `\` and one to six hex digits."""

from __future__ import annotations

import re

from waf_core.octets import BACKSLASH
from waf_core.transformations import ANYTHING, KEEPS, transformation

_ESCAPE = re.compile(rb"\\(?:([0-9a-fA-F]{1,6})[ \t\r\n\f\v]?|(.)|\Z)", re.DOTALL)


def _decode(match: re.Match[bytes]) -> bytes:
    digits, other = match.groups()
    if digits is None:
        # A line continuation and the last backslash disappear, any other escaped byte stands for itself.
        return b"" if other in (None, b"\n") else bytes(other)
    code = int(digits[-2:], 16)
    # The full-width forms U+FF01..U+FF5E stand for ASCII (ModSecurity css_decode).
    full_width = len(digits) >= 4 and digits[-4:-2].lower() == b"ff"
    if full_width and not digits[:-4].strip(b"0") and 0 < code < 0x5F:
        code += 0x20
    return bytes((code,))


@transformation("cssDecode", effects=((b"\\", ANYTHING),), growth=1, joined=b"\\", indexes=KEEPS)
def css_decode(value: bytes) -> bytes:
    if BACKSLASH not in value:
        return value
    return _ESCAPE.sub(_decode, value)
