"""`python -m bench instructions`: machine instructions of a transaction at paranoia level 1, counted by callgrind.

Time differs by some percent from run to run on a shared machine; what a program does differs by a thousandth.  So this
tells whether a change does what it should.  Lines are those that such requests bring into an empty cache, code and
data: some 35 ns each when others have had the processor.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.cases import CASES, Request
from bench.engines import CACHE, Ours, required_crs
from bench.hostile import GENERATORS
from bench.report import table
from waf_core.compiler import CompileOptions
from waf_core.scan.limits import ScanLimits

LEVEL = 1
HOSTILE = ("random bytes", "attack fragments", "many arguments", "long cookies")
HOSTILE_BYTES = 1000
WARM, COUNTED = 200, 4
"""Requests of a case before counting, and those that are counted."""

CACHES = ("--LL=33554432,16,64", "--I1=32768,8,64", "--D1=32768,8,64")


def run() -> dict[str, Any]:
    for program in ("valgrind", "callgrind_control"):
        if shutil.which(program) is None:
            raise SystemExit(f"no {program} found: install the package valgrind")
    rows: list[list[str]] = []
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for case, instructions, lines in _count(Path(folder) / "callgrind"):
            rows.append([case, "", f"{instructions / 1000:.0f}", str(lines)])
            results.append({"case": case, "instructions": instructions, "lines": lines})
    print(table(["case", "", "thousand instructions", "cache lines"], rows))
    return {"instructions": results}


def _count(out: Path) -> list[tuple[str, float, int]]:
    """(case, instructions of a transaction, cache lines of all that were counted) of each."""
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--cache-sim=yes", *CACHES]
    command += [f"--callgrind-out-file={out}", "--log-file=/dev/null", sys.executable, "-m", __name__]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    assert child.stdin is not None
    assert child.stdout is not None
    found: list[tuple[str, float, int]] = []
    for line in child.stdout:
        _control(child.pid, "--instr=on", "--zero")
        child.stdin.write("go\n")
        child.stdin.flush()
        assert child.stdout.readline() == "done\n", "the child died"
        _control(child.pid, "--dump", "--instr=off")
        totals = _totals(out.with_name(f"{out.name}.{len(found) + 1}"))
        found.append((line.strip(), totals[0] / COUNTED, sum(totals[6:9])))
        child.stdin.write("go\n")
        child.stdin.flush()
    if child.wait() != 0:
        raise SystemExit(f"the counted process ended with {child.returncode}")
    return found


def _control(pid: int, *orders: str) -> None:
    for order in orders:
        subprocess.run(["callgrind_control", order, str(pid)], check=True, capture_output=True)


def _totals(dump: Path) -> list[int]:
    """Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw, of all."""
    with dump.open() as lines:
        return next([int(field) for field in line.split()[1:]] for line in lines if line.startswith("totals:"))


def _hostile(make: Callable[[random.Random, int], Request], rng: random.Random) -> Request:
    return make(rng, HOSTILE_BYTES)


def _child() -> None:
    """Say the name of a case, wait, run it, say so, wait."""
    root = required_crs()
    # Under valgrind all takes ten times as long, and more while it is counted.
    usual = ScanLimits()
    limits = ScanLimits(hyperscan_folder=CACHE, re2_ns=10 * usual.re2_ns, pcre2_ns=10 * usual.pcre2_ns)
    engine = Ours(root, LEVEL, CompileOptions(limits=limits))
    rng = random.Random(7)
    cases = dict(CASES)
    for name in HOSTILE:
        cases[name] = partial(_hostile, GENERATORS[name])
    for name, make in cases.items():
        for _ in range(WARM):
            engine.run(make(rng))
        requests = [make(rng) for _ in range(COUNTED)]
        print(name, flush=True)
        sys.stdin.readline()
        for request in requests:
            engine.run(request)
        print("done", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    _child()
