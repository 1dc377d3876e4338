"""What is told of a finished stream: one log line if something matched, and the metrics."""

from __future__ import annotations

from typing import Any

import structlog

from extproc.metrics import Metrics
from extproc.stream import Stream

MAX_LOGGED_TEXT = 400
"""Characters of one value in a log line."""


def _text(value: bytes) -> str:
    return value[:MAX_LOGGED_TEXT].decode("utf-8", "backslashreplace")


class Recorder:
    """Called once for each stream, after phase 5."""

    def __init__(self, metrics: Metrics, *, logged_rules: int, policy: str = "default") -> None:
        self._metrics = metrics
        self._logged_rules = logged_rules
        self._policy = policy
        self._log = structlog.get_logger("envoy_waf")

    def finished(self, stream: Stream, seconds: float) -> None:
        """Count and log a stream.  `seconds`: time spent in the engine."""
        tx = stream.tx
        metrics = self._metrics
        if tx is None:
            if stream.refused_by_envoy:
                metrics.requests.labels("refused_by_envoy", "", "").inc()
            return
        stop = tx.interruption
        if stop is not None:
            metrics.requests.labels(stop.action, str(stream.blocked_phase), str(stop.status)).inc()
        elif tx.detected is not None:
            metrics.requests.labels("detected", "", str(tx.detected.status)).inc()
        else:
            metrics.requests.labels("pass", "", "").inc()
        metrics.processing.observe(seconds)
        metrics.score.observe(tx.anomaly_score)
        for matched in tx.matched_rules:
            metrics.hit(matched.rule.id)
        for limit in tx.limits:
            metrics.limits.labels(limit).inc()
        for reason in stream.uninspected:
            metrics.uninspected.labels(reason).inc()
        if tx.request_body_length:
            metrics.body_bytes.labels("request").inc(tx.request_body_length)
        if tx.response_body_length:
            metrics.body_bytes.labels("response").inc(tx.response_body_length)
        if stop is not None or tx.detected is not None or any(m.log for m in tx.matched_rules):
            self._write(stream, seconds)

    def _write(self, stream: Stream, seconds: float) -> None:
        tx = stream.tx
        assert tx is not None
        verdict = tx.interruption or tx.detected
        fields: dict[str, Any] = {
            "action": tx.interruption.action if tx.interruption else "detected" if tx.detected else "matched",
            "transaction_id": tx.id,
            "client": tx.client_ip.decode("latin-1"),
            "method": _text(tx.method),
            "path": _text(tx.uri),
            "host": _text(tx.server_name),
            "status": verdict.status if verdict else tx.response_status,
            "score": tx.anomaly_score,
            "policy": self._policy,
            "ms": round(seconds * 1000, 2),
            "rules": [
                {
                    "id": matched.rule.id,
                    "msg": matched.message[:MAX_LOGGED_TEXT],
                    "on": matched.variable[:MAX_LOGGED_TEXT],
                    "value": _text(matched.value),
                    **({"data": matched.data[:MAX_LOGGED_TEXT]} if matched.data else {}),
                }
                for matched in tx.matched_rules[: self._logged_rules]
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
