"""Log lines: who writes them never keeps anybody waiting."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import grpc
import httpx
import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse

from demo.stack import free_port
from extproc.line_queue import LineQueue
from extproc.service import METHOD
from tests.asking import is_ready
from tests.sidecar.messages import request_headers
from tests.waiting import eventually

ATTACKS = 300
"""Their lines are several times what a pipe takes."""


def test_lines_are_written_in_order_and_all_of_them() -> None:
    written: list[str] = []
    queue = LineQueue("test", 10_000, 1 << 20, written.extend, lambda why: written.append(why))
    lines = [str(number) for number in range(1000)]
    for line in lines:
        queue.put(line)
    assert queue.close(5) == 0
    assert written == lines


@pytest.mark.parametrize(("lines", "size", "why"), [(3, 1000, "3 lines wait"), (100, 30, "30 characters wait")])
def test_what_does_not_fit_is_told_and_nobody_waits(lines: int, size: int, why: str) -> None:
    read = threading.Event()
    written: list[str] = []
    lost: list[str] = []

    def write(batch: list[str]) -> None:
        read.wait(10)
        written.extend(batch)

    queue = LineQueue("test", lines, size, write, lost.append)
    for number in range(5):
        queue.put(f"line {number:05}")
    assert len(lost) == 2
    assert why in lost[0]
    assert queue.close(0.01) == 3
    read.set()
    assert eventually(lambda: written == ["line 00000", "line 00001", "line 00002"])


def test_lines_begin_with_when_and_what() -> None:
    code = "import structlog, extproc.log; extproc.log.configure('info', 'json'); "
    code += "structlog.get_logger().warning('request blocked', status=403, action='deny')"
    line = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert list(json.loads(line)) == ["timestamp", "level", "event", "status", "action"]


class Sidecar:
    """`envoy-waf serve` with this standard output."""

    def __init__(self, stdout: int | IO[bytes], folder: Path) -> None:
        self.listen, self.port = f"127.0.0.1:{free_port()}", free_port()
        rules = folder / "own.conf"
        rules.write_text('SecRuleEngine On\nSecRule ARGS "@contains evil" "id:1,phase:1,deny,msg:\'%{ARGS.a}\'"\n')
        flags = {"listen": self.listen, "admin": f"127.0.0.1:{self.port}", "rules": str(rules), "data-dir": str(folder)}
        arguments = [word for name, value in flags.items() for word in (f"--{name}", value)]
        self.process = subprocess.Popen([sys.executable, "-m", "extproc.cli", "serve", *arguments], stdout=stdout)

    def __enter__(self) -> Sidecar:
        assert eventually(lambda: is_ready(self.port), 30)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)

    def lost(self) -> float:
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics").text
        (count,) = re.findall(r"^envoy_waf_log_lines_lost_total (\S+)", text, re.MULTILINE)
        return float(count)

    def attack(self, times: int) -> list[int]:
        """The statuses of so many attacks, one after the other."""
        found = []
        with grpc.insecure_channel(self.listen) as channel:
            call = channel.stream_stream(
                METHOD.decode(),
                request_serializer=ProcessingRequest.SerializeToString,
                response_deserializer=ProcessingResponse.FromString,
            )
            for _ in range(times):
                (answer,) = call(iter([request_headers("/?a=evil" + "x" * 300)]), timeout=10)
                found.append(answer.immediate_response.status.code)
        return found


@pytest.fixture
def full() -> Iterator[IO[bytes]]:
    """A file on a disk that is full."""
    with Path("/dev/full").open("wb") as file:
        yield file


def test_verdicts_do_not_wait_for_who_reads_the_log(tmp_path: Path) -> None:
    with Sidecar(subprocess.PIPE, tmp_path) as sidecar:
        assert set(sidecar.attack(ATTACKS)) == {403}
        # They have waited; when somebody reads, they come.
        assert sidecar.lost() == 0
        assert sidecar.process.stdout is not None
        lines = [next(sidecar.process.stdout) for _ in range(ATTACKS)]
        assert sum(b"request blocked" in line for line in lines) >= ATTACKS - 10


def test_a_full_disk_costs_log_lines_and_nothing_else(tmp_path: Path, full: IO[bytes]) -> None:
    with Sidecar(full, tmp_path) as sidecar:
        assert set(sidecar.attack(10)) == {403}
        assert eventually(lambda: sidecar.lost() >= 10)
