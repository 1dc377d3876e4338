"""The audit record: who gets one, what it shows, what it hides, and its formats."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.transactions import make
from waf_core.auditing.formats import FORMATS, to_json, to_native
from waf_core.auditing.log_line import log_line
from waf_core.auditing.record import is_wanted, make_record
from waf_core.auditing.redaction import Redaction
from waf_core.json_line import json_line
from waf_core.transaction import Transaction

RULES = """
SecRuleEngine On
SecRequestBodyAccess On
SecAuditEngine RelevantOnly
SecAuditLogRelevantStatus "^5"
SecAuditLogParts ABCFHKZ
SecRule ARGS:q "@rx evil" "id:1,phase:2,deny,log,msg:'Evil',logdata:'%{MATCHED_VAR}',severity:CRITICAL,tag:'attack-x'"
SecRule ARGS:password "@rx ." "id:2,phase:2,pass,log,msg:'Password seen',logdata:'%{MATCHED_VAR}'"
SecRule ARGS:card "@rx \\d" "id:3,phase:2,pass,log,msg:'Card',logdata:'%{MATCHED_VAR}',sanitiseMatched"
SecRule ARGS:quiet "@rx ." "id:4,phase:2,pass,nolog"
"""


def judge(body: str, rules: str = RULES, status: int = 200) -> Transaction:
    tx = make(rules).new_transaction("tx-1")
    tx.process_connection("192.0.2.7", 4711, "192.0.2.1", 80)
    tx.process_uri("/form?token=abcdef123&x=1", "POST", "1.1")
    for name, value in (
        ("Host", "shop.example"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Authorization", "Basic c2VjcmV0LXVzZXI="),
        ("Cookie", "session=very-secret-cookie"),
    ):
        tx.add_request_header(name, value)
    tx.process_request_headers()
    tx.write_request_body(body.encode())
    if tx.process_request_body() is None:
        tx.add_response_header("Set-Cookie", "id=another-secret")
        tx.process_response_headers(status, "1.1")
        tx.process_response_body()
    tx.process_logging()
    return tx


SECRETS = ("c2VjcmV0LXVzZXI", "very-secret-cookie", "another-secret", "abcdef123", "hunter2", "4111")


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_shows_a_secret(name: str) -> None:
    tx = judge("q=1&password=hunter2hunter2&card=4111111111111111")
    text = FORMATS[name](make_record(tx))
    assert not [secret for secret in SECRETS if secret in text]
    assert "shop.example" in text


def test_a_chained_rule_hides_what_the_chain_matched() -> None:
    chain = 'SecRule ARGS:pin "@rx ^\\d+$" "id:5,phase:2,pass,log,logdata:\'%{MATCHED_VAR}\',chain"\n'
    for more, seen in (("t:none", True), ("sanitiseMatched", False)):
        tx = judge("pin=8642&x=1", f'{RULES}{chain}SecRule ARGS:pin "@rx 86" "{more}"')
        assert ("8642" in to_json(make_record(tx))) == seen


@pytest.mark.parametrize("name", ["JSON", "Native"])
def test_a_record_names_the_sensor(name: str) -> None:
    assert "edge-7" not in FORMATS[name](make_record(judge("q=1")))
    assert "edge-7" in FORMATS[name](make_record(judge("q=1", f"{RULES}SecSensorId edge-7")))


def test_only_the_rule_that_denies_says_so() -> None:
    late = 'SecRule ARGS:q "@rx evil" "id:5,phase:5,deny,log"'
    tx = judge("q=evil&password=x", f'SecRule REQUEST_METHOD "@streq POST" "id:6,phase:1,allow:phase,log"{RULES}{late}')
    lines = {matched.rule.id: log_line(tx, matched) for matched in tx.matched_rules}
    assert {number for number, line in lines.items() if "Access denied with code 403 (phase 2)" in line} == {1}
    assert {number for number, line in lines.items() if "Warning (phase" in line} == {5, 6}


@pytest.mark.parametrize("name", ["JSON", "Native"])
def test_tags_say_what_their_macros_stand_for(name: str) -> None:
    tag = "tag:'Host: %{REQUEST_HEADERS.host} %{ARGS.password}'"
    rules = f'{RULES}SecRule ARGS:q "@rx evil" "id:5,phase:2,pass,log,tag:a,{tag}"'
    tx = judge("q=evil&password=hunter2hunter2", rules.replace("deny", "pass"))
    text = FORMATS[name](make_record(tx))
    assert "Host: shop.example " in text
    assert "hunter2" not in text
    assert 'tag "Host: shop.example hunter2hunter2"' in log_line(tx, tx.matched_rules[-1])


def test_json_has_the_shape_of_modsecurity_3() -> None:
    tx = judge("q=evil")
    record = json.loads(to_json(make_record(tx)))["transaction"]
    assert record["client_ip"] == "192.0.2.7"
    assert record["unique_id"] == "tx-1"
    assert record["is_interrupted"] is True
    assert record["request"]["method"] == "POST"
    assert record["request"]["http_version"] == 1.1
    assert record["request"]["headers"]["Authorization"] == "*" * 22
    assert record["response"]["http_code"] == 403
    message = record["messages"][0]
    assert message["message"] == "Evil"
    assert message["details"]["ruleId"] == "1"
    assert message["details"]["tags"] == ["attack-x"]
    assert message["details"]["data"] == "evil"
    assert record["producer"]["secrules_engine"] == "Enabled"


def test_parts_decide_what_is_shown() -> None:
    rules = RULES.replace("ABCFHKZ", "AZ")
    record = json.loads(to_json(make_record(judge("q=evil", rules))))["transaction"]
    assert record["request"]["headers"] == {}
    assert "body" not in record["request"]
    assert record["messages"] == []
    assert "producer" not in record


@pytest.mark.parametrize(
    ("body", "status", "wanted"),
    [("q=1", 200, False), ("q=1", 503, True), ("q=evil", 200, True), ("quiet=1", 200, False)],
)
def test_relevant_only(body: str, status: int, wanted: bool) -> None:
    tx = judge(body, status=status)
    assert is_wanted(tx, status) is wanted


def test_on_and_off() -> None:
    assert is_wanted(judge("q=1", RULES.replace("RelevantOnly", "On")), 200)
    assert not is_wanted(judge("q=evil", RULES.replace("RelevantOnly", "Off")), 403)


@pytest.mark.parametrize("body", ["q=evil%0a--tx1-Z--&r=\n--tx1-Z--\n", "--tx1-Z--\n&q=evil"])
def test_native_sections_cannot_be_forged(body: str) -> None:
    text = to_native(make_record(judge(body)))
    lines = text.splitlines()
    assert lines[0] == "--tx1-A--"
    assert lines.count("--tx1-Z--") == 1
    assert lines[-1] == "--tx1-Z--"
    assert [line for line in lines if line.startswith('Message: Matched at ARGS:q. [file "')]


def test_ocsf_says_blocked() -> None:
    event = json.loads(FORMATS["OCSF"](make_record(judge("q=evil"))))
    assert (event["class_uid"], event["action_id"], event["disposition_id"]) == (4002, 2, 2)
    assert event["firewall_rule"]["uid"] == "1"
    assert event["severity_id"] == 5


def test_json_members_are_hidden_in_bodies() -> None:
    tx = judge('{"user":{"password":"hunter2hunter2"},"n":1}')
    record = make_record(tx)
    assert record.request_body is not None
    assert "hunter2" not in record.request_body
    assert '"n":1' in record.request_body


@pytest.mark.parametrize("secret", ["s3cret-" + "x1" * 3000, "s3cret \u00fc/" * 600], ids=["ASCII", "other"])
@pytest.mark.parametrize("quoted", [str, quote, lambda text: json.dumps(text)[1:-1]], ids=["plain", "URI", "JSON"])
def test_of_what_is_hidden_no_beginning_is_shown(secret: str, quoted: Callable[[str], str]) -> None:
    """Texts are cut, and a secret may not be over where they end."""
    tx = judge("a=1")
    tx.args.append((b"token", secret.encode()))
    hidden = Redaction(tx)
    written = quoted(secret)
    for length in (4, 100, 2000):
        for end in ("", "... (4321 bytes more)"):
            text = "x" * 400 + written[:length] + end
            assert hidden.text(text) == "x" * 400 + "*" * length + end
    cut = ("x" * 400 + "s3cret \u00fc").encode()[:-1].decode("utf-8", "backslashreplace")
    assert quoted is not str or "\u00fc" not in secret or hidden.text(cut) == "x" * 400 + "*" * 7 + "\\xc3"
    assert hidden.text(f"{'x' * 400} {written[:3]}") == f"{'x' * 400} {written[:3]}", "that may be anything"
    assert hidden.text(written) == "*" * len(written)


def test_numbers_and_texts_beyond_what_the_quick_library_takes() -> None:
    assert json.loads(json_line({"score": 10**30, "text": "\udc80"})) == {"score": 10**30, "text": "\udc80"}
    assert json_line({"a": "\u00fc\u2028", "b": 1}) == '{"a":"\u00fc\u2028","b":1}'


@given(
    st.lists(
        st.sampled_from(
            [
                "password=",
                "Passwd=",
                "pa\u017f\u017fword=",
                "&",
                "?",
                '"Token"',
                ":",
                ' "',
                "x yz",
                "s3cret/",
                '"',
                "%2F",
                "+",
                "/etc/passwd ",
            ]
        )
    ),
    st.lists(st.sampled_from([b"s3cret/", b"x yz", b"abcd", b"caf\xc3\xa9 1"])),
)
def test_what_is_hidden_is_what_the_expressions_and_spellings_say(parts: list[str], values: list[bytes]) -> None:
    """Looking for names first, and remembering texts, changes nothing."""
    tx = judge("a=1")
    for number, value in enumerate(values):
        tx.args.append((b"token%d" % number, value))
    hidden = Redaction(tx, arguments=["password", "passwd", "token", *(f"token{n}" for n in range(len(values)))])
    text = "".join(parts)
    expected = re.sub(r"(?i)((?:^|[?&;])(?:password|passwd|token)=)([^&;\s]+)", lambda m: m[1] + "*" * len(m[2]), text)
    expected = re.sub(
        r'(?i)("(?:password|passwd|token)"\s*:\s*)("(?:[^"\\]|\\.)*"|[^\s,}\]]+)',
        lambda m: m[1] + '"' + "*" * max(len(m[2]) - 2, 1) + '"',
        expected,
    )
    spellings = {
        spelling
        for value in values
        for plain in [value.decode()]
        for spelling in (plain, quote(value), quote_plus(value), json.dumps(plain)[1:-1])
    }
    for spelling in sorted(spellings, key=len, reverse=True):
        expected = expected.replace(spelling, "*" * len(spelling))
    assert hidden.text(text) == expected
    assert hidden.text(text) == expected
