"""`python -m bench engine`: CPU time of whole transactions, ours against libmodsecurity.

Rounds are interleaved and every request is new; the figure is the median of the rounds.  Level 4 runs
in detection only, since it takes ordinary requests for attacks and would stop early.
"""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from bench.cases import CASES, Request
from bench.engines import LibModSecurity, Ours, required_crs
from bench.report import bound_text, table

ROUNDS = 5
SECONDS = 0.2
"""CPU time that one engine gets for one case in one round."""

BOUNDS = {
    (1, "browser GET"): 8, (1, "form"): 8, (1, "JSON 2 kB"): 20, (1, "JSON 20 kB"): 20,
    (1, "multipart 50 kB"): 4, (1, "page 100 kB"): 4, (1, "SQLi GET"): 3,
}  # fmt: skip
LEVEL_4_BOUND = 8


def cpu_per_request(engine: Any, make: Any, rng: random.Random) -> float:
    """Seconds of CPU for one request, over as many as fit the time."""
    total, count = 0.0, 0
    while total < SECONDS:
        batch: list[Request] = [make(rng) for _ in range(20)]
        start = time.process_time()
        for request in batch:
            engine.run(request)
        total += time.process_time() - start
        count += len(batch)
    return total / count


def run(levels: tuple[int, ...] = (1, 4)) -> dict[str, Any]:
    root = required_crs()
    rows: list[list[str]] = []
    results: list[dict[str, Any]] = []
    for level in levels:
        engines: list[Ours | LibModSecurity] = [Ours(root, level), LibModSecurity(root, level)]
        for name, make in CASES.items():
            rng = random.Random(1)
            for engine in engines:
                blocked = [engine.run(make(rng)) for _ in range(200 if engine is engines[0] else 5)]
                assert level > 1 or all(blocked) == (name == "SQLi GET"), (engine.name, name, blocked)
            times: list[list[float]] = [[], []]
            for _ in range(ROUNDS):
                for index, engine in enumerate(engines):
                    times[index].append(cpu_per_request(engine, make, rng))
            ours, theirs = (statistics.median(t) * 1e6 for t in times)
            bound = BOUNDS.get((level, name)) if level == 1 else LEVEL_4_BOUND
            rows.append(
                [
                    f"PL{level}",
                    name,
                    f"{ours:.0f}",
                    f"{theirs:.0f}",
                    f"1/{theirs / ours:.1f}",
                    bound_text(theirs / ours, bound),
                ]
            )
            results.append(
                {
                    "level": level,
                    "case": name,
                    "ours_us": ours,
                    "libmodsecurity_us": theirs,
                    "ratio": theirs / ours,
                    "bound": bound,
                }
            )
    print(table(["level", "case", "envoy-waf us", "libmodsecurity us", "ratio", "bound"], rows))
    return {"engine": results}
