"""Hexadecimal literals of MySQL."""

from __future__ import annotations

import re

from waf_core.transformations import ANYTHING, MOVES, transformation

_SQL_HEX = re.compile(rb"0[xX]((?:[0-9a-fA-F]{2})+)")


@transformation("sqlHexDecode", effects=((b"xX", ANYTHING),), growth=1, indexes=MOVES)
def sql_hex_decode(value: bytes) -> bytes:
    """`0x414243` -> `ABC`, anywhere in the value (MySQL literals)."""
    if value.find(b"0x") < 0 and value.find(b"0X") < 0:
        return value
    return _SQL_HEX.sub(lambda match: bytes.fromhex(match.group(1).decode()), value)
