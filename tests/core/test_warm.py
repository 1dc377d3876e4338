"""First exchanges: they make the next ones faster, and leave nothing else behind."""

from __future__ import annotations

import pytest

from tests.core.transactions import ids, make, run
from waf_core import WAF, warm
from waf_core.scan.planner import Place
from waf_core.scan.scanner import Scanner

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


def test_values_of_all_kinds_are_scanned(waf: WAF, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    remember = Scanner.remember

    def watched(scanner: Scanner, value: bytes, found: tuple[Place, ...]) -> None:
        seen.append(value)
        remember(scanner, value, found)

    monkeypatch.setattr(Scanner, "remember", watched)
    assert warm.warm(waf) == 9 * warm.ROUNDS + 4 * warm.TIRING_ROUNDS
    text = b"\n".join(seen)
    for piece in (b"Mozilla/5.0", b"jndi:ldap", b"</title>", b"www.example.com", b"theme", b"dark"):
        assert piece in text, piece


def test_counters_and_statistics_know_nothing_of_it(waf: WAF) -> None:
    warm.warm(waf)
    assert waf.program.statistics.take() == (0, 0)
    tx = run(waf, "/?a=union+select")
    assert ids(tx) == [2]
    assert run(waf, "/?a=1").matched_rules[-1].rule.id == 5


def test_it_takes_no_longer_than_its_limit(waf: WAF, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "WARM_SECONDS", -1.0)
    assert warm.warm(waf) == 0
