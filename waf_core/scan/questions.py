"""What rules ask of a form: patterns to look for in common with other forms, and operators that stand alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from waf_core.macros import Expander
from waf_core.operators import Captures, Operator
from waf_core.operators.needs import ALL, Needs
from waf_core.operators.needs import NOTHING as NO_NEEDS
from waf_core.scan.chains import Chain, before
from waf_core.scan.classes import ALL_CLASSES, COUNT, classes_with
from waf_core.scan.wish import Wish

Place = tuple[Any, ...]
"""Who wants to know of a value: gate of a link, number of the target that the value is of.  (Compiled code would take
tuples of known types apart wherever they pass, and put them together again.)"""

Told = tuple[Any, ...]
"""What a test has found: who wants to know (a Place), and if they are known the form of the value, and the captures."""

Answer = bool | Captures | None

Question = tuple[Operator, bool | None, list[Place]]
"""An operator that is asked by itself: (operator, the answer that is no match, places).  Where captures are wanted it
is asked for them, and None is no match, else whether it holds."""

Ask = Callable[[bytes, Expander], Answer]
"""An operator's `holds` or `match`."""

Alone = tuple[tuple[Ask, bool | None, list[Place]], ...]
"""Questions, ready to be asked."""

Asker = tuple[Any, ...]
"""What is asked about a pattern (an `Ask`), who wants to know of it (a list of places), and the operator."""

_NEVER: Final = 1 << 60

_ANY: Final = 1 << COUNT
"""Beside the classes: every value has it, and a clause that is not there asks for it."""


class _Condition:
    """What some tests of one kind have in common: they cannot hold for a form that is shorter than `length`, or has
    none of the classes of any of the clauses.  (The first three are kept where the object is: a plan looks at a
    hundred of these, and each tuple and integer apart is another line of a cache that is cold.)"""

    __slots__ = ("first", "length", "mask", "needs", "others", "second", "third")

    def __init__(self, needs: Needs) -> None:
        clauses = [classes_with(clause) for clause in needs.clauses]
        self.length = needs.length
        self.first, self.second, self.third = [*clauses, _ANY, _ANY, _ANY][:3]
        self.others = tuple(clauses[3:])
        self.mask = 0
        self.needs = needs

    def holds(self, classes: int, longest: int) -> bool:
        """`classes` has _ANY."""
        if self.length > longest or not self.first & classes or not self.second & classes or not self.third & classes:
            return False
        for clause in self.others:  # noqa: SIM110 - a generator costs twice as much
            if not clause & classes:
                return False
        return True

    @property
    def relevant(self) -> int:
        """Classes that it asks for."""
        out = (self.first | self.second | self.third) & ALL_CLASSES
        for clause in self.others:
            out |= clause
        return out


class ChainTests:
    """The tests behind one chain.  `patterns` (expressions and phrase lists) are by their numbers in the PatternSet,
    `negated` are those that must not be found, `capturing` is a mask of the patterns whose captures are wanted,
    `others` are by (pattern or identity of the operator, refused answer)."""

    __slots__ = (
        "_negated", "_of_others", "_of_patterns", "capturing", "negated", "others", "patterns", "relevant", "shortest",
    )  # fmt: skip

    def __init__(self) -> None:
        self.patterns: dict[int, tuple[Operator, list[Place]]] = {}
        self.capturing = 0
        self.negated: dict[int, tuple[Operator, list[Place]]] = {}
        self.others: dict[tuple[bytes | int, bool | None], Question] = {}
        self.relevant = 0
        """Classes that a test needs."""
        self.shortest = _NEVER
        """Bytes: for shorter forms no test holds."""
        self._of_patterns: tuple[_Condition, ...] = ()
        self._of_others: tuple[_Condition, ...] = ()
        self._negated = 0

    def note_conditions(self, known: Callable[[int], Needs | None]) -> None:
        """What each test needs; to be called when all are there.  `known` tells what a pattern needs, if it can."""
        of_patterns: dict[Needs, _Condition] = {}
        for number, (pattern, _) in self.patterns.items():
            self._note(of_patterns, known(number) or pattern.needs(), 1 << number)
        for number in self.negated:
            self._negated |= 1 << number
            self.shortest = 0
        of_others: dict[Needs, _Condition] = {}
        for index, (operator, refused, _) in enumerate(self.others.values()):
            self._note(of_others, NO_NEEDS if refused else operator.needs(), 1 << index)
        self._of_patterns, self._of_others = tuple(of_patterns.values()), tuple(of_others.values())

    def _note(self, conditions: dict[Needs, _Condition], needs: Needs, bit: int) -> None:
        condition = conditions.get(needs)
        if condition is None:
            condition = conditions[needs] = _Condition(needs)
        condition.mask |= bit
        self.shortest = min(self.shortest, needs.length)
        self.relevant |= condition.relevant

    def telling(self, chain: Chain) -> int:
        """Bytes (a set in the sense of needs.py) of which a value has to have one for any of the tests to hold
        behind the chain."""
        if self.negated:
            return ALL
        out = 0
        for condition in (*self._of_patterns, *self._of_others):
            sets = [before(chain, clause) for clause in condition.needs.clauses]
            out |= min(sets, key=int.bit_count, default=ALL)
        return out

    def possible(self, classes: int, longest: int) -> tuple[int, int, int]:
        """Masks of the patterns, negated patterns and others that may hold for such a form."""
        patterns = others = 0
        classes |= _ANY
        for condition in self._of_patterns:
            if condition.holds(classes, longest):
                patterns |= condition.mask
        for condition in self._of_others:
            if condition.holds(classes, longest):
                others |= condition.mask
        return patterns, self._negated, others


class Slot:
    """What is asked of one form in common with others: `patterns` is a mask of their numbers, `positive` of
    those among them that should be found."""

    __slots__ = ("_known", "_tests", "negated", "patterns", "positive", "wish")

    def __init__(
        self,
        positive: int,
        unwelcome: int,
        tests: tuple[ChainTests, ...],
        negated: tuple[tuple[int, Operator, list[Place]], ...],
    ) -> None:
        self.patterns = positive | unwelcome
        self.positive = positive
        self.negated = negated
        self.wish: Wish | None = None
        """What the databases of the PatternSet make of `patterns`, since it was first asked for them."""
        self._known: dict[int, Asker] = {}
        self._tests = tests

    def asker(self, number: int) -> Asker:
        """What is asked about a pattern that may be found; put together when it first is."""
        known = self._known.get(number)
        if known is not None:
            return known
        operator: Operator | None = None
        places: list[Place] = []
        capturing = False
        for tests in self._tests:
            asked = tests.patterns.get(number)
            if asked is not None:
                operator = asked[0]
                places += asked[1]
                capturing |= tests.capturing >> number & 1 != 0
        assert operator is not None
        known = self._known[number] = (operator.match if capturing else operator.holds, places, operator)
        return known


def mask_of_slots(slots: Iterable[Slot]) -> int:
    """The patterns that any of them asks for."""
    mask = 0
    for slot in slots:
        mask |= slot.patterns
    return mask


def joined(parts: Sequence[tuple[ChainTests, int, int, int]]) -> tuple[Slot | None, Alone]:
    """What is asked of a form to which several chains lead: (tests, what `possible` told of them)."""
    positive = unwelcome = 0
    negated: list[tuple[int, Operator, list[Place]]] = []
    others: dict[tuple[bytes | int, bool | None], Question] = {}
    for tests, patterns, unwanted, mask in parts:
        positive |= patterns
        unwelcome |= unwanted
        negated += [(number, *test) for number, test in tests.negated.items()]
        if not mask:
            continue
        for index, (key, question) in enumerate(tests.others.items()):
            if mask >> index & 1:
                known = others.get(key)
                others[key] = (question[0], question[1], [*known[2], *question[2]]) if known else question
    looking = tuple([tests for tests, patterns, _, _ in parts if patterns])
    slot = Slot(positive, unwelcome, looking, tuple(negated)) if positive or unwelcome else None
    alone: list[tuple[Ask, bool | None, list[Place]]] = [
        (operator.match if refused is None else operator.holds, refused, wanted)
        for operator, refused, wanted in others.values()
    ]
    return slot, tuple(alone)
