"""The series of all workers and of their supervisor, added up."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from extproc.metrics import RELOADS


class WorkersMetrics(Collector):
    """What the workers have put into files below `folder` (prometheus-client's multiprocess mode), and counters of the
    supervisor's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = CollectorRegistry()
        self.reloads = Counter(*RELOADS, ["result"], registry=self._own)
        self.restarts = Counter(
            "envoy_waf_worker_restarts",
            "Workers that ended or hung, and were started again",
            registry=self._own,
        )

    def collect(self) -> Iterable[Metric]:
        """Each family once."""
        own = {family.name: family for family in self._own.collect()}
        workers = MultiProcessCollector(None, str(self._folder))  # type: ignore[no-untyped-call]
        for family in workers.collect():  # type: ignore[no-untyped-call]
            yield _sum(family, own.pop(family.name, None))
        yield from own.values()


def _sum(family: Metric, other: Metric | None) -> Metric:
    if other is None:
        return family
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in (*family.samples, *other.samples):
        key = sample.name, tuple(sorted(sample.labels.items()))
        values[key] = values.get(key, 0.0) + sample.value
    total = Metric(family.name, family.documentation, family.type)
    for (name, labels), value in values.items():
        total.add_sample(name, dict(labels), value)
    return total
