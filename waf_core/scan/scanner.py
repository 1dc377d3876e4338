"""A scanner judges the values of one kind of variable, and remembers what it found.

It holds the tests that rules put to such values: (transformation chain, operator) and the places
(unit, link) that want to know.  The answer for a value, a tuple of places, is remembered, so that a
header which repeats from request to request costs one look-up.  What it does not remember goes to
`waf_core.scan.batch.judge`, together with the other values of the phase.
"""

from __future__ import annotations

from dataclasses import dataclass
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

FEW_PATTERNS: Final = 3
"""A scanner with no more patterns than these keeps them out of the shared PatternSet."""


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

    __slots__ = ("_chains", "_oldest", "by_index", "limits", "older", "planner", "recent", "tests")

    def __init__(self, limits: ScanLimits) -> None:
        self.limits = limits
        self.tests: list[Test] = []
        self._chains: dict[Chain, ChainTests] = {}
        self.by_index: object = None
        """What waf_core/scan/by_index.py makes of the tests, when that is first wanted."""
        self.planner = Planner([], PlanBudget())
        self.recent: dict[bytes, tuple[Place, ...]] = {}
        self.older: dict[bytes, tuple[Place, ...]] = {}
        self._oldest: dict[bytes, tuple[Place, ...]] = {}
        """What is let go of, one for each that is new: all at once would be half a millisecond of some request's."""

    def add(self, test: Test) -> None:
        self.tests.append(test)

    def collect(self, patterns: PatternSet, *, alone: bool = False) -> None:
        """Collect the tests by chain; their patterns and phrases go to the set, which is compiled next.  `alone`:
        expressions do not."""
        expressions = {t.operator.pattern for t in self.tests if isinstance(t.operator, Rx)}
        shared = not alone and len(expressions) > FEW_PATTERNS
        for test in self.tests:
            ends = range(len(test.chain) + 1) if test.multi_match else (len(test.chain),)
            for end in ends:
                _place(self._chains.setdefault(test.chain[:end], ChainTests()), test, patterns, shared)

    def compile(self, patterns: PatternSet) -> None:
        """Get ready to judge."""
        for tests in self._chains.values():
            tests.note_conditions(patterns.needs)
        self.planner = Planner(list(self._chains.items()), patterns.plans)

    def remember(self, value: bytes, found: tuple[Place, ...]) -> None:
        """Keep the answer for a value, unless it is long."""
        if len(value) <= self.limits.cache_value_bytes:
            recent = self.recent
            if len(recent) >= self.limits.cache_entries:
                self._oldest = self.older
                self.older = recent
                recent = self.recent = {}
            elif self._oldest:
                self._oldest.popitem()
            recent[value] = found


def pattern_of(operator: Operator) -> Pattern | None:
    """What a PatternSet finds candidates for it by."""
    if isinstance(operator, Rx):
        return operator.pattern
    return operator.phrases if isinstance(operator, Phrases) else None


def _place(tests: ChainTests, test: Test, patterns: PatternSet, shared: bool) -> None:
    operator = test.operator
    pattern = pattern_of(operator) if shared or not isinstance(operator, Rx) else None
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
