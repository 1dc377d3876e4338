"""The elements of arrays, judged by one of them.

A JSON document names its values by path: `json.items.0`, `json.items.1`.  To hardly a test names are different that
differ in nothing but the digits of indexes (waf_core/operators/indexes.py, waf_core/transformations).  So of many names
that are alike in this one, the *leader*, is asked about everything, and what holds for it holds for the others; these
are asked only what may tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from waf_core.octets import ALPHANUMERIC, DOT, span, table_of
from waf_core.scan.by_index import ByIndex, by_index
from waf_core.scan.forms import TURN_VALUES
from waf_core.scan.patterns import PatternSet
from waf_core.scan.questions import Place, Told
from waf_core.scan.scanner import Scanner
from waf_core.turns import give_way

Pending = dict[Scanner, dict[bytes, None]]
"""For each scanner the values that it has to judge."""

Judged = tuple[Scanner, bytes, list[Told]]
"""A value, and what was found for it."""

MIN_ELEMENTS: Final = 4
"""So many values make an array: to ask about a leader costs half as much again."""

MAX_NAME_BYTES: Final = 4096
"""Longer ones are judged by themselves."""

_PLAIN: Final = table_of(ALPHANUMERIC + b"_.")

_ZERO: Final = 0x30
_NINE: Final = 0x39

_ZEROS: Final = [b"0" * size for size in range(16)]


class Array:
    """Values that are alike to a scanner: a leader and its followers.  `tests`: the scanner's.  `doubtful`: places to
    which they may not be alike; `apart` asks about each."""

    __slots__ = ("apart", "doubtful", "followers", "leader", "scanner", "tests")

    def __init__(self, scanner: Scanner, tests: ByIndex, elements: list[bytes]) -> None:
        self.scanner = scanner
        self.tests = tests
        self.leader = elements[0]
        self.followers = elements[1:]
        self.doubtful: tuple[Place, ...] = ()
        self.apart: Scanner = tests.apart(())


def without_indexes(value: bytes) -> bytes:
    """With zeros for the digits of all indexes; the very value if it has none."""
    if DOT not in value:
        return value
    pieces = value.split(b".")
    found = False
    for place in range(1, len(pieces)):
        piece = pieces[place]
        if _is_index(piece):
            size = len(piece)
            pieces[place] = _ZEROS[size] if size < len(_ZEROS) else b"0" * size
            found = True
    return b".".join(pieces) if found else value


def _is_index(piece: bytes) -> bool:
    """Of what is between two dots, or behind the last one."""
    return piece != b"" and _ZERO <= piece[0] <= _NINE and piece.isdigit()


def take_arrays(pending: Pending, patterns: PatternSet) -> list[Array]:
    """Take all elements of arrays but their leaders out of what is to be judged."""
    arrays: list[Array] = []
    for scanner, values in pending.items():
        if len(values) < MIN_ELEMENTS:
            continue
        alike: dict[bytes, list[bytes]] = {}
        for turn, value in enumerate(values):
            if turn % TURN_VALUES == 0:
                give_way()
            if len(value) <= MAX_NAME_BYTES:
                zeros = without_indexes(value)
                if zeros is not value:
                    known = alike.get(zeros)
                    if known is None:
                        alike[zeros] = [value]
                    else:
                        known.append(value)
        for elements in alike.values():
            if len(elements) >= MIN_ELEMENTS:
                array = Array(scanner, by_index(scanner, patterns), elements)
                arrays.append(array)
                for value in array.followers:
                    del values[value]
    return arrays


def ask_leaders(arrays: Sequence[Array]) -> Pending:
    """Whether any followers may be told apart is to be asked of the leaders."""
    pending: Pending = {}
    for array in arrays:
        relaxed = array.tests.relaxed
        if relaxed.tests:
            pending.setdefault(relaxed, {})[array.leader] = None
    return pending


def ask_followers(arrays: Sequence[Array], may_differ: Sequence[Judged]) -> Pending:
    """What is to be asked of each.  `may_differ`: what was found for the leaders."""
    pending: Pending = {}
    found = {(scanner, value): told for scanner, value, told in may_differ}
    for array in arrays:
        told = found.get((array.tests.relaxed, array.leader))
        if told is not None:
            array.doubtful = tuple([place for place, _, _ in told])
            array.apart = array.tests.apart(array.doubtful)
        if array.apart.tests:
            pending.setdefault(array.apart, {}).update(dict.fromkeys(array.followers))
    return pending


def follow(arrays: Sequence[Array], leaders: Sequence[Judged], own: Sequence[Judged]) -> list[Judged]:
    """What holds for the followers: what does for their leaders, and what was found for them (`own`)."""
    found = {(scanner, value): told for scanner, value, told in (*leaders, *own)}
    out: list[Judged] = []
    for array in arrays:
        scanner, leader, apart = array.scanner, array.leader, array.apart
        end = _from_index(leader)
        size = len(end)
        told: list[Told] = []
        for place, form, _ in found.get((scanner, leader), ()):
            keeps = array.tests.alike.get(place)
            if keeps is not None and place not in array.doubtful:
                same = keeps and size and form is not None and form.endswith(end)
                told.append((place, form[:-size] if same else None))
        for turn, value in enumerate(array.followers):
            if turn % TURN_VALUES == 0:
                give_way()
            mine: list[Told] = [(place, None if form is None else form + value[-size:], None) for place, form in told]
            mine += found.get((apart, value), ())
            out.append((scanner, value, mine))
    return out


def _from_index(value: bytes) -> bytes:
    """What there is from the dot of the first index on, if transformations that keep indexes keep it; else nothing."""
    pieces = value.split(b".")
    for place in range(1, len(pieces)):
        if _is_index(pieces[place]):
            end = b".".join(pieces[place:])
            return b"." + end if span(end, _PLAIN, 0) == len(end) else b""
    return b""
