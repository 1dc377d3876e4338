"""`python -m tests.conformance.envoy`: every CRS regression test through the real Envoy.

Each request goes over TCP as go-ftw would send it; what the rules said is read from the sidecar's
own log, by request id.  Envoy changes and refuses some requests before any filter sees them: those
tests are in exceptions-envoy.yaml, each with what Envoy did.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from demo.stack import Stack, http_manager
from extproc.ftw.tests import Case, load_cases
from tests.conformance.__main__ import amend, load_exceptions
from tests.conformance.engine import SETUP, Outcome, complaints
from tests.crs import find_crs

EXCEPTIONS = Path(__file__).with_name("exceptions-envoy.yaml")
CONNECTIONS = 8
ANSWER_SECONDS = 20.0
LATE = 504
"""Envoy's status when the sidecar does not answer within message_timeout."""
MARK = "SecAction \"id:77,phase:5,pass,log,msg:'end'\""


def edit(config: dict[str, Any], stack: Stack) -> None:
    """Keep our request ids; otherwise the configuration is the one we recommend."""
    manager = http_manager(config)
    manager["preserve_external_request_id"] = True
    manager["stream_idle_timeout"] = "30s"
    manager.pop("access_log")


async def exchange(port: int, raw: bytes, request_id: str) -> int:
    """Send one request with its id in it; the status of the answer, 0 when there was none."""
    head, blank, body = raw.partition(b"\r\n\r\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head + b"\r\nx-request-id: " + request_id.encode() + blank + body)
        await writer.drain()
        line = await asyncio.wait_for(reader.readline(), ANSWER_SECONDS)
        found = re.match(rb"HTTP/1\.[01] (\d{3})", line)
        # A connection that Envoy closes without a word is a refusal too.
        return int(found.group(1)) if found else 400
    except OSError:
        return 400
    except TimeoutError:
        return 0
    finally:
        writer.close()


async def send_all(port: int, cases: list[Case]) -> dict[str, int]:
    """Statuses by request id."""
    statuses: dict[str, int] = {}
    gate = asyncio.Semaphore(CONNECTIONS)

    async def one(case: Case) -> None:
        async with gate:
            for number, stage in enumerate(case.stages):
                name = f"{case.name}.{number}"
                status = await exchange(port, stage.raw, name)
                # The machine was busy with other things for as long as Envoy waits: what hangs hangs again.
                statuses[name] = status if status != LATE else await exchange(port, stage.raw, name)

    await asyncio.gather(*(one(case) for case in cases))
    return statuses


def read_log(text: str) -> dict[str, dict[str, Any]]:
    """The sidecar's events by request id."""
    events = {}
    for line in text.splitlines():
        if '"transaction_id"' in line:
            event = json.loads(line)
            events[event["transaction_id"]] = event
    return events


def outcome(status: int, event: dict[str, Any] | None) -> Outcome:
    rules = [rule for rule in (event or {}).get("rules", []) if rule["id"] != 77]
    # One line a rule, as in an error log.
    log = "\n".join(repr(f'[id "{r["id"]}"] [msg "{r["msg"]}"] [data "{r.get("data", "")}"] {r["on"]}') for r in rules)
    return Outcome(status, [rule["id"] for rule in rules], log)


def run(cases: list[Case], root: Path, bootstrap: str) -> dict[str, tuple[list[str], str]]:
    """Failing case -> what differs, and what Envoy did."""
    failed: dict[str, tuple[list[str], str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.conf"
        rules.write_text(SETUP.format(root=root, before="") + MARK)
        settings = {"rules": [str(rules)], "logged_rules": 4096}
        with Stack(bootstrap, crs=root, settings=settings, edit=edit) as stack:
            statuses = asyncio.run(send_all(stack.port, cases))
            time.sleep(1.0)
            events = read_log(stack.sidecar.text())
    for case in cases:
        for number, stage in enumerate(case.stages):
            name = f"{case.name}.{number}"
            event = events.get(name)
            found = complaints(outcome(statuses[name], event), stage.expectation)
            if found:
                reached = "reached the sidecar" if event else "never reached the sidecar"
                failed[case.name] = (found, f"Envoy answered {statuses[name]}, {reached}")
                break
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="rule id or test name; default: all")
    parser.add_argument("--bootstrap", default="buffered", help="a bootstrap of deploy/envoy")
    parser.add_argument("--raw", action="store_true", help="ignore the exceptions")
    arguments = parser.parse_args()
    root = find_crs()
    if root is None:
        print("no Core Rule Set found: run `envoy-waf crs install`, or set CRS_ROOT", file=sys.stderr)
        return 2
    exceptions = {} if arguments.raw else load_exceptions(EXCEPTIONS)
    cases = [
        case
        for case in load_cases(root / "tests" / "regression" / "tests")
        if not arguments.only or any(case.name == o or case.name.startswith(f"{o}-") for o in arguments.only)
    ]
    chosen = [case for case in cases if amend(case, exceptions)]
    start = time.monotonic()
    failed = run(chosen, root, arguments.bootstrap)
    for name, (found, envoy) in failed.items():
        print(f"{name}: {'; '.join(found)} ({envoy})")
    skipped = len(cases) - len(chosen)
    print(
        f"ftw envoy: passed {len(chosen) - len(failed)}, failed {len(failed)}, skipped {skipped}"
        f"  ({time.monotonic() - start:.1f} s)"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
