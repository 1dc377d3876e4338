"""OpenTelemetry (extra `otel`): one span for each stream, joined to the trace that Envoy began.

Spans go to an OTLP collector in batches, from a thread of the SDK; what does not fit its queue is dropped
there.  Names follow the semantic conventions for HTTP servers; ours begin with `waf.`.
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from extproc import __version__
from extproc.config import ConfigError

if TYPE_CHECKING:
    from extproc.stream import Stream

MAX_RULES = 20
"""Rule ids in one span, and rules that become span events."""


class StreamTracer:
    """Raises ConfigError when the extra is not installed."""

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            hint = "pip install 'envoy-waf[otel]'"
            if find_spec("opentelemetry.exporter") is not None:
                # xds-protos brings an older `opentelemetry.proto` of its own; whichever came last is there.
                hint = "pip install --force-reinstall --no-deps opentelemetry-proto"
            raise ConfigError(f"otlp_endpoint needs the extra `otel`: {hint}  ({error})") from error
        resource = Resource.create({"service.name": "envoy-waf", "service.version": __version__})
        insecure = not endpoint.startswith("https://")
        self._traces = TracerProvider(resource=resource)
        self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=insecure)))
        self._tracer = self._traces.get_tracer("envoy_waf", __version__)
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=endpoint, insecure=insecure))
        self._meters = MeterProvider(resource=resource, metric_readers=[reader])
        meter = self._meters.get_meter("envoy_waf", __version__)
        self._requests = meter.create_counter("envoy_waf.requests", description="HTTP requests by policy and verdict")
        self._seconds = meter.create_histogram(
            "envoy_waf.processing.duration", unit="s", description="Time in the engine"
        )
        self._propagator = TraceContextTextMapPropagator()
        self._kind: Any = trace.SpanKind.INTERNAL
        self._error: Any = trace.Status(trace.StatusCode.ERROR, "blocked")

    def finished(self, stream: Stream, seconds: float) -> None:
        """One span for the whole stream; `seconds` is the time in the engine."""
        tx = stream.tx
        if tx is None:
            return
        stop = tx.interruption or tx.detected
        labels: dict[str, Any] = {"waf.policy": stream.policy.name, "waf.verdict": stream.outcome}
        self._requests.add(1, labels)
        self._seconds.record(seconds, labels)
        carrier = {"traceparent": stream.trace_parent} if stream.trace_parent else {}
        start = int(tx.started_at * 1e9)
        span = self._tracer.start_span(
            "waf",
            context=self._propagator.extract(carrier),
            kind=self._kind,
            start_time=start,
            attributes={
                **labels,
                "http.request.method": tx.method[:32].decode("latin-1"),
                "url.path": tx.filename[:512].decode("utf-8", "replace"),
                "client.address": tx.client_ip.decode("latin-1"),
                "waf.transaction_id": tx.id,
                "waf.score": tx.anomaly_score,
                "waf.rule_id": stop.rule_id if stop else 0,
                "waf.rule_ids": [matched.rule.id for matched in tx.matched_rules[:MAX_RULES]],
                "waf.engine_seconds": seconds,
            },
        )
        for matched in tx.matched_rules[:MAX_RULES]:
            if matched.log:
                details: dict[str, Any] = {"waf.rule_id": matched.rule.id, "waf.message": matched.rule.message[:200]}
                span.add_event("rule matched", {**details, "waf.variable": matched.variable[:200]})
        if tx.interruption is not None or stream.failed:
            span.set_status(self._error)
        span.end(max(start, int(time.time() * 1e9)))

    def close(self) -> None:
        """Send what waits."""
        self._traces.shutdown()
        self._meters.shutdown()
