"""The ext_proc method: what its streams share (extproc/session.py has one of them)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from extproc.config import Settings
from extproc.events import Recorder
from extproc.metrics import Metrics
from extproc.policies import PolicySet
from extproc.session import StreamSession
from extproc.shadow import Shadows
from extproc.side import MAX_HELD_BYTES
from extproc.stream import Stream, StreamOptions
from extproc.tasks import Tasks
from extproc.telemetry import StreamTracer
from extproc.transport.connection import Call
from waf_core.persistence import StoreUnavailableError
from waf_core.persistence.buffered import MAX_CHANGES

if TYPE_CHECKING:
    from extproc.redis_store import RedisStore

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
METHOD = f"/{SERVICE}/Process".encode()

MAX_MESSAGE_BYTES = 72 << 20
"""Largest ProcessingRequest: a buffered body of the largest size that is held, and its head."""

HEAVY_THREADS = 2

RECORDED_BYTES = 65536
"""Bytes of each body that are kept until a stream ends, for explanations."""

PATIENCE_SECONDS = 5.0
"""So long a client may take for its body although others find no place."""

PASSING_SECONDS = 30.0
"""So long what is judged may take to pass although others find no place: a client sends or reads slowly, or it is a
socket."""

TELL_SECONDS = 10.0
"""Pause between two lines of the log about the same trouble."""


def _note(sessions: dict[StreamSession, float], session: StreamSession, belongs: bool) -> None:
    if not belongs:
        sessions.pop(session, None)
    elif session not in sessions:
        sessions[session] = time.monotonic()


class ExtProcService:
    """Makes a session for each stream; what they share."""

    def __init__(
        self, metrics: Metrics, recorder: Recorder, tracer: StreamTracer | None, records: RedisStore | None
    ) -> None:
        self.metrics = metrics
        self.recorder = recorder
        self.tracer = tracer
        self.records = records
        self.log = structlog.get_logger("envoy_waf")
        self.threads = ThreadPoolExecutor(HEAVY_THREADS, thread_name_prefix="heavy")
        self.streams = 0
        self._waiting: dict[StreamSession, float] = {}
        """Those whose request's body has still to come, by when that began; the oldest first."""
        self._passing: dict[StreamSession, float] = {}
        """Those in which all is judged, and something still passes, likewise."""
        self._told_at: dict[str, float] = {}
        self._store_failing: set[str] = set()
        """Calls that were not answered the last time."""
        self.settings: Settings
        self.policies: PolicySet
        self.options: StreamOptions
        self.tasks = Tasks()
        self.shadows = Shadows(metrics, recorder, self.tasks)

    def serve(self, settings: Settings, policies: PolicySet) -> None:
        """For streams that begin from now on."""
        self.settings = settings
        self.policies = policies
        shadowed = any(policy.shadow for policy in policies.policies)
        self.options = StreamOptions(
            trusted_hops=settings.trusted_hops,
            hidden_request_headers=frozenset(name.lower() for name in settings.hidden_request_headers),
            deny_body=settings.deny_body,
            deny_content_type=settings.deny_content_type,
            recorded_bytes=MAX_HELD_BYTES if shadowed else RECORDED_BYTES,
            audited=bool(settings.audit_log),
        )

    def is_crowded(self) -> None:
        """Count a stream that is refused for lack of room."""
        self._refuses(
            "memory",
            "too many bytes of bodies are held; requests that need more are refused (503)",
            max_body_memory=self.settings.max_body_memory,
        )

    def is_full(self) -> None:
        """Count a stream that is refused because there are too many."""
        self._refuses(
            "overload",
            "there are too many streams; the slowest make way, then new requests are refused",
            max_streams=self.settings.max_streams,
        )

    def _refuses(self, kind: str, text: str, **limit: int) -> None:
        """Count it; the log says so now and then."""
        self.metrics.stream_errors.labels(kind).inc()
        self._tell(kind, text, **limit)

    def _tell(self, kind: str, text: str, **limit: int) -> None:
        """Log it, now and then."""
        now = time.monotonic()
        if now - self._told_at.get(kind, float("-inf")) > TELL_SECONDS:
            self._told_at[kind] = now
            self.log.error(text, **limit)

    def note(self, session: StreamSession, stream: Stream | None) -> None:
        """Does it wait for its client now, or pass something on?  None: it is being judged, or over."""
        _note(self._waiting, session, stream is not None and stream.awaits_body)
        _note(self._passing, session, stream is not None and stream.passes_on)

    def make_way(self) -> bool:
        """End the stream that has waited longest for its client, if that is long: who is slow must not keep out those
        who are not.  Those that have still to be judged come first.  Is there a place now?"""
        now = time.monotonic()
        for sessions, patience in ((self._waiting, PATIENCE_SECONDS), (self._passing, PASSING_SECONDS)):
            session, since = next(iter(sessions.items()), (None, now))
            if session is not None and now - since >= patience:
                session.make_way()
                return True
        return False

    def store_fails(self, call: str, error: StoreUnavailableError) -> None:
        """Count a request without its records; the log says it once, until such a call is answered again."""
        self.metrics.store_errors.inc()
        if call not in self._store_failing:
            self._store_failing.add(call)
            choice = "refused (503)" if self.settings.redis_on_failure == "closed" else "judged without them"
            self.log.error("Redis fails", call=call, error=str(error), requests=choice)

    def store_answers(self, call: str) -> None:
        """It has given (load) or taken (commit) records."""
        if call in self._store_failing:
            self._store_failing.remove(call)
            self.log.info("Redis answers again", call=call)

    def loses_changes(self, count: int) -> None:
        """Count a request that changed more of its records than one may."""
        self.metrics.store_errors.inc()
        self._tell("changes", "a request changes too many variables of collections", lost=count, limit=MAX_CHANGES)

    async def probe_store(self) -> None:
        """Whether records can be had is told at the start, not with the first request that wants some."""
        if self.records is None:
            return
        try:
            await self.records.load([("GLOBAL", b"")])
        except StoreUnavailableError as error:
            self.store_fails("load", error)

    def open(self, call: Call) -> StreamSession:
        """Serve one stream."""
        return StreamSession(self, call)

    async def close(self) -> None:
        """Wait for what still runs aside."""
        await self.tasks.wait()
        self.threads.shutdown(wait=False)
        self.shadows.close()
