"""The store of one process: a bounded dictionary, least recently used records go first."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from waf_core.operators.numeric import to_int
from waf_core.persistence import Change

MAX_RECORDS = 100_000
MAX_VARIABLES = 256
MAX_VALUE_BYTES = 4096


@dataclass(slots=True)
class _Record:
    deadline: float
    values: dict[bytes, bytes] = field(default_factory=dict)
    expiry: dict[bytes, float] = field(default_factory=dict)
    decay: dict[bytes, tuple[int, int, float]] = field(default_factory=dict)
    """name -> amount, period, time it was last applied."""


class MemoryStore:
    """Shared by all transactions of one process; `clock` yields seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_records: int = MAX_RECORDS) -> None:
        self._clock = clock
        self._max_records = max_records
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
        while len(self._records) > self._max_records:
            self._records.popitem(last=False)

    def _apply(self, record: _Record, change: Change, now: float) -> None:
        name, values = change.name, record.values
        if change.kind == "delete":
            values.pop(name, None)
            record.expiry.pop(name, None)
        elif change.kind == "expire":
            record.expiry[name] = now + to_int(change.value)
        elif change.kind == "deprecate":
            amount, _, period = change.value.partition(b"/")
            record.decay.setdefault(name, (to_int(amount), max(to_int(period), 1), now))
        elif name in values or len(values) < MAX_VARIABLES:
            if change.kind == "add":
                values[name] = b"%d" % (to_int(values.get(name, b"0")) + to_int(change.value))
            else:
                values[name] = change.value[:MAX_VALUE_BYTES]

    def _live(self, collection: str, key: bytes) -> _Record | None:
        record = self._records.get((collection, key))
        if record is None:
            return None
        now = self._clock()
        if record.deadline <= now:
            del self._records[collection, key]
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
