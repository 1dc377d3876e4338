"""What is told of a finished stream: metrics, the log line, the audit record, the event for watchers."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from typing import Any

import structlog

from extproc.audit_log import AuditLog
from extproc.config import Settings
from extproc.control import MAX_WATCHERS, WatchersError
from extproc.metrics import Metrics
from extproc.policies import ADDRESS_ATTRIBUTE, ROUTE_ATTRIBUTE
from extproc.stream import Stream
from extproc.summary import Summary
from waf_core.auditing.formats import FORMATS
from waf_core.auditing.record import is_wanted, make_record
from waf_core.auditing.redaction import Redaction
from waf_core.exchange import Exchange
from waf_core.transaction import Transaction

MAX_LOGGED_TEXT = 400
"""Characters of one value in a log line."""

MAX_EVENTS = 500
"""Events that a worker remembers."""

MAX_EVENT_RULES = 20
"""Matched rules that an event has, however many a log line shows."""

MAX_EXPLAINABLE_BYTES = 16 << 20
"""Memory for the requests that can still be explained."""

WATCHER_QUEUE = 256
"""Events that one watcher may lag behind; then it misses some."""

_WITHOUT = {
    ADDRESS_ATTRIBUTE: "clients have no address: rules and counters that go by it treat all alike",
    ROUTE_ATTRIBUTE: "policies that match routes judge nothing",
}
"""What is wrong when Envoy does not send it."""


def _text(value: bytes, limit: int = MAX_LOGGED_TEXT) -> str:
    return value[:limit].decode("utf-8", "backslashreplace")


class Recorder:
    """Called once for each stream, after phase 5."""

    def __init__(self, metrics: Metrics, settings: Settings, audit: AuditLog | None) -> None:
        self._metrics = metrics
        self.settings = settings
        """Those that serve: the worker sets them anew when it reloads."""
        self._audit = audit
        self._log = structlog.get_logger("envoy_waf")
        self.summary = Summary()
        self.events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self._exchanges: OrderedDict[str, tuple[str, Exchange]] = OrderedDict()
        self._exchange_bytes = 0
        self._watchers: set[asyncio.Queue[dict[str, Any]]] = set()
        self._missed: set[str] = set()
        """Attributes whose absence has been logged."""
        self._told_of_observing = False

    def finished(self, stream: Stream, seconds: float) -> None:
        """Count and log a stream.  `seconds`: time spent in the engine."""
        tx = stream.tx
        metrics = self._metrics
        policy = stream.policy.name
        outcome = stream.outcome
        self._count(stream, tx, outcome)
        if tx is None:
            return
        for name in stream.missing_attributes:
            self._miss(name)
        if stream.only_observed and not self._told_of_observing:
            self._told_of_observing = True
            self._log.warning("Envoy's filter is in observability_mode: it heeds no verdict, nothing is blocked")
        stop = tx.interruption
        series = metrics.of_policy(policy)
        series.processing.observe(seconds)
        for phase, spent in enumerate(tx.phase_ns):
            if spent:
                metrics.phases[phase].observe(spent / 1e9)
        score = tx.anomaly_score
        series.score.observe(score)
        for matched in tx.matched_rules:
            metrics.hit(matched.rule.id)
            metrics.family(matched.rule.tags)
        for limit in tx.limits:
            metrics.limits.labels(limit).inc()
        for reason in stream.uninspected:
            metrics.uninspected.labels(reason).inc()
        if tx.request_body.length:
            metrics.body_bytes.labels("request").inc(tx.request_body.length)
        if tx.response_body.length:
            metrics.body_bytes.labels("response").inc(tx.response_body.length)
        if tx.request_body.cut:
            metrics.truncated.labels("request").inc()
        if tx.response_body.cut:
            metrics.truncated.labels("response").inc()
        metrics.count_scans(stream.policy.waf.program.statistics)
        hidden: Redaction | None = None  # made once, and only for what is told
        told = [m for m in tx.matched_rules if m.log]
        self.summary.add(
            verdict=outcome,
            score=score,
            seconds=seconds,
            path=_text(tx.filename),
            client=tx.client_ip.decode("latin-1"),
            rules=[(m.rule.id, m.rule.message) for m in told],
        )
        if stop is not None or tx.detected is not None or told:
            hidden = self.redaction(tx)
            self._tell(stream, hidden, seconds, score)
        if self._audit is not None and is_wanted(tx, stop.status if stop else tx.response_status):
            hidden = hidden or self.redaction(tx)
            record = make_record(tx, hidden, policy=policy)
            name = self.settings.audit_format or tx.program.settings.audit_log_format
            self._audit.put(FORMATS[name](record))

    def _count(self, stream: Stream, tx: Transaction | None, outcome: str) -> None:
        policy, requests = stream.policy.name, self._metrics.requests
        if outcome == "failed":
            requests.labels(policy, outcome, "", str(stream.failed)).inc()
        elif outcome == "refused_by_envoy":
            requests.labels(policy, outcome, "", "").inc()
        elif tx is None:
            return
        elif tx.interruption is not None:
            stop = tx.interruption
            requests.labels(policy, stop.action, str(stream.blocked_phase), str(stop.status)).inc()
        elif tx.detected is not None:
            requests.labels(policy, outcome, "", str(tx.detected.status)).inc()
        elif outcome == "cancelled":
            requests.labels(policy, outcome, "", "").inc()
        else:
            self._metrics.of_policy(policy).passed.inc()

    def _miss(self, name: str) -> None:
        self._metrics.attributes_missing.labels(name).inc()
        if name not in self._missed:
            self._missed.add(name)
            self._log.error(
                "Envoy does not send an attribute that the policies need: add it to the filter's request_attributes",
                attribute=name,
                without_it=_WITHOUT[name],
            )

    def redaction(self, tx: Transaction) -> Redaction:
        """What nothing that is told of it may show."""
        return Redaction(tx, self.settings.redact_headers, self.settings.redact_arguments)

    def _tell(self, stream: Stream, hidden: Redaction, seconds: float, score: int) -> None:
        tx = stream.tx
        assert tx is not None
        verdict = tx.interruption or tx.detected

        def value(name: bytes, text: str) -> str:
            # Hidden before it is cut: the end of what is hidden may be what is cut off.
            return "***" if hidden.variable(name) else hidden.text(text[: 4 * MAX_LOGGED_TEXT])[:MAX_LOGGED_TEXT]

        fields: dict[str, Any] = {
            "action": tx.interruption.action if tx.interruption else "detected" if tx.detected else "matched",
            "transaction_id": tx.id,
            "client": tx.client_ip.decode("latin-1"),
            "method": _text(tx.method),
            "path": hidden.text(_text(tx.uri)),
            "host": _text(tx.server_name),
            "status": verdict.status if verdict else tx.response_status,
            "score": score,
            "policy": stream.policy.name,
            "ms": round(seconds * 1000, 2),
            "rules": [
                {
                    "id": matched.rule.id,
                    "msg": hidden.text(matched.message[: 4 * MAX_LOGGED_TEXT])[:MAX_LOGGED_TEXT],
                    "on": matched.variable[:MAX_LOGGED_TEXT],
                    "value": value(matched.variable.encode(), _text(matched.value, 4 * MAX_LOGGED_TEXT)),
                    **({"data": value(matched.variable.encode(), matched.data)} if matched.data else {}),
                }
                for matched in tx.matched_rules[: self.settings.logged_rules]
                if matched.log
            ],
        }
        if verdict is not None:
            fields["rule_id"] = verdict.rule_id
            if verdict.reason:
                fields["reason"] = verdict.reason
        if tx.limits:
            fields["limits"] = tx.limits
        if tx.interruption is not None:
            self._log.warning("request blocked", **fields)
        elif tx.detected is not None:
            self._log.warning("request would be blocked", **fields)
        else:
            self._log.info("rules matched", **fields)
        event = {"time": round(time.time(), 3), **fields, "rules": fields["rules"][:MAX_EVENT_RULES]}
        self._publish(stream, event)

    # -- events for watchers ----------------------------------------------------------------------

    def _publish(self, stream: Stream, event: dict[str, Any]) -> None:
        self.events.append(event)
        exchange = stream.exchange()
        known = self._exchanges.pop(event["transaction_id"], None)
        if known is not None:
            self._exchange_bytes -= _size(known[1])
        self._exchange_bytes += _size(exchange)
        self._exchanges[event["transaction_id"]] = (stream.policy.name, exchange)
        while self._exchanges and (self._exchange_bytes > MAX_EXPLAINABLE_BYTES or len(self._exchanges) > MAX_EVENTS):
            _, (_, old) = self._exchanges.popitem(last=False)
            self._exchange_bytes -= _size(old)
        for watcher in self._watchers:
            if not watcher.full():
                watcher.put_nowait(event)

    def exchange(self, transaction_id: str) -> tuple[str, Exchange] | None:
        """(policy, exchange) of a recent event."""
        return self._exchanges.get(transaction_id)

    async def watch(self) -> AsyncIterator[dict[str, Any]]:
        """Events as they come.  Raises WatchersError."""
        if len(self._watchers) >= MAX_WATCHERS:
            raise WatchersError
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(WATCHER_QUEUE)
        self._watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)


def _size(exchange: Exchange) -> int:
    headers = sum(len(name) + len(value) for name, value in (*exchange.headers, *exchange.response_headers))
    return 2000 + len(exchange.body) + len(exchange.response_body) + len(exchange.uri) + headers
