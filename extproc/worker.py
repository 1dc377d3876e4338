"""One process: one grpc.aio server, one compiled rule set, one admin server.

The handler is generic and writes serialized answers: the common ones are serialized once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import grpc
import structlog
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from extproc import stream as protocol
from extproc.admin import AdminServer
from extproc.config import Settings, parse_address
from extproc.databases import DatabaseLoader
from extproc.events import Recorder
from extproc.metrics import Metrics
from extproc.redis_store import RedisStore, StoreUnavailableError
from extproc.rulesets import RuleSetInfo, RuleSets
from extproc.stream import Stream, StreamError, StreamOptions
from waf_core import WAF, WafError
from waf_core.persistence.buffered import BufferedStore, Key

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


class Worker:
    """Serves until told to stop.  `run` returns when everything has drained."""

    def __init__(self, settings: Settings, waf: WAF, info: RuleSetInfo) -> None:
        self.settings = settings
        self.waf = waf
        self.info = info
        self.generation = 1
        """Counts the rule sets that this process has served."""
        self.metrics = Metrics()
        self.metrics.serve(waf, info, self.generation)
        self.ready = False
        self.started_at = time.time()
        self._recorder = Recorder(self.metrics, logged_rules=settings.logged_rules)
        self._options = StreamOptions(
            trusted_hops=settings.trusted_hops,
            hidden_request_headers=frozenset(name.lower() for name in settings.hidden_request_headers),
            deny_body=settings.deny_body,
            deny_content_type=settings.deny_content_type,
        )
        self._log = structlog.get_logger("envoy_waf")
        self._loader: DatabaseLoader | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams = 0
        self._stop = asyncio.Event()
        self._health = HealthServicer()
        self.records: RedisStore | None = None
        if settings.redis_url:
            self.records = RedisStore(settings.redis_url, waf.program.settings.collection_timeout)

    # -- one stream -----------------------------------------------------------------------------

    async def process(
        self, requests: AsyncIterator[ProcessingRequest], context: Any
    ) -> AsyncIterator[ProcessingResponse]:
        """The ext_proc method.  An error of the engine ends in a 500: fail closed."""
        if self._streams >= self.settings.max_streams:
            self.metrics.stream_errors.labels("overload").inc()
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams")
        self._streams += 1
        self.metrics.in_flight.inc()
        buffered = BufferedStore() if self.records is not None else None
        stream = Stream(self.waf, self._options, store=buffered)
        spent = 0.0
        try:
            async for message in requests:
                if buffered is not None and stream.tx is None and message.HasField("request_headers"):
                    await self._fetch_records(stream.begin(message).expected_records(), buffered, stream)
                start = time.perf_counter()
                try:
                    answers = stream.handle(message)
                except StreamError as error:
                    self.metrics.stream_errors.labels("protocol").inc()
                    self._log.error("Envoy's filter is configured wrongly", error=str(error))
                    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
                except Exception:
                    self.metrics.stream_errors.labels("engine").inc()
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
            self.metrics.stream_errors.labels("cancelled").inc()
            raise
        finally:
            self._streams -= 1
            self.metrics.in_flight.dec()
            self._finish(stream, spent)
            if buffered is not None and buffered.changes:
                await self._exchange_records(buffered, stream)

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
        self.metrics.store_errors.inc()

    def _finish(self, stream: Stream, spent: float) -> None:
        start = time.perf_counter()
        try:
            stream.close()
        except Exception:
            self.metrics.stream_errors.labels("logging").inc()
            self._log.exception("phase 5 failed")
        self._recorder.finished(stream, spent + time.perf_counter() - start)

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
        """Bind, serve; SIGHUP reloads the rules, SIGTERM and SIGINT drain.  Raises OSError when an address is taken."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._keep(self.reload()))
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
        admin = AdminServer(self)
        await admin.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        self.ready = True
        self._log.info("ready", listen=self.settings.listen, admin=self.settings.admin or None)
        self._load_databases()
        await self._stop.wait()
        self.ready = False
        if self._loader is not None:
            self._loader.stop()
        for task in self._tasks:
            task.cancel()
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._log.info("draining", streams=self._streams, seconds=self.settings.drain_seconds)
        await server.stop(self.settings.drain_seconds)
        await admin.stop()
        if self.records is not None:
            await self.records.close()
        self._log.info("stopped")

    async def reload(self) -> None:
        """Compile the rules anew, aside, and swap them in; streams that run keep their old ones.  What
        cannot be compiled is logged, and the old rules stay."""
        rulesets = RuleSets(self.settings)
        try:
            waf = await asyncio.to_thread(rulesets.compile)
        except WafError as error:
            self.metrics.reloads.labels("failed").inc()
            self._log.error("reload failed; the old rules stay", error=str(error), generation=self.generation)
            return
        # Counters that outlive requests go on.
        waf.program.store = self.waf.program.store
        self.waf = waf
        self.info = rulesets.info()
        self.generation += 1
        self.metrics.serve(waf, self.info, self.generation)
        self.metrics.reloads.labels("ok").inc()
        self._log.info(
            "rules reloaded", generation=self.generation, ruleset=self.info.sentence, rules=len(waf.program.units)
        )
        self._load_databases()

    def _load_databases(self) -> None:
        """Bring Hyperscan's databases for the rules that serve now."""
        if self._loader is not None:
            self._loader.stop()
        self._loader = DatabaseLoader(self.waf)
        self._keep(self._loader.run())

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
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
