"""A store for transactions whose records live elsewhere (Redis, another process).

The engine cannot wait.  So the caller asks `Transaction.expected_records` which records the rules
will open, fetches them in one go, and puts them into a BufferedStore; after a phase it takes
the changes out and sends them in one go.  A record that nobody foresaw (its key depends on what
rules found) starts empty in this phase, is fetched for the next one, and its changes add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from waf_core.persistence import Change

Key = tuple[str, bytes]
"""(collection, key)"""

MAX_CHANGES = 10_000
"""Of one request; further ones are lost, and counted."""


class BufferedStore:
    """One transaction's view of the records."""

    def __init__(self) -> None:
        self.records: dict[Key, Mapping[bytes, bytes]] = {}
        self.missing: list[Key] = []
        self.changes: list[tuple[Key, Change, int]] = []
        """In order; the number is SecCollectionTimeout of the rules, seconds."""
        self.lost = 0
        """Changes beyond MAX_CHANGES."""

    def load(self, collection: str, key: bytes, timeout: int) -> dict[bytes, bytes]:
        record = self.records.get((collection, key))
        if record is None:
            self.missing.append((collection, key))
            return {}
        return dict(record)

    def commit(self, collection: str, key: bytes, changes: Sequence[Change], timeout: int) -> None:
        room = MAX_CHANGES - len(self.changes)
        self.changes += [((collection, key), change, timeout) for change in changes[:room]]
        self.lost += max(len(changes) - room, 0)
