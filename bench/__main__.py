"""Choose a bench; see bench/__init__.py."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
from pathlib import Path

from bench.report import machine
from tests import compiled

BENCHES = {
    "engine": "libmodsecurity", "agreement": "libmodsecurity", "server": "httpx", "envoy": "httpx",
    "hostile": "libmodsecurity", "neighbour": "httpx", "bodies": "httpx", "scale": "matplotlib", "instructions": "",
}  # fmt: skip
"""What each imports beside the package: the peer, the client, what draws; its extra `bench` has them."""

ASKED_FOR = ("instructions",)
"""They need what pip does not install."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "bench", nargs="*", metavar="BENCH", help=f"{', '.join(BENCHES)}; default: all but {', '.join(ASKED_FOR)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    complaint = compiled.complaint()
    if complaint:
        parser.error(complaint)
    found = {"machine": machine()}
    print("machine:", ", ".join(f"{k} {v}" for k, v in found["machine"].items()))
    unknown = set(arguments.bench) - BENCHES.keys()
    if unknown:
        parser.error(f"unknown bench {unknown.pop()!r}; known are {', '.join(BENCHES)}")
    chosen = arguments.bench or [name for name in BENCHES if name not in ASKED_FOR]
    for name in chosen:
        if BENCHES[name] and importlib.util.find_spec(BENCHES[name]) is None:
            parser.error(f"{name} needs {BENCHES[name]}: pip install -e '.[bench]', or `make bench`")
    for name in chosen:
        print(f"\n== {name}")
        found.update(importlib.import_module(f"bench.{name}").run())
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
