"""`t:htmlEntityDecode`: numeric entities and the five names of the manual."""

from __future__ import annotations

import re
from typing import Final

from waf_core.octets import AMPERSAND
from waf_core.transformations import ANYTHING, KEEPS, transformation
from waf_core.transformations.escapes import PAIRS, Meanings, unescape
from waf_core.transformations.pieces import before_ampersand

# ModSecurity decodes &#xH.., &#D.., &quot; &amp; &lt; &gt; &nbsp;, with or without
# the semicolon, names in any case, and keeps the low byte of larger code points.
_split: Final = re.compile(rb"&(#[xX][0-9a-fA-F]+|#[0-9]+|quot|amp|lt|gt|nbsp);?", re.IGNORECASE).split
_NAMED: Final = {b"quot": b'"', b"amp": b"&", b"lt": b"<", b"gt": b">", b"nbsp": b"\xa0"}


def _meaning(entity: bytes) -> bytes:
    if not entity.startswith(b"#"):
        return _NAMED[entity.lower()]
    if entity[1:2] in (b"x", b"X"):
        return bytes((int(entity[2:][-2:], 16),))
    # Only the low byte is kept, so a bounded number of digits decides: 10**8 is a
    # multiple of 256, and digits above it cannot change the low byte.
    return bytes((int(entity[1:][-8:]) & 0xFF,))


_MEANINGS: Final = Meanings(_meaning, [*_NAMED, *(b"#%d" % b for b in range(256)), *(b"#x" + pair for pair in PAIRS)])


@transformation("htmlEntityDecode", effects=((b"&", ANYTHING),), growth=1, joined=b"", indexes=KEEPS)
def html_entity_decode(value: bytes) -> bytes:
    return unescape(value, _split, _MEANINGS, before_ampersand) if AMPERSAND in value else value
