"""Chains of transformations, and which of their steps may act on a value.

The chains of a planner share their beginnings: they are a tree, of which a plan walks each step once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from waf_core.operators.needs import of_bytes
from waf_core.scan.classes import ALL_CLASSES, classes_with
from waf_core.transformations import TRAITS, UNKNOWN, Transformation

Chain = tuple[Transformation, ...]

UNBOUNDED: Final = 1 << 48
"""Bytes: the length of a value of which nothing is known."""


class _Step:
    """A node of the tree; `ahead` is the number of the step before it, `depth` how many there are, with this one."""

    __slots__ = ("ahead", "always", "depth", "effects", "emitted", "function", "growth", "index", "simple", "touched")

    def __init__(self, ahead: int, depth: int, function: Transformation, index: int) -> None:
        self.ahead = ahead
        self.depth = depth
        self.function = function
        self.index = index
        """The same for equal functions."""
        self.effects = tuple(
            (classes_with(touched), classes_with(emitted)) for touched, emitted in byte_effects(function)
        )
        self.touched = 0
        """Classes of which a form has to have one for the step to do anything."""
        self.always = False
        """Does it do something to whatever there is, even to nothing?"""
        self.emitted = 0
        self.simple: bool = len(self.effects) == 1
        """Is `emitted` all that may come of it?"""
        for touched, emitted in self.effects:
            self.touched |= touched
            self.emitted |= emitted
            self.always |= touched == ALL_CLASSES
        self.growth = TRAITS.get(function, UNKNOWN).growth


class Form:
    """What a function makes of the form `ahead`; the value itself has none ahead.  `number` tells it apart."""

    __slots__ = ("ahead", "branching", "function", "number", "parts", "promising", "step")

    def __init__(self, number: int, ahead: Form | None, function: Transformation | None) -> None:
        self.number = number
        self.ahead = ahead
        self.function = function
        self.step: int = -1 if number else 0
        """Its number in a plan, once that is known."""
        self.parts: list[tuple[int, int, int, int]] = []
        self.branching: list[tuple[int, int]] = []
        self.promising = False


class Reached:
    """Where some steps lead: to which form, what it may consist of, and how long it is at most.  `branch`: 0, or the
    depth of the step (the last one or one before it) behind which anything may be there, which ends what can be told
    from the value."""

    __slots__ = ("branch", "classes", "form", "length")

    def __init__(self, form: Form, classes: int, length: int, branch: int) -> None:
        self.form = form
        self.classes = classes
        self.length = length
        self.branch = branch


class ChainTree:
    """The steps of some chains, each after the one ahead of it; `ends` has the number of each chain's last step,
    `paths` all of its steps (bit n: step n)."""

    __slots__ = ("_functions", "_steps", "ends", "paths", "relevant")

    def __init__(self, chains: Sequence[Chain]) -> None:
        known: dict[Chain, int] = {(): 0}
        indices: dict[Transformation, int] = {}
        self._steps: list[_Step] = []
        self.ends: list[int] = []
        self.paths: list[int] = []
        self.relevant = 0
        """Classes that any step acts on."""
        for chain in chains:
            ahead = path = 0
            for depth, function in enumerate(chain, 1):
                beginning = chain[:depth]
                number = known.get(beginning)
                if number is None:
                    step = _Step(ahead, depth, function, indices.setdefault(function, len(indices)))
                    self._steps.append(step)
                    number = known[beginning] = len(self._steps)
                    for touched, _ in step.effects:
                        self.relevant |= touched
                ahead = number
                path |= 1 << number
            self.ends.append(ahead)
            self.paths.append(path)
        self._functions = len(indices)

    def walk(self, classes: int, longest: int, wanted: int) -> list[Reached]:
        """For values of these classes, and of no more than so many bytes: what is reached by each step; step 0 stands
        for the value itself.  Of other steps than the `wanted` ones (`paths`) nothing is told."""
        value = Reached(Form(0, None, None), classes, longest, 0)
        reached = [value]
        known = classes != ALL_CLASSES
        made: dict[int, Form] = {}
        for step in self._steps:
            wanted >>= 1
            if not wanted & 1:
                reached.append(value)
                continue
            last = reached[step.ahead]
            now = last.classes
            if not (step.touched & now or step.always):
                reached.append(last)
                continue
            if step.simple:
                now |= step.emitted
            else:
                for touched, emitted in step.effects:
                    if touched & last.classes or touched == ALL_CLASSES:
                        now |= emitted
            form, branch, length = last.form, last.branch, last.length
            if step.growth != 1:
                length = int(min(length * step.growth, UNBOUNDED))
            if not branch:
                key = form.number * self._functions + step.index
                new = made.get(key)
                if new is None:
                    new = made[key] = Form(len(made) + 1, form, step.function)
                form = new
                if known and now == ALL_CLASSES:
                    branch = step.depth
            reached.append(Reached(form, now, length, branch))
        return reached


def before(chain: Chain, members: int) -> int:
    """A value that has one of `members` (a set in the sense of needs.py) behind the chain had one of these ahead of
    it."""
    for function in reversed(chain):
        for touched, emitted in byte_effects(function):
            if emitted & members:
                members |= touched
    return members


@lru_cache(maxsize=256)
def byte_effects(function: Transformation) -> tuple[tuple[int, int], ...]:
    """Traits of a transformation by bytes: ((touched, emitted), ...), sets in the sense of needs.py."""
    effects = TRAITS.get(function, UNKNOWN).effects
    return tuple((of_bytes(set(touched)), of_bytes(set(emitted))) for touched, emitted in effects)
