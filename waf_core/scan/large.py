"""Patterns that are too large for the main Hyperscan database, or too slow in it.

RE2 is quicker with them, as long as its automaton knows such text.  Where a part of a text turns out to be news to it
PCRE2 is asked (`operators/ahead.py`); where that cannot tell RE2 reads on, but its time is limited, and beyond
that they run in a Hyperscan database of their own, in pieces.

Patterns that are alike are looked for by what they have in common (waf_core/scan/united.py), whose automaton is half
as large, and no further than to its first match.  Which of them it is the rules' own expressions tell; they are asked
if what they end with, which is quick to look for, is in the text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from waf_core.operators.ahead import MAX_BYTES
from waf_core.scan.first_match import FirstMatch
from waf_core.scan.forms import Found, Wanted, parts
from waf_core.scan.limits import ScanLimits
from waf_core.scan.narrow import narrow
from waf_core.scan.united import Family, united

MAX_RE2_BYTES: Final = 8192
"""Forms are joined up to so many: RE2's time is looked at after each call."""

WHOLE_BYTES: Final = 256
"""A longer text is read in steps, to look at RE2's time, before it is read as a whole, which costs little then.  What
matches in a step is a candidate."""

STEP_BYTES: Final = 128, 2048
"""The first steps, and the longest."""

STEP_SHARE: Final = 2
"""Other steps are half of what has been read."""

PCRE2_BYTES: Final = 200
"""What a text costs PCRE2 beside its bytes, in bytes."""

LONG_BYTES: Final = 16384
"""So long a text is worth a step when RE2 has had its time."""

HYPERSCAN_NS: Final = 500
"""What Hyperscan takes for a byte: RE2 reads on if it is quicker."""

PATIENCE: Final = 16
"""RE2 may be slower with a long text by so small a share of what Hyperscan takes for it."""

END_MEMORY: Final = 1 << 20
"""Bytes of the automaton of what a pattern ends with, beside `large_max_mem`."""


class _Family:
    """Of patterns that are alike: what finds any of them (one of `wholes`), and the end of each."""

    def __init__(self, family: Family, memory: int) -> None:
        self.wholes: list[FirstMatch] = [
            FirstMatch(whole.expression, memory, opening=whole.opening) for whole in family.wholes
        ]
        self.numbers: list[int] = family.numbers
        self.ends: list[tuple[int, FirstMatch]] = [
            (number, FirstMatch(end, END_MEMORY)) for number, end in family.ends.items()
        ]


class LargePatterns:
    """Those of a PatternSet, by their numbers; `hyperscan` looks for them, too."""

    def __init__(
        self, patterns: dict[int, bytes], hyperscan: Callable[[bytes], Sequence[int]], limits: ScanLimits
    ) -> None:
        """Raises WafError when they need more memory than an automaton may have."""
        families = united(patterns)
        memory = limits.large_max_mem // sum(len(family.wholes) for family in families)
        self._families = [_Family(family, memory) for family in families]
        self._hyperscan = hyperscan
        self._limit: int = limits.re2_ns
        self._left: int = limits.re2_ns
        self._pcre2_ns: int = limits.pcre2_ns

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
            for whole in family.wholes:
                match = self._reads(whole, text)
                if match is None:
                    return self._hyperscan(text)
                if match:
                    out += self._members(family, text)
                    break
        return out

    def _members(self, family: _Family, text: bytes) -> list[int]:
        """Those that may match a text that one of them matches."""
        if not family.ends:
            return family.numbers
        return [number for number, end in family.ends if self._left <= 0 or self._reads(end, text) is not False]

    def _reads(self, expression: FirstMatch, text: bytes) -> bool | None:
        """Does it match?  None: RE2 has given up.

        Its time is told by the wall clock, which is quick to read, and runs on while others have the interpreter.  With
        a long text that RE2 seems slow with it is told by the thread's own, which may still run on while other machines
        have the processor; Hyperscan would take 160 ms for 400 kB that RE2 reads in 2."""
        size = len(text)
        own_time = False
        behind = 0
        start = 0 if size > WHOLE_BYTES else size
        until = self._left - (min(size, MAX_BYTES) + PCRE2_BYTES) * self._pcre2_ns
        asked = False
        while start < size:
            step = min(max(start // STEP_SHARE, STEP_BYTES[0]), STEP_BYTES[1])
            before = self._left
            if self._timed(expression.is_in, text[start : start + step], own_time):
                return True
            if not asked and self._left < until:
                asked = True
                piece = text[start : start + MAX_BYTES] if size > MAX_BYTES else text
                known = self._timed(expression.backtracks, piece, own_time)
                if known or (known is not None and piece is text):
                    return known
            late = before - self._left - HYPERSCAN_NS * step
            if own_time:
                behind = max(behind + late, 0)
                if behind > HYPERSCAN_NS * size // PATIENCE:
                    return None
            elif self._left <= 0 and late > 0:
                if size < LONG_BYTES:
                    return None
                own_time = True
            start += step
        return self._timed(expression.is_in, text, own_time)

    def _timed(self, look: Callable[[bytes], bool | None], text: bytes, own_time: bool) -> bool | None:
        clock = time.thread_time_ns if own_time else time.perf_counter_ns
        start = clock()
        match = look(text)
        self._left -= clock() - start
        return match
