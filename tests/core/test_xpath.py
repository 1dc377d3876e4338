"""XPath in targets: namespaces, limits, and mistakes that are told when rules are read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_bodies import PROCESSORS, XML
from tests.core.transactions import ids, make, run
from waf_core import SecLangError, Transaction

SOAP = b'<s:Envelope xmlns:s="http://example.com/soap"><s:Body><q a="evil">evil</q></s:Body><Body>plain</Body></s:Envelope>'


def judge(rules: str, body: bytes = SOAP) -> Transaction:
    return run(PROCESSORS + rules, method="POST", headers=XML, body=body)


@pytest.mark.parametrize(
    ("xpath", "values"),
    [
        ("/env:Envelope/env:Body/q", [b"evil"]),
        ("//env:Body", [b"evil"]),
        ("//Body", [b"plain"]),
        ("//q/@a", [b"evil"]),
        ("//*[local-name()='Body']", [b"evil", b"plain"]),
        ("/env:Envelope/env:Header", []),
        ("/*", [b"evil", b"plain"]),
        ("//@*", [b"evil"]),
        ("//*", [b"evilplain", b"evil", b"evil", b"plain"]),
    ],
)
def test_prefixes_stand_for_the_namespaces_of_the_rule(xpath: str, values: list[bytes]) -> None:
    tx = judge(f'SecRule XML:{xpath} "@rx ." "id:1,phase:2,pass,log,xmlns:env=http://example.com/soap"')
    assert [value for matched in tx.matched_rules for _, value in matched.matches] == values


def test_a_rule_is_updated_with_its_own_namespaces() -> None:
    rule = 'SecRule XML://env:Body "@rx evil" "id:1,phase:2,pass,log,xmlns:env=http://example.com/soap"\n'
    for update, matched in (("", [1]), ('"!XML://env:Body"', []), ('"!XML://env:Body,XML://env:Envelope"', [1])):
        assert ids(judge(rule + (f"SecRuleUpdateTargetById 1 {update}" if update else ""))) == matched
    assert ids(judge(f'SecAction "id:2,phase:1,pass,nolog,ctl:ruleRemoveTargetById=1;XML://env:Body"\n{rule}')) == []


@pytest.mark.parametrize(
    ("xpath", "body"),
    [
        ("//a", b"<a>" * 200 + b"x" * 10_000 + b"</a>" * 200),
        ("//b", b"<a>" + b"<b/>" * 100_001 + b"</a>"),
        ("//b[nonsense()]", b"<a><b/></a>"),
    ],
)
def test_what_an_expression_finds_beyond_the_limit_does_not_pass(xpath: str, body: bytes) -> None:
    for engine, status in (("On", 400), ("DetectionOnly", None)):
        tx = judge(f'SecRuleEngine {engine}\nSecRule XML:{xpath} "@streq y" "id:1,phase:2,pass,log"', body)
        assert (tx.interruption.status if tx.interruption else None) == status
        assert (tx.detected is not None) == (status is None)
        assert tx.limits == ["xpath"]
    rules = 'SecResponseBodyMimeType text/xml\nSecAction "id:2,phase:3,pass,nolog,ctl:responseBodyProcessor=XML"\n'
    rules += f'SecRule RESPONSE_XML:{xpath} "@streq y" "id:1,phase:4,pass,log"'
    tx = run(rules, response=body, response_headers=XML)
    assert tx.interruption is not None
    assert tx.interruption.status == 500
    late = judge(f'SecRule XML:{xpath} "@streq y" "id:1,phase:5,pass,log"', body)
    assert (late.interruption, late.detected, late.limits) == (None, None, ["xpath"])


@pytest.mark.parametrize(
    ("xpath", "why"),
    [
        ("//q[", "it is no XPath expression"),
        ("nonsense(//q)", "it is no XPath expression"),
        ("//other:q", "the prefix other stands for no namespace"),
        ("//q[other:a='x:y']", "the prefix other stands for no namespace"),
        ("//env:q", ""),
        ("//q[text()='x:y']", ""),
        ("//q/ancestor::env:Body", ""),
        ("//q/@xml:lang", ""),
    ],
)
def test_mistakes_are_told_when_rules_are_read(xpath: str, why: str) -> None:
    rules = f'SecRule "XML:{xpath}" "@rx x" "id:1,phase:2,pass,xmlns:env=http://example.com/soap"'
    if not why:
        make(rules)
        return
    with pytest.raises(SecLangError, match=why):
        make(rules)


@given(st.text("/*@[]()'=:.a\x01é\udc80 |$1,", max_size=20), st.text("s=:/\x01é\udc80 '", max_size=10))
def test_any_expression_can_be_read_or_is_told(xpath: str, namespace: str) -> None:
    with contextlib.suppress(SecLangError):
        judge(f'SecRule "XML:{xpath}" "@rx x" "id:1,phase:2,pass,xmlns:s={namespace}"')


@pytest.mark.parametrize("action", ["xmlns", "xmlns:soap", "xmlns:=http://example.com/", "xmlns:soap="])
def test_a_namespace_needs_a_prefix(action: str) -> None:
    with pytest.raises(SecLangError, match="xmlns"):
        make(f'SecRule XML "@rx x" "id:1,phase:2,pass,{action}"')
