"""Running go-ftw tests in this process, through waf_core.

The backend is that of CRS's own test environment: /reflect answers what the request's body says.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass

import h11

from extproc.ftw.tests import Case, Expectation, Stage
from extproc.requests.message import split_request
from waf_core import WAF
from waf_core.auditing.log_line import log_line
from waf_core.transaction import Transaction


@dataclass(slots=True)
class Outcome:
    """What the engine said of one request."""

    status: int
    ids: list[int]
    log: str


def refused_by_server(raw: bytes) -> bool:
    """Would an HTTP/1.1 server answer 400 before any filter runs?  h11 is the judge."""
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(raw)
        while True:
            event = connection.next_event()
            if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.EndOfMessage):
                return False
    except h11.RemoteProtocolError:
        return True


def refused(stage: Stage) -> bool:
    """Does the test expect a server's refusal, and would there be one?"""
    return stage.expectation.status == 400 and refused_by_server(stage.raw)


def run_stage(waf: WAF, stage: Stage) -> tuple[Outcome, Transaction]:
    """One request through all phases."""
    method, uri, version, headers, body = split_request(stage.raw)
    tx = waf.new_transaction()
    tx.process_connection("127.0.0.1", 40000, "127.0.0.1", 80)
    tx.process_uri(uri, method, version)
    for name, value in headers:
        tx.add_request_header(name, value)
    tx.process_request_headers()
    tx.write_request_body(body)
    tx.process_request_body()
    status, response_headers, response = reflect(uri, body)
    for header, content in response_headers.items():
        tx.add_response_header(header, content)
    tx.process_response_headers(status, "1.1")
    tx.write_response_body(response)
    tx.process_response_body()
    tx.process_logging()
    if refused(stage):
        # A server in front answers, no filter is reached.
        return Outcome(400, [], ""), tx
    ids = [matched.rule.id for matched in tx.matched_rules]
    log = "\n".join(log_line(tx, matched) for matched in tx.matched_rules)
    return Outcome(status, ids, log), tx


def reflect(uri: bytes, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """CRS's test backend: /reflect answers what the JSON body describes."""
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    if not uri.startswith(b"/reflect"):
        return 200, headers, b""
    try:
        wanted = json.loads(body)
    except ValueError:
        return 400, headers, b""
    headers.update(wanted.get("headers") or {})
    content = wanted.get("body", "").encode()
    if wanted.get("encodedBody"):
        content = base64.b64decode(wanted["encodedBody"])
    return int(wanted.get("status", 200)), headers, content


def complaints(outcome: Outcome, expected: Expectation) -> list[str]:
    """What differs from the expectation; empty when the stage passes."""
    out = [f"{i} did not match" for i in expected.expect_ids if i not in outcome.ids]
    out += [f"{i} matched" for i in expected.no_expect_ids if i in outcome.ids]
    if expected.match_regex and not re.search(expected.match_regex, outcome.log):
        out.append(f"the log lacks {expected.match_regex!r}")
    if expected.no_match_regex and re.search(expected.no_match_regex, outcome.log):
        out.append(f"the log has {expected.no_match_regex!r}")
    if expected.status is not None and outcome.status != expected.status:
        out.append(f"status {outcome.status} instead of {expected.status}")
    return out


def run_case(waf: WAF, case: Case) -> list[str]:
    """All stages; the complaints of the first that fails."""
    for stage in case.stages:
        outcome, _ = run_stage(waf, stage)
        found = complaints(outcome, stage.expectation)
        if found:
            return found
    return []
