"""Plans: which forms to make of a value, and what each of them has to be asked.

A rule asks about a value behind a chain of transformations.  Most values are plain: most
transformations leave them alone, and most operators cannot hold for them.  Both follow from the classes
of bytes that a value has (waf_core/scan/classes.py) and from its length, so values that are alike in
this get the same plan.  Of the 100 tests that CRS at level 1 puts to an argument a number keeps hardly
any, a word a dozen.

Behind a transformation that may bring in any byte (decoders) nothing is known; there the plan has a
*branch*, and the form that came out gets a plan of its own, by what it has become.

A plan for more classes than a value has serves it, too, with some questions that cannot hold.  So values
whose classes are new get a plan for coarser ones: hostile values are different each time.  And what they have
is mostly what others had but for some character: plans for short values of that kind are made before traffic comes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from waf_core.scan.budget import PlanBudget
from waf_core.scan.chains import UNBOUNDED, Chain, ChainTree, Form
from waf_core.scan.classes import ALL_CLASSES, TEXT_CLASSES, WORD_CLASSES, are_many, classes_of, classes_with, coarse
from waf_core.scan.masks import numbers_of
from waf_core.scan.questions import Alone, ChainTests, Slot, joined
from waf_core.transformations import Transformation

MAX_PLANS: Final = 256
"""Plans that one planner keeps for each rank of length; when there are more it starts over."""

SIGHTINGS: Final = 3
"""A coarser plan has to do until values of some classes have come so often."""

FORESEEN_FROM: Final = 64
"""A planner that has so many plans for short values of crowds is asked about all that attackers send."""

MAX_TELLING: Final = 48
"""Bytes; values are looked through first for those that all tests of a planner need, if they are so few."""

MAX_SIGHTED: Final = 512
"""Sets of classes whose sightings one planner counts; then it starts over."""

CLASSED_VALUE_BYTES: Final = 4096
"""Longer values count as having all classes: finding them would cost more than it saves."""

LENGTHS: Final = (4, 8, 16, 32, 64, CLASSED_VALUE_BYTES)
"""Plans are made for values of up to so many bytes."""

_RANKS: Final = bytes(bisect_left(LENGTHS, size) for size in range(CLASSED_VALUE_BYTES + 1))
"""Length -> index in LENGTHS."""

_COARSE_RANK: Final = 3
"""Coarse plans know two lengths: up to this one's, and all."""

_Part = tuple[int, int, int, int]
"""Number of an item, and which of its tests may hold (`ChainTests.possible`)."""


class Plan:
    """`steps` make forms from earlier ones (form 0 is the value): (earlier form, function).  `slots` are (form,
    what is asked of it in common, what by itself: (function, the answer that is no match, places)), `branches` (form,
    planner for it)."""

    __slots__ = ("branches", "slots", "steps")

    def __init__(
        self,
        steps: tuple[tuple[int, Transformation], ...],
        slots: tuple[tuple[int, Slot | None, Alone], ...],
        branches: tuple[tuple[int, Planner], ...],
    ) -> None:
        self.steps = steps
        self.slots = slots
        self.branches = branches


NOTHING: Final = Plan((), (), ())


class _Item:
    """A chain of a planner and the tests behind it: `path` are its steps in the tree, `end` is the last one.  (What
    each plan looks at is in one place, as in questions._Condition.)"""

    __slots__ = ("chain", "end", "needed", "number", "path", "shortest", "tests")

    def __init__(self, number: int, chain: Chain, tests: ChainTests, telling: int, path: int, end: int) -> None:
        self.needed: int = classes_with(telling)
        """The classes of which a value has to have one for any of the tests to hold."""
        self.path = path
        self.end = end
        self.shortest: int = tests.shortest
        self.number = number
        self.tests = tests
        self.chain = chain


class Planner:
    """Makes and keeps the plans for the tests behind some chains."""

    __slots__ = (
        "_branches", "_budget", "_foreseen", "_items", "_joined", "_plans", "_relevant", "_sighted", "_telling",
        "_telling_classes", "_tree",
    )  # fmt: skip

    def __init__(self, items: Sequence[tuple[Chain, ChainTests]], budget: PlanBudget) -> None:
        self._budget = budget
        self._tree = tree = ChainTree([chain for chain, _ in items])
        relevant = tree.relevant
        telling = 0
        self._items: list[_Item] = []
        for number, (chain, tests) in enumerate(items):
            relevant |= tests.relevant
            members = tests.telling(chain)
            telling |= members
            self._items.append(_Item(number, chain, tests, members, tree.paths[number], tree.ends[number]))
        self._relevant = relevant
        """Classes that make a difference to any of the chains or tests."""
        self._telling = _table(telling) if telling.bit_count() <= MAX_TELLING else None
        """Values without any of these bytes (a table of 0 and 1) need no plan; None: most have some."""
        self._telling_classes = classes_with(telling)
        """Values without any of these classes neither, then."""
        self._plans: tuple[dict[int, Plan], ...] = tuple({} for _ in range(len(LENGTHS) + 1))
        self._foreseen: dict[int, Plan] = {}
        """Of _COARSE_RANK, by classes."""
        self._sighted: dict[tuple[int, int], int] = {}
        """(rank, classes) -> how often they came, of those without a plan."""
        self._branches: dict[tuple[tuple[int, int], ...], Planner] = {}
        """By (number of the item, steps taken)."""
        self._joined: dict[tuple[_Part, ...], tuple[Slot | None, Alone]] = {}
        """What is asked of a form, by those who ask: it is often the same in several plans."""

    def plan(self, value: bytes, *, crowd: bool) -> Plan:
        """The plan for values like this one; for one of a crowd a coarse one, which more of them share."""
        size = len(value)
        telling = self._telling
        classes = classes_of(value) if size <= CLASSED_VALUE_BYTES else ALL_CLASSES
        if telling is not None and (not classes & self._telling_classes or 1 not in value.translate(telling)):
            return NOTHING
        if size > CLASSED_VALUE_BYTES:
            return self._for_everything(len(LENGTHS))
        classes &= self._relevant
        if crowd:
            rank = _COARSE_RANK if size <= LENGTHS[_COARSE_RANK] else len(LENGTHS) - 1
            return self._at_once(rank, self._coarser(classes))
        rank = _RANKS[size]
        return self._plans[rank].get(classes) or self._new(rank, classes)

    def foresee(self) -> None:
        """The first exchanges have been judged: make plans for short values of crowds that lack one of the classes that
        others had."""
        known = self._plans[_COARSE_RANK]
        seen = [classes for classes in known if self._coarser(classes) == classes and not are_many(classes)]
        if len(seen) < FORESEEN_FROM:
            return
        for classes in seen:
            for number in numbers_of(classes & ~WORD_CLASSES):
                fewer = classes ^ 1 << number
                if fewer not in known and fewer not in self._foreseen:
                    self._foreseen[fewer] = self._make(fewer, LENGTHS[_COARSE_RANK])

    def _new(self, rank: int, classes: int) -> Plan:
        coarser = self._coarser(classes)
        if coarser == classes or are_many(classes):
            return self._at_once(rank, coarser)
        key = (rank, classes)
        sightings = self._sighted.get(key, 0) + 1
        if sightings < SIGHTINGS or self._budget.left <= 0:
            if len(self._sighted) >= MAX_SIGHTED:
                self._sighted.clear()
            self._sighted[key] = sightings
            return self._at_once(rank, coarser)
        self._sighted.pop(key, None)
        return self._at_once(rank, classes)

    def _coarser(self, classes: int) -> int:
        """Attackers' values have classes of all kinds: those of text, then."""
        classes = coarse(classes) & self._relevant
        return (classes | TEXT_CLASSES) & self._relevant if are_many(classes) else classes

    def _at_once(self, rank: int, classes: int) -> Plan:
        plans = self._plans[rank]
        plan = plans.get(classes) or (self._foreseen.get(classes) if rank == _COARSE_RANK else None)
        if plan is None:
            if self._budget.left <= 0:
                return self._for_everything(rank)
            self._budget.left -= 1
            if len(plans) >= MAX_PLANS:
                plans.clear()
            plan = plans[classes] = self._make(classes, LENGTHS[rank])
        return plan

    def _for_everything(self, rank: int) -> Plan:
        plan = self._plans[rank].get(ALL_CLASSES)
        if plan is None:
            longest = LENGTHS[rank] if rank < len(LENGTHS) else UNBOUNDED
            plan = self._plans[rank][ALL_CLASSES] = self._make(ALL_CLASSES, longest)
        return plan

    def _make(self, classes: int, longest: int) -> Plan:
        """Leave out the steps that change nothing, and what cannot hold; join what is left."""
        items: list[_Item] = []
        wanted = 0
        for item in self._items:
            if item.needed & classes or item.needed == ALL_CLASSES:
                items.append(item)
                wanted |= item.path
        reached = self._tree.walk(classes, longest, wanted)
        asked: list[Form] = []
        branching: list[Form] = []
        promising = False
        for item in items:
            end = reached[item.end]
            form = end.form
            if end.branch:
                if not form.branching:
                    branching.append(form)
                form.branching.append((item.number, end.branch))
                if end.length >= item.shortest:
                    promising = form.promising = True
            elif end.length >= item.shortest:
                patterns, negated, others = item.tests.possible(end.classes, end.length)
                if patterns or negated or others:
                    if not form.parts:
                        asked.append(form)
                    form.parts.append((item.number, patterns, negated, others))
        if not asked and not promising:
            return NOTHING
        steps: list[tuple[int, Transformation]] = []
        slots: list[tuple[int, Slot | None, Alone]] = []
        for form in asked:
            slot, alone = self._slot(tuple(form.parts))
            slots.append((_step(form, steps), slot, alone))
        # Also those who cannot hold for a value of this length: so all lengths share a planner.
        branches = [(_step(form, steps), self._branch(tuple(form.branching))) for form in branching if form.promising]
        return Plan(tuple(steps), tuple(slots), tuple(branches))

    def _slot(self, parts: tuple[_Part, ...]) -> tuple[Slot | None, Alone]:
        known = self._joined.get(parts)
        if known is None:
            if len(self._joined) >= MAX_PLANS:
                self._joined.clear()
            asking = [(self._items[number].tests, p, n, o) for number, p, n, o in parts]
            known = self._joined[parts] = joined(asking)
        return known

    def _branch(self, key: tuple[tuple[int, int], ...]) -> Planner:
        planner = self._branches.get(key)
        if planner is None:
            if len(self._branches) >= MAX_PLANS:
                self._branches.clear()
            rest = [(self._items[number].chain[taken:], self._items[number].tests) for number, taken in key]
            planner = self._branches[key] = Planner(rest, self._budget)
        return planner


def _step(form: Form, steps: list[tuple[int, Transformation]]) -> int:
    """The number in the plan of a form of the walk; what it takes is added to the steps, if it is not there yet."""
    missing: list[Form] = []
    last: Form | None = form
    while last is not None and last.step < 0:
        missing.append(last)
        last = last.ahead
    number = last.step if last is not None else 0
    for new in reversed(missing):
        assert new.function is not None
        steps.append((number, new.function))
        number = new.step = len(steps)
    return number


def _table(members: int) -> bytes:
    return bytes(members >> byte & 1 for byte in range(256))
