"""`python -m tests.conformance`: every CRS regression test, in this process."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from extproc.ftw.tests import Case, load_cases, read_expectation
from tests.conformance.engine import make_waf, run_case
from tests.crs import find_crs

EXCEPTIONS = Path(__file__).with_name("exceptions.yaml")


def load_exceptions(path: Path = EXCEPTIONS) -> dict[str, dict[str, Any]]:
    """Test name -> `reason`, and the `output` that is expected instead; without one: skipped."""
    return dict(yaml.safe_load(path.read_text("utf-8")) or {})


def amend(case: Case, exceptions: dict[str, dict[str, Any]]) -> bool:
    """Put the expectation of an exception in place; False when the case has to be skipped."""
    entry = exceptions.get(case.name)
    if entry is None:
        return True
    if "output" not in entry:
        return False
    case.stages[-1].expectation = read_expectation(entry["output"])
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="rule id or test name; default: all")
    parser.add_argument("--verbose", action="store_true", help="say what each failing test lacks")
    arguments = parser.parse_args()
    root = find_crs()
    if root is None:
        print("no Core Rule Set found: run `envoy-waf crs install`, or set CRS_ROOT", file=sys.stderr)
        return 2
    waf = make_waf(root)
    exceptions = load_exceptions()
    passed, failed, skipped = 0, [], []
    start = time.monotonic()
    for case in load_cases(root / "tests" / "regression" / "tests"):
        if arguments.only and not any(case.name == o or case.name.startswith(f"{o}-") for o in arguments.only):
            continue
        if not amend(case, exceptions):
            skipped.append(case.name)
            continue
        found = run_case(waf, case)
        if found:
            failed.append(case.name)
            if arguments.verbose:
                print(f"{case.name}: {'; '.join(found)} -- {case.description[:100]}")
        else:
            passed += 1
    for name in skipped:
        print(f"skipped {name}: {exceptions[name]['reason']}")
    if failed:
        print("failing:", " ".join(failed))
    print(
        f"ftw engine: passed {passed}, failed {len(failed)}, skipped {len(skipped)}  ({time.monotonic() - start:.1f} s)"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
