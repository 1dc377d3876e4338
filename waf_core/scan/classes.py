"""Classes of bytes: which plan a value gets follows from the classes that it has bytes of.

Bytes are in one class if all transformations treat them alike and if they are much the same to
expressions (letters, digits, brackets).  A set of classes is a number, bit n for class n.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from waf_core.scan.masks import mask_of
from waf_core.transformations import TRAITS

if TYPE_CHECKING:
    from mypy_extensions import i64

_GROUPS: Final = (
    b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0123456789", b"_", b"-", b".", b",", b":", b"@",
    b"=", b"?", b"[]{}", b"\t\n\r", b"\"'`",
)  # fmt: skip
_PLAIN: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./?=&:,+% "

MAX_SPECIAL: Final = 4
"""A value with more classes than these beyond plain ones counts as having all (`are_many`): so that what
attackers send does not fill memory with plans that are used once."""


def _partition() -> bytes:
    effects = [pair for traits in TRAITS.values() for pair in traits.effects]
    kinds: dict[tuple[bool, ...], int] = {}
    table = bytearray()
    for byte in range(256):
        kind = (
            *(byte in touched for touched, _ in effects),
            *(byte in emitted for _, emitted in effects),
            *(byte in group for group in _GROUPS),
        )
        table.append(kinds.setdefault(kind, len(kinds)))
    return bytes(table)


TABLE: Final = _partition()
"""Byte -> its class, for bytes.translate."""

COUNT: Final = max(TABLE) + 1
assert COUNT < 63, "`classes_of` has sets of classes in 64 bits"
ALL_CLASSES: Final = (1 << COUNT) - 1

MEMBERS: Final = tuple(sum(1 << byte for byte in range(256) if TABLE[byte] == number) for number in range(COUNT))
"""Class -> its bytes, as a set in the sense of waf_core/operators/needs.py."""


_PLAIN_CLASSES: Final = mask_of(_PLAIN.translate(TABLE))

WORD_CLASSES: Final = mask_of(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789".translate(TABLE))
"""Of letters and digits."""

_NUMBER_CLASSES: Final = mask_of(b"0123456789-.:,".translate(TABLE))

TEXT_CLASSES: Final = mask_of(bytes(range(9, 127)).translate(TABLE))
"""Of ASCII characters: all but NUL and bytes from 128 on."""

EXACT_BYTES: Final = 24
"""Longer values count as having letters of both cases and digits: most do."""


def classes_of(value: bytes) -> int:
    """The classes that a value has, or may have, bytes of."""
    return _classes_of(value, 1)


def _classes_of(value: bytes, one: i64) -> int:
    """In C's own numbers this takes a nanosecond a byte, a fifth of what a set of the bytes does.  `one` is 1: as a
    constant mypyc has C shift it in 32 bits."""
    size: i64 = len(value)
    found: i64 = WORD_CLASSES if size > EXACT_BYTES else 0
    index: i64 = 0
    while index < size:
        number: i64 = TABLE[value[index]]
        found |= one << number
        index += 1
    return found


def coarse(classes: int) -> int:
    """The same, as if a value that is more than a number, a date or a time had letters of all kinds, and digits."""
    return classes | WORD_CLASSES if classes & ~_NUMBER_CLASSES else classes


def are_many(classes: int) -> bool:
    """Are they so many that a plan of their own would not be used again?"""
    special: i64 = classes & ~_PLAIN_CLASSES
    count: i64 = 0
    while special and count <= MAX_SPECIAL:
        special &= special - 1
        count += 1
    return count > MAX_SPECIAL


@lru_cache(maxsize=4096)
def classes_with(members: int) -> int:
    """The classes that have any of these bytes (a set in the sense of needs.py)."""
    out = 0
    for number, own in enumerate(MEMBERS):
        if own & members:
            out |= 1 << number
    return out
