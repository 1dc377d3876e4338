"""What patterns are matched with while there is no Hyperscan database: an RE2 Set and an Aho-Corasick automaton."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from waf_core.operators.automaton import Automaton
from waf_core.scan.forms import FEW_CANDIDATES, MAX_JOIN_BYTES, Found, Wanted, note, parts
from waf_core.scan.hyperscan_set import Pattern
from waf_core.scan.limits import ScanStatistics
from waf_core.scan.masks import mask_of
from waf_core.scan.re2_set import Re2Set


class WithoutHyperscan:
    """The patterns by number.  What an RE2 Set finds is exact (the same semantics as a search with each expression)."""

    def __init__(self, patterns: Mapping[Pattern, int], memory: int, statistics: ScanStatistics) -> None:
        """`memory` and errors raised: those of Re2Set."""
        self._expressions: Re2Set | None = None
        self._which: Callable[[bytes], set[int]] | None = None
        self._phrase_users: list[int] = []
        """Phrase -> mask of the lists that it is in."""
        self._phrase_mask = 0
        expressions = {number: p for p, number in patterns.items() if isinstance(p, bytes)}
        if expressions:
            self._expressions = Re2Set(expressions, memory, statistics)
        users: dict[bytes, int] = {}
        for pattern, number in patterns.items():
            if not isinstance(pattern, bytes):
                self._phrase_mask |= 1 << number
                for phrase in pattern:
                    users[phrase] = users.get(phrase, 0) | 1 << number
        if users:
            self._which = Automaton(list(users)).which
            self._phrase_users = list(users.values())

    def find(self, wanted: Wanted) -> Found:
        """As `PatternSet.find`."""
        found: Found = {}
        self._find_expressions(wanted, found)
        if self._which is not None:
            self._find_phrases(self._which, wanted, found)
        return found

    def _find_expressions(self, wanted: Wanted, found: Found) -> None:
        """RE2's automata grow with what they read, so forms are matched one by one."""
        for form, asked in wanted.items():
            mask = asked & ~self._phrase_mask
            if mask.bit_count() > FEW_CANDIDATES and self._expressions is not None:
                mask &= mask_of(self._expressions.match(form))
            note(found, form, mask)

    def _find_phrases(self, which: Callable[[bytes], set[int]], wanted: Wanted, found: Found) -> None:
        asking = {form: mask & self._phrase_mask for form, mask in wanted.items() if mask & self._phrase_mask}
        for part in parts(list(asking), MAX_JOIN_BYTES):
            candidates = 0
            for index in which((b"\n".join(part)).lower()):
                candidates |= self._phrase_users[index]
            for form in part:
                note(found, form, asking[form] & candidates)
