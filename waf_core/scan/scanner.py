"""A scanner judges the values of one kind of variable, and remembers what it found.

It holds the tests that rules put to such values: (transformation chain, operator) and the
places (unit, link) that want to know.  A value is transformed into its distinct forms, each form is
matched once against the shared PatternSet, and what other operators say is asked one by one.  The
answer, a tuple of places, is cached by value, so that a header which repeats from request to
request costs one look-up.

Most values are plain, and most transformations leave them alone.  Which ones can change a value at
all follows from the bytes it has, so a value gets the *plan* of its byte classes: CRS's 36 chains
with 42 steps shrink to one or two for a word or a number.  (Measured on CRS at level 1: 31 us a
value with all steps, 7 us with plans; bench: `python -m bench engine`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from waf_core.macros import Expander
from waf_core.operators import Operator
from waf_core.operators.phrases import Phrases
from waf_core.operators.regex import Rx
from waf_core.scan.patterns import PatternSet, ScanLimits, ScanStatistics
from waf_core.transformations import ANYTHING, TRAITS, Traits, Transformation

Place = tuple[int, int]
"""(position of the unit, number of the link)"""

Chain = tuple[Transformation, ...]

FEW_PATTERNS = 3
"""Up to so many patterns are searched one by one: cheaper than the whole Set."""

MAX_PLANS = 1024
"""Plans that one scanner keeps; values with rarer byte classes get the plan for everything."""

PLANNED_VALUE_BYTES = 512
"""Longer values get the plan for everything: finding their classes would cost more."""

_UNKNOWN = Traits()


@dataclass(frozen=True, slots=True)
class Test:
    """What a rule asks of a value."""

    chain: Chain
    operator: Operator
    negated: bool
    multi_match: bool
    place: Place


_Other = tuple[Operator, bool, list[Place]]


@dataclass(slots=True)
class _Tests:
    """The tests that are put to one form of a value."""

    patterns: dict[int, tuple[Rx, list[Place]]] = field(default_factory=dict)
    phrases: dict[int, tuple[Phrases, list[Place]]] = field(default_factory=dict)
    others: dict[tuple[int, bool], tuple[Operator, bool, list[Place]]] = field(default_factory=dict)
    _large: frozenset[int] | None = None
    _needs_large: bool = False

    def needs_large(self, large: frozenset[int]) -> bool:
        """Is any of the patterns in the slower database?  Remembered until there is another one."""
        if self._large is not large:
            self._large = large
            self._needs_large = not large.isdisjoint(self.patterns)
        return self._needs_large

    @property
    def few(self) -> bool:
        """Are they so few that asking one by one is cheaper than a scan for all?"""
        return len(self.patterns) + len(self.phrases) <= FEW_PATTERNS

    def one_by_one(self) -> tuple[_Other, ...]:
        """All tests as single questions."""
        scanned = (*self.patterns.values(), *self.phrases.values())
        return (*((operator, False, places) for operator, places in scanned), *self.others.values())

    def add(self, other: _Tests) -> None:
        for number, (pattern, places) in other.patterns.items():
            self.patterns.setdefault(number, (pattern, []))[1].extend(places)
        for number, (phrases, places) in other.phrases.items():
            self.phrases.setdefault(number, (phrases, []))[1].extend(places)
        for key, (operator, negated, places) in other.others.items():
            self.others.setdefault(key, (operator, negated, []))[2].extend(places)


@dataclass(slots=True)
class _Plan:
    """Steps that make forms from earlier ones (slot 0 is the value), and the tests of each slot.

    `same` is the tests of all slots in `slots`, for values that none of their steps changes.
    `odd` are tests of forms that are always new (digests, base64): asked one by one.
    """

    steps: list[tuple[int, Transformation]]
    slots: list[tuple[int, _Tests, tuple[_Other, ...]]]
    same: tuple[_Tests, tuple[_Other, ...]]
    odd: list[tuple[int, tuple[_Other, ...]]]


class Scanner:
    """`recent` is public for the caller's fast path: `recent.get(value)` before `scan`."""

    __slots__ = (
        "_chains",
        "_classes",
        "_effects",
        "_everything",
        "_limits",
        "_older",
        "_patterns",
        "_plans",
        "_statistics",
        "_tests",
        "recent",
    )

    def __init__(self, patterns: PatternSet, statistics: ScanStatistics, limits: ScanLimits) -> None:
        self._patterns = patterns
        self._statistics = statistics
        self._limits = limits
        self._tests: list[Test] = []
        self._chains: dict[Chain, _Tests] = {}
        self._classes = b""
        self._effects: dict[Transformation, tuple[frozenset[int], frozenset[int]]] = {}
        """Byte classes that a step acts on, and those that it can bring in."""
        self._plans: dict[frozenset[int], _Plan] = {}
        self._everything = _Plan([], [], (_Tests(), ()), [])
        self.recent: dict[bytes, tuple[Place, ...]] = {}
        self._older: dict[bytes, tuple[Place, ...]] = {}

    def add(self, test: Test) -> None:
        self._tests.append(test)

    def compile(self) -> None:
        """Collect the tests by chain, and sort the 256 bytes into classes that all steps treat alike."""
        few = len({t.operator.pattern for t in self._tests if isinstance(t.operator, Rx)}) <= FEW_PATTERNS
        for test in self._tests:
            ends = range(len(test.chain) + 1) if test.multi_match else (len(test.chain),)
            for end in ends:
                self._place(self._chains.setdefault(test.chain[:end], _Tests()), test, few)
        steps = {function for chain in self._chains for function in chain}
        kinds_of = [TRAITS.get(function, _UNKNOWN) for function in steps]
        kinds: dict[tuple[bool, ...], int] = {}
        self._classes = bytes(
            kinds.setdefault(
                tuple(b in t.touches for t in kinds_of) + tuple(b in t.emits for t in kinds_of), len(kinds)
            )
            for b in range(256)
        )
        for function in steps:
            traits = TRAITS.get(function, _UNKNOWN)
            touches, emits = (frozenset(part.translate(self._classes)) for part in (traits.touches, traits.emits))
            self._effects[function] = (touches, emits)
        self._everything = self._make_plan(frozenset(self._classes))

    def _place(self, tests: _Tests, test: Test, few: bool) -> None:
        operator = test.operator
        if isinstance(operator, Rx) and not test.negated and not few:
            number = self._patterns.add_pattern(operator.pattern)
            tests.patterns.setdefault(number, (operator, []))[1].append(test.place)
        elif isinstance(operator, Phrases) and not test.negated:
            number = self._patterns.add_phrases(operator.phrases)
            tests.phrases.setdefault(number, (operator, []))[1].append(test.place)
        else:
            key = (id(operator), test.negated)
            tests.others.setdefault(key, (operator, test.negated, []))[2].append(test.place)

    # -- plans --------------------------------------------------------------------------------

    def _make_plan(self, classes: frozenset[int]) -> _Plan:
        """Drop the steps that cannot change a value of these byte classes, and join what is left."""
        reduced: dict[Chain, _Tests] = {}
        for chain, tests in self._chains.items():
            reduced.setdefault(self._reduce(chain, classes), _Tests()).add(tests)
        slots: dict[Chain, int] = {(): 0}
        plan = _Plan([], [], (_Tests(), ()), [])

        def slot(chain: Chain) -> int:
            if chain not in slots:
                plan.steps.append((slot(chain[:-1]), chain[-1]))
                slots[chain] = len(plan.steps)
            return slots[chain]

        for chain, tests in reduced.items():
            if tests.few and any(TRAITS.get(f, _UNKNOWN).touches == ANYTHING for f in chain):
                plan.odd.append((slot(chain), tests.one_by_one()))
            else:
                plan.slots.append((slot(chain), tests, tuple(tests.others.values())))
                plan.same[0].add(tests)
        plan.same = (plan.same[0], tuple(plan.same[0].others.values()))
        return plan

    def _reduce(self, chain: Chain, classes: frozenset[int]) -> Chain:
        """The steps of a chain that may act, following which classes each of them can bring in."""
        out: list[Transformation] = []
        present = set(classes)
        for function in chain:
            touches, emits = self._effects[function]
            if present.isdisjoint(touches):
                continue
            out.append(function)
            present |= emits
        return tuple(out)

    def _plan(self, value: bytes) -> _Plan:
        if len(value) > PLANNED_VALUE_BYTES:
            return self._everything
        classes = frozenset(value.translate(self._classes))
        plan = self._plans.get(classes)
        if plan is None:
            if len(self._plans) >= MAX_PLANS:
                return self._everything
            plan = self._plans[classes] = self._make_plan(classes)
        return plan

    # -- values -------------------------------------------------------------------------------

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
        plan = self._plan(value)
        forms = [value]
        for parent, function in plan.steps:
            forms.append(function(forms[parent]))
        places: list[Place] = []
        for slot, _, _ in plan.slots:
            if forms[slot] != value:
                self._judge_forms(plan, forms, places, tx)
                break
        else:
            tests, others = plan.same
            if tests.patterns:
                _find_patterns(tests, value, self._patterns.match_patterns(value), places)
                if tests.needs_large(self._patterns.large):
                    _find_patterns(tests, value, self._patterns.match_large(value), places)
            if tests.phrases:
                _find_phrases(tests, self._patterns.match_phrases(value), places)
            _ask(others, value, places, tx)
        if plan.odd:
            _ask_once(plan.odd, forms, places, tx)
        return tuple(dict.fromkeys(places)) if places else ()

    def _judge_forms(self, plan: _Plan, forms: Sequence[bytes], places: list[Place], tx: Expander) -> None:
        """Each distinct form is matched once, whatever number of chains yield it."""
        patterns = self._patterns
        numbers_of: dict[bytes, Sequence[int]] = {}
        large_of: dict[bytes, Sequence[int]] = {}
        lists_of: dict[bytes, Sequence[int]] = {}
        value = forms[0]
        few: list[tuple[int, tuple[_Other, ...]]] = []
        for slot, tests, others in plan.slots:
            form = forms[slot]
            if form != value and tests.few:
                few.append((slot, tests.one_by_one()))
                continue
            if tests.patterns:
                numbers = numbers_of.get(form)
                if numbers is None:
                    numbers = numbers_of[form] = patterns.match_patterns(form)
                if numbers:
                    _find_patterns(tests, form, numbers, places)
                if tests.needs_large(patterns.large):
                    numbers = large_of.get(form)
                    if numbers is None:
                        numbers = large_of[form] = patterns.match_large(form)
                    _find_patterns(tests, form, numbers, places)
            if tests.phrases:
                lists = lists_of.get(form)
                if lists is None:
                    lists = lists_of[form] = patterns.match_phrases(form)
                if lists:
                    _find_phrases(tests, lists, places)
            if others:
                _ask(others, form, places, tx)
        if few:
            _ask_once(few, forms, places, tx)


def _find_patterns(tests: _Tests, form: bytes, numbers: Sequence[int], places: list[Place]) -> None:
    for number in numbers:
        candidate = tests.patterns.get(number)
        # A candidate may be false (waf_core/scan/hyperscan_set.py): RE2 has the last word.
        if candidate is not None and candidate[0].holds(form):
            places += candidate[1]


def _find_phrases(tests: _Tests, lists: Sequence[int], places: list[Place]) -> None:
    for number in lists:
        found = tests.phrases.get(number)
        if found is not None:
            places += found[1]


def _ask_once(
    odd: Sequence[tuple[int, tuple[_Other, ...]]], forms: Sequence[bytes], places: list[Place], tx: Expander
) -> None:
    """Chains that begin alike often end alike: each operator sees each form once."""
    answers: dict[tuple[bytes, bytes | int], bool] = {}
    for slot, others in odd:
        form = forms[slot]
        for operator, negated, wanted in others:
            key = (form, operator.pattern if isinstance(operator, Rx) else id(operator))
            holds = answers.get(key)
            if holds is None:
                holds = answers[key] = operator.match(form, tx) is not None
            if holds is not negated:
                places += wanted


def _ask(others: Sequence[_Other], form: bytes, places: list[Place], tx: Expander) -> None:
    for operator, negated, wanted in others:
        if (operator.match(form, tx) is None) is negated:
            places += wanted
