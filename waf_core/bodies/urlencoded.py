"""application/x-www-form-urlencoded, and query strings (WHATWG URL standard, 5.1)."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from waf_core.bodies import Pair
from waf_core.octets import PERCENT, PLUS
from waf_core.transformations.url import url_decode
from waf_core.turns import give_way

TURN: Final = 8
"""So many arguments with escapes are decoded without a look who waits."""

_HIDDEN: Final = {b"&": re.compile(rb"%(?:3[dD]|26)").search, b";": re.compile(rb"%3[dDbB]").search}
"""For a separator: finds an encoded one, or an encoded `=`.  Text with neither may be decoded before it is split."""


def parse_pairs(text: bytes, separator: bytes, limit: int) -> tuple[list[Pair], bool]:
    """Decoded (name, value) pairs, and whether `limit` left some out."""
    if not text:
        return [], False
    overflow = False
    encoded = PERCENT in text or PLUS in text
    if encoded and separator in _HIDDEN and not _HIDDEN[separator](text):
        text, encoded = url_decode(text), False
    pieces = text.split(separator, limit + 1)
    if len(pieces) > limit:
        # Empty pieces do not count: `a=1&&b=2` has two arguments.
        pieces = [match.group() for match in islice(re.finditer(rb"[^%s]+" % re.escape(separator), text), limit + 1)]
        overflow = len(pieces) > limit
        del pieces[limit:]
    out: list[Pair] = []
    if encoded:
        for turn, piece in enumerate(pieces, 1):
            if turn % TURN == 0:
                give_way()
            if piece:
                name, _, value = piece.partition(b"=")
                if PERCENT in piece or PLUS in piece:
                    name, value = url_decode(name), url_decode(value)
                out.append((name, value))
    else:
        for piece in pieces:
            if piece:
                name, _, value = piece.partition(b"=")
                out.append((name, value))
    return out, overflow
