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
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import mark_process_dead

from extproc import __version__, log
from extproc.admin.servers import AdminServers
from extproc.child import RELOAD_SECONDS, Child
from extproc.config import ConfigError, Settings
from extproc.control import MAX_WATCHERS, ControlError, WatchersError
from extproc.fixed import kept
from extproc.loading import Reread
from extproc.requests.plain import exchange_to_json
from extproc.summary import merge
from extproc.tasks import Tasks
from extproc.trial import Tried, how_it_ended, try_rules
from extproc.watch import watch_files, watched_files
from extproc.workers_metrics import WorkersMetrics
from waf_core.exchange import Exchange

RESTART_SECONDS = (0.1, 0.5, 2.0, 5.0, 15.0)
"""Pauses before a worker that ended is started again."""

STEADY_SECONDS = 60.0
"""A worker that ran so long starts anew without a pause."""


class Supervisor:
    """Runs `settings.workers` processes until SIGTERM.  It is the Control of the public admin servers."""

    def __init__(self, settings: Settings, reread: Reread) -> None:
        self.settings = settings
        """The newest that could be used: workers start with them, whatever the file says by then."""
        self.generation = 1
        """Counts the settings and rules that workers were told to read."""
        self._reread = reread
        self._files: list[str] = []
        """What to watch."""
        self._log = structlog.get_logger("envoy_waf")
        self._own_folder = settings.runtime_dir is None
        self._folder = settings.runtime_dir or Path(tempfile.mkdtemp(prefix="envoy-waf-"))
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._tried = self._folder / "tried"
        """What workers serve (extproc/generation.py)."""
        self._metrics_folder = self._folder / "metrics"
        shutil.rmtree(self._metrics_folder, ignore_errors=True)
        self._metrics_folder.mkdir(mode=0o700)
        self._children = [Child(index, self._folder / f"worker-{index}.sock") for index in range(settings.workers)]
        self._metrics = WorkersMetrics(self._metrics_folder)
        self._reloading = asyncio.Lock()
        self._watchers = 0
        self._stop = asyncio.Event()
        self._tasks = Tasks()
        self.started_at = time.time()

    @property
    def ready(self) -> bool:
        """Do all workers serve?"""
        return not self._stop.is_set() and all(child.ready for child in self._children)

    async def run(self) -> None:
        """Raises ConfigError when the rules are wrong, OSError when an admin address is taken."""
        try:
            servers = AdminServers(self)
            try:
                await self._run(servers)
            finally:
                self._tasks.cancel()
                await asyncio.gather(*(child.end(self.settings.drain_seconds) for child in self._children))
                await servers.stop()
        finally:
            if self._own_folder:
                shutil.rmtree(self._folder, ignore_errors=True)

    async def _run(self, servers: AdminServers) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup)
        begun = time.monotonic()
        async with self._reloading:
            # Workers import what they need meanwhile.
            for child in self._children:
                self._tasks.start(self._tend(child))
            tried = await self._try(self.settings)
        if self._stop.is_set():
            return
        log.write(tried.lines)
        self._log.info("compiled", seconds=round(time.monotonic() - begun, 2), workers=self.settings.workers)
        await servers.start()
        if self.settings.watch:
            self._tasks.start(watch_files(lambda: self._files, self.reload, self._reread.since))
        await self._stop.wait()
        self._log.info("stopping workers", workers=len(self._children))

    async def _try(self, settings: Settings) -> Tried:
        """Try the rules of the settings: those that can be used are what workers take from now on.  Raises ConfigError
        and OSError."""
        tried = await try_rules(settings, self._tried)
        self._files = watched_files(tried.files, self._reread)
        return tried

    async def _tend(self, child: Child) -> None:
        """Start a worker, and start it again whenever it ends."""
        quick = 0
        while True:
            begun = time.monotonic()
            try:
                said = how_it_ended(await self._live(child))
            except (OSError, ConfigError) as error:
                said = f"it cannot be started: {error}"
            child.ready = False
            if time.monotonic() - begun > STEADY_SECONDS:
                quick = 0
            pause = RESTART_SECONDS[min(quick, len(RESTART_SECONDS) - 1)]
            quick += 1
            child.restarts += 1
            self._metrics.restarts.inc()
            self._log.error("a worker ended; it is started again", worker=child.index, why=said, seconds=pause)
            await asyncio.sleep(pause)

    async def _live(self, child: Child) -> int:
        """One process from its start to its end; its exit status.  Raises OSError and ConfigError when it cannot be
        started."""
        folder = str(self._metrics_folder)
        await child.spawn({"PROMETHEUS_MULTIPROC_DIR": folder})
        try:
            async with self._reloading:
                if not self._tried.exists():  # somebody has cleaned up the folder
                    await self._try(self.settings)
                child.serve(self.settings, self._tried, self.generation)
        except BaseException:
            child.signal(signal.SIGKILL)
            raise
        assert child.process is not None
        watcher = asyncio.ensure_future(self._watch(child))
        try:
            code = await child.process.wait()
        finally:
            watcher.cancel()
        with contextlib.suppress(OSError):
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            mark_process_dead(child.process.pid)  # type: ignore[no-untyped-call]
        return code

    async def _watch(self, child: Child) -> None:
        """Notice when a worker serves, bring it what was reloaded while it started, and end it when it hangs."""
        status = await child.until_ready()
        async with self._reloading:
            while child.generation < self.generation:
                await self._reload_child(child)
            child.ready = True
        self._log.info("worker ready", worker=child.index, listen=status["listen"], pid=status["pid"])
        await child.until_hung()
        self._log.error("a worker does not answer; it is ended", worker=child.index, pid=status["pid"])
        child.signal(signal.SIGKILL)

    def _hangup(self) -> None:
        """SIGHUP: logs have been rotated, rules may have changed.  Workers open their logs anew; the rules are tried
        here first."""
        for child in self._children:
            if child.ready:  # one that starts opens them anyway, and may not know the signal yet
                child.signal(signal.SIGUSR1)
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
        """That of the first worker that answers, and a line for each."""
        answers = await asyncio.gather(*(self._status(child) for child in self._children))
        return {
            **next((answer for answer in answers if answer), {"version": __version__}),
            "pid": os.getpid(),
            "ready": self.ready and all(answers),
            "generation": min((answer["generation"] for answer in answers if answer), default=self.generation),
            "uptime_seconds": round(time.time() - self.started_at, 1),
            "streams": sum(answer["streams"] for answer in answers if answer),
            "workers": [
                {
                    **{key: answer.get(key) for key in ("pid", "listen", "generation", "streams", "uptime_seconds")},
                    "ready": child.ready and bool(answer),
                    "restarts": child.restarts,
                }
                for child, answer in zip(self._children, answers, strict=True)
            ],
        }

    async def _status(self, child: Child) -> dict[str, Any]:
        """Empty when it does not answer."""
        try:
            answer: dict[str, Any] = await child.ask("GET", "/status")
        except ControlError:
            return {}
        return answer

    async def metrics(self) -> bytes:
        """All workers' series, added up."""
        registry = CollectorRegistry()
        registry.register(self._metrics)
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
        """All workers' events as they come.  Raises WatchersError."""
        if self._watchers >= MAX_WATCHERS:
            raise WatchersError
        self._watchers += 1
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1024)
        tasks = [asyncio.ensure_future(self._follow(child, queue)) for child in self._children]
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers -= 1
            for task in tasks:
                task.cancel()

    async def _follow(self, child: Child, queue: asyncio.Queue[dict[str, Any]]) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
                async with child.connect().get("http://localhost/api/events/stream", timeout=timeout) as answer:
                    async for line in answer.content:
                        if line.startswith(b"data: ") and not queue.full():
                            queue.put_nowait(json.loads(line[6:]))
            await asyncio.sleep(1.0)

    async def reload(self) -> dict[str, Any]:
        """In all workers.  The rules are tried here first, so that either all take them or none.  A worker that starts
        meanwhile takes them before it counts as ready."""
        async with self._reloading:
            try:
                settings = kept(self._reread().settings, self.settings, self._log)
                await self._try(settings)
            except (ConfigError, OSError) as error:
                self._metrics.reloads.labels("failed").inc()
                self._log.error("reload failed; the old rules stay", error=str(error))
                return {"ok": False, "generation": self.generation, "error": str(error)}
            self.settings = settings
            self.generation += 1
            errors = await asyncio.gather(*(self._reload_child(child) for child in self._children if child.ready))
        return {
            "ok": not any(errors),
            "generation": self.generation,
            "error": "; ".join(error for error in errors if error),
        }

    async def _reload_child(self, child: Child) -> str:
        """What went wrong, or nothing."""
        child.generation += 1
        try:
            answer = await child.ask("POST", "/api/reload", {}, seconds=RELOAD_SECONDS)
        except ControlError as error:
            self._log.error("a worker did not reload", worker=child.index, error=str(error))
            return str(error)
        return f"worker {child.index}: {answer['error']}" if answer["error"] else ""

    async def explain(self, question: dict[str, Any]) -> dict[str, Any]:
        """By the worker that knows the id; an exchange by any."""
        if isinstance(question.get("exchange"), Exchange):
            question = {**question, "exchange": exchange_to_json(question["exchange"])}
        answers: list[dict[str, Any]] = await self._all("POST", "/api/explain", question)
        return answers[0]
