"""Run one target, or all of them in turn: `python -m fuzz TARGET [--seconds N]`.

What is found on the way is kept in .fuzz/TARGET, where the next run begins; the bytes that broke a promise are in
.fuzz/TARGET-crash-..., and `python -m fuzz TARGET --replay FILE` shows what they do.

The search is guided by the lines that it reaches, which only the sources tell.  With --compiled, what it has kept is
changed at random and given to the modules that mypyc has made of them.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from fuzz import unguided
from fuzz.seeds import SEEDS
from fuzz.targets import TARGETS, load
from tests import compiled

FOLDER = Path(".fuzz")
MAX_BYTES = 4096


def _corpus(name: str) -> Path:
    """Where to begin: the seeds, and what earlier runs have kept."""
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS.get(name, ())):
        (corpus / f"seed-{number}").write_bytes(seed)
    return corpus


def _fuzz(name: str, seconds: int) -> None:
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        raise SystemExit("atheris is not installed: run `make fuzz`, or pip install -e '.[fuzz]'") from None
    corpus = _corpus(name)
    compiled.interpret()
    with atheris.instrument_imports(include=["waf_core", "extproc"]):
        target = load(name)
    options = [f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", f"-artifact_prefix={FOLDER}/{name}-"]
    atheris.Setup([sys.argv[0], *options, "-timeout=10", "-rss_limit_mb=4096", str(corpus)], target)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=list(TARGETS), help="default: all, one after the other")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run the target once, with these bytes")
    parser.add_argument("--compiled", action="store_true", help="search the compiled modules")
    options = parser.parse_args()
    if options.replay is not None:
        if options.target is None:
            parser.error("--replay needs a target")
        load(options.target)(options.replay.read_bytes())
        print("every promise holds")
        return 0
    if options.target is not None:
        if options.compiled:
            crash = FOLDER / f"{options.target}-crash-compiled"
            print(unguided.search(load(options.target), _corpus(options.target), options.seconds, crash), "runs")
        else:
            _fuzz(options.target, options.seconds)
        return 0
    # One process each: the fuzzer ends the process that it ran in.
    failed = []
    for name in TARGETS:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", "fuzz", name, "--seconds", str(options.seconds)]
        command += ["--compiled"] * options.compiled
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print(f"broken: {', '.join(failed)}" if failed else "no target found anything")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
