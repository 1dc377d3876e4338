"""Sets of numbers (of patterns, of classes) as integers: bit n for number n."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MAX_KNOWN: Final = 4096
"""Masks whose numbers are remembered; when there are more it starts over."""

_known: Final[dict[int, tuple[int, ...]]] = {}


def mask_of(numbers: Iterable[int]) -> int:
    mask = 0
    for number in numbers:
        mask |= 1 << number
    return mask


def numbers_of(mask: int) -> tuple[int, ...]:
    """In ascending order; remembered, since every step with more than 62 bits makes a new integer."""
    numbers = _known.get(mask)
    if numbers is None:
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        numbers = _known[mask] = tuple(number for number in range(mask.bit_length()) if mask >> number & 1)
    return numbers
