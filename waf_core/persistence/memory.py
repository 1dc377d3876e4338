"""The store of one process: a dictionary of bounded size, least recently used records go first.

Keys and values may be a client's (a session's id, say), so it is bytes that are bounded, not only records.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from waf_core.operators.numeric import plus, to_int
from waf_core.persistence import Change

MAX_RECORDS = 100_000
MAX_VARIABLES = 256
MAX_VALUE_BYTES = 4096

MAX_BYTES = 64 << 20
"""Of all records, by and large."""

RECORD_BYTES = 800
"""What a record takes besides its key and variables."""

VARIABLE_BYTES = 150


@dataclass(slots=True)
class _Record:
    deadline: float
    values: dict[bytes, bytes] = field(default_factory=dict)
    expiry: dict[bytes, float] = field(default_factory=dict)
    decay: dict[bytes, tuple[int, int, float]] = field(default_factory=dict)
    """name -> amount, period, time it was last applied."""
    size: int = 0

    def measure(self, key: bytes) -> int:
        """Bytes that it takes in memory, about."""
        size = RECORD_BYTES + len(key)
        for name, value in self.values.items():
            size += VARIABLE_BYTES + len(name) + len(value)
        for table in (self.expiry, self.decay):
            size += sum(VARIABLE_BYTES + len(name) for name in table)
        return size


class MemoryStore:
    """Shared by all transactions of one process; `clock` yields seconds."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._clock = clock
        self._max_records = max_records
        self._max_bytes = max_bytes
        self.size = 0
        """Bytes of all records, about."""
        self._records: OrderedDict[tuple[str, bytes], _Record] = OrderedDict()
        # Large bodies are judged on threads of their own.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._records)

    def load(self, collection: str, key: bytes, timeout: int) -> dict[bytes, bytes]:
        with self._lock:
            record = self._live(collection, key)
            return dict(record.values) if record else {}

    def commit(self, collection: str, key: bytes, changes: Sequence[Change], timeout: int) -> None:
        with self._lock:
            self._commit(collection, key, changes, timeout)

    def _commit(self, collection: str, key: bytes, changes: Sequence[Change], timeout: int) -> None:
        now = self._clock()
        record = self._live(collection, key)
        if record is None:
            record = self._records[collection, key] = _Record(now + timeout)
        record.deadline = now + timeout
        for change in changes:
            self._apply(record, change, now)
        self._records.move_to_end((collection, key))
        self.size -= record.size
        record.size = record.measure(key)
        self.size += record.size
        while self._records and (len(self._records) > self._max_records or self.size > self._max_bytes):
            _, oldest = self._records.popitem(last=False)
            self.size -= oldest.size

    def _apply(self, record: _Record, change: Change, now: float) -> None:
        name, values = change.name, record.values
        if change.kind == "delete":
            values.pop(name, None)
            record.expiry.pop(name, None)
            record.decay.pop(name, None)
        elif change.kind == "expire":
            if name in record.expiry or len(record.expiry) < MAX_VARIABLES:
                record.expiry[name] = now + to_int(change.value)
        elif change.kind == "deprecate":
            if name not in record.decay and len(record.decay) >= MAX_VARIABLES:
                return
            amount, _, period = change.value.partition(b"/")
            record.decay.setdefault(name, (to_int(amount), max(to_int(period), 1), now))
        elif name in values or len(values) < MAX_VARIABLES:
            if change.kind == "add":
                values[name] = plus(values.get(name, b"0"), to_int(change.value))
            else:
                values[name] = change.value[:MAX_VALUE_BYTES]

    def _live(self, collection: str, key: bytes) -> _Record | None:
        record = self._records.get((collection, key))
        if record is None:
            return None
        now = self._clock()
        if record.deadline <= now:
            self.size -= self._records.pop((collection, key)).size
            return None
        for name in [n for n, deadline in record.expiry.items() if deadline <= now]:
            del record.expiry[name]
            record.values.pop(name, None)
        for name, (amount, period, last) in list(record.decay.items()):
            steps = int((now - last) // period)
            if steps > 0:
                record.decay[name] = (amount, period, last + steps * period)
                if name in record.values:
                    record.values[name] = b"%d" % max(to_int(record.values[name]) - steps * amount, 0)
        return record
