"""Which values a rule's target means: selection by key, exclusion, counting.

A Target is turned into a reader once, when the program is made: TX variables by name and counts of
headers are what CRS asks for most, and get a reader of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import re2

from waf_core.bodies import Pair
from waf_core.places import pairs_having
from waf_core.rule import Target

if TYPE_CHECKING:
    from waf_core.transaction import Transaction

MAX_REMEMBERED_NAMES: Final = 4096
MAX_REMEMBERED_NAME_BYTES: Final = 64

Reader = Callable[["Transaction"], Sequence[Pair]]


def read_target(tx: Transaction, target: Target, removed: Sequence[Target] | None = None) -> Sequence[Pair]:
    """The pairs that a target means, without those that this transaction has removed."""
    read = target.read or make_reader(target)
    if not removed:
        return read(tx)
    if any(covers(exclusion, target) for exclusion in removed):
        return ()
    pairs = _pairs(tx, target) if target.count else read(tx)
    for exclusion in removed:
        pairs = _without(pairs, target, exclusion)
    return _counted(target, pairs)


def read_values(
    tx: Transaction, target: Target, removed: Sequence[Target] | None, values: Collection[bytes]
) -> Sequence[Pair]:
    """As `read_target`, but pairs that have none of `values` may be missing."""
    if target.read is None:
        make_reader(target)
    variable, admits = target.variable, target.admits
    if not target.whole or any(exclusion.variable.name == variable.name for exclusion in removed or ()):
        return read_target(tx, target, removed)
    chosen = pairs_having(tx, variable.name, variable.get(tx), values)
    return chosen if admits is None else _admitted(chosen, admits)


def covers(exclusion: Target, target: Target) -> bool:
    """Does an exclusion take away all that a target means?  Then nothing is left to count, not even none of it:
    `!REQUEST_HEADERS:Host` must not make `&REQUEST_HEADERS:Host "@eq 0"` match."""
    if exclusion.variable.name != target.variable.name:
        return False
    if exclusion.xpath is not None:
        return target.xpath is not None and exclusion.xpath.text == target.xpath.text
    if exclusion.key is not None:
        return exclusion.key == target.key
    if exclusion.pattern is not None:
        return target.key is not None and exclusion.pattern.search(target.key) is not None
    return True


def make_reader(target: Target) -> Reader:
    """A function from a transaction to the pairs of this target, which keeps it."""
    target.whole = target.key is None and target.pattern is None and target.xpath is None and not target.count
    read = _all_but(target) if target.whole else _some(target)
    target.read = read
    return read


def _all_but(target: Target) -> Reader:
    get = target.variable.get
    if not target.excluded_keys and not target.excluded_patterns:
        return get
    admits = target.admits = _admission(target.excluded_keys, target.excluded_patterns)
    return lambda tx: _admitted(get(tx), admits)


def _admitted(pairs: Sequence[Any], admits: Callable[[bytes], bool]) -> Sequence[Pair]:
    """Those with names that are left."""
    return [pair for pair in pairs if admits(pair[0])]


def _some(target: Target) -> Reader:
    plain = not target.excluded_keys and not target.excluded_patterns and target.xpath is None
    name, key = target.variable.name, target.key
    if plain and key is not None:
        if name == "TX":
            return _tx_count(key) if target.count else _tx_value(key)
        if name == "REQUEST_HEADERS" and target.count:
            return _header_count(key)
    if plain and name == "TX" and target.pattern is not None and not target.count:
        return _tx_pattern(target.pattern)
    # Of its twin: a target that holds a reader which holds the target would outlive a reload.
    return _selected(replace(target, read=None))


def _selected(target: Target) -> Reader:
    return lambda tx: _counted(target, _pairs(tx, target))


def _header_count(key: bytes) -> Reader:
    return lambda tx: ((key, b"%d" % tx.request_header_names.count(key)),)


def _tx_value(key: bytes) -> Reader:
    def read(tx: Transaction) -> Sequence[Pair]:
        value = tx.tx.get(key)
        return () if value is None else ((key, value),)

    return read


def _tx_count(key: bytes) -> Reader:
    absent, present = ((key, b"0"),), ((key, b"1"),)
    return lambda tx: present if key in tx.tx else absent


def _tx_pattern(pattern: re2._Regexp) -> Reader:
    """TX:/expression/: which names fit is remembered, since names repeat in every transaction."""
    fit: set[bytes] = set()
    unfit: set[bytes] = set()

    def read(tx: Transaction) -> Sequence[Pair]:
        store = tx.tx
        if store.keys() <= unfit:
            return ()
        names = [name for name in store if name not in unfit]
        return [(name, store[name]) for name in names if name in fit or _fits(pattern, name, fit, unfit)]

    return read


def _fits(pattern: re2._Regexp, name: bytes, fit: set[bytes], unfit: set[bytes]) -> bool:
    found = pattern.search(name) is not None
    if len(name) <= MAX_REMEMBERED_NAME_BYTES:
        known = fit if found else unfit
        if len(known) >= MAX_REMEMBERED_NAMES:
            known.clear()
        known.add(name)
    return found


def _admission(keys: frozenset[bytes], patterns: Sequence[re2._Regexp]) -> Callable[[bytes], bool]:
    """`NAME|!NAME:key|!NAME:/expression/`: which names are left is remembered, since names repeat."""
    known: dict[bytes, bool] = {}
    searches = [pattern.search for pattern in patterns]

    def admits(name: bytes) -> bool:
        admitted = known.get(name)
        if admitted is None:
            admitted = name.lower() not in keys and not any(search(name) for search in searches)
            if len(name) <= MAX_REMEMBERED_NAME_BYTES:
                if len(known) >= MAX_REMEMBERED_NAMES:
                    known.clear()
                known[name] = admitted
        return admitted

    return admits


def _counted(target: Target, pairs: Sequence[Pair]) -> Sequence[Pair]:
    return ((target.key or b"", b"%d" % len(pairs)),) if target.count else pairs


def _pairs(tx: Transaction, target: Target) -> Sequence[Pair]:
    variable = target.variable
    if target.xpath is not None and variable.select is not None:
        return variable.select(tx, target.xpath)
    pairs = variable.get(tx)
    if target.key is not None:
        pairs = [pair for pair in pairs if pair[0].lower() == target.key]
    elif target.pattern is not None:
        search = target.pattern.search
        pairs = [pair for pair in pairs if search(pair[0])]
    if target.excluded_keys:
        pairs = [pair for pair in pairs if pair[0].lower() not in target.excluded_keys]
    for pattern in target.excluded_patterns:
        pairs = [pair for pair in pairs if not pattern.search(pair[0])]
    return pairs


def _without(pairs: Sequence[Pair], target: Target, exclusion: Target) -> Sequence[Pair]:
    """What an exclusion that does not cover the target leaves of it."""
    if exclusion.variable.name != target.variable.name:
        return pairs
    if exclusion.key is not None:
        return [pair for pair in pairs if pair[0].lower() != exclusion.key]
    if exclusion.pattern is not None:
        search = exclusion.pattern.search
        return [pair for pair in pairs if not search(pair[0])]
    return pairs
