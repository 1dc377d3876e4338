"""Patterns that are too large for the main Hyperscan database, or too slow in it.

RE2 is quicker with them, as long as its automaton knows such text; so its time is limited, and beyond that they run
in a Hyperscan database of their own, in pieces.

Patterns that are alike are looked for by what they have in common (waf_core/scan/united.py), whose automaton is half
as large.  Which of them it is the rules' own expressions tell, each of which stops at its first match.
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
"""Forms are joined up to so many: RE2's time is looked at after each call."""

SHORT_BYTES: Final = 256
"""In so short a text each of those that are alike is looked for at once."""

STEP_BYTES: Final = 2048
"""A text that is longer than that is read in such steps, to look at RE2's time, before it is read as a whole, which
costs little then."""

LONG_BYTES: Final = 16384
"""So long a text is worth a step when RE2 has had its time."""

HYPERSCAN_NS: Final = 500
"""What Hyperscan takes for a byte: RE2 reads on if it is quicker."""


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
        self._each = Re2Set(_multiline(patterns), limits.large_max_mem, statistics)
        self._united = Re2Set(
            _multiline(dict(enumerate(pattern for _, pattern in families))), limits.large_max_mem, statistics
        )
        self._hyperscan = hyperscan
        self._limit: int = limits.re2_ns
        self._left: int = limits.re2_ns

    def begin(self) -> None:
        """A phase of a transaction starts: RE2 has all its time again."""
        self._left = self._limit

    def find(self, forms: Sequence[bytes], mask: int, wanted: Wanted | None, found: Found) -> None:
        """Add what may be found of `mask` (and of what is wanted of each form)."""
        for part in parts(forms, MAX_RE2_BYTES):
            likely: Found = {}
            narrow(self._match, part, mask, wanted, likely)
            for form, numbers in likely.items():
                if len(form) <= SHORT_BYTES and self._left > 0 and numbers.bit_count() > 1:
                    numbers &= mask_of(self._timed(self._each, form))
                note(found, form, numbers)

    def _match(self, text: bytes) -> Sequence[int]:
        size = len(text)
        if self._left <= 0 and size < LONG_BYTES:
            return self._hyperscan(text)
        if size > MAX_RE2_BYTES:
            for start in range(0, size, STEP_BYTES):
                before = self._left
                self._timed(self._united, text[start : start + STEP_BYTES])
                if self._left <= 0 and before - self._left > HYPERSCAN_NS * STEP_BYTES:
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
