"""One process: one gRPC server, one compiled set of policies, one admin server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import generate_latest

from extproc import __version__, log
from extproc.admin.servers import AdminServers
from extproc.audit_log import AuditLog
from extproc.config import ConfigError, Settings, parse_address
from extproc.control import ControlError
from extproc.databases import DatabaseLoader
from extproc.events import Recorder
from extproc.explain import explain
from extproc.fixed import kept
from extproc.generation import Generation
from extproc.listening import listening
from extproc.loading import Reread
from extproc.metrics import Metrics
from extproc.policies import PolicySet, compile_policies
from extproc.requests.plain import exchange_from_json
from extproc.service import MAX_MESSAGE_BYTES, METHOD, SERVICE, ExtProcService
from extproc.tasks import Tasks
from extproc.telemetry import StreamTracer
from extproc.transport.connection import Limits
from extproc.transport.health import Health
from extproc.transport.room import Room
from extproc.transport.server import GrpcServer
from extproc.watch import rule_files, watch_files, watched_files
from waf_core import WafError
from waf_core.memory import collect, keep
from waf_core.reading import DISK

if TYPE_CHECKING:
    from extproc.redis_store import RedisStore

SWITCH_SECONDS = 0.0002
"""How long a thread may keep the interpreter when the event loop waits for it (Python's own value: 5 ms)."""

SPARE_CALLS = 100
"""Calls that a connection may have beyond `max_streams`: they are told why they are refused, and probes pass."""


class Worker:
    """Serves until told to stop.  `run` returns when everything has drained."""

    def __init__(
        self,
        settings: Settings,
        policies: PolicySet,
        *,
        index: int = 0,
        generation: int = 1,
        reread: Reread | None = None,
    ) -> None:
        """`index`: which of the supervisor's workers this is; `generation`: of these policies; `reread`: gives what
        serves anew for a reload."""
        self.settings = settings
        self.policies = policies
        self._reread = reread
        self.generation = generation
        """Counts the policy sets that have served."""
        self._metrics = Metrics()
        self._metrics.serve(policies, self.generation)
        self.ready = False
        self.started_at = time.time()
        self._log = structlog.get_logger("envoy_waf")
        log.on_loss(self._metrics.log_lost.inc)
        self._audit = AuditLog(settings, index, self._metrics.audit_dropped.inc) if settings.audit_log else None
        self._recorder = Recorder(self._metrics, settings, self._audit)
        self._tracer = StreamTracer(settings.otlp_endpoint) if settings.otlp_endpoint else None
        self._loader: DatabaseLoader | None = None
        self._tasks = Tasks()
        self._reloading = asyncio.Lock()
        self._stop = asyncio.Event()
        self.records: RedisStore | None = None
        if settings.redis_url:
            from extproc.redis_store import RedisStore  # 7 MB that others need not hold

            self.records = RedisStore(settings.redis_url)
        self._service = ExtProcService(self._metrics, self._recorder, self._tracer, self.records)
        self._service.serve(settings, policies)
        self._health = Health(("", SERVICE))
        self._server = GrpcServer(
            {METHOD: self._service.open, **self._health.methods},
            Limits(MAX_MESSAGE_BYTES, settings.max_streams + SPARE_CALLS),
            Room(settings.max_body_memory),
            self._metrics.stream_errors.labels("connection").inc,
        )

    # -- the process ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Bind, serve; SIGHUP reloads and opens logs anew, SIGUSR1 only the latter, SIGTERM and SIGINT drain.  Raises
        OSError when an address is taken."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen)
        sys.setswitchinterval(SWITCH_SECONDS)
        loader = DatabaseLoader([policy.waf for policy in self.policies.policies])
        await asyncio.to_thread(loader.prepare)
        keep()
        with listening("listen", self.settings.listen):
            await self._server.start(parse_address(self.settings.listen))
        servers = AdminServers(self)
        await servers.start()
        self._health.set(serving=True)
        self.ready = True
        self._log.info("ready", listen=self.settings.listen, admin=self.settings.admin or None)
        self._load_databases(loader)
        del loader  # it holds the rules, which a reload lets go of
        self._tasks.start(self._service.probe_store())
        if self.settings.watch and self._reread is not None:
            self._tasks.start(watch_files(self._watched, self.reload, self._reread.since))
        await self._stop.wait()
        self.ready = False
        if self._loader is not None:
            self._loader.stop()
        self._tasks.cancel()
        self._health.set(serving=False)
        self._health.close()
        self._log.info("draining", streams=self._service.streams, seconds=self.settings.drain_seconds)
        await self._server.stop(self.settings.drain_seconds)
        await servers.stop()
        await self._service.close()
        if self.records is not None:
            await self.records.close()
        if self._audit is not None:
            await asyncio.to_thread(self._audit.close)
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close)
        self._log.info("stopped")

    def _hangup(self) -> None:
        """SIGHUP: logs have been rotated, rules may have changed."""
        self._reopen()
        self._tasks.start(self.reload())

    def _reopen(self) -> None:
        """SIGUSR1: logs have been rotated."""
        if self._audit is not None:
            self._audit.reopen()

    def _watched(self) -> list[str]:
        assert self._reread is not None
        return watched_files(rule_files(self.policies), self._reread)

    # -- Control ----------------------------------------------------------------------------------

    async def reload(self) -> dict[str, Any]:
        """Read settings and rules anew, compile them aside, and swap them in; streams that run keep their old
        ones.  What cannot be used is logged, and everything stays as it was."""
        async with self._reloading:
            try:
                collect()
                settings, reader = self._reread() if self._reread is not None else Generation(self.settings, DISK)
                settings = kept(settings, self.settings, self._log)
                policies = await asyncio.to_thread(compile_policies, settings, reader)
                loader = DatabaseLoader([policy.waf for policy in policies.policies])
                await asyncio.to_thread(loader.prepare)
            except (WafError, ConfigError, OSError) as error:
                self._metrics.reloads.labels("failed").inc()
                self._log.error("reload failed; the old rules stay", error=str(error), generation=self.generation)
                return {"ok": False, "generation": self.generation, "error": str(error)}
            # Counters that outlive requests go on.
            for policy in policies.policies:
                old = self.policies.by_name.get(policy.name, self.policies.default)
                policy.waf.program.store = old.waf.program.store
            self.settings = settings
            self.policies = policies
            self._service.serve(self.settings, policies)
            self._recorder.settings = self.settings
            self.generation += 1
            self._metrics.serve(policies, self.generation)
            self._metrics.reloads.labels("ok").inc()
            self._log.info(
                "rules reloaded",
                generation=self.generation,
                ruleset=policies.default.info.sentence,
                rules=len(policies.default.waf.program.units),
                notes=sum(len(policy.waf.program.notes) for policy in policies.policies),
                policies=[policy.name for policy in policies.policies],
            )
            keep()
            self._load_databases(loader)
            return {"ok": True, "generation": self.generation, "error": ""}

    async def status(self) -> dict[str, Any]:
        """What serves."""
        default = self.policies.default
        program = default.waf.program
        return {
            "version": __version__,
            "ready": self.ready,
            "pid": os.getpid(),
            "uptime_seconds": round(time.time() - self.started_at, 1),
            "ruleset": {"name": default.info.name, "version": default.info.version, "text": default.info.sentence},
            "generation": self.generation,
            "rules": len(program.units),
            "paranoia_level": program.paranoia_level,
            "anomaly_threshold": program.anomaly_threshold,
            # Of the sets that are to have a database: small ones are not.
            "hyperscan": [patterns.uses_hyperscan for patterns in program.pattern_sets if patterns.cache is not None],
            "mode": program.settings.engine.value,
            "policies": [
                {
                    "name": policy.name,
                    "ruleset": policy.info.sentence,
                    "mode": policy.waf.program.settings.engine.value,
                    "paranoia_level": policy.waf.program.paranoia_level,
                    "rules": len(policy.waf.program.units),
                    "blocking_percent": policy.blocking_percent,
                    "shadow": policy.shadow.name if policy.shadow else None,
                }
                for policy in self.policies.policies
            ],
            "listen": self.settings.listen,
            "streams": self._service.streams,
            "notes": program.notes[:100],
        }

    async def metrics(self) -> bytes:
        """This process's series."""
        return generate_latest(self._metrics.registry)

    async def summary(self) -> dict[str, Any]:
        """This process's counts."""
        return self._recorder.summary.to_dict()

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """The newest events, newest first."""
        return list(self._recorder.events)[-limit:][::-1] if limit > 0 else []

    def watch(self) -> AsyncIterator[dict[str, Any]]:
        """Events as they come."""
        return self._recorder.watch()

    async def explain(self, question: dict[str, Any]) -> dict[str, Any]:
        """Explain a recent event, or an exchange that is sent along."""
        if "id" in question:
            found = self._recorder.exchange(str(question["id"]))
            if found is None:
                raise ControlError(f"no recent event has the id {question['id']!r}")
            name, exchange = found
        else:
            exchange = exchange_from_json(question.get("exchange"))
            name = str(question.get("policy") or "default")
        policy = self.policies.by_name.get(name)
        if policy is None:
            raise ControlError(f"there is no policy {name!r}; there are {', '.join(self.policies.by_name)}")
        return explain(policy.waf, exchange, name)

    # -- the process, continued -------------------------------------------------------------------

    def _load_databases(self, loader: DatabaseLoader) -> None:
        """Bring the Hyperscan databases that the rules which serve now lack."""
        if self._loader is not None:
            self._loader.stop()
        self._loader = loader
        self._tasks.start(loader.run())

    def stop(self) -> None:
        """Begin to drain."""
        self._stop.set()
