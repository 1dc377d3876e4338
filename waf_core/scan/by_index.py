"""The tests of a scanner for values that differ in nothing but the digits of indexes (waf_core/scan/elements.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from waf_core.operators import Operator
from waf_core.scan.limits import ScanLimits
from waf_core.scan.patterns import PatternSet
from waf_core.scan.questions import Place
from waf_core.scan.scanner import Scanner, Test, pattern_of
from waf_core.transformations import ENDS, KEEPS, MIXES, MOVES, TRAITS, UNKNOWN

MAX_APART: Final = 64
"""Sets of doubtful places of which one scanner keeps what to ask; when there are more it starts over."""


class ByIndex:
    """One of the values, the leader, is asked about for all.

    `alike`: the places to which what holds for the leader holds for the others, and whether their forms end as the
    leader's does.  For some of them (in `doubtful`) that is so only if a test in `relaxed`, for the same place, does
    not hold for the leader.  `apart` has what remains to be asked about each.
    """

    __slots__ = ("_apart", "_limits", "_patterns", "_rest", "alike", "doubtful", "relaxed")

    def __init__(self, tests: Sequence[Test], limits: ScanLimits, patterns: PatternSet) -> None:
        self._limits = replace(limits, cache_value_bytes=-1)  # its scanners remember nothing
        self._patterns = patterns
        self._rest: list[Test] = []
        self._apart: dict[tuple[Place, ...], Scanner] = {}
        self.alike: dict[Place, bool] = {}
        self.doubtful: dict[Place, Test] = {}
        relaxed: list[Test] = []
        for test in tests:
            effect = _effect(test)
            minds = effect == MIXES or (effect != ENDS and _minds_indexes(test.operator, patterns))
            if minds is True:
                self._rest.append(test)
                continue
            self.alike[test.place] = effect == KEEPS
            if isinstance(minds, Operator):
                self.doubtful[test.place] = test
                relaxed.append(replace(test, operator=minds, negated=False, capture=False))
        self.relaxed = self._scanner(relaxed, alone=True)

    def apart(self, places: tuple[Place, ...]) -> Scanner:
        """Asks about each value what may tell it from others, if that is so for these of the doubtful places."""
        known = self._apart.get(places)
        if known is None:
            if len(self._apart) >= MAX_APART:
                self._apart.clear()
            tests = [*self._rest, *[self.doubtful[place] for place in places]]
            known = self._apart[places] = self._scanner(tests, alone=False)
        return known

    def _scanner(self, tests: Sequence[Test], *, alone: bool) -> Scanner:
        scanner = Scanner(self._limits)
        for test in tests:
            scanner.add(test)
        scanner.collect(self._patterns, alone=alone)
        scanner.compile(self._patterns)
        return scanner


def by_index(scanner: Scanner, patterns: PatternSet) -> ByIndex:
    """The tests of a scanner, which was compiled with these patterns."""
    known = scanner.by_index
    if not isinstance(known, ByIndex):
        known = scanner.by_index = ByIndex(scanner.tests, scanner.limits, patterns)
    return known


def _effect(test: Test) -> int:
    """What a test's chain makes of indexes (waf_core/transformations)."""
    effects = [TRAITS.get(function, UNKNOWN).indexes for function in test.chain]
    if ENDS in effects:
        effects = effects[: effects.index(ENDS) + 1]
    if MIXES in effects:
        return MIXES
    if test.multi_match:  # the forms on the way are asked about, too
        return MOVES
    if effects and effects[-1] == ENDS:
        return ENDS
    return MOVES if MOVES in effects else KEEPS


def _minds_indexes(operator: Operator, patterns: PatternSet) -> bool | Operator:
    """`operator.minds_indexes()`, which is dear for large expressions."""
    pattern = pattern_of(operator)
    told = pattern is not None and patterns.tells_indexes(pattern) is False
    return not told and operator.minds_indexes()
