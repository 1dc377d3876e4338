"""Short ways to run a transaction in tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from waf_core import WAF, Transaction
from waf_core.compiler import CompileOptions
from waf_core.scan.hyperscan_set import available
from waf_core.scan.limits import ScanLimits
from waf_core.scan.precompile import compile_once

PLAIN = CompileOptions(scan=False, fold=False)
"""Each rule by itself."""

ENGINE = "SecRuleEngine On\nSecRequestBodyAccess On\nSecResponseBodyAccess On\n"


def make(rules: str, options: CompileOptions | None = None) -> WAF:
    return WAF.from_directives(ENGINE + rules, options=options)


def three_ways(rules: str, folder: Path) -> list[WAF]:
    """Rule by rule, planned, and planned with Hyperscan (if there is one), whose databases go into the folder."""
    out = [make(rules, PLAIN), make(rules)]
    if available():
        out.append(make(rules, CompileOptions(limits=ScanLimits(hyperscan_folder=folder))))
        make_databases(out[-1])
    return out


def make_databases(waf: WAF) -> None:
    """Those that its rules are to have and its folder has not, here and now."""
    wanting = [patterns for patterns in waf.program.pattern_sets if patterns.wants_hyperscan]
    assert wanting
    for patterns in wanting:
        assert patterns.cache is not None
        compile_once(patterns.cache, patterns.patterns)
        assert patterns.load_hyperscan()


def run(
    waf: WAF | str,
    uri: str | bytes = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    response: bytes | None = None,
    response_headers: Mapping[str, str] | None = None,
    version: str = "1.1",
) -> Transaction:
    """All phases, as far as the verdicts let them."""
    waf = make(waf) if isinstance(waf, str) else waf
    tx = waf.new_transaction()
    tx.process_connection("192.0.2.1", 4711, "192.0.2.2", 80)
    tx.process_uri(uri, method, version)
    for name, value in {"Host": "www.example.com", **(headers or {})}.items():
        tx.add_request_header(name, value)
    tx.process_request_headers()
    tx.write_request_body(body)
    tx.process_request_body()
    if tx.interruption is None:
        for name, value in (response_headers or {"Content-Type": "text/html"}).items():
            tx.add_response_header(name, value)
        tx.process_response_headers(200, "1.1")
        if response is not None:
            tx.write_response_body(response)
        tx.process_response_body()
    tx.process_logging()
    return tx


def ids(tx: Transaction) -> list[int]:
    return [matched.rule.id for matched in tx.matched_rules]
