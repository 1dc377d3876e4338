"""Sets of numbers (of patterns, of classes) as integers: bit n for number n."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

MAX_KNOWN: Final = 512
"""Masks whose numbers are remembered; when there are more it starts over."""

_CHUNK_BITS: Final = 60
"""As many as fit into one of C's own numbers: each step with more makes a new integer."""

_CHUNK: Final = (1 << _CHUNK_BITS) - 1

_known: Final[dict[int, tuple[int, ...]]] = {}


_BITS: Final = tuple(1 << number for number in range(256))
"""Of the first numbers: each new integer of more than 62 bits costs."""


def mask_of(numbers: Iterable[int]) -> int:
    mask = 0
    for number in numbers:
        mask |= _BITS[number] if number < len(_BITS) else 1 << number
    return mask


def numbers_of(mask: int) -> tuple[int, ...]:
    """In ascending order; remembered, since most come again."""
    numbers = _known.get(mask)
    if numbers is None:
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        numbers = _known[mask] = tuple(_numbers_of(mask))
    return numbers


def _numbers_of(mask: int) -> list[int]:
    numbers: list[int] = []
    first = 0
    while mask:
        chunk: i64 = mask & _CHUNK
        number: i64 = first
        while chunk:
            if chunk & 1:
                numbers.append(number)
            chunk >>= 1
            number += 1
        mask >>= _CHUNK_BITS
        first += _CHUNK_BITS
    return numbers
