"""`t:htmlEntityDecode`: numeric entities and the five names of the manual."""

from __future__ import annotations

import re

from waf_core.octets import AMPERSAND
from waf_core.transformations import ANYTHING, KEEPS, transformation

# ModSecurity decodes &#xH.., &#D.., &quot; &amp; &lt; &gt; &nbsp;, with or without
# the semicolon, names in any case, and keeps the low byte of larger code points.
_ENTITY = re.compile(rb"&(?:#[xX]([0-9a-fA-F]+)|#([0-9]+)|(quot|amp|lt|gt|nbsp));?", re.IGNORECASE)
_NAMED = {b"quot": b'"', b"amp": b"&", b"lt": b"<", b"gt": b">", b"nbsp": b"\xa0"}


def _decode(match: re.Match[bytes]) -> bytes:
    hexadecimal, decimal, name = match.groups()
    if name is not None:
        return _NAMED[name.lower()]
    if hexadecimal is not None:
        return bytes((int(hexadecimal[-2:], 16),))
    # Only the low byte is kept, so a bounded number of digits decides: 10**8 is a
    # multiple of 256, and digits above it cannot change the low byte.
    return bytes((int(decimal[-8:]) & 0xFF,))


@transformation("htmlEntityDecode", effects=((b"&", ANYTHING),), growth=1, joined=b"", indexes=KEEPS)
def html_entity_decode(value: bytes) -> bytes:
    if AMPERSAND not in value:
        return value
    return _ENTITY.sub(_decode, value)
