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

    __slots__ = ("ahead", "depth", "effects", "function", "growth", "index")

    def __init__(self, ahead: int, depth: int, function: Transformation, index: int) -> None:
        self.ahead = ahead
        self.depth = depth
        self.function = function
        self.index = index
        """The same for equal functions."""
        self.effects = tuple(
            (classes_with(touched), classes_with(emitted)) for touched, emitted in byte_effects(function)
        )
        self.growth = TRAITS.get(function, UNKNOWN).growth


class Walk:
    """What the steps of a tree do to a value, by their numbers; step 0 stands for the value itself.

    `forms`: which form is behind it (0: the value), `classes` and `lengths`: what the form may consist of, `branches`:
    0, or the depth of the step (this one or one before it) behind which anything may be there, which ends what can be
    told from the value.  `made`: for each form but 0, (form, function) that make it.
    """

    __slots__ = ("branches", "classes", "forms", "lengths", "made")

    def __init__(self, classes: int, longest: int) -> None:
        self.forms: list[int] = [0]
        self.classes: list[int] = [classes]
        self.lengths: list[int] = [longest]
        self.branches: list[int] = [0]
        self.made: list[tuple[int, Transformation]] = []


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

    def walk(self, classes: int, longest: int, wanted: int) -> Walk:
        """For values of these classes, and of no more than so many bytes.  Of other steps than the `wanted` ones
        (`paths`) nothing is told."""
        walk = Walk(classes, longest)
        forms, present, lengths, branches = walk.forms, walk.classes, walk.lengths, walk.branches
        known = classes != ALL_CLASSES
        made: dict[int, int] = {}
        for step in self._steps:
            wanted >>= 1
            ahead = step.ahead
            if not wanted & 1:
                forms.append(0)
                present.append(0)
                lengths.append(0)
                branches.append(0)
                continue
            form, now, length, branch = forms[ahead], present[ahead], lengths[ahead], branches[ahead]
            acts = False
            emits = 0
            for touched, emitted in step.effects:
                if touched & now or touched == ALL_CLASSES:
                    acts = True
                    emits |= emitted
            if acts:
                length = int(min(length * step.growth, UNBOUNDED))
                now |= emits
                if not branch:
                    key = form * self._functions + step.index
                    new = made.get(key)
                    if new is None:
                        walk.made.append((form, step.function))
                        new = made[key] = len(walk.made)
                    form = new
                    if known and now == ALL_CLASSES:
                        branch = step.depth
            forms.append(form)
            present.append(now)
            lengths.append(length)
            branches.append(branch)
        return walk


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
