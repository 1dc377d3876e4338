"""Where the values of a long collection are: an attack on many arguments fires many rules, and each has to look only
for the values that it matched.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from waf_core.bodies import Pair

if TYPE_CHECKING:
    from waf_core.transaction import Transaction

MIN_PAIRS: Final = 16
"""Fewer are looked through."""

FEW: Final = 2
"""As are all, for more than one in so many of them."""


class Places:
    """Of the pairs of one variable, as long as they are the same."""

    __slots__ = ("_by_value", "_count", "_pairs")

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs: Sequence[Any] = pairs
        """(As pairs compiled code would take them apart, and put them together again.)"""
        self._count = len(pairs)
        self._by_value: dict[bytes, list[int]] = {}
        """Value -> indexes of the pairs that have it."""
        known = self._by_value
        for number, pair in enumerate(pairs):
            same = known.get(pair[1])
            if same is None:
                known[pair[1]] = [number]
            else:
                same.append(number)

    def are_of(self, pairs: Sequence[Pair]) -> bool:
        """Are these pairs what they were?"""
        return self._pairs is pairs and self._count == len(pairs)

    def having(self, values: Collection[bytes]) -> Sequence[Pair]:
        """The pairs with one of these values, in their order."""
        numbers: list[int] = []
        for value in values:
            found = self._by_value.get(value)
            if found is not None:
                numbers += found
        if len(numbers) > 1:
            numbers.sort()
        return [self._pairs[number] for number in numbers]


def pairs_having(tx: Transaction, name: str, pairs: Sequence[Pair], values: Collection[bytes]) -> Sequence[Pair]:
    """Of the pairs of variable `name` those that have one of `values`, at least; in their order."""
    if len(pairs) < MIN_PAIRS or len(values) * FEW > len(pairs):
        return pairs
    places = tx.places.get(name)
    if places is None or not places.are_of(pairs):
        places = tx.places[name] = Places(pairs)
    return places.having(values)
