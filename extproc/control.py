"""What the admin servers and the command line may ask of a running sidecar, whether it is one process or many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from extproc.config import Settings

MAX_WATCHERS = 64


class ControlError(Exception):
    """The question cannot be answered; the message says why."""


class UnavailableError(ControlError):
    """No worker can answer now."""


class WatchersError(ControlError):
    """More than MAX_WATCHERS would watch."""

    def __init__(self) -> None:
        super().__init__(f"more than {MAX_WATCHERS} watch already")


class Control(Protocol):
    """A Worker, or the Supervisor of several."""

    settings: Settings

    @property
    def ready(self) -> bool:
        """Do all processes serve?"""
        ...

    async def status(self) -> dict[str, Any]:
        """What runs: version, generation, policies, rule sets."""
        ...

    async def metrics(self) -> bytes:
        """Prometheus's text format."""
        ...

    async def summary(self) -> dict[str, Any]:
        """The dashboard's counts (extproc/summary.py)."""
        ...

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """The newest events, newest first."""
        ...

    def watch(self) -> AsyncIterator[dict[str, Any]]:
        """Events as they come.  Raises WatchersError, at the first."""
        ...

    async def reload(self) -> dict[str, Any]:
        """Read and compile the settings and rules anew: {"ok", "generation", "error"}."""
        ...

    async def explain(self, question: dict[str, Any]) -> dict[str, Any]:
        """`{"id": ...}` of a recent event, or `{"exchange": ..., "policy": ...}`.  Raises ControlError."""
        ...
