"""One process: one grpc.aio server, one compiled set of policies, one admin server.

The handler is generic and writes serialized answers: the common ones are serialized once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from prometheus_client import generate_latest

from extproc import __version__
from extproc import stream as protocol
from extproc.admin.servers import AdminServers
from extproc.audit_log import AuditLog
from extproc.config import ConfigError, Reread, Settings, parse_address
from extproc.control import ControlError
from extproc.databases import DatabaseLoader
from extproc.events import Recorder
from extproc.explain import explain
from extproc.metrics import Metrics
from extproc.policies import METADATA_KEY, PolicySet, compile_policies
from extproc.requests.plain import exchange_from_json
from extproc.stream import MAX_HELD_BYTES, Stream, StreamError, StreamOptions
from extproc.telemetry import StreamTracer
from extproc.watch import watch_files, watched_files
from waf_core import WafError
from waf_core.memory import settle
from waf_core.persistence import StoreUnavailableError
from waf_core.persistence.buffered import BufferedStore, Key

if TYPE_CHECKING:
    from extproc.redis_store import RedisStore

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"

MAX_MESSAGE_BYTES = 72 << 20
"""Largest ProcessingRequest: a buffered body of the largest size that is held, and its head."""

_SERIALIZED: dict[int, bytes] = {
    id(message): message.SerializeToString()
    for message in (
        protocol.CONTINUE_REQUEST_HEADERS,
        protocol.CONTINUE_RESPONSE_HEADERS,
        protocol.CONTINUE_REQUEST_BODY,
        protocol.CONTINUE_RESPONSE_BODY,
        protocol.CONTINUE_REQUEST_TRAILERS,
        protocol.CONTINUE_RESPONSE_TRAILERS,
        protocol.NO_RESPONSE_BODY,
    )
}


def _serialize(message: ProcessingResponse) -> bytes:
    known = _SERIALIZED.get(id(message))
    return known if known is not None else bytes(message.SerializeToString())


FIXED_SETTINGS = (
    "listen", "admin", "admin_grpc", "workers", "redis_url", "audit_log", "audit_queue", "audit_file_bytes",
    "audit_files", "otlp_endpoint", "log_level", "log_format", "data_dir", "cache_dir", "runtime_dir", "max_streams",
)  # fmt: skip
"""What a reload does not change: addresses, files and connections."""

LIGHT_BYTES = 16384
"""Larger bodies are judged on a thread (1 us a byte at worst)."""

HEAVY_THREADS = 2

SWITCH_SECONDS = 0.0002
"""How long a thread may keep the interpreter when the event loop waits for it (Python's own value: 5 ms)."""

RECORDED_BYTES = 65536
"""Bytes of each body that are kept until a stream ends, for explanations."""


class Worker:
    """Serves until told to stop.  `run` returns when everything has drained."""

    def __init__(
        self, settings: Settings, policies: PolicySet, *, index: int = 0, reread: Reread | None = None
    ) -> None:
        """`index`: which of the supervisor's workers this is; `reread`: gives the settings anew for a reload."""
        self.settings = settings
        self.policies = policies
        self._reread = reread
        self.generation = 1
        """Counts the policy sets that this process has served."""
        self._metrics = Metrics()
        self._metrics.serve(policies, self.generation)
        self.ready = False
        self.started_at = time.time()
        self._log = structlog.get_logger("envoy_waf")
        self._audit = AuditLog(settings, index, self._metrics.audit_dropped.inc) if settings.audit_log else None
        self._recorder = Recorder(self._metrics, settings, self._audit)
        self._tracer = StreamTracer(settings.otlp_endpoint) if settings.otlp_endpoint else None
        self._options = self._stream_options()
        self._loader: DatabaseLoader | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._reloading = asyncio.Lock()
        self._threads = ThreadPoolExecutor(HEAVY_THREADS, thread_name_prefix="heavy")
        self._streams = 0
        self._stop = asyncio.Event()
        self._health = HealthServicer()
        self.records: RedisStore | None = None
        if settings.redis_url:
            from extproc.redis_store import RedisStore  # 7 MB that others need not hold

            timeout = policies.default.waf.program.settings.collection_timeout
            self.records = RedisStore(settings.redis_url, timeout)

    def _stream_options(self) -> StreamOptions:
        settings = self.settings
        shadowed = any(policy.shadow for policy in self.policies.policies)
        return StreamOptions(
            trusted_hops=settings.trusted_hops,
            hidden_request_headers=frozenset(name.lower() for name in settings.hidden_request_headers),
            deny_body=settings.deny_body,
            deny_content_type=settings.deny_content_type,
            recorded_bytes=MAX_HELD_BYTES if shadowed else RECORDED_BYTES,
        )

    # -- one stream -----------------------------------------------------------------------------

    async def process(
        self, requests: AsyncIterator[ProcessingRequest], context: Any
    ) -> AsyncIterator[ProcessingResponse]:
        """The ext_proc method.  An error of the engine ends in a 500: fail closed."""
        if self._streams >= self.settings.max_streams:
            self._metrics.stream_errors.labels("overload").inc()
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams")
        self._streams += 1
        self._metrics.in_flight.inc()
        buffered = BufferedStore() if self.records is not None else None
        named = next((v for k, v in context.invocation_metadata() or () if k == METADATA_KEY), "")
        stream = Stream(self.policies, self._options, store=buffered, named_policy=str(named))
        spent = 0.0
        try:
            async for message in requests:
                if buffered is not None and stream.tx is None and message.HasField("request_headers"):
                    with contextlib.suppress(StreamError):  # `handle` meets it again
                        await self._fetch_records(stream.begin(message).expected_records(), buffered, stream)
                start = time.perf_counter()
                try:
                    if stream.weight(message) > LIGHT_BYTES:
                        answers = await self._aside(stream, message)
                    else:
                        answers = stream.handle(message)
                except StreamError as error:
                    self._metrics.stream_errors.labels("protocol").inc()
                    self._log.error("Envoy's filter is configured wrongly", error=str(error))
                    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
                except Exception:
                    self._metrics.stream_errors.labels("engine").inc()
                    self._log.exception("the engine failed; the request is refused")
                    answers = [protocol.engine_failure()]
                    stream.blocked = True
                spent += time.perf_counter() - start
                if buffered is not None and (buffered.changes or buffered.missing):
                    await self._exchange_records(buffered, stream)
                if stream.store_failed and not stream.blocked and self.settings.redis_on_failure == "closed":
                    answers = [protocol.store_failure()]
                    stream.blocked = True
                for answer in answers:
                    yield answer
                if stream.blocked:
                    break
        except asyncio.CancelledError:
            self._metrics.stream_errors.labels("cancelled").inc()
            raise
        finally:
            self._streams -= 1
            self._metrics.in_flight.dec()
            self._finish(stream, spent)
            if buffered is not None and buffered.changes:
                await self._exchange_records(buffered, stream)

    async def _aside(self, stream: Stream, message: ProcessingRequest) -> list[ProcessingResponse]:
        """Judge a large body on a thread, so that small requests need not wait for it.  The transaction belongs
        to that thread until it is done, even when the stream is cancelled meanwhile."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, stream.handle, message)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future})
            raise

    async def _fetch_records(self, keys: Sequence[Key], buffered: BufferedStore, stream: Stream) -> None:
        """Bring the records that the rules will open."""
        if not keys or self.records is None:
            return
        try:
            buffered.records.update(await self.records.load(keys))
        except StoreUnavailableError:
            self._store_failed(stream)

    async def _exchange_records(self, buffered: BufferedStore, stream: Stream) -> None:
        """Send what rules changed, and bring what they opened unforeseen."""
        assert self.records is not None
        changes, buffered.changes = buffered.changes, []
        missing, buffered.missing = buffered.missing, []
        try:
            if missing and not stream.store_failed:
                for key, record in (await self.records.load(missing)).items():
                    if stream.tx is not None:
                        stream.tx.merge_record(key[0], record)
            if changes:
                await self.records.commit(changes)
        except StoreUnavailableError:
            self._store_failed(stream)

    def _store_failed(self, stream: Stream) -> None:
        stream.store_failed = True
        self._metrics.store_errors.inc()

    def _finish(self, stream: Stream, spent: float) -> None:
        start = time.perf_counter()
        try:
            stream.close()
        except Exception:
            self._metrics.stream_errors.labels("logging").inc()
            self._log.exception("phase 5 failed")
        spent += time.perf_counter() - start
        try:
            self._recorder.finished(stream, spent)
            if self._tracer is not None:
                self._tracer.finished(stream, spent)
        except Exception:
            self._metrics.stream_errors.labels("recording").inc()
            self._log.exception("a finished stream could not be recorded")

    # -- the process ----------------------------------------------------------------------------

    def _server(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                ("grpc.http2.max_pings_without_data", 0),
            ]
        )
        handler = grpc.stream_stream_rpc_method_handler(
            self.process, request_deserializer=ProcessingRequest.FromString, response_serializer=_serialize
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Process": handler}),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        return server

    async def run(self) -> None:
        """Bind, serve; SIGHUP reloads, SIGTERM and SIGINT drain.  Raises OSError when an address is taken."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup)
        settle()
        sys.setswitchinterval(SWITCH_SECONDS)
        server = self._server()
        address = parse_address(self.settings.listen)
        if isinstance(address, str):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)
        try:
            server.add_insecure_port(self.settings.listen)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self.settings.listen}: is another process using it?") from error
        await server.start()
        if isinstance(address, str):
            os.chmod(address, 0o660)
        servers = AdminServers(self)
        await servers.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        self.ready = True
        self._log.info("ready", listen=self.settings.listen, admin=self.settings.admin or None)
        self._load_databases()
        if self.settings.watch and self._reread is not None:
            self._keep(watch_files(self._watched, self.reload))
        await self._stop.wait()
        self.ready = False
        if self._loader is not None:
            self._loader.stop()
        for task in self._tasks:
            task.cancel()
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._log.info("draining", streams=self._streams, seconds=self.settings.drain_seconds)
        await server.stop(self.settings.drain_seconds)
        await servers.stop()
        self._threads.shutdown(wait=False)
        if self.records is not None:
            await self.records.close()
        if self._audit is not None:
            await asyncio.to_thread(self._audit.close)
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close)
        self._log.info("stopped")

    def _hangup(self) -> None:
        """SIGHUP: logs have been rotated, rules may have changed."""
        if self._audit is not None:
            self._audit.reopen()
        self._keep(self.reload())

    def _watched(self) -> list[str]:
        assert self._reread is not None
        return watched_files(self.policies, self._reread)

    # -- Control ----------------------------------------------------------------------------------

    async def reload(self) -> dict[str, Any]:
        """Read settings and rules anew, compile them aside, and swap them in; streams that run keep their old
        ones.  What cannot be used is logged, and everything stays as it was."""
        async with self._reloading:
            try:
                settings = self._reread() if self._reread is not None else self.settings
                policies = await asyncio.to_thread(compile_policies, settings)
            except (WafError, ConfigError) as error:
                self._metrics.reloads.labels("failed").inc()
                self._log.error("reload failed; the old rules stay", error=str(error), generation=self.generation)
                return {"ok": False, "generation": self.generation, "error": str(error)}
            # Counters that outlive requests go on.
            for policy in policies.policies:
                old = self.policies.by_name.get(policy.name, self.policies.default)
                policy.waf.program.store = old.waf.program.store
            self.settings = self._kept(settings)
            self.policies = policies
            self._options = self._stream_options()
            self._recorder.settings = self.settings
            self.generation += 1
            self._metrics.serve(policies, self.generation)
            self._metrics.reloads.labels("ok").inc()
            self._log.info(
                "rules reloaded",
                generation=self.generation,
                ruleset=policies.default.info.sentence,
                rules=len(policies.default.waf.program.units),
                policies=[policy.name for policy in policies.policies],
            )
            settle()
            self._load_databases()
            return {"ok": True, "generation": self.generation, "error": ""}

    def _kept(self, settings: Settings) -> Settings:
        """Settings that a running process cannot change stay; the log says so."""
        changed = [name for name in FIXED_SETTINGS if getattr(settings, name) != getattr(self.settings, name)]
        if changed:
            self._log.warning("settings that need a restart have changed; they stay as they are", settings=changed)
        return settings.model_copy(update={name: getattr(self.settings, name) for name in FIXED_SETTINGS})

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
            "hyperscan": [patterns.uses_hyperscan for patterns in program.pattern_sets],
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
            "streams": self._streams,
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

    def _load_databases(self) -> None:
        """Bring Hyperscan's databases for the rules that serve now."""
        if self._loader is not None:
            self._loader.stop()
        self._loader = DatabaseLoader([policy.waf for policy in self.policies.policies])
        self._keep(self._loader.run())

    def _keep(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Run aside; a task that nobody holds could vanish."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _set_health(self, status: int) -> None:
        for service in ("", SERVICE):
            await self._health.set(service, status)

    def stop(self) -> None:
        """Begin to drain."""
        self._stop.set()
