"""`python -m bench scale`: processes, workers, growth, memory, start-up.

processes   transactions a second of one and of two engine processes, nothing else running
workers     requests a second with one and with two workers behind Envoy (bench/workers.py)
growth      time of a transaction against body size, number of arguments and number of rules; docs/growth.png
memory      resident bytes of one engine after 10^4 and 10^5 varied transactions
start-up    from the command to /readyz, with an empty and with a warm cache of databases
"""

from __future__ import annotations

import compileall
import multiprocessing
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.cases import CASES, Request, browser_get, form, json_body
from bench.engines import Ours, required_crs
from bench.envoy import await_databases
from bench.fresh import in_fresh_process
from bench.report import MEMORY_BOUND_MB, resident_mb, table, verdict
from bench.workers import behind_envoy, shown
from demo.stack import PROJECT, Process, free_port
from tests.waiting import eventually
from waf_core import WAF
from waf_core.memory import keep

SECONDS = 4.0
TRANSACTIONS = 100_000
GROWTH = PROJECT / "docs" / "growth.png"


def _work(barrier: Any, results: Any, seed: int) -> None:
    engine = Ours(required_crs(), 1)
    rng = random.Random(seed)
    requests = [browser_get(rng) for _ in range(2000)]
    for request in requests[:200]:
        engine.run(request)
    barrier.wait()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        engine.run(requests[count % len(requests)])
        count += 1
    results.put(count / (time.perf_counter() - start))


def processes(number: int) -> float:
    """Transactions a second of so many processes together."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(number), context.Queue()
    children = [context.Process(target=_work, args=(barrier, results, seed)) for seed in range(number)]
    for child in children:
        child.start()
    total = sum(float(results.get()) for _ in children)
    for child in children:
        child.join()
    return total


def _milliseconds(engine: Any, make: Any, count: int = 12) -> float:
    rng = random.Random(3)
    engine.run(make(rng))
    requests = [make(rng) for _ in range(count)]
    start = time.process_time()
    for request in requests:
        engine.run(request)
    return (time.process_time() - start) / count * 1000


def _arguments(number: int) -> Any:
    def make(rng: random.Random) -> Request:
        request = browser_get(rng)
        request.uri = "/s?" + "&".join(f"f{i}=v{rng.randrange(10**6)}x" for i in range(number))
        return request

    return make


def growth() -> dict[str, list[tuple[float, float]]]:
    """(x, ms) of each curve."""
    engine = Ours(required_crs(), 1)
    curves: dict[str, list[tuple[float, float]]] = {}
    # Of 25 kB on they have more values than SecArgumentsLimit, and are refused.
    curves["JSON body, kB"] = [(k, _milliseconds(engine, json_body(k * 1000))) for k in (1, 2, 5, 10, 15, 20)]
    curves["arguments"] = [(n, _milliseconds(engine, _arguments(n))) for n in (1, 10, 50, 100, 200, 500, 1000)]
    rules = []
    for number in (10, 100, 500, 1000, 2000):
        text = "SecRuleEngine On\nSecRequestBodyAccess On\n" + "\n".join(
            f'SecRule ARGS|REQUEST_HEADERS "@rx (?i)word{i}[a-z]+x{i}" "id:{i + 1},phase:2,deny"' for i in range(number)
        )
        own = Ours.__new__(Ours)
        own.waf = WAF.from_directives(text)
        keep()
        rules.append((float(number), _milliseconds(own, form)))
    curves["rules of one's own (RE2 alone)"] = rules
    return curves


def draw(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(4 * len(curves), 3.2), layout="constrained")
    for axis, (name, points) in zip(axes, curves.items(), strict=True):
        axis.plot(*zip(*points, strict=True), marker="o")
        axis.set_xlabel(name)
        axis.set_ylabel("CPU of a transaction, ms")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def _resident() -> list[tuple[int, float]]:
    """(transactions, resident MB)."""
    engine = Ours(required_crs(), 1)
    rng = random.Random(9)
    makers = [CASES[name] for name in ("browser GET", "browser GET", "form", "GraphQL", "SQLi GET")]
    found: list[tuple[int, float]] = []
    for number in range(1, TRANSACTIONS + 1):
        engine.run(rng.choice(makers)(rng))
        if number in (TRANSACTIONS // 10, TRANSACTIONS // 2, TRANSACTIONS):
            found.append((number, resident_mb()))
    return found


def start_up(cache: Path) -> tuple[float, float]:
    """With this Python: seconds from the command to readiness, and the worker's resident MB when its databases serve,
    too."""
    port, admin = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "extproc.cli", "serve", "--listen", f"127.0.0.1:{port}",
            "--admin", f"127.0.0.1:{admin}", "--crs-root", str(required_crs()),
        ]  # fmt: skip
        start = time.perf_counter()
        process = Process("sidecar", command, Path(folder), {"ENVOY_WAF_CACHE_DIR": str(cache)})
        process.wait_for(f"http://127.0.0.1:{admin}/readyz")
        seconds = time.perf_counter() - start
        await_databases(admin)
        # It says so when it has given back what it served with meanwhile.
        eventually(lambda: "Hyperscan databases loaded" in process.text())
        resident = resident_mb(process.child.pid)
        process.stop()
    return seconds, resident


def run() -> dict[str, Any]:
    one, two = processes(1), processes(2)
    print(table(["processes", "", "transactions/s", "bound 1.8 x"], [
        ["1", "", f"{one:.0f}", ""], ["2", "", f"{two:.0f}", f"{two / one:.2f} {verdict(two >= 1.8 * one)}"],
    ]))  # fmt: skip
    workers = behind_envoy()
    print("\n" + shown(workers))
    found = in_fresh_process(_resident)
    rows = [[str(n), "", f"{mb:.0f}", verdict(mb <= MEMORY_BOUND_MB)] for n, mb in found]
    print("\n" + table(["transactions", "", "resident MB", f"bound {MEMORY_BOUND_MB} MB"], rows))
    # As pip leaves an installed package; this shell may say PYTHONDONTWRITEBYTECODE.
    for package in ("waf_core", "extproc"):
        compileall.compile_dir(PROJECT / package, quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = start_up(Path(folder)), start_up(Path(folder))
    rows = []
    for name, (seconds, resident), bound in (("cold", cold, 10), ("warm", warm, 2)):
        rows.append([f"{name} cache: ready", "", f"{seconds:.1f} s", f"{bound} s {verdict(seconds <= bound)}"])
        rows.append(
            ["  resident", "", f"{resident:.0f} MB", f"{MEMORY_BOUND_MB} MB {verdict(resident <= MEMORY_BOUND_MB)}"]
        )
    print("\n" + table(["start-up", "", "", "bound"], rows))
    curves = growth()
    draw(curves, GROWTH)
    for name, points in curves.items():
        print(f"\n{name}: " + ", ".join(f"{x:g}: {ms:.2f} ms" for x, ms in points))
    print(f"drawn in {GROWTH}")
    return {
        "scale": {
            "processes": [one, two],
            "workers": workers,
            "memory": found,
            "cold": cold,
            "warm": warm,
            "growth": curves,
        }
    }
