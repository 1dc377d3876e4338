"""explain, replay, tune, test: what a user types, and what comes back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from extproc.cli import main
from extproc.tuning import FIRST_ID, IDS, Finding, propose
from tests.crs import crs_or_skip, find_crs
from waf_core.auditing.formats import to_json
from waf_core.auditing.record import make_record
from waf_core.exchange import Exchange, run

RULES = ["-r", "@recommended", "-r", "@baseline"]
ATTACK = "http://shop.example/?q=%3Cscript%3Ealert(1)%3C/script%3E"


def call(*arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=input)


def test_explain_tells_the_rule_the_variable_the_steps_and_the_decision() -> None:
    result = call("explain", *RULES, ATTACK)
    assert result.exit_code == 3
    assert "ARGS:q = " in result.output
    assert "points" in result.output
    assert "verdict  blocked 403 by rule " in result.output
    assert "ctl:ruleRemoveTargetById=" in result.output


def test_explain_as_json_and_what_passes() -> None:
    result = call("explain", *RULES, "--json", "http://shop.example/?q=hello")
    assert result.exit_code == 0
    found = json.loads(result.output)
    assert (found["verdict"], found["decided_by"], found["proposals"]) == ("pass", 0, [])


def test_explain_shows_the_value_after_each_transformation() -> None:
    rules = 'SecRuleEngine On\nSecRule ARGS "@streq evil" "id:1,phase:2,deny,t:none,t:urlDecodeUni,t:lowercase,t:trim,msg:\'E\'"'
    result = call("explain", "-r", "@recommended", "-d", rules, "http://h/?a=%2545VIL")
    assert "t:urldecodeuni -> EVIL" in result.output
    assert "t:lowercase -> evil" in result.output
    assert "t:trim" not in result.output


def test_explain_says_where_a_rule_without_a_message_is() -> None:
    rules = 'SecRule ARGS "@streq a" "id:1,phase:2,deny"'
    result = call("explain", "-r", "@recommended", "-d", rules, "http://h/?a=a")
    assert re.search(r"^verdict  blocked 403 by rule 1: \S+:1$", result.output, re.M), result.output


def test_explain_reads_a_message_from_standard_input() -> None:
    result = call("explain", *RULES, "-f", "-", input="GET /../../etc/passwd HTTP/1.1\nHost: h\n\n")
    assert result.exit_code == 3


def test_explain_without_a_request_says_what_to_give() -> None:
    result = call("explain", *RULES)
    assert result.exit_code == 1
    assert "give a URL, a curl command line, --file or --id" in result.output


def test_explain_of_an_id_without_a_sidecar() -> None:
    result = call("explain", "--id", "x", "--admin", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "no sidecar answers" in result.output


def log(tmp_path: Path, *uris: str) -> Path:
    path = tmp_path / "access.log"
    line = '1.2.3.4 - - [24/Nov/2026:10:00:00 +0000] "GET {} HTTP/1.1" 200 12 "-" "Mozilla/5.0"\n'
    path.write_text("".join(line.format(uri) for uri in uris))
    return path


def test_replay_counts_and_its_status_is_for_ci(tmp_path: Path) -> None:
    path = log(tmp_path, "/a", "/b?x=1", "/?f=../../../etc/passwd")
    result = call("replay", *RULES, str(path))
    assert result.exit_code == 0
    assert "3 requests: 2 passed, 1 blocked, 0 would be blocked" in result.output
    assert call("replay", *RULES, "--fail-on", "block", str(path)).exit_code == 3


def test_replay_compares_two_policies(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "rules: ['@recommended', '@baseline']\npolicies:\n- name: open\n  rules: ['@recommended']\n  directives: ''\n"
    )
    path = log(tmp_path, "/a", "/?f=../../../etc/passwd")
    result = call("replay", "-c", str(config), "--against", "open", "--json", str(path))
    assert result.exit_code == 3
    found = json.loads(result.output)
    assert found["differences"] == 1
    assert (found["listed"][0]["verdict"], found["listed"][0]["against"]) == ("blocked", "pass")


def test_replay_judges_each_request_by_its_policy_unless_one_is_named(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "rules: ['@recommended', '@baseline']\n"
        "policies: [{name: open, match: [{paths: [/open]}], mode: DetectionOnly}, {name: none, rules: ['@recommended']}]\n"
    )
    path = log(tmp_path, "/open?f=../../../etc/passwd", "/?f=../../../etc/passwd")
    result = call("replay", "-c", str(config), str(path))
    assert "2 requests: 0 passed, 1 blocked, 1 would be blocked" in result.output
    assert "0 passed, 2 blocked" in call("replay", "-c", str(config), "--policy", "default", str(path)).output
    assert "there is no policy 'x'" in call("replay", "-c", str(config), "--against", "x", str(path)).output
    compared = call("replay", "-c", str(config), "--against-config", str(config), "--against", "none", str(path))
    assert "2 differ" in compared.output


def test_a_line_of_a_log_ends_where_a_line_feed_is(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    request = {"method": "GET", "uri": "/a", "headers": {"X": "a\u2028b\x85"}}
    path.write_text(json.dumps({"transaction": {"request": request}}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert "1 requests: 1 passed" in call("replay", *RULES, str(path)).output


def audit_line(uri: str, crs: bool = False) -> tuple[str, Any]:
    from extproc.loading import load_settings
    from extproc.policies import compile_policies

    settings = load_settings(crs_root=find_crs()) if crs else load_settings(rules=["@recommended", "@baseline"])
    waf = compile_policies(settings).default.waf
    tx = run(waf, Exchange(uri=uri.encode(), headers=[(b"Host", b"h"), (b"User-Agent", b"x"), (b"Accept", b"*/*")]))
    return to_json(make_record(tx)), tx


def test_tune_proposes_what_removes_the_finding_and_no_more(tmp_path: Path) -> None:
    line, tx = audit_line("/editor/17?html=%3Cscript%3Ealert(1)%3C/script%3E")
    assert tx.interruption is not None
    path = tmp_path / "audit.json"
    path.write_text(f"{line}\n{line}\n")
    output = tmp_path / "exclusions.conf"
    result = call("tune", *RULES, "--json", "-o", str(output), str(path))
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["events"] == 2
    assert {(p["variable"], p["path"]) for p in found["proposals"]} == {("ARGS:html", "/editor/")}
    # With the exclusions the same request passes, and the same text elsewhere does not.
    again = ["explain", "-r", "@recommended", "-r", str(output), "-r", "@baseline"]
    attack = "%3Cscript%3Ealert(1)%3C/script%3E"
    assert call(*again, f"http://h/editor/17?html={attack}").exit_code == 0
    assert call(*again, f"http://h/editor/17?other={attack}").exit_code == 3
    assert call(*again, f"http://h/elsewhere?html={attack}").exit_code == 3


def test_tune_keeps_what_the_file_has(tmp_path: Path) -> None:
    """The next log lacks what is excluded already."""
    output = tmp_path / "exclusions.conf"
    texts: list[str] = []
    for number, name in enumerate(("html", "html", "text")):
        line, _ = audit_line(f"/editor?{name}=%3Cscript%3Ealert(1)%3C/script%3E")
        path = tmp_path / f"audit{number}.json"
        path.write_text(line + "\n")
        result = call("tune", *RULES, "-o", str(output), str(path))
        assert result.exit_code == 0, result.output
        texts.append(output.read_text())
        assert f'rules: ["{output}", "@recommended", "@baseline"]' in result.output
    assert texts[0] == texts[1]
    assert texts[2].startswith(texts[1].rstrip())
    served = ["-r", "@recommended", "-r", str(output), "-r", "@baseline"]
    for name, status in (("html", 0), ("text", 0), ("other", 3)):
        url = f"http://h/editor?{name}=%3Cscript%3Ealert(1)%3C/script%3E"
        assert call("explain", *served, url).exit_code == status
    assert call("tune", *served, "-o", str(output), str(path)).output.endswith("; reload to use it\n")
    assert output.read_text() == texts[2]


def test_proposals_have_the_same_ids_each_time_and_none_that_is_taken() -> None:
    one, other = Finding(942100, "ARGS:a", "/x"), Finding(942100, "ARGS:b", "/x")
    both = {proposal.text for proposal in propose([other, one])}
    (first,) = propose([one])
    assert first.text in both
    taken = int(first.text.partition("id:")[2].partition(",")[0])
    present = f'SecAction "id:{taken},pass"'
    (again,) = propose([one], present)
    assert again.text == first.text.replace(str(taken), str(taken + 1))
    assert propose([one], f"{present}\n{again.text}") == [again]
    assert propose([one], " ".join(f"id:{number}" for number in range(FIRST_ID, FIRST_ID + IDS))) == []


def test_tune_says_what_it_cannot_write(tmp_path: Path) -> None:
    line, _ = audit_line("/editor?html=%3Cscript%3E")
    path = tmp_path / "audit.json"
    path.write_text(line + "\n")
    result = call("tune", *RULES, "-o", str(tmp_path / "none" / "x.conf"), str(path))
    assert result.exit_code == 1
    assert "x.conf: No such file or directory" in result.output


def test_tune_says_which_attacks_it_would_let_through(tmp_path: Path) -> None:
    root = crs_or_skip()
    line, _ = audit_line("/q?id=1'%20or%20'1'='1", crs=True)
    path = tmp_path / "audit.json"
    path.write_text(line + "\n")
    result = call("tune", "--crs-root", str(root), "--json", str(path))
    (proposal,) = json.loads(result.output)["proposals"]
    assert proposal["rule"] == 942100
    assert len(proposal["attacks_let_through"]) > 3


def test_tune_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("hello\n")
    result = call("tune", *RULES, str(path))
    assert result.exit_code == 1
    assert "x:1 is no audit record in JSON" in result.output


FTW = """
meta: {{author: me}}
rule_id: 9999
tests:
- test_id: 1
  desc: evil is found
  stages:
  - input: {{uri: "/?a=evil", headers: {{Host: h}}}}
    output: {{log: {{expect_ids: [{expected}]}}}}
"""


@pytest.mark.parametrize(("expected", "status"), [(9999, 0), (9998, 3)])
def test_own_tests_of_own_rules(tmp_path: Path, expected: int, status: int) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(FTW.format(expected=expected))
    own = 'SecRule ARGS "@rx evil" "id:9999,phase:2,pass,log"'
    result = call("test", "-r", "@recommended", "-d", own, str(path))
    assert result.exit_code == status
    assert ("1 passed, 0 failed" if status == 0 else "FAIL 9999-1: 9998 did not match") in result.output


def test_test_of_no_test(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("a: 1\n")
    assert call("test", *RULES, str(path)).exit_code == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    result = call("completion", shell)
    assert result.exit_code == 0
    assert "_ENVOY_WAF_COMPLETE" in result.output
