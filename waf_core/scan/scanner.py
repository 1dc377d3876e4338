"""A scanner judges the values of one kind of variable, and remembers what it found.

It holds the tests that rules put to such values: (transformation chain, operator) and the places
(unit, link) that want to know.  The answer for a value, a tuple of places, is remembered, so that a
header which repeats from request to request costs one look-up.  What it does not remember goes to
`waf_core.scan.batch.judge`, together with the other values of the phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from waf_core.operators import Operator
from waf_core.operators.phrases import Phrases
from waf_core.operators.regex import Rx
from waf_core.scan.budget import PlanBudget
from waf_core.scan.chains import Chain
from waf_core.scan.hyperscan_set import Pattern
from waf_core.scan.limits import ScanLimits
from waf_core.scan.patterns import PatternSet
from waf_core.scan.planner import Planner
from waf_core.scan.questions import ChainTests, Place
from waf_core.transformations import ENDS, KEEPS, MIXES, MOVES, TRAITS, UNKNOWN

FEW_PATTERNS: Final = 3
"""A scanner with no more patterns than these keeps them out of the shared PatternSet."""

MAX_APART: Final = 64
"""Sets of doubtful places of which one scanner keeps what to ask; when there are more it starts over."""


@dataclass(frozen=True, slots=True)
class Test:
    """What a rule asks of a value."""

    chain: Chain
    operator: Operator
    negated: bool
    multi_match: bool
    capture: bool
    place: Place


class Scanner:
    """What was found for values is in `recent` or, for some that came before, in `older`."""

    __slots__ = ("_by_index", "_chains", "_limits", "_tests", "older", "planner", "recent")

    def __init__(self, limits: ScanLimits) -> None:
        self._limits = limits
        self._tests: list[Test] = []
        self._chains: dict[Chain, ChainTests] = {}
        self._by_index: ByIndex | None = None
        self.planner = Planner([], PlanBudget())
        self.recent: dict[bytes, tuple[Place, ...]] = {}
        self.older: dict[bytes, tuple[Place, ...]] = {}

    def add(self, test: Test) -> None:
        self._tests.append(test)

    @property
    def asks(self) -> bool:
        """Has it any tests?"""
        return bool(self._tests)

    def collect(self, patterns: PatternSet, *, alone: bool = False) -> None:
        """Collect the tests by chain; their patterns and phrases go to the set, which is compiled next.  `alone`:
        expressions do not."""
        expressions = {t.operator.pattern for t in self._tests if isinstance(t.operator, Rx)}
        shared = not alone and len(expressions) > FEW_PATTERNS
        for test in self._tests:
            ends = range(len(test.chain) + 1) if test.multi_match else (len(test.chain),)
            for end in ends:
                _place(self._chains.setdefault(test.chain[:end], ChainTests()), test, patterns, shared)

    def compile(self, patterns: PatternSet) -> None:
        """Get ready to judge."""
        for tests in self._chains.values():
            tests.note_conditions(patterns.needs)
        self.planner = Planner(list(self._chains.items()), patterns.plans)

    def by_index(self, patterns: PatternSet) -> ByIndex:
        """Its tests for the elements of arrays; made when they are first wanted.  `patterns`: the set that it was
        compiled with."""
        known = self._by_index
        if known is None:
            known = self._by_index = ByIndex(self._tests, self._limits, patterns)
        return known

    def remember(self, value: bytes, found: tuple[Place, ...]) -> None:
        """Keep the answer for a value, unless it is long."""
        if len(value) <= self._limits.cache_value_bytes:
            if len(self.recent) >= self._limits.cache_entries:
                self.older = self.recent
                self.recent = {}
            self.recent[value] = found


class ByIndex:
    """The tests of a scanner for values that differ in nothing but the digits of indexes: one of them, the leader, is
    asked about for all.

    `alike`: the places to which what holds for the leader holds for the others, and whether their forms end as the
    leader's does.  For some of them (in `doubtful`) that is so only if a test in `relaxed`, for the same place, does
    not hold for the leader.  `apart` has what remains to be asked about each.
    """

    __slots__ = ("_apart", "_limits", "_patterns", "_rest", "alike", "doubtful", "relaxed")

    def __init__(self, tests: Sequence[Test], limits: ScanLimits, patterns: PatternSet) -> None:
        self._limits = replace(limits, cache_value_bytes=-1)
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
    if isinstance(operator, Rx):
        tells = patterns.tells_indexes(operator.pattern)
    elif isinstance(operator, Phrases):
        tells = patterns.tells_indexes(operator.phrases)
    else:
        tells = None
    return tells is not False and operator.minds_indexes()


def _place(tests: ChainTests, test: Test, patterns: PatternSet, shared: bool) -> None:
    operator = test.operator
    pattern: Pattern | None = None
    if isinstance(operator, Rx):
        pattern = operator.pattern if shared else None
    elif isinstance(operator, Phrases):
        pattern = operator.phrases
    if pattern is not None:
        kind = tests.negated if test.negated else tests.patterns
        number = patterns.add(pattern)
        kind.setdefault(number, (operator, []))[1].append(test.place)
        if test.capture:
            tests.capturing |= 1 << number
    else:
        refused = None if test.capture and not test.negated else test.negated
        key = operator.pattern if isinstance(operator, Rx) else id(operator)
        tests.others.setdefault((key, refused), (operator, refused, []))[2].append(test.place)
