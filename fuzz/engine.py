"""The scan plan against rule by rule, with the baseline rules."""

from __future__ import annotations

from fuzz.pieces import Pieces
from waf_core import WAF
from waf_core.baseline import resolve
from waf_core.compiler import CompileOptions
from waf_core.exchange import Exchange, run

RULES = "Include @recommended\nSecRuleEngine DetectionOnly\nInclude @baseline"
PLANNED = WAF.from_directives(RULES, resolver=resolve)
PLAIN = WAF.from_directives(RULES, resolver=resolve, options=CompileOptions(scan=False, fold=False))

_CONTENT_TYPES = (
    b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=b", b"application/json", b"text/xml", b"",
)  # fmt: skip


def planned_and_plain(data: bytes) -> None:
    """The same rules match, with the same values, and leave the same variables."""
    pieces = Pieces(data)
    content_type = _CONTENT_TYPES[pieces.byte() % len(_CONTENT_TYPES)]
    headers = [(b"Host", b"a"), (b"User-Agent", pieces.text()), (b"Cookie", pieces.text()), (b"X", pieces.text())]
    uri = b"/" + pieces.text().replace(b" ", b"+")
    exchange = Exchange(
        method=b"POST", uri=uri, headers=[*headers, (b"Content-Type", content_type)], body=pieces.text(),
        status=200, response_headers=[(b"Content-Type", b"text/html")], response_body=pieces.rest(),
    )  # fmt: skip
    outcomes = []
    for waf in (PLANNED, PLAIN):
        tx = run(waf, exchange)
        outcomes.append(
            ([(m.rule.id, m.data, m.variable, m.value, m.matches) for m in tx.matched_rules], tx.detected, tx.tx)
        )
    assert outcomes[0] == outcomes[1]
