"""One and two workers behind the real Envoy, as many requests as go: a part of `python -m bench scale`.

Envoy, the upstream and the load generator need cores, too.  On a machine with few of them two workers take each other's
and the others' time, so the table says how many cores were busy: while that is all of them, requests a second say
nothing about workers, and what counts is that a request costs no more with two.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import time
from functools import partial
from pathlib import Path

import httpx

from bench.cases import browser_get
from bench.envoy import cpu_of, cpu_seconds, path, spare_collector
from bench.report import table
from demo.stack import Stack

WORKERS = (1, 2)
ROUNDS = 10
SECONDS = 1.5
CLIENTS = 16
REQUESTS = 2000

PARTS = ("sidecar", "envoy", "upstream", "generator")
"""Of what there is on the machine; `sidecar` is all workers and their supervisor."""

CHUNKED_END = b"\r\n0\r\n\r\n"


class Client(asyncio.Protocol):
    """Sends its requests in turn, the next one when the answer is there.  httpx would take more of a core than all
    the others together."""

    def __init__(self, requests: list[bytes]) -> None:
        self._requests = requests
        self._answer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.answers = 0
        self.failed = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not _is_whole(self._answer):
            return
        if not self._answer.startswith(b"HTTP/1.1 200 "):
            self.failed = self._answer[:200].decode("latin-1")
            self.stop()
            return
        self._answer.clear()
        self.answers += 1
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Also after `stop`, when nobody looks any more."""
        self.failed = self.failed or f"the connection was closed ({error})"

    def stop(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _send(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._requests[self.answers % len(self._requests)])


def _is_whole(answer: bytearray) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return answer.endswith(CHUNKED_END)


def _requests(rng: random.Random) -> list[bytes]:
    made = []
    for _ in range(REQUESTS // CLIENTS):
        request = browser_get(rng)
        lines = [f"GET {request.uri.replace('/shop', '/hello')} HTTP/1.1", *(f"{k}: {v}" for k, v in request.headers)]
        made.append("\r\n".join([*lines, "", ""]).encode())
    return made


async def _saturate(port: int, requests: list[list[bytes]]) -> int:
    """Answers within SECONDS."""
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(partial(Client, own), "127.0.0.1", port))[1] for own in requests]
    await asyncio.sleep(SECONDS)
    for client in clients:
        client.stop()
        if client.failed:
            raise SystemExit(f"a request was not answered with 200: {client.failed}")
    return sum(client.answers for client in clients)


def _used(stack: Stack) -> dict[str, float]:
    """Seconds of CPU by process name; the workers' are one, the machine's all that was not idle."""
    status = httpx.get(f"http://127.0.0.1:{stack.admin_port}/status").json()
    pids = {status["pid"], *(worker["pid"] for worker in status.get("workers", []))}
    cores = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    idle = cores[3] + cores[4]
    return {
        **cpu_of(stack),
        "sidecar": sum(cpu_seconds(pid) for pid in pids),
        "generator": time.process_time(),
        "machine": (sum(cores) - idle) / os.sysconf("SC_CLK_TCK"),
    }


def behind_envoy() -> dict[int, dict[str, float]]:
    """By the number of workers: requests a second, milliseconds of CPU a request of each part, cores that were busy."""
    found: dict[int, list[dict[str, float]]] = {workers: [] for workers in WORKERS}
    with contextlib.ExitStack() as stacks:
        running = {workers: stacks.enter_context(path("envoy-waf, all phases", workers=workers)) for workers in WORKERS}
        requests = [_requests(random.Random(seed)) for seed in range(CLIENTS)]
        for stack in running.values():
            asyncio.run(_saturate(stack.port, requests))
        spare_collector()
        for turn in range(ROUNDS):
            for workers in WORKERS if turn % 2 else reversed(WORKERS):
                stack = running[workers]
                before, begin = _used(stack), time.perf_counter()
                answers = asyncio.run(_saturate(stack.port, requests))
                seconds = time.perf_counter() - begin
                spent = {name: now - before[name] for name, now in _used(stack).items()}
                each = {name: spent[name] / answers * 1000 for name in PARTS}
                found[workers].append({"rps": answers / seconds, "busy": spent["machine"] / seconds, **each})
    return {
        workers: {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
        for workers, turns in found.items()
    }


def shown(found: dict[int, dict[str, float]]) -> str:
    """As a table."""
    heads = ["workers behind Envoy", "", "requests/s", *(f"{name} CPU ms" for name in PARTS), "cores busy"]
    rows = [
        [str(workers), "", f"{each['rps']:.0f}", *(f"{each[name]:.2f}" for name in PARTS),
         f"{each['busy']:.2f} of {os.cpu_count()}"]
        for workers, each in found.items()
    ]  # fmt: skip
    return table(heads, rows)
