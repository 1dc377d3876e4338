"""The records that one transaction has opened: its own copy of the values, and what it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from waf_core.operators.numeric import plus, to_int
from waf_core.persistence import Change, Store
from waf_core.persistence.changes import Changes


@dataclass(slots=True)
class _Record:
    key: bytes
    values: dict[bytes, bytes]
    changes: Changes


class Records:
    """By name of the collection (IP, SESSION ...).  What is asked of one that is not open does nothing."""

    __slots__ = ("_opened", "_store", "_timeout")

    def __init__(self, store: Store, timeout: int) -> None:
        self._store: Store = store
        self._timeout = timeout
        """SecCollectionTimeout, seconds."""
        self._opened: dict[str, _Record] = {}

    def open(self, collection: str, key: bytes) -> None:
        """initcol: load the record and make it visible."""
        if collection in self._opened or not key:
            return
        values = self._store.load(collection, key, self._timeout)
        values[b"key"] = key
        self._opened[collection] = _Record(key, values, Changes())

    def merge(self, collection: str, values: Mapping[bytes, bytes], changes: Sequence[Change]) -> None:
        """Values of a record that was opened before they were there, and what rules have changed since."""
        record = self._opened.get(collection)
        if record is None:
            return
        merged = dict(values)
        for change in changes:
            if change.kind == "set":
                merged[change.name] = change.value
            elif change.kind == "add":
                merged[change.name] = plus(merged.get(change.name, b"0"), to_int(change.value))
            elif change.kind == "delete":
                merged.pop(change.name, None)
        merged[b"key"] = record.key
        record.values = merged

    def pairs(self, collection: str) -> list[tuple[bytes, bytes]]:
        """The variables of a record."""
        record = self._opened.get(collection)
        return list(record.values.items()) if record else []

    def set(self, collection: str, name: bytes, value: bytes) -> None:
        record = self._opened.get(collection)
        if record is not None:
            record.values[name] = value
            record.changes.set(name, value)

    def add(self, collection: str, name: bytes, number: int) -> None:
        record = self._opened.get(collection)
        if record is not None:
            record.values[name] = plus(record.values.get(name, b"0"), number)
            record.changes.add(name, number)

    def delete(self, collection: str, name: bytes) -> None:
        record = self._opened.get(collection)
        if record is not None:
            record.values.pop(name, None)
            record.changes.delete(name)

    def expire(self, collection: str, name: bytes, seconds: int) -> None:
        """expirevar: the variable ends in so many seconds."""
        record = self._opened.get(collection)
        if record is not None:
            record.changes.expire(name, seconds)

    def deprecate(self, collection: str, name: bytes, number: int, period: int) -> None:
        """deprecatevar: the variable loses `number` in each `period` of seconds."""
        record = self._opened.get(collection)
        if record is not None:
            record.changes.deprecate(name, number, period)

    def commit(self) -> None:
        """Hand the changes to the store."""
        for collection, record in self._opened.items():
            changes = record.changes.take()
            if changes:
                self._store.commit(collection, record.key, changes, self._timeout)
