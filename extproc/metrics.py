"""Prometheus metrics of the sidecar.  Names and units follow Prometheus's conventions."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from extproc import __version__

if TYPE_CHECKING:
    from extproc.policies import PolicySet
    from waf_core.scan.limits import ScanStatistics

MAX_RULE_SERIES = 2000
"""Rule ids that get a series of their own; hits of further ids count as id="other"."""

MAX_FAMILIES = 100

RELOADS = ("envoy_waf_reloads", "Reloads of the rules, ok or failed")
"""Counted by workers that take rules, and by a supervisor that refuses them for all."""

_JUDGING = range(1, 5)
"""Phases whose time is told."""

_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SCORES = (0, 2, 4, 5, 7, 10, 15, 20, 30, 50, 100)


class OfPolicy(NamedTuple):
    """Series of one policy that nearly every request counts in."""

    passed: Counter
    processing: Histogram
    score: Histogram


class Metrics:
    """All series of one process.

    With PROMETHEUS_MULTIPROC_DIR set (by the supervisor, before this module is imported) the values live in
    files there, and the supervisor's admin server adds them up.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(f"envoy_waf_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
            return Histogram(f"envoy_waf_{name}", text, labels, buckets=buckets, registry=self.registry)

        self.requests = counter(
            "requests",
            "HTTP requests by policy, verdict (pass, deny, drop, redirect, detected, cancelled, refused_by_envoy,"
            " failed), phase, status",
            ["policy", "verdict", "phase", "status"],
        )
        self.rule_hits = counter("rule_hits", "Matches by rule id", ["id"])
        self.tag_hits = counter("tag_hits", "Matches by family of attack (tag attack-...)", ["family"])
        self._processing = histogram(
            "processing_seconds", "Time spent in the engine for one request, all phases", _SECONDS, ["policy"]
        )
        phases = histogram("phase_seconds", "Time spent in one phase of one request", _SECONDS, ["phase"])
        self.phases = {phase: phases.labels(str(phase)) for phase in _JUDGING}
        self._score = histogram("anomaly_score", "Anomaly score of a request", _SCORES, ["policy"])
        self.in_flight = Gauge(
            "envoy_waf_streams_in_flight", "Streams open now", registry=self.registry, multiprocess_mode="livesum"
        )
        self.stream_errors = counter(
            "stream_errors",
            "Streams that ended wrongly: engine (failed closed), protocol, cancelled, overload, memory, connection",
            ["kind"],
        )
        self.attributes_missing = counter(
            "attributes_missing",
            "Requests that came without an attribute that the policies need (request_attributes of Envoy's filter)",
            ["name"],
        )
        self.limits = counter("limits", "Requests that ran into a limit, by limit", ["limit"])
        self.uninspected = counter(
            "bodies_uninspected",
            "Bodies passed unseen: upgrade, connect, grpc, rules (none needs it), mode (Envoy shows none), "
            "encoded (compressed), partial, unparsed (a request's of a type that has no body processor)",
            ["reason"],
        )
        self.body_bytes = counter("body_bytes", "Body bytes inspected", ["direction"])
        self.truncated = counter("bodies_truncated", "Bodies cut at their limit", ["direction"])
        self.store_errors = counter("store_errors", "Requests judged or refused without their Redis records")
        self.shadow = counter(
            "shadow_verdicts",
            "Requests that a shadow policy judged too, by both verdicts (pass, block; skipped: too much waited)",
            ["policy", "shadow", "live", "candidate"],
        )
        self.audit_dropped = counter("audit_records_dropped", "Audit records that were lost: queue full, or not taken")
        self.log_lost = counter("log_lines_lost", "Log lines that standard output did not take: not read, or disk full")
        self.reloads = Counter(*RELOADS, ["result"], registry=self.registry)
        self.scans = counter("scans", "Values scanned because they were not remembered")
        self.scan_fallbacks = counter(
            "scan_fallbacks", "Values whose automaton ran out of memory: judged by the slow, exact path"
        )
        self.build = Gauge(
            "envoy_waf_build_info",
            "Constant 1; the labels tell what runs",
            ["version", "ruleset", "ruleset_version", "python"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.generation = Gauge(
            "envoy_waf_rules_generation",
            "Counts the rule sets served since the start",
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self.rules = Gauge(
            "envoy_waf_rules",
            "Rules loaded, by policy",
            ["policy"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self._of_policies: dict[str, OfPolicy] = {}
        self._of_rules: dict[int, Counter] = {}
        self._of_families: dict[str, Counter] = {}

    def serve(self, policies: PolicySet, generation: int) -> None:
        """Tell what is served from now on."""
        info = policies.default.info
        self.build.labels(__version__, info.name, info.version, platform.python_version()).set(1)
        for policy in policies.policies:
            self.rules.labels(policy.name).set(len(policy.waf.program.units))
        self.generation.set(generation)

    def of_policy(self, name: str) -> OfPolicy:
        """Looked up once for each policy: to find a series by its labels takes a microsecond."""
        known = self._of_policies.get(name)
        if known is None:
            passed = self.requests.labels(name, "pass", "", "")
            known = OfPolicy(passed, self._processing.labels(name), self._score.labels(name))
            self._of_policies[name] = known
        return known

    def count_scans(self, statistics: ScanStatistics) -> None:
        """Take over what a program's scanner has counted since the last time."""
        scans, failures = statistics.take()
        if scans:
            self.scans.inc(scans)
        if failures:
            self.scan_fallbacks.inc(failures)

    def family(self, tags: Sequence[str]) -> None:
        """Count a match for its families of attack."""
        for tag in tags:
            if tag.startswith("attack-"):
                series = self._of_families.get(tag)
                if series is None:
                    if len(self._of_families) >= MAX_FAMILIES:
                        continue
                    series = self._of_families[tag] = self.tag_hits.labels(tag[7:])
                series.inc()

    def hit(self, rule_id: int) -> None:
        """Count a match, within the bound on series."""
        series = self._of_rules.get(rule_id)
        if series is None:
            if len(self._of_rules) >= MAX_RULE_SERIES:
                self.rule_hits.labels("other").inc()
                return
            series = self._of_rules[rule_id] = self.rule_hits.labels(str(rule_id))
        series.inc()
