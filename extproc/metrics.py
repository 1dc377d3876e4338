"""Prometheus metrics of the sidecar.  Names and units follow Prometheus's conventions."""

from __future__ import annotations

import platform

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from extproc import __version__
from extproc.rulesets import RuleSetInfo
from waf_core import WAF

MAX_RULE_SERIES = 2000
"""Rule ids that get a series of their own; hits of further ids count as id="other"."""

_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SCORES = (0, 2, 4, 5, 7, 10, 15, 20, 30, 50, 100)


class Metrics:
    """All series of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "envoy_waf_requests",
            "HTTP requests by verdict (pass, deny, drop, redirect, detected, refused_by_envoy), phase and status",
            ["verdict", "phase", "status"],
            registry=self.registry,
        )
        self.rule_hits = Counter("envoy_waf_rule_hits", "Matches by rule id", ["id"], registry=self.registry)
        self.processing = Histogram(
            "envoy_waf_processing_seconds",
            "Time spent in the engine for one request, all phases",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.score = Histogram(
            "envoy_waf_anomaly_score", "Anomaly score of a request", buckets=_SCORES, registry=self.registry
        )
        self.in_flight = Gauge("envoy_waf_streams_in_flight", "Streams open now", registry=self.registry)
        self.stream_errors = Counter(
            "envoy_waf_stream_errors",
            "Streams that ended wrongly: engine (failed closed), protocol, cancelled, overload",
            ["kind"],
            registry=self.registry,
        )
        self.limits = Counter(
            "envoy_waf_limits", "Requests that ran into a limit, by limit", ["limit"], registry=self.registry
        )
        self.uninspected = Counter(
            "envoy_waf_bodies_uninspected",
            "Bodies that were passed unseen: upgrade, connect, grpc, rules (no rule needs it), partial",
            ["reason"],
            registry=self.registry,
        )
        self.body_bytes = Counter("envoy_waf_body_bytes", "Body bytes inspected", ["direction"], registry=self.registry)
        self.store_errors = Counter(
            "envoy_waf_store_errors", "Requests judged or refused without their Redis records", registry=self.registry
        )
        self.build = Gauge(
            "envoy_waf_build_info",
            "Constant 1; the labels tell what runs",
            ["version", "ruleset", "ruleset_version", "python"],
            registry=self.registry,
        )
        self.reloads = Counter(
            "envoy_waf_reloads", "Reloads of the rules, ok or failed", ["result"], registry=self.registry
        )
        self.generation = Gauge(
            "envoy_waf_rules_generation", "Counts the rule sets served since the start", registry=self.registry
        )
        self.rules = Gauge("envoy_waf_rules", "Rules loaded", registry=self.registry)
        self._rule_ids: set[int] = set()
        self._scan: _ScanCollector | None = None

    def serve(self, waf: WAF, info: RuleSetInfo, generation: int) -> None:
        """Tell what is served from now on."""
        self.build.clear()
        self.build.labels(__version__, info.name, info.version, platform.python_version()).set(1)
        self.rules.set(len(waf.program.units))
        self.generation.set(generation)
        if self._scan is None:
            self._scan = _ScanCollector(waf)
            self.registry.register(self._scan)
        else:
            self._scan.serve(waf)

    def hit(self, rule_id: int) -> None:
        """Count a match, within the bound on series."""
        if rule_id not in self._rule_ids:
            if len(self._rule_ids) >= MAX_RULE_SERIES:
                self.rule_hits.labels("other").inc()
                return
            self._rule_ids.add(rule_id)
        self.rule_hits.labels(str(rule_id)).inc()


class _ScanCollector(Collector):
    """The engine's own counters, read when scraped."""

    def __init__(self, waf: WAF) -> None:
        self._waf = waf
        self._scans = self._failures = 0

    def serve(self, waf: WAF) -> None:
        """Go on counting with another program."""
        self._scans += self._waf.program.statistics.scans
        self._failures += self._waf.program.statistics.set_failures
        self._waf = waf

    def collect(self) -> list[CounterMetricFamily]:
        statistics = self._waf.program.statistics
        return [
            CounterMetricFamily(
                "envoy_waf_scans",
                "Values scanned because they were not remembered",
                value=self._scans + statistics.scans,
            ),
            CounterMetricFamily(
                "envoy_waf_scan_fallbacks",
                "Values whose automaton ran out of memory: judged by the slow, exact path",
                value=self._failures + statistics.set_failures,
            ),
        ]
