"""Coroutines that run aside."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """Those of one owner; a task that nobody holds could vanish."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Run it aside, from now on."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def cancel(self) -> None:
        """End them all."""
        for task in self._running:
            task.cancel()

    async def wait(self) -> None:
        """Until none is left, of those that they start neither."""
        while self._running:
            await asyncio.wait(self._running)
            await asyncio.sleep(0)
