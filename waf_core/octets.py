"""Bytes that values are looked through for.

`PERCENT in value` is what it takes to find one byte.  (`b"%" in value` costs eight times as much: Python 3.11 tries
to read `b"%"` as a number first, and makes an exception of it.  For more than one byte, `find` costs half.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from waf_core.turns import LONG_BYTES

if TYPE_CHECKING:
    from mypy_extensions import i64

NUL: Final = 0x00
SPACE: Final = 0x20
QUOTE: Final = 0x22
HASH: Final = 0x23
PERCENT: Final = 0x25
AMPERSAND: Final = 0x26
PLUS: Final = 0x2B
DOT: Final = 0x2E
SLASH: Final = 0x2F
BACKSLASH: Final = 0x5C

_RUN: Final = b" " * 64

ALPHANUMERIC: Final = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def table_of(members: Iterable[int]) -> bytes:
    """Byte -> 1 if it is one of `members`, else 0."""
    table = bytearray(256)
    for byte in members:
        table[byte] = 1
    return bytes(table)


def span(value: bytes, table: bytes, start: i64) -> i64:
    """Where the first byte from `start` on is that the table (`table_of`) has not; the length if there is none."""
    size: i64 = len(value)
    while start < size and table[value[start]]:
        start += 1
    return start


def single_spaces(value: bytes) -> bytes:
    """One space for each run of them."""
    # Each round halves every run; of long ones little is left after the first.
    if len(value) > LONG_BYTES:
        value = value.replace(_RUN, b" ")
    while value.find(b"  ") >= 0:
        value = value.replace(b"  ", b" ")
    return value
