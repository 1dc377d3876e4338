"""Sets of phrases in a text (Aho-Corasick).

The package gives a list of all that it finds, which of a megabyte takes tens of milliseconds to make while no other
thread runs: long texts are looked through in parts, which share what may begin in the one and end in the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ahocorasick_rs import BytesAhoCorasick

from waf_core.turns import give_way

PART_BYTES: Final = 16384


class Automaton:
    """Texts have to be in lower case, as phrases are."""

    def __init__(self, phrases: Sequence[bytes]) -> None:
        self._find = BytesAhoCorasick(phrases).find_matches_as_indexes
        self._shared = max(len(phrase) for phrase in phrases) - 1
        self._part = max(PART_BYTES, 4 * self._shared)

    def first(self, text: bytes) -> tuple[int, int] | None:
        """Where the one that ends first begins and ends."""
        start, size = 0, len(text)
        while True:
            found = self._find(text if size <= self._part else text[start : start + self._part])
            if found:
                _, begin, end = found[0]
                return start + begin, start + end
            start += self._part - self._shared
            if start + self._shared >= size:
                return None
            give_way()

    def which(self, text: bytes) -> set[int]:
        """The numbers of all that there are."""
        numbers: set[int] = set()
        start = 0
        while True:
            numbers.update([match[0] for match in self._find(text[start : start + self._part], overlapping=True)])
            start += self._part - self._shared
            if start + self._shared >= len(text):
                return numbers
            give_way()
