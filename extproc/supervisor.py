"""Several worker processes: start, watch, reload, drain.

Envoy's threads open one connection each, so a shared port would spread nothing: every worker listens on an
address of its own, the first on `listen`, each further one ten ports above (or on PATH.1, PATH.2, ...), and
Envoy's cluster lists them all.  A worker that ends is started anew, with growing pauses.

Each worker serves its admin API on a private Unix socket; the supervisor owns the public admin addresses and
asks them all.  Metrics are added up by prometheus-client's multiprocess mode, through files.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from extproc.admin.servers import AdminServers
from extproc.config import ConfigError, Settings, worker_address
from extproc.control import ControlError
from extproc.fixed import kept
from extproc.loading import Reread
from extproc.policies import compile_policies
from extproc.requests.plain import exchange_to_json
from extproc.summary import merge
from extproc.tasks import Tasks
from extproc.watch import watch_files, watched_files
from waf_core import WafError
from waf_core.exchange import Exchange
from waf_core.memory import release

ASK_SECONDS = 60.0
"""Time that a worker gets to answer; a reload compiles rules."""

RESTART_SECONDS = (0.1, 0.5, 2.0, 5.0, 15.0)
"""Pauses before a worker that ended is started again."""

STEADY_SECONDS = 60.0
"""A worker that ran so long starts anew without a pause."""


class _Child:
    """One worker process and the way to ask it."""

    def __init__(self, index: int, socket: Path) -> None:
        self.index = index
        self.socket = socket
        self.process: asyncio.subprocess.Process | None = None
        self.ready = False
        self.restarts = 0
        self.session: aiohttp.ClientSession | None = None

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """JSON of the worker's admin API.  Raises ControlError."""
        session = self.connect()
        try:
            async with session.request(
                method, f"http://localhost{path}", json=body, timeout=aiohttp.ClientTimeout(ASK_SECONDS)
            ) as answer:
                data = await answer.json()
                if answer.status == 404 or answer.status == 400:
                    raise ControlError(str(data.get("error")))
                return data
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ControlError(f"worker {self.index} does not answer") from error

    def connect(self) -> aiohttp.ClientSession:
        if self.session is None:
            self.session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.socket)))
        return self.session


class Supervisor:
    """Runs `settings.workers` processes until SIGTERM.  It is the Control of the public admin servers."""

    def __init__(self, settings: Settings, reread: Reread, files: list[str]) -> None:
        """`files`: what to watch, from the rules that the command line has compiled already."""
        self.settings = settings
        self._reread = reread
        self._files = files
        self._log = structlog.get_logger("envoy_waf")
        self._own_folder = settings.runtime_dir is None
        self._folder = settings.runtime_dir or Path(tempfile.mkdtemp(prefix="envoy-waf-"))
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._metrics_folder = self._folder / "metrics"
        shutil.rmtree(self._metrics_folder, ignore_errors=True)
        self._metrics_folder.mkdir(mode=0o700)
        self._children = [_Child(index, self._folder / f"worker-{index}.sock") for index in range(settings.workers)]
        self._stop = asyncio.Event()
        self._tasks = Tasks()
        self.started_at = time.time()

    @property
    def ready(self) -> bool:
        """Do all workers serve?"""
        return all(child.ready for child in self._children)

    async def run(self) -> None:
        """Raises OSError when an admin address is taken."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup)
        servers = AdminServers(self)
        await servers.start()
        for child in self._children:
            self._tasks.start(self._tend(child))
        if self.settings.watch:
            self._tasks.start(watch_files(lambda: self._files, self.reload))
        await self._stop.wait()
        self._log.info("stopping workers", workers=len(self._children))
        self._tasks.cancel()
        await asyncio.gather(*(self._end(child) for child in self._children))
        await servers.stop()
        if self._own_folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _tend(self, child: _Child) -> None:
        """Start a worker, and start it again whenever it ends."""
        while True:
            begun = time.monotonic()
            await self._spawn(child)
            assert child.process is not None
            watcher = asyncio.ensure_future(self._await_ready(child))
            code = await child.process.wait()
            watcher.cancel()
            child.ready = False
            with contextlib.suppress(OSError):
                os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._metrics_folder)
                mark_process_dead(child.process.pid)  # type: ignore[no-untyped-call]
            if time.monotonic() - begun > STEADY_SECONDS:
                child.restarts = 0
            pause = RESTART_SECONDS[min(child.restarts, len(RESTART_SECONDS) - 1)]
            child.restarts += 1
            self._log.error("a worker ended; it is started again", worker=child.index, status=code, seconds=pause)
            await asyncio.sleep(pause)

    async def _spawn(self, child: _Child) -> None:
        with contextlib.suppress(FileNotFoundError):
            child.socket.unlink()
        listen = worker_address(self.settings.listen, child.index)
        child.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "extproc.worker_process",
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(self._metrics_folder)},
        )
        assert child.process.stdin is not None
        head = {
            "index": child.index,
            "listen": listen,
            "admin": f"unix:{child.socket}",
            "config": str(self._reread.path) if self._reread.path else None,
            "flags": {k: v for k, v in self._reread.flags.items() if v is not None},
        }
        child.process.stdin.write(json.dumps(head, default=str).encode())
        child.process.stdin.close()

    async def _await_ready(self, child: _Child) -> None:
        while True:
            with contextlib.suppress(ControlError):
                status = await child.ask("GET", "/status")
                if status["ready"]:
                    child.ready = True
                    self._log.info("worker ready", worker=child.index, listen=status["listen"], pid=status["pid"])
                    return
            await asyncio.sleep(0.1)

    async def _end(self, child: _Child) -> None:
        if child.session is not None:
            await child.session.close()
        if child.process is None or child.process.returncode is not None:
            return
        child.process.terminate()
        try:
            await asyncio.wait_for(child.process.wait(), self.settings.drain_seconds + 10)
        except TimeoutError:
            child.process.kill()

    def _hangup(self) -> None:
        """SIGHUP: logs have been rotated, rules may have changed.  Workers open their logs anew; the rules are tried
        here first."""
        for child in self._children:
            if child.process is not None and child.process.returncode is None:
                child.process.send_signal(signal.SIGUSR1)
        self._tasks.start(self.reload())

    # -- Control ----------------------------------------------------------------------------------

    async def _all(self, method: str, path: str, body: Any = None) -> list[Any]:
        """The answers of the workers that give one.  Raises ControlError when none does."""
        answers = await asyncio.gather(
            *(child.ask(method, path, body) for child in self._children), return_exceptions=True
        )
        good = [answer for answer in answers if not isinstance(answer, BaseException)]
        if not good:
            raise next(a for a in answers if isinstance(a, BaseException))
        return good

    async def status(self) -> dict[str, Any]:
        """The first worker's, and a line for each."""
        try:
            answers = await self._all("GET", "/status")
        except ControlError:
            return {"version": "", "ready": False, "generation": 0, "workers": []}
        return {
            **answers[0],
            "pid": os.getpid(),
            "ready": self.ready,
            "generation": min(answer["generation"] for answer in answers),
            "uptime_seconds": round(time.time() - self.started_at, 1),
            "streams": sum(answer["streams"] for answer in answers),
            "workers": [
                {k: answer[k] for k in ("pid", "listen", "ready", "generation", "streams", "uptime_seconds")}
                for answer in answers
            ],
        }

    async def metrics(self) -> bytes:
        """All workers' series, added up."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._metrics_folder))  # type: ignore[no-untyped-call]
        return await asyncio.to_thread(generate_latest, registry)

    async def summary(self) -> dict[str, Any]:
        """All workers' counts, added up."""
        return merge(await self._all("GET", "/api/summary"))

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """The newest events of all workers, newest first."""
        answers = await self._all("GET", f"/api/events?limit={limit}")
        events = [event for answer in answers for event in answer["events"]]
        return sorted(events, key=lambda event: float(event["time"]), reverse=True)[:limit]

    async def watch(self) -> AsyncIterator[dict[str, Any]]:
        """All workers' events as they come."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1024)
        tasks = [asyncio.ensure_future(self._follow(child, queue)) for child in self._children]
        try:
            while True:
                yield await queue.get()
        finally:
            for task in tasks:
                task.cancel()

    async def _follow(self, child: _Child, queue: asyncio.Queue[dict[str, Any]]) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
                async with child.connect().get("http://localhost/api/events/stream", timeout=timeout) as answer:
                    async for line in answer.content:
                        if line.startswith(b"data: ") and not queue.full():
                            queue.put_nowait(json.loads(line[6:]))
            await asyncio.sleep(1.0)

    async def reload(self) -> dict[str, Any]:
        """In all workers.  The rules are tried here first, so that either all take them or none."""
        try:
            settings = kept(self._reread(), self.settings, self._log)
            policies = await asyncio.to_thread(compile_policies, settings)
        except (WafError, ConfigError) as error:
            self._log.error("reload failed; the old rules stay", error=str(error))
            status = await self.status()
            return {"ok": False, "generation": status["generation"], "error": str(error)}
        self.settings = settings
        self._files = watched_files(policies, self._reread)
        del policies
        release()
        answers = await self._all("POST", "/api/reload", {})
        failed = next((answer["error"] for answer in answers if not answer["ok"]), "")
        return {
            "ok": not failed and len(answers) == len(self._children),
            "generation": min(answer["generation"] for answer in answers),
            "error": failed,
        }

    async def explain(self, question: dict[str, Any]) -> dict[str, Any]:
        """By the worker that knows the id; an exchange by any."""
        if isinstance(question.get("exchange"), Exchange):
            question = {**question, "exchange": exchange_to_json(question["exchange"])}
        answers: list[dict[str, Any]] = await self._all("POST", "/api/explain", question)
        return answers[0]
