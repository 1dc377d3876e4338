"""Patterns that are too large for the main Hyperscan database, or too slow in it.

RE2 is quicker with them, as long as its automaton knows such text; so its time is limited, and beyond that they run
in a Hyperscan database of their own, in pieces.

Patterns that are alike are looked for by what they have in common (waf_core/scan/united.py), whose automaton is half
as large, and no further than to its first match.  Which of them it is the rules' own expressions tell; they are asked
if what they end with, which is quick to look for, is in the text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from waf_core.scan.first_match import FirstMatch
from waf_core.scan.forms import Found, Wanted, parts
from waf_core.scan.limits import ScanLimits
from waf_core.scan.narrow import narrow
from waf_core.scan.united import Family, united

MAX_RE2_BYTES: Final = 8192
"""Forms are joined up to so many: RE2's time is looked at after each call."""

STEP_BYTES: Final = 2048
"""A text that is longer than that is read in such steps, to look at RE2's time, before it is read as a whole, which
costs little then.  What matches in a step is a candidate."""

LONG_BYTES: Final = 16384
"""So long a text is worth a step when RE2 has had its time."""

HYPERSCAN_NS: Final = 500
"""What Hyperscan takes for a byte: RE2 reads on if it is quicker."""

END_MEMORY: Final = 1 << 20
"""Bytes of the automaton of what a pattern ends with, beside `large_max_mem`."""


class _Family:
    """Of patterns that are alike: what finds any of them, and the end of each."""

    def __init__(self, family: Family, memory: int) -> None:
        self.whole = FirstMatch(_multiline(family.whole), memory)
        self.numbers: list[int] = family.numbers
        self.ends: list[tuple[int, FirstMatch]] = [
            (number, FirstMatch(_multiline(end), END_MEMORY)) for number, end in family.ends.items()
        ]


class LargePatterns:
    """Those of a PatternSet, by their numbers; `hyperscan` looks for them, too."""

    def __init__(
        self, patterns: dict[int, bytes], hyperscan: Callable[[bytes], Sequence[int]], limits: ScanLimits
    ) -> None:
        """Raises WafError when they need more memory than an automaton may have."""
        families = united(patterns)
        memory = limits.large_max_mem // len(families)
        self._families = [_Family(family, memory) for family in families]
        self._hyperscan = hyperscan
        self._limit: int = limits.re2_ns
        self._left: int = limits.re2_ns

    def begin(self) -> None:
        """A phase of a transaction starts: RE2 has all its time again."""
        self._left = self._limit

    def find(self, forms: Sequence[bytes], mask: int, wanted: Wanted | None, found: Found) -> None:
        """Add what may be found of `mask` (and of what is wanted of each form)."""
        for part in parts(forms, MAX_RE2_BYTES):
            narrow(self._match, part, mask, wanted, found)

    def _match(self, text: bytes) -> Sequence[int]:
        if self._left <= 0 and len(text) < LONG_BYTES:
            return self._hyperscan(text)
        out: list[int] = []
        for family in self._families:
            match = self._reads(family.whole, text)
            if match is None:
                return self._hyperscan(text)
            if match:
                out += self._members(family, text)
        return out

    def _members(self, family: _Family, text: bytes) -> list[int]:
        """Those that may match a text that one of them matches."""
        if not family.ends:
            return family.numbers
        return [number for number, end in family.ends if self._left <= 0 or self._timed(end, text)]

    def _reads(self, expression: FirstMatch, text: bytes) -> bool | None:
        """Does it match?  None: RE2 has given up."""
        size = len(text)
        if size > MAX_RE2_BYTES:
            for start in range(0, size, STEP_BYTES):
                before = self._left
                if self._timed(expression, text[start : start + STEP_BYTES]):
                    return True
                if self._left <= 0 and before - self._left > HYPERSCAN_NS * STEP_BYTES:
                    return None
        return self._timed(expression, text)

    def _timed(self, expression: FirstMatch, text: bytes) -> bool:
        start = time.perf_counter_ns()
        match = expression.is_in(text)
        self._left -= time.perf_counter_ns() - start
        return match


def _multiline(pattern: bytes) -> bytes:
    """For joined forms: as in Hyperscan, `^` and `$` hold at newlines."""
    return b"(?m:" + pattern + b")"
