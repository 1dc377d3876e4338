"""`python -m bench neighbour`: what small requests feel while one client sends the worst without pause.

Through the real Envoy, one worker: p99 of small GETs alone, beside hostile bodies, and beside 10 MB uploads;
the same without a filter and with a server that does nothing, since the load generator, Envoy and the upstreams
share the cores.  In life the neighbour, and the server that its uploads are for, are other machines: here they are
processes of their own that get what the others leave (nice), so that what small requests feel is Envoy's and the
sidecar's doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx

from bench.cases import browser_get
from bench.disturb import KINDS
from bench.envoy import await_databases, quiet, spare_collector, start_noop, without_filter
from bench.hostile import PATH
from bench.report import p99, table, verdict
from demo.stack import Process, Stack, endpoint, free_port, http_manager
from tests.crs import find_crs

SECONDS = 8.0
PAUSE = 0.02
BOUND = 3.0
SERVERS = {
    "no filter": "buffered", "no-op": "buffered", "envoy-waf": "buffered", "envoy-waf, full duplex": "full-duplex"
}  # fmt: skip
"""Server -> the bootstrap of deploy/envoy.  Buffered, Envoy sends a body of 10 MB as one message; in full duplex it
comes in pieces."""
ASIDE = ("nice", "-n", "19", sys.executable, "-m")
"""How the neighbour and its upstream run."""


@contextlib.contextmanager
def disturbed(url: str, kind: str | None) -> Iterator[None]:
    """A neighbour (bench/disturb.py) is at work."""
    if kind is None:
        yield
        return
    with subprocess.Popen([*ASIDE, "bench.disturb", url, kind], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(1)
            yield
            if child.poll() is not None:
                raise SystemExit(f"the neighbour has ended with {child.returncode}: nothing was measured")
        finally:
            child.kill()


def _apart(config: dict[str, Any], port: int) -> None:
    """What the neighbour sends goes to an upstream of its own."""
    cluster = copy.deepcopy(config["static_resources"]["clusters"][0])
    cluster["name"] = cluster["load_assignment"]["cluster_name"] = "neighbour"
    endpoint(cluster)["socket_address"]["port_value"] = port
    config["static_resources"]["clusters"].append(cluster)
    routes = http_manager(config)["route_config"]["virtual_hosts"][0]["routes"]
    routes.insert(0, {"match": {"path": PATH}, "route": {"cluster": "neighbour", "timeout": "0s"}})


async def measure(url: str) -> list[float]:
    """Latencies in ms of small GETs."""
    latencies: list[float] = []
    rng = random.Random(5)
    async with httpx.AsyncClient(timeout=60) as client:
        deadline = time.perf_counter() + SECONDS
        while time.perf_counter() < deadline:
            request = browser_get(rng)
            start = time.perf_counter()
            await client.get(url + request.uri, headers=request.headers)
            latencies.append((time.perf_counter() - start) * 1000)
            await asyncio.sleep(PAUSE)
    return sorted(latencies)


def run() -> dict[str, Any]:
    rows, results = [], []
    for server, bootstrap in SERVERS.items():
        ours = server.startswith("envoy-waf")
        port = free_port()

        def edit(config: dict[str, Any], stack: Stack, server: str = server, port: int = port) -> None:
            (without_filter if server == "no filter" else quiet)(config, stack)
            _apart(config, port)

        stack = Stack(bootstrap, crs=find_crs(), settings={"log_level": "error"}, edit=edit, sidecar=ours)
        with stack:
            command = [*ASIDE, "demo.upstream", str(port), str(free_port())]
            stack.processes.append(Process("neighbours-upstream", command, stack.folder))
            if server == "no-op":
                start_noop(stack)
            if ours:
                await_databases(stack.admin_port)
            time.sleep(8)
            asyncio.run(measure(stack.url))
            spare_collector()
            base = 0.0
            for neighbour in (None, *KINDS):
                with disturbed(stack.url, neighbour):
                    values = asyncio.run(measure(stack.url))
                name = neighbour or "alone"
                p50, slow = statistics.median(values), p99(values)
                base = base or slow
                ratio = slow / base
                said = "" if neighbour is None else verdict(ratio <= BOUND)
                rows.append([server, name, f"{p50:.1f}", f"{slow:.1f}", f"{ratio:.1f} x", said])
                results.append({"server": server, "neighbour": name, "p50_ms": p50, "p99_ms": slow, "ratio": ratio})
    print(table(["server", "neighbour", "p50 ms", "p99 ms", "p99 against alone", f"bound {BOUND:.0f} x"], rows))
    return {"neighbour": results}
