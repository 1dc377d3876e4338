"""Patterns that are too large for the main Hyperscan database, or too slow in it.

RE2 is quicker with them, as long as its automaton knows such text; so its time is limited, and beyond that they run
in a Hyperscan database of their own, in pieces.

One text is looked through for each of them at once.  Of several, joined, most have none: they are looked through
for what patterns that are alike have in common (waf_core/scan/united.py), whose automaton is half as large.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from waf_core.scan.forms import Found, Wanted, note, parts
from waf_core.scan.limits import ScanLimits, ScanStatistics
from waf_core.scan.masks import mask_of
from waf_core.scan.narrow import narrow
from waf_core.scan.re2_set import Re2Set
from waf_core.scan.united import united

MAX_RE2_BYTES: Final = 8192
"""Forms that RE2 reads in one call: its time is looked at after each."""


class LargePatterns:
    """Those of a PatternSet, by their numbers; `hyperscan` looks for them, too."""

    def __init__(
        self,
        patterns: dict[int, bytes],
        hyperscan: Callable[[bytes], Sequence[int]],
        limits: ScanLimits,
        statistics: ScanStatistics,
    ) -> None:
        """Raises WafError when they need more memory than an automaton may have."""
        families = united(patterns)
        self._families: list[list[int]] = [numbers for numbers, _ in families]
        self._each = Re2Set(_multiline(patterns), limits.set_max_mem, statistics)
        self._united = Re2Set(_multiline({n: p for n, (_, p) in enumerate(families)}), limits.set_max_mem, statistics)
        self._hyperscan = hyperscan
        self._limit: int = limits.re2_ns
        self._left: int = limits.re2_ns

    def begin(self) -> None:
        """A phase of a transaction starts: RE2 has all its time again."""
        self._left = self._limit

    def find(self, forms: Sequence[bytes], mask: int, wanted: Wanted | None, found: Found) -> None:
        """Add what may be found of `mask` (and of what is wanted of each form)."""
        for part in parts(forms, MAX_RE2_BYTES):
            if len(part) == 1:
                self._look(part[0], mask if wanted is None else wanted[part[0]], found)
            else:
                likely: Found = {}
                narrow(self._match_united, part, mask, wanted, likely)
                for form, numbers in likely.items():
                    self._look(form, numbers, found)

    def _look(self, form: bytes, mask: int, found: Found) -> None:
        numbers = self._hyperscan(form) if self._left <= 0 else self._timed(self._each, form)
        note(found, form, mask_of(numbers) & mask)

    def _match_united(self, text: bytes) -> Sequence[int]:
        if self._left <= 0:
            return self._hyperscan(text)
        return [number for family in self._timed(self._united, text) for number in self._families[family]]

    def _timed(self, patterns: Re2Set, text: bytes) -> Sequence[int]:
        start = time.perf_counter_ns()
        numbers = patterns.match(text)
        self._left -= time.perf_counter_ns() - start
        return numbers


def _multiline(patterns: dict[int, bytes]) -> dict[int, bytes]:
    """For joined forms: as in Hyperscan, `^` and `$` hold at newlines."""
    return {number: b"(?m:" + pattern + b")" for number, pattern in patterns.items()}
