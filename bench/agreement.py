"""`python -m bench agreement`: the regression tests of the Core Rule Set, put to libmodsecurity and to ours, and requests
made at random of what its rules look for.

How many tests pass, and how often both say that the same rules have matched.  Of libmodsecurity what it logs is taken,
so rules that log nothing do not count, nor those that add up what others found; requests that no server lets pass
reach neither.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import waf_core.baseline
from bench.engines import peer_rules, required_crs
from bench.report import table
from extproc.ftw.run import Outcome, complaints, reflect, refused, run_stage
from extproc.ftw.tests import Expectation, Stage, load_cases
from extproc.requests.message import split_request
from tests.conformance.engine import SETUP, make_waf
from tests.core.attacks import patterns_of, request
from waf_core import WAF

SHOWN = 4
"""Rules about which the engines differ most."""

ATTACKS = 3000
"""Requests made at random."""

ADDING_UP = range(949_000, 1_000_000)
"""CRS's evaluation and reporting rules."""

ALIKE = """
Requests for which the same rules matched; but for those that look at REQUEST_BODY, which libmodsecurity has
for bodies of all kinds, ModSecurity v2, Coraza and ours for forms.  The texts of an XML document are one value to
libmodsecurity, and one each to Coraza and ours.
"""

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


class Comparison:
    """What each says of the same requests."""

    def __init__(self, waf: WAF) -> None:
        units = waf.program.units
        self._silent = {unit.info.id for unit in units if not unit.log} | set(ADDING_UP)
        self._of_body = {
            unit.info.id
            for unit in units
            if any(target.variable.name == "REQUEST_BODY" for link in unit.links for target in link.targets)
        }
        self._alone: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
        self.requests = self.alike = self.but_for_body = 0

    def add(self, ours: Outcome, theirs: Outcome) -> None:
        """One request."""
        ours_only, theirs_only = set(ours.ids) - set(theirs.ids), set(theirs.ids) - set(ours.ids)
        self._alone[0].update(ours_only - self._silent)
        self._alone[1].update(theirs_only - self._silent)
        differing = (ours_only | theirs_only) - self._silent
        self.requests += 1
        self.alike += not differing
        self.but_for_body += not differing - self._of_body

    def row(self, requests: str) -> list[str]:
        """How often they agree, and the rules about which they differ most."""
        most = [number for number, _ in (self._alone[0] + self._alone[1]).most_common() if number not in self._of_body]
        differing = [f"{number} {self._alone[0][number]}:{self._alone[1][number]}" for number in most[:SHOWN]]
        return [requests, str(self.requests), str(self.alike), str(self.but_for_body), ", ".join(differing)]


def run() -> dict[str, Any]:
    root = required_crs()
    folder = root / "tests" / "regression" / "tests"
    if not folder.is_dir():
        raise SystemExit(f"{root} has no regression tests: set CRS_ROOT to a copy that has")
    waf, peer = make_waf(root), Peer(root)
    with quiet_libxml():
        tests, passed, cases = _regression_tests(waf, peer, folder)
        attacks = _attacks(waf, peer)
    print(table(["engine", "tests passed", "of"], [[name, str(passed[name]), str(cases)] for name in sorted(passed)]))
    print(ALIKE)
    rows = [tests.row("of the tests"), *(each.row(f"attacks: {kind}") for kind, each in attacks.items())]
    print(table(["requests", "", "alike", "but for bodies", "rules, envoy-waf alone : libmodsecurity alone"], rows))
    return {
        "agreement": {
            "tests": cases, "passed": dict(passed), "requests": tests.requests, "alike": tests.alike,
            "but_for_body": tests.but_for_body,
            "attacks": {
                kind: {"requests": each.requests, "alike": each.alike, "but_for_body": each.but_for_body}
                for kind, each in attacks.items()
            },
        }
    }  # fmt: skip


def _regression_tests(waf: WAF, peer: Peer, folder: Path) -> tuple[Comparison, Counter[str], int]:
    """With them how many each engine passes, and how many there are."""
    comparison = Comparison(waf)
    passed: Counter[str] = Counter()
    cases = 0
    for case in load_cases(folder):
        cases += 1
        complaining: set[str] = set()
        for stage in case.stages:
            mine, _ = run_stage(waf, stage)
            theirs = mine if refused(stage) else peer.judge(stage)
            comparison.add(mine, theirs)
            for name, outcome in (("envoy-waf", mine), ("libmodsecurity", theirs)):
                if complaints(outcome, stage.expectation):
                    complaining.add(name)
        passed.update({"envoy-waf", "libmodsecurity"} - complaining)
    return comparison, passed, cases


def _attacks(waf: WAF, peer: Peer) -> dict[str, Comparison]:
    """By where the attacks are."""
    out: dict[str, Comparison] = {}
    patterns = patterns_of(waf)
    rng = random.Random(1)
    for _ in range(ATTACKS):
        kind, raw = request(patterns, rng)
        stage = Stage(raw, Expectation())
        try:
            theirs = peer.judge(stage)
        except TypeError:  # its Python binding takes no header that is not UTF-8
            continue
        out.setdefault(kind, Comparison(waf)).add(run_stage(waf, stage)[0], theirs)
    return dict(sorted(out.items()))
