"""Bytes that values are looked through for.

`PERCENT in value` is what it takes to find one byte.  (`b"%" in value` costs eight times as much: Python 3.11 tries
to read `b"%"` as a number first, and makes an exception of it.  For more than one byte, `find` costs half.)
"""

from __future__ import annotations

from typing import Final

NUL: Final = 0x00
SPACE: Final = 0x20
QUOTE: Final = 0x22
PERCENT: Final = 0x25
AMPERSAND: Final = 0x26
PLUS: Final = 0x2B
SLASH: Final = 0x2F
BACKSLASH: Final = 0x5C
