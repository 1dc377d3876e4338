"""Choose a bench; see bench/__init__.py."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
from pathlib import Path

from bench.report import machine

NEEDED = {
    "engine": "libmodsecurity", "hostile": "libmodsecurity", "scale": "matplotlib",
    "server": "httpx", "envoy": "httpx", "neighbour": "httpx",
}  # fmt: skip
"""What benches import beside the package: the peer, what draws, the client; its extra `bench` has them."""

BENCHES = ("engine", "server", "envoy", "hostile", "neighbour", "scale")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("bench", nargs="*", metavar="BENCH", help=f"{', '.join(BENCHES)}; default: all of them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    found = {"machine": machine()}
    print("machine:", ", ".join(f"{k} {v}" for k, v in found["machine"].items()))
    unknown = set(arguments.bench) - set(BENCHES)
    if unknown:
        parser.error(f"unknown bench {unknown.pop()!r}; known are {', '.join(BENCHES)}")
    chosen = arguments.bench or BENCHES
    for name in chosen:
        if name in NEEDED and importlib.util.find_spec(NEEDED[name]) is None:
            parser.error(f"{name} needs {NEEDED[name]}: pip install -e '.[bench]', or `make bench`")
    for name in chosen:
        print(f"\n== {name}")
        found.update(importlib.import_module(f"bench.{name}").run())
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
