"""One worker process, as its supervisor sees it: start it, ask it, notice when it hangs, end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp

from extproc.config import Settings, worker_address
from extproc.control import ControlError, UnavailableError

ASK_SECONDS = 10.0
"""Time that a worker gets to answer."""

RELOAD_SECONDS = 60.0
"""A reload compiles rules."""

BEAT_SECONDS = 5.0
"""Pause between two questions whether a worker lives, and the time it gets to say so."""

MISSED_BEATS = 3
"""A worker that has not answered so often, one after the other, is ended: half a minute."""

READY_SECONDS = 0.1
"""Pause between two questions whether a worker that starts is ready."""

MAX_EVENT_BYTES = 1 << 20
"""Of one event as JSON: all its texts are bounded (extproc/events.py), and far shorter together."""

KILL_SECONDS = 10.0
"""Beyond the time to drain: then a worker is killed."""


class Child:
    """Process number `index`, whose admin API is on the Unix socket `socket`."""

    def __init__(self, index: int, socket: Path) -> None:
        self.index = index
        self.socket = socket
        self.process: asyncio.subprocess.Process | None = None
        self.ready = False
        self.restarts = 0
        """Starts after the first."""
        self.generation = 0
        """Of the settings and rules that it was last told to read."""
        self._session: aiohttp.ClientSession | None = None

    async def spawn(self, environment: dict[str, str]) -> None:
        """Start the process, which waits for what it is to serve.  Raises OSError when there can be no further one."""
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "extproc.worker_process",
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,  # what a terminal's ^C means is the supervisor's to say
        )

    def serve(self, settings: Settings, tried: Path, generation: int) -> None:
        """Let it serve with `settings` what is in `tried` (extproc/generation.py), which it reads now and when it
        reloads."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.generation = generation
        own = {
            "listen": worker_address(settings.listen, self.index),
            "admin": f"unix:{self.socket}",
            "admin_grpc": "",
            "admin_token": None,
            "watch": False,
        }
        head = {
            "index": self.index,
            "generation": generation,
            "settings": settings.model_dump(mode="json"),
            "own": own,
            "tried": str(tried),
        }
        self.process.stdin.write(json.dumps(head).encode())
        self.process.stdin.close()

    async def ask(self, method: str, path: str, body: Any = None, *, seconds: float = ASK_SECONDS) -> Any:
        """JSON of the worker's admin API.  Raises ControlError; UnavailableError when there is no answer."""
        try:
            async with self.connect().request(
                method, f"http://localhost{path}", json=body, timeout=aiohttp.ClientTimeout(seconds)
            ) as answer:
                data = await answer.json()
                if answer.status >= 400 and "ok" not in data:
                    raise ControlError(str(data.get("error")))
                return data
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"worker {self.index} does not answer") from error

    def connect(self) -> aiohttp.ClientSession:
        """To its admin API."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self.socket)), read_bufsize=MAX_EVENT_BYTES
            )
        return self._session

    async def until_ready(self) -> dict[str, Any]:
        """Its status, as soon as it serves."""
        while True:
            with contextlib.suppress(ControlError):
                status: dict[str, Any] = await self.ask("GET", "/status")
                if status["ready"]:
                    return status
            await asyncio.sleep(READY_SECONDS)

    async def until_hung(self) -> None:
        """Returns when it lives, but has answered nothing for too long."""
        missed = 0
        timeout = aiohttp.ClientTimeout(BEAT_SECONDS)
        while missed < MISSED_BEATS:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                async with self.connect().get("http://localhost/healthz", timeout=timeout):
                    missed = 0
            except (aiohttp.ClientError, TimeoutError, OSError):
                missed += 1

    def signal(self, number: int) -> None:
        """Send it a signal, if it lives."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    async def end(self, drain_seconds: float) -> None:
        """Ask it to drain, and wait; kill it when it does not end."""
        if self._session is not None:
            await self._session.close()
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), drain_seconds + KILL_SECONDS)
        except TimeoutError:
            self.process.kill()
