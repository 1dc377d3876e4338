"""Plans: which forms to make of a value, and what each of them has to be asked.

A rule asks about a value behind a chain of transformations.  Most values are plain: most
transformations leave them alone, and most operators cannot hold for them.  Both follow from the classes
of bytes that a value has (waf_core/scan/classes.py) and from its length, so values that are alike in
this get the same plan.  Of the 100 tests that CRS at level 1 puts to an argument a number keeps hardly
any, a word a dozen.

Behind a transformation that may bring in any byte (decoders) nothing is known; there the plan has a
*branch*, and the form that came out gets a plan of its own, by what it has become.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from waf_core.macros import Expander
from waf_core.operators import Captures, Operator
from waf_core.operators.needs import ALL, Needs, of_bytes
from waf_core.operators.needs import NOTHING as NO_NEEDS
from waf_core.scan.budget import PlanBudget
from waf_core.scan.classes import ALL_CLASSES, are_many, classes_of, classes_with
from waf_core.transformations import TRAITS, UNKNOWN, Transformation

Place = tuple[int, int, bytes | None, Captures | None]
"""Who wants to know of a value: (gate of a link, number of the target that the value is of); and what the test has
found, if that is known: (form of the value, captures)."""

Chain = tuple[Transformation, ...]

MAX_PLANS: Final = 256
"""Plans that one planner keeps for each rank of length; when there are more it starts over."""

SIGHTINGS: Final = 3
"""The plan for all classes has to do until values of some classes have come so often: decoded noise is different
each time, and a plan costs as much as ten values."""

MAX_TELLING: Final = 48
"""Bytes; values are looked through first for those that all tests of a planner need, if they are so few."""

MAX_SIGHTED: Final = 2048
"""Sets of classes whose sightings one planner counts; then it starts over."""

CLASSED_VALUE_BYTES: Final = 4096
"""Longer values count as having all classes: finding them would cost more than it saves."""

LENGTHS: Final = (4, 8, 16, 32, 64, CLASSED_VALUE_BYTES)
"""Plans are made for values of up to so many bytes."""

_RANKS: Final = bytes(bisect_left(LENGTHS, size) for size in range(CLASSED_VALUE_BYTES + 1))
"""Length -> index in LENGTHS."""

_MANY: Final = 1 << 62


Answer = bool | Captures | None

Question = tuple[Operator, bool | None, list[Place]]
"""An operator that is asked by itself: (operator, the answer that is no match, places).  Where captures are wanted it
is asked for them, and None is no match, else whether it holds."""

Ask = Callable[[bytes, Expander], Answer]
"""An operator's `holds` or `match`."""


@dataclass(frozen=True, slots=True)
class _Condition:
    """Needs of an operator, by classes.  `bit` is its place in the mask of its kind."""

    kind: str
    needs: Needs
    clauses: tuple[int, ...]
    bit: int

    @classmethod
    def of(cls, kind: str, needs: Needs, bit: int) -> _Condition:
        return cls(kind, needs, tuple(classes_with(clause) for clause in needs.clauses), bit)


@dataclass(slots=True)
class ChainTests:
    """The tests behind one chain.  `patterns` (expressions and phrase lists) are by their numbers in the PatternSet,
    `negated` are those that must not be found, `capturing` is a mask of the patterns whose captures are wanted."""

    patterns: dict[int, tuple[Operator, list[Place]]] = field(default_factory=dict)
    capturing: int = 0
    negated: dict[int, tuple[Operator, list[Place]]] = field(default_factory=dict)
    others: dict[tuple[bytes | int, bool | None], Question] = field(default_factory=dict)
    """By (pattern or identity of the operator, refused answer)."""
    conditions: list[_Condition] = field(default_factory=list)

    def note_conditions(self, known: Callable[[int], Needs | None]) -> None:
        """What each test needs; to be called when all are there.  `known` tells what a pattern needs, if it can."""
        for number, (pattern, _) in self.patterns.items():
            self.conditions.append(_Condition.of("patterns", known(number) or pattern.needs(), 1 << number))
        for number in self.negated:
            self.conditions.append(_Condition.of("negated", NO_NEEDS, 1 << number))
        for index, (operator, refused, _) in enumerate(self.others.values()):
            needs = NO_NEEDS if refused else operator.needs()
            self.conditions.append(_Condition.of("others", needs, 1 << index))

    def telling(self, chain: Chain) -> int:
        """Bytes (a set in the sense of needs.py) of which a value has to have one for any of the tests to hold
        behind the chain."""
        out = 0
        for condition in self.conditions:
            sets = [_before(chain, clause) for clause in condition.needs.clauses]
            out |= min(sets, key=int.bit_count, default=ALL)
        return out

    def possible(self, classes: int, longest: int) -> tuple[int, int, int]:
        """Masks of the patterns, negated patterns and others that may hold for such a form."""
        masks = {"patterns": 0, "negated": 0, "others": 0}
        for condition in self.conditions:
            if condition.needs.length <= longest:
                for clause in condition.clauses:
                    if not clause & classes:
                        break
                else:
                    masks[condition.kind] |= condition.bit
        return masks["patterns"], masks["negated"], masks["others"]


@dataclass(frozen=True, slots=True)
class Slot:
    """What is asked of one form in common with others: `patterns` is a mask of their numbers, `positive` of
    those among them that should be found, `capturing` of those whose captures are wanted."""

    patterns: int
    positive: int
    capturing: int
    tests: tuple[ChainTests, ...]
    negated: tuple[tuple[int, Operator, list[Place]], ...]
    known: dict[int, tuple[Operator, list[Place]]] = field(default_factory=dict)
    """What `askers` has told."""

    def askers(self, number: int) -> tuple[Operator, list[Place]]:
        """The operator of a pattern, and who wants to know of it; put together when it is first found."""
        pairs = [tests.patterns[number] for tests in self.tests if number in tests.patterns]
        known = self.known[number] = (pairs[0][0], [place for _, places in pairs for place in places])
        return known


class Plan(NamedTuple):
    """`steps` make forms from earlier ones (form 0 is the value): (earlier form, function).  `slots` are (form,
    what is asked of it in common, what by itself: (function, the answer that is no match, places)), `branches` (form,
    planner for it)."""

    steps: tuple[tuple[int, Transformation], ...]
    slots: tuple[tuple[int, Slot | None, tuple[tuple[Ask, bool | None, list[Place]], ...]], ...]
    branches: tuple[tuple[int, Planner], ...]


NOTHING: Final = Plan((), (), ())


class Planner:
    """Makes and keeps the plans for the tests behind some chains."""

    __slots__ = ("_branches", "_budget", "_items", "_plans", "_relevant", "_sighted", "_telling")

    def __init__(self, items: Sequence[tuple[Chain, ChainTests]], budget: PlanBudget) -> None:
        self._items = items
        self._budget = budget
        self._relevant = _relevant_classes(items)
        """Classes that make a difference to any of the chains or tests."""
        telling = 0
        for chain, tests in items:
            telling |= tests.telling(chain)
        self._telling = _members(telling) if telling.bit_count() <= MAX_TELLING else None
        """Values without any of these bytes need no plan; None: most have some."""
        self._plans: tuple[dict[int, Plan], ...] = tuple({} for _ in range(len(LENGTHS) + 1))
        self._sighted: dict[tuple[int, int], int] = {}
        """(rank, classes) -> how often they came, of those without a plan."""
        self._branches: dict[tuple[tuple[int, int], ...], Planner] = {}
        """By (number of the item, steps taken)."""

    def plan(self, value: bytes) -> Plan:
        """The plan for values like this one."""
        size = len(value)
        if self._telling is not None and len(value.translate(None, self._telling)) == size:
            return NOTHING
        if size > CLASSED_VALUE_BYTES:
            return self._for_everything(len(LENGTHS))
        rank = _RANKS[size]
        classes = classes_of(value) & self._relevant
        return self._plans[rank].get(classes) or self._new(rank, classes)

    def _new(self, rank: int, classes: int) -> Plan:
        if self._budget.left <= 0 or are_many(classes):
            return self._for_everything(rank)
        key = (rank, classes)
        sightings = self._sighted.get(key, 0) + 1
        if sightings < SIGHTINGS:
            if len(self._sighted) >= MAX_SIGHTED:
                self._sighted.clear()
            self._sighted[key] = sightings
            return self._for_everything(rank)
        self._sighted.pop(key, None)
        self._budget.left -= 1
        plans = self._plans[rank]
        if len(plans) >= MAX_PLANS:
            plans.clear()
        plan = plans[classes] = self._make(classes, LENGTHS[rank])
        return plan

    def _for_everything(self, rank: int) -> Plan:
        plan = self._plans[rank].get(ALL_CLASSES)
        if plan is None:
            longest = LENGTHS[rank] if rank < len(LENGTHS) else _MANY
            plan = self._plans[rank][ALL_CLASSES] = self._make(ALL_CLASSES, longest)
        return plan

    def _make(self, classes: int, longest: int) -> Plan:
        """Leave out the steps that change nothing, and what cannot hold; join what is left."""
        kept: dict[Chain, list[tuple[ChainTests, int, int, int]]] = {}
        branching: dict[Chain, list[tuple[int, int]]] = {}
        for number, (chain, tests) in enumerate(self._items):
            reduced, taken, present, length = _reduce(chain, classes, longest)
            if present == ALL_CLASSES != classes:
                *_, length = _reduce(chain[taken:], ALL_CLASSES, length)
                if any(tests.possible(ALL_CLASSES, length)):
                    branching.setdefault(reduced, []).append((number, taken))
                continue
            masks = tests.possible(present, length)
            if any(masks):
                kept.setdefault(reduced, []).append((tests, *masks))
        if not kept and not branching:
            return NOTHING
        forms: dict[Chain, int] = {}
        steps: list[tuple[int, Transformation]] = []
        slots = tuple((_form(chain, forms, steps), *_slot(parts)) for chain, parts in kept.items())
        branches = tuple((_form(chain, forms, steps), self._branch(tuple(items))) for chain, items in branching.items())
        return Plan(tuple(steps), slots, branches)

    def _branch(self, key: tuple[tuple[int, int], ...]) -> Planner:
        planner = self._branches.get(key)
        if planner is None:
            if len(self._branches) >= MAX_PLANS:
                self._branches.clear()
            rest = [(self._items[number][0][taken:], self._items[number][1]) for number, taken in key]
            planner = self._branches[key] = Planner(rest, self._budget)
        return planner


def _form(chain: Chain, forms: dict[Chain, int], steps: list[tuple[int, Transformation]]) -> int:
    """The number of the form behind a chain; what it takes is added to the others' steps."""
    number = 0
    for taken, function in enumerate(chain, 1):
        known = forms.get(chain[:taken])
        if known is None:
            steps.append((number, function))
            known = forms[chain[:taken]] = len(steps)
        number = known
    return number


def _before(chain: Chain, members: int) -> int:
    """A value that has one of `members` behind the chain had one of these ahead of it."""
    for function in reversed(chain):
        for touched, emitted in _byte_effects(function):
            if emitted & members:
                members |= touched
    return members


@lru_cache(maxsize=256)
def _byte_effects(function: Transformation) -> tuple[tuple[int, int], ...]:
    """Traits of a transformation by bytes: ((touched, emitted), ...), sets in the sense of needs.py."""
    effects = TRAITS.get(function, UNKNOWN).effects
    return tuple((of_bytes(set(touched)), of_bytes(set(emitted))) for touched, emitted in effects)


def _members(members: int) -> bytes:
    return bytes(byte for byte in range(256) if members >> byte & 1)


def _relevant_classes(items: Sequence[tuple[Chain, ChainTests]]) -> int:
    """Those that a step acts on, and those that a test needs."""
    found = 0
    for chain, tests in items:
        for function in chain:
            for touched, _ in _effects(function)[0]:
                found |= touched
        for condition in tests.conditions:
            for clause in condition.clauses:
                found |= clause
    return found


def _slot(
    parts: Sequence[tuple[ChainTests, int, int, int]],
) -> tuple[Slot | None, tuple[tuple[Ask, bool | None, list[Place]], ...]]:
    positive = unwelcome = 0
    negated: list[tuple[int, Operator, list[Place]]] = []
    others: dict[tuple[bytes | int, bool | None], Question] = {}
    for tests, patterns, unwanted, mask in parts:
        positive |= patterns
        unwelcome |= unwanted
        negated += [(number, *test) for number, test in tests.negated.items()]
        for index, (key, question) in enumerate(tests.others.items()):
            if mask >> index & 1:
                known = others.get(key)
                others[key] = (question[0], question[1], [*known[2], *question[2]]) if known else question
    tests_of = tuple(tests for tests, patterns, _, _ in parts if patterns)
    every = positive | unwelcome
    capturing = 0
    for tests in tests_of:
        capturing |= tests.capturing
    slot = Slot(every, positive, capturing, tests_of, tuple(negated)) if every else None
    alone = [
        (operator.match if refused is None else operator.holds, refused, wanted)
        for operator, refused, wanted in others.values()
    ]
    return slot, tuple(alone)


def _reduce(chain: Chain, classes: int, longest: int) -> tuple[Chain, int, int, int]:
    """The steps of a chain that may act, how many steps that covers, the classes that may be there behind
    them, and the length.  It ends at a step behind which anything may be there, if that is news."""
    out: list[Transformation] = []
    known = classes != ALL_CLASSES
    for taken, function in enumerate(chain, 1):
        effects, growth = _effects(function)
        acts = False
        emits = 0
        for touched, emitted in effects:
            if touched & classes or touched == ALL_CLASSES:
                acts = True
                emits |= emitted
        if acts:
            out.append(function)
            classes |= emits
            longest = int(longest * growth) if growth < _MANY else _MANY
            if known and classes == ALL_CLASSES:
                return tuple(out), taken, classes, longest
    return tuple(out), len(chain), classes, longest


@lru_cache(maxsize=256)
def _effects(function: Transformation) -> tuple[tuple[tuple[int, int], ...], float]:
    """Traits of a transformation by classes: ((touched, emitted), ...) and its growth."""
    pairs = tuple((classes_with(touched), classes_with(emitted)) for touched, emitted in _byte_effects(function))
    return pairs, TRAITS.get(function, UNKNOWN).growth
