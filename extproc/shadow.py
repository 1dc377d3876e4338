"""Shadow policies: what another policy says of the same requests.  It is counted, and told where it differs.

They judge when the stream is over, and nobody waits for them.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog

from extproc.events import MAX_LOGGED_TEXT, Recorder
from extproc.metrics import Metrics
from extproc.policies import Policy
from extproc.stream import Stream
from extproc.tasks import Tasks
from waf_core import Transaction
from waf_core.exchange import run

LIGHT_BYTES = 8192
"""Of bodies: with more, a request is judged on a thread, or others would wait."""

MAX_WAITING_BYTES = 32 << 20
"""Of bodies that wait for that thread; what comes beyond is not judged, and counted as skipped."""


class Shadows:
    """One thread, for all policies."""

    def __init__(self, metrics: Metrics, recorder: Recorder, tasks: Tasks) -> None:
        self._metrics = metrics
        self._recorder = recorder
        self._tasks = tasks
        self._log = structlog.get_logger("envoy_waf")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        self._waiting_bytes = 0

    def judge(self, stream: Stream) -> None:
        """If its policy has a shadow: now, or soon.  Not what has broken off: half a body is no whole one."""
        shadow = stream.policy.shadow
        if shadow is None or stream.tx is None or stream.broken_off:
            return
        size = stream.kept_bytes
        if size <= LIGHT_BYTES:
            self._compare(stream, shadow)
        elif self._waiting_bytes + size > MAX_WAITING_BYTES:
            self._metrics.shadow.labels(stream.policy.name, shadow.name, _verdict(stream.tx), "skipped").inc()
        else:
            self._waiting_bytes += size
            self._tasks.start(self._judge_aside(stream, shadow, size))

    def close(self) -> None:
        """No more."""
        self._thread.shutdown(wait=False)

    async def _judge_aside(self, stream: Stream, shadow: Policy, size: int) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._compare, stream, shadow)
        finally:
            self._waiting_bytes -= size

    def _compare(self, stream: Stream, shadow: Policy) -> None:
        tx = stream.tx
        assert tx is not None
        try:
            other = run(shadow.waf, stream.exchange())
        except Exception:
            self._metrics.stream_errors.labels("shadow").inc()
            self._log.exception("a shadow policy failed", shadow=shadow.name)
            return
        live, candidate = _verdict(tx), _verdict(other)
        self._metrics.shadow.labels(stream.policy.name, shadow.name, live, candidate).inc()
        if live != candidate:
            self._log.info(
                "shadow policy differs",
                policy=stream.policy.name,
                shadow=shadow.name,
                live=live,
                candidate=candidate,
                transaction_id=tx.id,
                path=self._recorder.redaction(tx).text(tx.uri[:MAX_LOGGED_TEXT].decode("utf-8", "backslashreplace")),
                rules=[m.rule.id for m in other.matched_rules if m.log][: self._recorder.settings.logged_rules],
            )


def _verdict(tx: Transaction) -> str:
    return "block" if tx.interruption or tx.detected else "pass"
