"""First exchanges: they make the next ones faster, and leave nothing else behind."""

from __future__ import annotations

import pytest

from tests.core.transactions import ids, make, run
from waf_core import WAF, Transaction, warm
from waf_core import exchange as exchanges
from waf_core.exchange import Exchange
from waf_core.persistence import Store

RULES = """
SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.seen=+1"
SecRule ARGS|REQUEST_COOKIES|REQUEST_HEADERS "@rx (?i)union\\s+select|<script" "id:2,phase:2,pass,log,t:urlDecodeUni"
SecRule REQUEST_BODY "@contains x" "id:3,phase:2,deny"
SecRule RESPONSE_BODY "@contains </title>" "id:4,phase:4,pass,nolog"
SecRule IP:seen "@gt 1" "id:5,phase:5,pass,log"
"""


@pytest.fixture
def waf() -> WAF:
    return make(RULES)


KINDS = {
    10: ("REQUEST_HEADERS:User-Agent", 1, "Mozilla/5.0"),
    11: ("REQUEST_HEADERS:Host", 1, "www.example.com"),
    12: ("REQUEST_COOKIES_NAMES", 1, "theme"),
    13: ("REQUEST_COOKIES", 1, "dark"),
    14: ("ARGS", 2, "jndi:ldap"),
    15: ("RESPONSE_BODY", 4, "</title>"),
    16: ("XML:/order/item", 2, " "),
    17: ("XML:/a/a/a", 2, "xxx"),
}

XML_BODIES = 'SecRule REQUEST_HEADERS:Content-Type "@streq text/xml" "id:1,phase:1,pass,ctl:requestBodyProcessor=XML"\n'


def test_values_of_all_kinds_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [
        f'SecRule {variable} "@contains {text}" "id:{number},phase:{phase},pass,log"'
        for number, (variable, phase, text) in KINDS.items()
    ]
    matched: set[int] = set()

    def watched(waf: WAF, exchange: Exchange, store: Store) -> Transaction:
        tx = exchanges.run(waf, exchange, store=store)
        matched.update(ids(tx))
        return tx

    monkeypatch.setattr(warm, "run", watched)
    assert warm.warm(make(XML_BODIES + "\n".join(rules))) == 10 * warm.ROUNDS + 11 * warm.TIRING_ROUNDS
    assert matched - {1} == KINDS.keys()


def test_counters_and_statistics_know_nothing_of_it(waf: WAF) -> None:
    warm.warm(waf)
    assert waf.program.statistics.take() == (0, 0)
    tx = run(waf, "/?a=union+select")
    assert ids(tx) == [2]
    assert run(waf, "/?a=1").matched_rules[-1].rule.id == 5


def test_it_takes_no_longer_than_its_limit(waf: WAF, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "WARM_SECONDS", -1.0)
    assert warm.warm(waf) == 0
