"""A scanner judges the values of one kind of variable, and remembers what it found.

It holds the tests that rules put to such values: (transformation chain, operator) and the
places (unit, link) that want to know.  A value is transformed into its distinct forms (chains
that leave it alone share its own form), each form is matched once against the shared
PatternSet, and what other operators say is asked one by one.  The answer, a tuple of places,
is cached by value, so that a header which repeats from request to request costs one look-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from waf_core.macros import Expander
from waf_core.operators import Operator
from waf_core.operators.phrases import Phrases
from waf_core.operators.regex import Rx
from waf_core.scan.patterns import PatternSet, ScanLimits, ScanStatistics
from waf_core.transformations import Transformation

Place = tuple[int, int]
"""(position of the unit, number of the link)"""

FEW_PATTERNS = 3
"""Up to so many patterns are searched one by one: cheaper than the whole Set."""


@dataclass(frozen=True, slots=True)
class Test:
    """What a rule asks of a value."""

    chain: tuple[Transformation, ...]
    operator: Operator
    negated: bool
    multi_match: bool
    place: Place


class _Chain:
    """The tests that share a transformation chain."""

    __slots__ = ("others", "patterns", "phrases", "slot")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.patterns: dict[int, list[Place]] = {}
        self.phrases: dict[int, list[Place]] = {}
        self.others: dict[tuple[int, bool], tuple[Operator, bool, list[Place]]] = {}


class Scanner:
    """`recent` is public for the caller's fast path: `recent.get(value)` before `scan`."""

    __slots__ = (
        "_chains",
        "_limits",
        "_older",
        "_patterns",
        "_statistics",
        "_steps",
        "_tests",
        "recent",
    )

    def __init__(self, patterns: PatternSet, statistics: ScanStatistics, limits: ScanLimits) -> None:
        self._patterns = patterns
        self._statistics = statistics
        self._limits = limits
        self._tests: list[Test] = []
        self._steps: list[tuple[int, Transformation]] = []
        self._chains: list[_Chain] = []
        self.recent: dict[bytes, tuple[Place, ...]] = {}
        self._older: dict[bytes, tuple[Place, ...]] = {}

    def add(self, test: Test) -> None:
        self._tests.append(test)

    def compile(self) -> None:
        """Lay out the transformation steps as a tree, so that shared beginnings run once."""
        slots: dict[tuple[Transformation, ...], int] = {(): 0}
        chains: dict[tuple[Transformation, ...], _Chain] = {}
        few = len({t.operator.pattern for t in self._tests if isinstance(t.operator, Rx)}) <= FEW_PATTERNS
        for test in self._tests:
            ends = range(len(test.chain) + 1) if test.multi_match else (len(test.chain),)
            for end in ends:
                prefix = test.chain[:end]
                if prefix not in chains:
                    chains[prefix] = _Chain(self._slot(prefix, slots))
                self._place(chains[prefix], test, few)
        self._chains = list(chains.values())

    def _slot(self, chain: tuple[Transformation, ...], slots: dict[tuple[Transformation, ...], int]) -> int:
        if chain not in slots:
            parent = self._slot(chain[:-1], slots)
            self._steps.append((parent, chain[-1]))
            slots[chain] = len(self._steps)
        return slots[chain]

    def _place(self, chain: _Chain, test: Test, few: bool) -> None:
        operator = test.operator
        if isinstance(operator, Rx) and not test.negated and not few:
            number = self._patterns.add_pattern(operator.pattern)
            chain.patterns.setdefault(number, []).append(test.place)
        elif isinstance(operator, Phrases) and not test.negated:
            number = self._patterns.add_phrases(operator.phrases)
            chain.phrases.setdefault(number, []).append(test.place)
        else:
            key = (id(operator), test.negated)
            chain.others.setdefault(key, (operator, test.negated, []))[2].append(test.place)

    def scan(self, value: bytes, tx: Expander) -> tuple[Place, ...]:
        """The places whose test holds for this value."""
        found = self._older.get(value)
        if found is None:
            self._statistics.scans += 1
            found = self._judge(value, tx)
        if len(value) <= self._limits.cache_value_bytes:
            if len(self.recent) >= self._limits.cache_entries:
                self._older = self.recent
                self.recent = {}
            self.recent[value] = found
        return found

    def _judge(self, value: bytes, tx: Expander) -> tuple[Place, ...]:
        forms = [value]
        append = forms.append
        for parent, function in self._steps:
            append(function(forms[parent]))
        places: list[Place] = []
        by_form: dict[bytes, list[_Chain]] = {}
        for chain in self._chains:
            by_form.setdefault(forms[chain.slot], []).append(chain)
        for form, chains in by_form.items():
            self._judge_form(form, chains, places, tx)
        return tuple(dict.fromkeys(places))

    def _judge_form(self, form: bytes, chains: Sequence[_Chain], places: list[Place], tx: Expander) -> None:
        numbers: list[int] | None = None
        lists: set[int] | None = None
        for chain in chains:
            if chain.patterns:
                if numbers is None:
                    numbers = self._patterns.match_patterns(form)
                for number in numbers:
                    found = chain.patterns.get(number)
                    if found:
                        places += found
            if chain.phrases:
                if lists is None:
                    lists = self._patterns.match_phrases(form)
                for number in lists:
                    found = chain.phrases.get(number)
                    if found:
                        places += found
            for operator, negated, wanted in chain.others.values():
                if (operator.match(form, tx) is None) is negated:
                    places += wanted
