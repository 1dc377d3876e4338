"""What the dashboard shows: counts over time, the most frequent rules, paths and clients, histograms.

Each worker keeps its own; the supervisor adds them up.  Everything is bounded.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import Any

SLICE_SECONDS = 10
SLICES = 180
"""Half an hour."""

MAX_NAMES = 2000
"""Paths, clients and rules that are counted; when there are more the rare ones are forgotten."""

TOP = 20

_MACRO = re.compile(r"%\{[^}]*\}")

SCORE_BOUNDS = (0, 2, 4, 5, 7, 10, 15, 20, 30, 50, 100)
LATENCY_BOUNDS_MS = (0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class _Top:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, name: str) -> None:
        self.counts[name] += 1
        if len(self.counts) > MAX_NAMES:
            self.counts = Counter(dict(self.counts.most_common(MAX_NAMES // 2)))

    def most(self) -> list[list[Any]]:
        return [[name, count] for name, count in self.counts.most_common(TOP)]


class Summary:
    """Counts of one process."""

    def __init__(self) -> None:
        self._slices: dict[int, list[int]] = {}
        self._rules, self._paths, self._clients = _Top(), _Top(), _Top()
        self._scores = [0] * (len(SCORE_BOUNDS) + 1)
        self._latencies = [0] * (len(LATENCY_BOUNDS_MS) + 1)

    def add(
        self, *, verdict: str, score: int, seconds: float, path: str, client: str, rules: Iterable[tuple[int, str]]
    ) -> None:
        """One request.  `verdict`: as `Stream.outcome`; what failed counts as blocked, too; paths and clients count
        of those, and of what was detected."""
        number = int(time.time()) // SLICE_SECONDS
        counts = self._slices.get(number)
        if counts is None:
            counts = self._slices[number] = [0, 0, 0]
            for old in [n for n in self._slices if n <= number - SLICES]:
                del self._slices[old]
        counts[0] += 1
        self._scores[bisect_left(SCORE_BOUNDS, score)] += 1
        self._latencies[bisect_left(LATENCY_BOUNDS_MS, seconds * 1000)] += 1
        refused = verdict in ("blocked", "failed")
        if not refused and verdict != "detected":
            return
        counts[1 if refused else 2] += 1
        self._paths.add(path[:200])
        self._clients.add(client)
        for number_of, message in rules:
            self._rules.add(f"{number_of} {_MACRO.sub('...', message)[:120]}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "slice_seconds": SLICE_SECONDS,
            "slices": {str(number * SLICE_SECONDS): counts for number, counts in self._slices.items()},
            "rules": self._rules.most(),
            "paths": self._paths.most(),
            "clients": self._clients.most(),
            "score_bounds": list(SCORE_BOUNDS),
            "scores": self._scores,
            "latency_bounds_ms": list(LATENCY_BOUNDS_MS),
            "latencies": self._latencies,
        }


def merge(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The sum of several workers' summaries."""
    total = Summary().to_dict()
    for name in ("rules", "paths", "clients"):
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(dict(part[name]))
        total[name] = [[item, count] for item, count in counts.most_common(TOP)]
    for part in parts:
        for stamp, counts in part["slices"].items():
            known = total["slices"].setdefault(stamp, [0, 0, 0])
            total["slices"][stamp] = [a + b for a, b in zip(known, counts, strict=True)]
        for name in ("scores", "latencies"):
            total[name] = [a + b for a, b in zip(total[name], part[name], strict=True)]
    return total
