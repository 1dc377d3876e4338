"""Each baseline rule against requests that it must match and must not (cases.yaml)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from waf_core import WAF, Transaction
from waf_core.baseline import resolve

CASES: dict[int, dict[str, list[Any]]] = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text("utf-8"))
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture(scope="module")
def wafs() -> dict[int, WAF]:
    """One WAF for each strictness level, which never blocks."""
    level = "SecAction id:1,phase:1,pass,nolog,setvar:tx.blocking_paranoia_level="
    return {number: make(f"SecRuleEngine DetectionOnly\n{level}{number}") for number in (1, 2)}


def make(directives: str) -> WAF:
    return WAF.from_directives(f"Include @recommended\n{directives}\nInclude @baseline", resolver=resolve)


def level_of(waf: WAF, rule_id: int) -> int:
    unit = next(unit for unit in waf.program.units if unit.info.id == rule_id)
    return 2 if "paranoia-level/2" in unit.info.tags else 1


def run(waf: WAF, case: Any) -> Transaction:
    """A whole transaction from the short form of cases.yaml."""
    case = {"args": {"x": case}, "raw": True} if isinstance(case, str) else case
    tx = waf.new_transaction()
    tx.process_connection("192.0.2.1", 1, "192.0.2.2", 80)
    uri = case.get("uri", "/")
    if "args" in case:
        encode = (lambda text: quote(text, safe="%/:=")) if case.get("raw") else quote
        uri += "?" + "&".join(f"{quote(name)}={encode(value)}" for name, value in case["args"].items())
    body, content_type = b"", ""
    if "json" in case:
        body, content_type = json.dumps(case["json"]).encode(), "application/json"
    if "body" in case:
        body, content_type = case["body"].encode(), case.get("type", "")
    if "files" in case:
        content_type = "multipart/form-data; boundary=b0undary"
        for name, filename in case["files"].items():
            disposition = f'form-data; name="{name}"; filename="{filename}"'
            body += f"--b0undary\r\nContent-Disposition: {disposition}\r\n\r\nx\r\n".encode()
        body += b"--b0undary--\r\n"
    tx.process_uri(uri, case.get("method", "POST" if body else "GET"), "1.1")
    headers = [] if case.get("no_host") else [("Host", "www.example.com")]
    if not case.get("no_agent") and "User-Agent" not in case.get("headers", {}):
        headers.append(("User-Agent", AGENT))
    headers += list(case.get("headers", {}).items()) + [tuple(pair) for pair in case.get("header_list", [])]
    if body:
        headers += [("Content-Type", content_type)] if content_type else []
        headers += [("Content-Length", str(len(body)))]
    for name, value in headers:
        tx.add_request_header(name, value)
    tx.process_request_headers()
    tx.write_request_body(body)
    tx.process_request_body()
    tx.add_response_header("Content-Type", "text/html")
    tx.process_response_headers(200, "1.1")
    tx.write_response_body(case.get("response", "<p>fine</p>").encode())
    tx.process_response_body()
    tx.process_logging()
    return tx


def flat(kind: str) -> list[Any]:
    return [
        pytest.param(rule_id, case, id=f"{rule_id}-{number}")
        for rule_id, cases in CASES.items()
        for number, case in enumerate(cases[kind])
    ]


@pytest.mark.parametrize(("rule_id", "case"), flat("match"))
def test_rule_matches(wafs: dict[int, WAF], rule_id: int, case: Any) -> None:
    tx = run(wafs[level_of(wafs[2], rule_id)], case)
    assert rule_id in [matched.rule.id for matched in tx.matched_rules]


@pytest.mark.parametrize(("rule_id", "case"), flat("pass"))
def test_rule_does_not_match(wafs: dict[int, WAF], rule_id: int, case: Any) -> None:
    tx = run(wafs[level_of(wafs[2], rule_id)], case)
    assert rule_id not in [matched.rule.id for matched in tx.matched_rules]


def test_every_rule_that_logs_has_cases_of_both_kinds(wafs: dict[int, WAF]) -> None:
    rules = {unit.info.id for unit in wafs[2].program.units if unit.log and unit.info.id > 8_100_000}
    assert rules == set(CASES)
    assert all(cases["match"] and cases["pass"] for cases in CASES.values())


ORDINARY = [
    "Hello, world!",
    'I\'m looking for Tom & Jerry; is it "available" in L?',
    "rock'n'roll -- the best; 50% off (really)",
    "SELECT your seat and DROP us a line",
    "https://www.example.com/path?a=1&b=2#top",
    "2024-01-01T10:00:00Z",
    "select * from our catalogue: shoes, hats",
    "C# and F# or Java? See section 3.1.2...",
    "price > 100 and price < 200",
    "你好，世界 – naïve café ☕",
    "user+tag@example.co.uk",
    "O'Reilly Media, Inc.",
    '{"filter": {"price": {"min": 1, "max": 5}}}',
    "git commit -m 'fix: handle null'",
    "=SUM(A1:A10)",
    "The union of the two sets; order by size",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_scores_nothing_at_level_1(wafs: dict[int, WAF], text: str) -> None:
    tx = run(wafs[1], {"args": {"q": text}, "json": {"text": text, "list": [text, 1, True]}})
    assert tx.matched_rules == []


def test_blocking_stops_with_403() -> None:
    tx = run_blocking("x=1%27+or+%271%27=%271")
    assert tx.interruption is not None
    assert (tx.interruption.status, tx.interruption.rule_id) == (403, 8_210_020)


def run_blocking(query: str) -> Transaction:
    waf = make("")
    tx = waf.new_transaction()
    tx.process_uri(f"/?{query}", "GET", "1.1")
    tx.add_request_header("Host", "www.example.com")
    tx.process_request_headers()
    tx.process_request_body()
    return tx


def test_types_of_bodies_may_be_let_pass_unread() -> None:
    waf = make(
        "SecAction \"id:1,phase:1,pass,nolog,setvar:'tx.allowed_request_content_type=|image/png| |text/plain|'\""
    )
    for content_type, status in (
        ("image/png", None),
        ("Text/Plain; charset=utf-8", None),
        ("image/gif", 403),
        ("", 403),
    ):
        tx = run(waf, {"body": "x", "type": content_type})
        assert (tx.interruption.status if tx.interruption else None) == status, content_type
