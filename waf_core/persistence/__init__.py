"""Collections that outlive a request (`initcol`): GLOBAL, IP, RESOURCE, SESSION, USER.

A transaction loads a record when a rule opens the collection, changes its own copy at once,
and hands the *changes* (not the values) to the store at the end of each phase, so that
counters of concurrent transactions add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class StoreUnavailableError(Exception):
    """The store did not answer, or has not for a while and is not asked now."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one variable.

    `kind` is set, add (value is a signed number), delete, expire (value: seconds) or
    deprecate (value: b"amount/period").
    """

    kind: str
    name: bytes
    value: bytes


class Store(Protocol):
    """Where records live.  Implementations are safe to call from several transactions."""

    def load(self, collection: str, key: bytes, timeout: int) -> dict[bytes, bytes]:
        """The record's variables; an empty dictionary when there is none or it has expired."""
        ...

    def commit(self, collection: str, key: bytes, changes: Sequence[Change], timeout: int) -> None:
        """Apply changes in order; `timeout` seconds without a change end the record."""
        ...


from waf_core.persistence.memory import MemoryStore  # noqa: E402

__all__ = ["Change", "MemoryStore", "Store", "StoreUnavailableError"]
