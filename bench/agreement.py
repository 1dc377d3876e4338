"""`python -m bench agreement`: the regression tests of the Core Rule Set, put to libmodsecurity and to ours.

How many pass, and how often both say that the same rules have matched.  Of libmodsecurity what it logs is taken, so
rules that log nothing do not count, nor those that add up what others found; requests that no server lets pass reach
neither.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import waf_core.baseline
from bench.engines import peer_rules, required_crs
from bench.report import table
from extproc.ftw.run import Outcome, complaints, reflect, refused, run_stage
from extproc.ftw.tests import Stage, load_cases
from extproc.requests.message import split_request
from tests.conformance.engine import SETUP, make_waf

SHOWN = 12
"""Rules about which the engines differ most."""

ADDING_UP = range(949_000, 1_000_000)
"""CRS's evaluation and reporting rules."""

_ID = re.compile(r'\[id "(\d+)"\]')


class Peer:
    """libmodsecurity with the set-up of CRS's own tests."""

    def __init__(self, root: Path) -> None:
        import libmodsecurity

        self._log: list[str] = []
        self._engine: Any = libmodsecurity.ModSecurity()
        self._engine.set_log_callback(lambda *parts: self._log.append(" ".join(map(str, parts))))
        recommended = Path(waf_core.baseline.__file__).with_name("recommended.conf")
        text = SETUP.format(root=root, before="").replace("@recommended", str(recommended))
        self._rules: Any = peer_rules(root, text)

    def judge(self, stage: Stage) -> Outcome:
        """One request through all phases."""
        method, uri, version, headers, body = split_request(stage.raw)
        status, response_headers, response = reflect(uri, body)
        self._log.clear()
        with self._engine.transaction(self._rules) as tx:
            tx.process_connection("127.0.0.1", 40000, "127.0.0.1", 80)
            tx.process_uri(_text(uri), _text(method), _text(version).removeprefix("HTTP/"))
            for name, value in headers:
                tx.add_request_header(_text(name), _text(value))
            tx.process_request_headers()
            if body:
                tx.append_request_body(body)
            tx.process_request_body()
            for header, content in response_headers.items():
                tx.add_response_header(header, content)
            tx.process_response_headers(status, "HTTP/1.1")
            if response:
                tx.append_response_body(response)
            tx.process_response_body()
            tx.process_logging()
        log = "\n".join(self._log)
        return Outcome(status, [int(number) for number in _ID.findall(log)], log)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def quiet_libxml() -> Iterator[None]:
    """libmodsecurity's XML parser complains on standard error of each body that is no XML."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def run() -> dict[str, Any]:
    root = required_crs()
    tests = root / "tests" / "regression" / "tests"
    if not tests.is_dir():
        raise SystemExit(f"{root} has no regression tests: set CRS_ROOT to a copy that has")
    waf, peer = make_waf(root), Peer(root)
    silent = {unit.info.id for unit in waf.program.units if not unit.log} | set(ADDING_UP)
    of_body = {
        unit.info.id
        for unit in waf.program.units
        if any(target.variable.name == "REQUEST_BODY" for link in unit.links for target in link.targets)
    }
    passed: Counter[str] = Counter()
    cases = requests = alike = but_for_body = 0
    alone: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    with quiet_libxml():
        for case in load_cases(tests):
            cases += 1
            complaining: set[str] = set()
            for stage in case.stages:
                mine, _ = run_stage(waf, stage)
                theirs = mine if refused(stage) else peer.judge(stage)
                requests += 1
                ours_only, theirs_only = set(mine.ids) - set(theirs.ids), set(theirs.ids) - set(mine.ids)
                alone[0].update(ours_only - silent)
                alone[1].update(theirs_only - silent)
                differing = (ours_only | theirs_only) - silent
                alike += not differing
                but_for_body += not differing - of_body
                for name, outcome in (("envoy-waf", mine), ("libmodsecurity", theirs)):
                    if complaints(outcome, stage.expectation):
                        complaining.add(name)
            passed.update({"envoy-waf", "libmodsecurity"} - complaining)
    print(table(["engine", "tests passed", "of"], [[name, str(passed[name]), str(cases)] for name in sorted(passed)]))
    print(f"\n{alike} of {requests} requests: the same rules matched; {but_for_body} but for rules that look at")
    print(
        "REQUEST_BODY, which libmodsecurity has for bodies of all kinds, ModSecurity v2, Coraza and ours for forms.\n"
    )
    most = (alone[0] + alone[1]).most_common(SHOWN)
    rows = [[str(number), str(alone[0][number]), str(alone[1][number])] for number, _ in most]
    print(table(["rule", "envoy-waf alone", "libmodsecurity alone"], rows))
    return {
        "agreement": {
            "tests": cases, "passed": dict(passed), "requests": requests, "alike": alike, "but_for_body": but_for_body
        }
    }  # fmt: skip
