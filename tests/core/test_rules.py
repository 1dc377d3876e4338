"""What rules mean: targets, chains, flow, actions, macros, verdicts."""

from __future__ import annotations

import pytest

from tests.core.transactions import PLAIN, ids, make, run
from waf_core import SecLangError, UsageError
from waf_core.compiler import CompileOptions
from waf_core.variables import REGISTRY

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("targets", "matches"),
    [
        ("ARGS", ["ARGS:a", "ARGS:b", "ARGS:B"]),
        ("ARGS:b", ["ARGS:b", "ARGS:B"]),
        ("ARGS|!ARGS:a", ["ARGS:b", "ARGS:B"]),
        ("ARGS|!ARGS:/^[ab]$/", []),
        ("ARGS:/^A/", ["ARGS:a"]),
        ("ARGS_NAMES", []),
        ("&ARGS", []),
    ],
)
def test_targets(targets: str, matches: list[str]) -> None:
    tx = run(f'SecRule {targets} "@streq x" "id:1,phase:2,pass,log"', "/?a=x&b=x&B=x")
    found = [name.decode() for matched in tx.matched_rules for name, _ in matched.matches]
    assert found == matches


@pytest.mark.parametrize("processor", ["", "URLENCODED", "MULTIPART", "XML", "JSON", "RAW"])
@pytest.mark.parametrize("variable", sorted(name for name, variable in REGISTRY.items() if variable.of_body))
def test_what_is_of_the_body_has_no_values_without_one(variable: str, processor: str) -> None:
    ctl = f"ctl:requestBodyProcessor={processor}," if processor else ""
    rules = f"""SecRequestBodyAccess On
        SecAction "id:1,phase:1,pass,nolog,{ctl}ctl:forceRequestBodyVariable=On"
        SecRule {variable} "@unconditionalMatch" "id:2,phase:2,pass,log"
        SecRule &{variable} "@eq 0" "id:3,phase:2,pass,log"
    """
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert ids(run(rules, "/?a=1", headers=headers)) == [3]


@pytest.mark.parametrize("scan", [True, False])
def test_a_body_of_which_nothing_may_be_read_is_a_body(scan: bool) -> None:
    rules = """SecRequestBodyLimit 0
        SecRequestBodyLimitAction ProcessPartial
        SecAction "id:1,phase:1,pass,nolog,ctl:forceRequestBodyVariable=On"
        SecRule REQUEST_BODY "!@rx x" "id:2,phase:2,pass,log"
    """
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    waf = make(rules, CompileOptions(scan=scan))
    assert ids(run(waf, method="POST", headers=headers, body=b"--x")) == [2]


def test_count_is_a_number() -> None:
    assert ids(run('SecRule &ARGS "@eq 2" "id:1,phase:1,pass,log"', "/?a=1&b=2")) == [1]
    assert ids(run('SecRule &ARGS:a "@eq 0" "id:1,phase:1,pass,log"', "/")) == [1]


def test_chain_matches_only_when_every_link_does() -> None:
    rules = 'SecRule ARGS:a "@streq 1" "id:1,phase:2,pass,log,chain"\n SecRule ARGS:b "@streq 2" "setvar:tx.hit=1"'
    assert ids(run(rules, "/?a=1&b=2")) == [1]
    assert ids(run(rules, "/?a=1&b=3")) == []
    assert ids(run(rules, "/?b=2")) == []


def test_effects_of_a_link_run_although_the_chain_fails() -> None:
    rules = (
        'SecRule ARGS "@rx ." "id:1,phase:2,pass,nolog,setvar:tx.seen=+1,chain"\n SecRule ARGS:zz "@streq 1" "t:none"\n'
        'SecRule TX:seen "@eq 2" "id:2,phase:2,pass,log"'
    )
    assert ids(run(rules, "/?a=1&b=2")) == [2]


def test_setvar_runs_once_for_each_match() -> None:
    rules = (
        'SecRule ARGS "@rx x" "id:1,phase:2,pass,nolog,setvar:tx.score=+5"\n'
        'SecRule TX:score "@eq 10" "id:2,phase:2,pass,log"'
    )
    assert ids(run(rules, "/?a=x&b=x&c=y")) == [2]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("setvar:tx.a=5", b"5"),
        ("setvar:tx.a", b"1"),
        ("setvar:tx.a=+3", b"4"),
        ("setvar:tx.a=-3", b"-2"),
        ("setvar:tx.a=%{ARGS.v}", b"7"),
        ("setvar:!tx.a", b""),
        ("setvar:'tx.a=%{tx.a}%{tx.a}'", b"11"),
    ],
)
def test_setvar(action: str, expected: bytes) -> None:
    tx = run(
        f'SecAction "id:1,phase:1,nolog,pass,setvar:tx.a=1"\nSecAction "id:2,phase:1,nolog,pass,{action}"', "/?v=7"
    )
    assert tx.tx.get(b"a", b"") == expected


def test_capture_fills_tx_and_macros() -> None:
    rules = "SecRule ARGS \"@rx (b)(c)?\" \"id:1,phase:2,pass,log,capture,msg:'m %{TX.0}',logdata:'%{TX.1}|%{TX.2}|%{MATCHED_VAR_NAME}'\""
    (matched,) = run(rules, "/?x=abd").matched_rules
    assert (matched.message, matched.data) == ("m b", "b||ARGS:x")


def test_skip_and_skip_after() -> None:
    rules = (
        'SecRule ARGS:s "@streq 1" "id:1,phase:1,pass,nolog,skip:1"\n'
        'SecAction "id:2,phase:1,pass,log"\n'
        'SecAction "id:3,phase:1,pass,log"\n'
        'SecRule ARGS:s "@streq 2" "id:4,phase:1,pass,nolog,skipAfter:end"\n'
        'SecAction "id:5,phase:1,pass,log"\n'
        "SecMarker end\n"
        'SecAction "id:6,phase:1,pass,log"'
    )
    assert ids(run(rules, "/")) == [2, 3, 5, 6]
    assert ids(run(rules, "/?s=1")) == [3, 5, 6]
    assert ids(run(rules, "/?s=2")) == [2, 3, 6]


def test_a_skip_to_nowhere_is_noted_and_skips_the_rest() -> None:
    waf = make('SecAction "id:1,phase:1,pass,log,skipAfter:no"\nSecAction "id:2,phase:1,pass,log"')
    assert ids(run(waf)) == [1]
    assert "skips to 'no', but behind it there is no such marker or rule" in waf.program.notes[0]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        # The first marker behind a rule counts, one before it does not.
        ("SecMarker m\n{skip}\n{two}\nSecMarker m\n{three}\nSecMarker m\n{four}", [1, 3, 4]),
        ("SecMarker m\n{skip}\n{two}\n{three}", [1]),
        ("{skip}\nSecMarker m\n{two}", [1, 2]),
        # A rule's id does as well: evaluation goes on behind it (reference manual, skipAfter).
        ("{to_three}\n{two}\n{three}\n{four}", [1, 4]),
        # Markers are for all phases, rules for their own.
        ("{skip}\n{early}\nSecMarker m\n{four}", [5, 1, 4]),
    ],
)
def test_where_a_skip_leads(rules: str, expected: list[int]) -> None:
    lines = {"two": 2, "three": 3, "four": 4}
    text = rules.format(
        skip='SecAction "id:1,phase:2,pass,log,skipAfter:m"',
        to_three='SecAction "id:1,phase:2,pass,log,skipAfter:3"',
        early='SecAction "id:5,phase:1,pass,log"',
        **{name: f'SecAction "id:{number},phase:2,pass,log"' for name, number in lines.items()},
    )
    assert ids(run(text)) == expected
    assert ids(run(make(text, PLAIN))) == expected


@pytest.mark.parametrize(
    ("actions", "verdict"),
    [
        ("deny", (403, "deny", "")),
        ("deny,status:406", (406, "deny", "")),
        ("drop", (403, "drop", "")),
        ("redirect:https://x/%{ARGS.a}", (302, "redirect", "https://x/1")),
        ("redirect:/y,status:301", (301, "redirect", "/y")),
    ],
)
def test_disruptive_actions(actions: str, verdict: tuple[int, str, str]) -> None:
    stop = run(f'SecRule ARGS "@streq 1" "id:1,phase:1,{actions}"', "/?a=1").interruption
    assert stop is not None
    assert (stop.status, stop.action, stop.data) == verdict
    assert stop.rule_id == 1


def test_block_means_what_the_default_action_says() -> None:
    rule = 'SecRule ARGS "@streq 1" "id:1,phase:1,block"'
    assert run(rule, "/?a=1").interruption is None
    stop = run(f'SecDefaultAction "phase:1,deny,status:405,log"\n{rule}', "/?a=1").interruption
    assert stop is not None
    assert stop.status == 405


def test_rules_inherit_what_else_the_default_action_says() -> None:
    tx = run(
        "SecDefaultAction \"phase:1,log,pass,tag:all,tag:'Host: %{REQUEST_HEADERS.host}',severity:ERROR,"
        "logdata:'%{MATCHED_VAR}',capture,multiMatch,maturity:3,accuracy:4\"\n"
        'SecRule ARGS "@rx ^(.)" "id:1,phase:1,tag:own,t:uppercase"\n'
        'SecRule ARGS "@rx (A)" "id:2,phase:1,severity:2,logdata:own,t:uppercase,chain"\nSecRule TX:1 "@streq A"\n'
        'SecRule ARGS "@rx ^(.)" "id:3,phase:2,log"\nSecRuleUpdateActionById 1 "tag:new"',
        "/?a=a",
    )
    first, second, third = tx.matched_rules
    assert first.tags == ("all", "Host: www.example.com", "own", "new")
    assert (first.rule.severity, first.data, first.rule.maturity, first.rule.accuracy) == (3, "A", "3", "4")
    assert first.matches == [(b"ARGS:a", b"a"), (b"ARGS:a", b"A")]
    assert (second.rule.severity, second.data) == (2, "own")
    assert second.tags == ("all", "Host: www.example.com")
    assert (third.rule.severity, third.data, third.tags) == (None, "", ())


@pytest.mark.parametrize(
    ("default", "actions", "status"),
    [
        ("deny,status:405", "deny", 405),
        ("pass,status:405", "deny", 405),
        ("deny,status:405", "deny,status:406", 406),
        ("deny,status:405", "redirect:/y", 302),
        ("deny", "deny", 403),
    ],
)
def test_rules_inherit_the_status_of_the_default_action(default: str, actions: str, status: int) -> None:
    """As in ModSecurity v2 and v3, whether they say block or what to do."""
    rules = f'SecDefaultAction "phase:1,log,{default}"\nSecRule ARGS "@streq 1" "id:1,phase:1,{actions}"'
    stop = run(rules, "/?a=1").interruption
    assert stop is not None
    assert stop.status == status


@pytest.mark.parametrize(("allow", "later"), [("allow", [9]), ("allow:phase", [2, 3, 9]), ("allow:request", [3, 9])])
def test_allow_reaches_as_far_as_it_says(allow: str, later: list[int]) -> None:
    rules = (
        f'SecAction "id:10,phase:1,{allow},nolog"\nSecAction "id:1,phase:1,pass,log"\nSecAction "id:2,phase:2,pass,log"\n'
        'SecAction "id:3,phase:3,pass,log"\nSecAction "id:9,phase:5,pass,log"'
    )
    assert ids(run(rules)) == later


def test_detection_only_reports_and_goes_on() -> None:
    tx = run('SecRuleEngine DetectionOnly\nSecAction "id:1,phase:1,deny,log"\nSecAction "id:2,phase:2,pass,log"')
    assert tx.interruption is None
    assert ids(tx) == [1, 2]
    assert tx.detected is not None
    assert tx.detected.rule_id == 1


def test_engine_off_asks_nothing() -> None:
    assert ids(run('SecRuleEngine Off\nSecAction "id:1,phase:1,deny,log"')) == []


def test_logging_phase_runs_after_a_verdict_and_once() -> None:
    tx = run('SecAction "id:1,phase:1,deny,log"\nSecAction "id:9,phase:5,pass,log"')
    tx.process_logging()
    assert ids(tx) == [1, 9]


def test_multi_match_asks_after_each_transformation() -> None:
    rule = 'SecRule ARGS "@rx ^%3c$|^<$" "id:1,phase:2,pass,log,t:none,t:urlDecodeUni,multiMatch,setvar:tx.n=+1"'
    tx = run(rule, "/?a=%253c")
    assert tx.tx[b"n"] == b"2"


def test_matched_vars_hold_what_earlier_links_matched() -> None:
    rules = (
        'SecRule ARGS "@rx ^a" "id:1,phase:2,pass,log,chain"\n'
        ' SecRule MATCHED_VARS "@rx b$" "chain"\n SecRule MATCHED_VARS_NAMES "@streq ARGS:y" "t:none"'
    )
    assert ids(run(rules, "/?x=a&y=ab")) == [1]
    assert ids(run(rules, "/?x=ab&z=a")) == []


def test_ctl_removes_rules_targets_and_switches_the_engine() -> None:
    rules = (
        'SecRule ARGS:c "@streq id" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=10-11"\n'
        'SecRule ARGS:c "@streq tag" "id:2,phase:1,pass,nolog,ctl:ruleRemoveByTag=^t$"\n'
        'SecRule ARGS:c "@streq msg" "id:3,phase:1,pass,nolog,ctl:ruleRemoveByMsg=hello"\n'
        'SecRule ARGS:c "@streq target" "id:4,phase:1,pass,nolog,ctl:ruleRemoveTargetById=10;ARGS:/^b/"\n'
        'SecRule ARGS:c "@streq off" "id:5,phase:1,pass,nolog,ctl:ruleEngine=Off"\n'
        'SecRule ARGS "@streq bad" "id:10,phase:2,pass,log,tag:t,msg:\'hello\'"'
    )
    assert ids(run(rules, "/?b=bad")) == [10]
    for value in ("id", "tag", "msg", "target", "off"):
        assert ids(run(rules, f"/?b=bad&c={value}")) == [], value
    assert ids(run(rules, "/?a=bad&c=target")) == [10]


def test_directives_remove_and_update_rules() -> None:
    rule = "SecRule ARGS \"@streq bad\" \"id:10,phase:2,pass,log,tag:'t/1',msg:'hello'\"\n"
    for directive in ("SecRuleRemoveById 5 9-12", "SecRuleRemoveByTag t/", 'SecRuleRemoveByMsg "hel+o"'):
        assert ids(run(rule + directive, "/?a=bad")) == []
    for update in ('ById 10 "!ARGS:a"', 'ByTag t/1 "!ARGS:a"', 'ByMsg hello "!ARGS:/^a/"'):
        assert ids(run(f"{rule}SecRuleUpdateTarget{update}", "/?a=bad")) == []
        assert ids(run(f"{rule}SecRuleUpdateTarget{update}", "/?b=bad")) == [10]
    added = run(f'{rule}SecRuleUpdateTargetById 10 "REQUEST_COOKIES"', headers={"Cookie": "x=bad"})
    assert ids(added) == [10]
    stop = run(f'{rule}SecRuleUpdateActionById 10 "deny,status:409"', "/?a=bad").interruption
    assert stop is not None
    assert stop.status == 409


@pytest.mark.parametrize(
    ("own", "update", "query", "expected"),
    [
        ("pass", "t:lowercase", "a=BAD", {"ids": [10, 20, 21]}),
        ("pass,t:lowercase", "t:none", "a=BAD", {"ids": [20, 21]}),
        ("pass", "severity:CRITICAL,tag:new,rev:3", "a=bad", {"severity": 2, "tags": ("old", "new"), "revision": "3"}),
        ("pass", "msg:'new',logdata:'%{MATCHED_VAR}'", "a=bad", {"message": "new", "data": "bad"}),
        ("pass", "ctl:ruleRemoveById=20", "a=bad", {"ids": [10, 21]}),
        ("pass,ctl:ruleRemoveById=21", "log", "a=bad", {"ids": [10, 20]}),
        ("pass", "skip:1", "a=bad", {"ids": [10, 21]}),
        ("pass,nolog", "log", "a=bad", {"ids": [10, 20, 21], "audit": True}),
        ("pass", "nolog", "a=bad", {"ids": [20, 21]}),
        ("pass", "block", "a=bad", {"status": 418}),
        ("deny,status:409", "redirect:http://x/", "a=bad", {"status": 302}),
        ("deny,status:409", "pass", "a=bad", {"ids": [10, 20, 21]}),
        ("pass", "setvar:tx.x=1", "a=bad", {"ids": [10, 20, 21], "x": "1"}),
    ],
)
def test_actions_are_updated(own: str, update: str, query: str, expected: dict[str, object]) -> None:
    tx = run(
        'SecDefaultAction "phase:2,log,deny,status:418"\n'
        f'SecRule ARGS "@streq bad" "id:10,phase:2,tag:old,msg:\'old\',{own}"\n'
        'SecDefaultAction "phase:2,log,pass"\n'
        f'SecRuleUpdateActionById 10 "{update}"\n'
        'SecRule ARGS "@rx (?i)bad" "id:20,phase:2,pass,log"\nSecRule ARGS "@rx (?i)bad" "id:21,phase:2,pass,log"',
        f"/?{query}",
    )
    first = next((matched for matched in tx.matched_rules if matched.rule.id == 10), None)
    seen: dict[str, object] = {"ids": ids(tx), "status": tx.interruption.status if tx.interruption else None}
    seen["x"] = tx.lookup("TX", b"x").decode()
    if first is not None:
        info = first.rule
        seen |= {"severity": info.severity, "tags": info.tags, "revision": info.revision}
        seen |= {"message": first.message, "data": first.data, "audit": first.audit}
    assert {name: seen.get(name) for name in expected} == expected


def test_an_update_of_actions_keeps_updated_targets_and_the_chain() -> None:
    rules = (
        'SecRule ARGS:a "@streq bad" "id:10,phase:2,pass,chain"\n'
        'SecRule ARGS:b "@streq bad" "ctl:ruleRemoveById=20"\n'
        'SecRule ARGS "@streq bad" "id:20,phase:2,pass,log"\n'
        'SecRuleUpdateTargetById 10 "!ARGS:a" \nSecRuleUpdateTargetById 10 "ARGS:c"\n'
        'SecRuleUpdateActionById 10 "log,tag:x"\nSecRuleUpdateActionById 10 "tag:y"'
    )
    assert ids(run(rules, "/?a=bad&b=bad")) == [20]
    tx = run(rules, "/?c=bad&b=bad")
    assert ids(tx) == [10]
    assert tx.matched_rules[0].rule.tags == ("x", "y")


def test_the_actions_of_a_chained_rule_are_updated() -> None:
    rules = (
        'SecRule ARGS:a "@streq bad" "id:10,phase:2,pass,log,tag:x,sanitiseMatched,chain"\n'
        'SecRule ARGS:b "@streq BAD" "t:none,chain"\nSecRule ARGS:c "@streq bad" "t:none,ctl:ruleRemoveById=20"\n'
        'SecRule ARGS "@streq bad" "id:20,phase:2,pass,log"\nSecRule ARGS "@streq bad" "id:30,phase:2,pass,log"\n'
        'SecRuleUpdateTargetById 10:1 "ARGS:d"\n'
    )
    assert ids(run(rules, "/?a=bad&b=bad&c=bad")) == [20, 30]
    updates = 'SecRuleUpdateActionById 10:1 "t:uppercase"\nSecRuleUpdateActionById 10:2 "ctl:ruleRemoveById=30,setvar:tx.n=+1"\n'
    for query in ("/?a=bad&b=bad&c=bad", "/?a=bad&d=bad&c=bad"):
        tx = run(rules + updates + 'SecRuleUpdateActionById 10 "tag:y"', query)
        assert ids(tx) == [10]
        assert tx.matched_rules[0].tags == ("x", "y")
        assert tx.lookup("TX", b"n") == b"1"
        assert ("matched", b"ARGS:a") in tx.sanitised
    with pytest.raises(SecLangError, match="rule 10 has 3 links"):
        make(rules + 'SecRuleUpdateActionById 10:3 "t:none"')
    with pytest.raises(SecLangError, match="deny in a chained rule"):
        make(rules + 'SecRuleUpdateActionById 10:2 "deny"')


def test_the_separator_of_cookies_is_a_setting() -> None:
    rule = 'SecRule REQUEST_COOKIES:b "@streq 2" "id:1,phase:1,pass,log"'
    assert ids(run(rule, headers={"Cookie": "a=1|b=2"})) == []
    assert ids(run(f'SecCookieV0Separator "|"\n{rule}', headers={"Cookie": "a=1|b=2"})) == [1]


@pytest.mark.parametrize("action", ["id:5", "phase:1", "chain", "deny,id:6"])
def test_what_an_update_of_actions_cannot_change_is_said(action: str) -> None:
    with pytest.raises(SecLangError, match="cannot be changed"):
        make(f'SecRule ARGS "@rx a" "id:1,phase:2,pass"\nSecRuleUpdateActionById 1 "{action}"')


@pytest.mark.parametrize(
    "directive",
    [
        "SecRuleRemoveById 1-9", "SecRuleRemoveByTag ^t", "SecRuleRemoveByMsg evil", 'SecRuleUpdateTargetById 5 "!ARGS:a"',
        'SecRuleUpdateTargetByTag t1 "!ARGS:a"', 'SecRuleUpdateTargetByMsg evil "!ARGS:a"', 'SecRuleUpdateActionById 5 pass',
        'SecRuleUpdateTargetById 5:1 "!ARGS:a"',
    ],
)  # fmt: skip
def test_updates_are_for_rules_above_or_else_below(directive: str) -> None:
    """As libmodsecurity has it, for which it does not matter where they stand."""
    rule = (
        'SecRule ARGS:a|ARGS:c "@streq x" "id:5,phase:2,deny,tag:t1,msg:evil,chain"\n'
        '    SecRule ARGS:a|ARGS:b "@streq x" "t:none"\n'
    )
    assert run(rule, "/?a=x").interruption is not None
    for text in (f"{directive}\n{rule}", f"{rule}{directive}"):
        waf = make(text)
        assert waf.program.notes == []
        assert run(waf, "/?a=x").interruption is None


def test_a_rule_may_be_removed_and_written_anew() -> None:
    rule = 'SecRule ARGS:a "@streq {}" "id:5,phase:2,deny"\n'
    waf = make(f"{rule.format('x')}SecRuleRemoveById 5\n{rule.format('y')}")
    assert run(waf, "/?a=x").interruption is None
    assert run(waf, "/?a=y").interruption is not None


def test_directive_that_changes_nothing_is_noted() -> None:
    assert make("SecRuleRemoveById 4711").program.notes == [
        "<directives>:4:1: SecRuleRemoveById 4711 changes nothing: no rule fits"
    ]


def test_phase_mistakes_are_noted() -> None:
    waf = make('SecRule RESPONSE_BODY "@rx a" "id:1,phase:2,pass"')
    assert "reads RESPONSE_BODY in phase 2, but it has its value from phase 4 on" in waf.program.notes[0]


def test_headers_come_before_the_phase_that_judges_them() -> None:
    tx = make('SecAction "id:1,phase:2,pass"').new_transaction()
    tx.process_uri("/", "GET", "1.1")
    tx.process_request_headers()
    with pytest.raises(UsageError, match="before phase 1"):
        tx.add_request_header("X-Late", "1")
    tx.process_request_body()
    tx.add_response_header("X-In-Time", "1")
    tx.process_response_headers(200, "1.1")
    with pytest.raises(UsageError, match="before phase 3"):
        tx.add_response_header("X-Late", "1")


def test_calls_out_of_order_are_refused() -> None:
    tx = make("").new_transaction()
    with pytest.raises(UsageError, match="phase 2 cannot follow phase 0"):
        tx.process_request_body()


def test_response_phases_see_headers_status_and_body() -> None:
    rules = (
        'SecRule RESPONSE_STATUS "@streq 200" "id:1,phase:3,pass,log"\n'
        'SecRule RESPONSE_HEADERS:X-Powered-By "@rx PHP" "id:2,phase:3,pass,log"\n'
        'SecRule RESPONSE_BODY "@contains secret" "id:3,phase:4,deny"'
    )
    tx = run(rules, response=b"a secret", response_headers={"Content-Type": "text/html", "X-Powered-By": "PHP/5"})
    assert ids(tx) == [1, 2, 3]
    assert tx.interruption is not None
    binary = run(rules, response=b"a secret", response_headers={"Content-Type": "image/png"})
    assert ids(binary) == [1]


@pytest.mark.parametrize(
    ("rule", "phase"),
    [
        ('SecRule ARGS "@rx a" "id:1,phase:2,deny,msg:\'%{RESPONSE_STATUS}\'"', 0),
        ('SecRule ARGS "@eq 1" "id:1,phase:5,pass"', 0),
        ('SecRule ARGS "@eq 1" "id:1,phase:3,pass"', 3),
        ('SecRule ARGS "@eq 1" "id:1,phase:4,pass"', 4),
        ('SecRule RESPONSE_STATUS "@rx ^40[13]$" "id:1,phase:5,pass"', 3),
        ('SecRule ARGS "@eq 1" "id:1,phase:5,pass,logdata:\'%{RESPONSE_HEADERS.location}\'"', 3),
        ('SecAction "id:1,phase:5,pass,setvar:ip.last=%{RESPONSE_STATUS}"', 3),
        ('SecAction "id:1,phase:5,pass,expirevar:ip.last=%{RESPONSE_HEADERS.retry-after}"', 3),
        ('SecRule ARGS "@contains %{RESPONSE_PROTOCOL}" "id:1,phase:5,pass"', 3),
        ('SecRule RESPONSE_BODY "@contains secret" "id:1,phase:5,pass"', 4),
        ('SecRule ARGS "@eq 1" "id:2,phase:5,pass,chain"\nSecRule RESPONSE_BODY "@contains secret"', 4),
        ('SecRule TX:never "@eq 1" "id:2,phase:5,pass,chain"\nSecRule RESPONSE_BODY "@contains secret"', 0),
    ],
)
def test_what_rules_look_at_in_the_response(rule: str, phase: int) -> None:
    assert make(rule).program.response_phase == phase


def test_the_logging_phase_sees_the_body_of_the_response() -> None:
    rules = 'SecRule RESPONSE_BODY "@contains secret" "id:1,phase:5,pass,log"'
    assert ids(run(rules, response=b"a secret", response_headers={"Content-Type": "text/html"})) == [1]
    assert ids(run(rules, response=b"a secret", response_headers={"Content-Type": "image/png"})) == []


def test_severity_and_rule_collection() -> None:
    rules = (
        'SecAction "id:1,phase:1,pass,log,severity:\'WARNING\'"\nSecAction "id:2,phase:1,pass,log,severity:2"\n'
        'SecRule HIGHEST_SEVERITY "@eq 2" "id:3,phase:1,pass,log,rev:7"\n'
        "SecAction \"id:4,phase:1,pass,log,rev:8,msg:'%{RULE.id} %{rule.rev}'\""
    )
    tx = run(rules)
    assert ids(tx) == [1, 2, 3, 4]
    assert tx.matched_rules[3].message == "4 8"


@pytest.mark.parametrize(
    ("uri", "name", "expected"),
    [
        ("/a/b.php?x=1#f", "REQUEST_URI", b"/a/b.php?x=1#f"),
        ("/a/b%2ephp?x=1", "REQUEST_FILENAME", b"/a/b.php"),
        ("/a+b", "REQUEST_FILENAME", b"/a+b"),
        ("/a/b.php", "REQUEST_BASENAME", b"b.php"),
        ("/a?x=%41", "QUERY_STRING", b"x=%41"),
        ("http://h/a?x", "REQUEST_URI", b"/a?x"),
        ("http://h", "REQUEST_URI", b"/"),
        ("http://h/a?x", "REQUEST_URI_RAW", b"http://h/a?x"),
        ("/a?x=1", "REQUEST_LINE", b"GET /a?x=1 HTTP/1.1"),
        ("/a?x=1&yy=22", "ARGS_COMBINED_SIZE", b"6"),
        ("/", "REMOTE_ADDR", b"192.0.2.1"),
        ("/", "REMOTE_PORT", b"4711"),
        ("/", "SERVER_NAME", b"www.example.com"),
    ],
)
def test_request_variables(uri: str, name: str, expected: bytes) -> None:
    assert run("", uri).lookup(name, None) == expected


def test_authorization_variables() -> None:
    tx = run("", headers={"Authorization": "Basic YWRhOnNlY3JldA=="})
    assert (tx.lookup("AUTH_TYPE", None), tx.lookup("REMOTE_USER", None)) == (b"Basic", b"ada")
    assert run("", headers={"Authorization": "Basic !"}).lookup("REMOTE_USER", None) == b""


def test_collections_outlive_a_request() -> None:
    waf = make(
        'SecAction "id:1,phase:1,nolog,pass,initcol:ip=%{REMOTE_ADDR},setvar:ip.hits=+1,expirevar:ip.hits=60"\n'
        'SecRule IP:hits "@gt 2" "id:2,phase:1,deny,status:429"'
    )
    verdicts = [run(waf).interruption for _ in range(4)]
    assert [stop.status if stop else 200 for stop in verdicts] == [200, 200, 429, 429]


def test_environment() -> None:
    rules = (
        'SecAction "id:1,phase:1,nolog,pass,setenv:seen=%{ARGS.a}"\nSecRule ENV:seen "@streq 5" "id:2,phase:1,pass,log"'
    )
    assert ids(run(rules, "/?a=5")) == [2]


@pytest.mark.parametrize("exclusion", ["REQUEST_HEADERS:X-A", "REQUEST_HEADERS:/^x-a$/", "REQUEST_HEADERS"])
@pytest.mark.parametrize("options", [CompileOptions(), PLAIN], ids=["planned", "plain"])
def test_what_is_excluded_is_not_counted_as_missing(exclusion: str, options: CompileOptions) -> None:
    """`!REQUEST_HEADERS:Host` silences `&REQUEST_HEADERS:Host "@eq 0"`, in an update and in ctl."""
    rule = 'SecRule &REQUEST_HEADERS:X-A "@eq 0" "id:1,phase:1,pass,log"\n'
    assert ids(run(make(rule, options))) == [1]
    assert ids(run(make(rule + f'SecRuleUpdateTargetById 1 "!{exclusion}"', options))) == []
    ctl = f'SecRule ARGS:off "@streq 1" "id:9,phase:1,pass,nolog,ctl:ruleRemoveTargetById=1;{exclusion}"\n'
    assert ids(run(make(ctl + rule, options), "/?off=1")) == []
    assert ids(run(make(ctl + rule, options))) == [1]
    other = 'SecRule &REQUEST_HEADERS "@eq 1" "id:2,phase:1,pass,log"\n'
    assert ids(run(make(ctl.replace("=1;", "=2;") + other, options), "/?off=1", headers={"X-A": "1"})) == (
        [] if exclusion == "REQUEST_HEADERS" else [2]
    )


def test_names_that_an_expression_excludes() -> None:
    waf = make(
        'SecRule ARGS:off "@streq 1" "id:9,phase:1,pass,nolog,ctl:ruleRemoveTargetById=1;ARGS:b"\n'
        'SecRule ARGS|!ARGS:/^x-/|!ARGS:q|!ARGS:off|!ARGS:/z$/ "@streq 1" "id:1,phase:2,pass,log"'
    )
    for _ in range(2):  # the second time the names are known
        assert ids(run(waf, "/?x-a=1&az=1&q=1&Q=1")) == []
        assert ids(run(waf, "/?off=1&b=1&B=1&x-a=1")) == []
        assert ids(run(waf, "/?off=1&b=1&c=1")) == [1]
        (matched,) = run(waf, "/?x-a=1&b=1&z=1&B=1").matched_rules
        assert [name for name, _ in matched.matches] == [b"ARGS:b", b"ARGS:B"]
    long = "n" * 200
    assert ids(run(waf, f"/?{long}=1")) == [1]
    assert ids(run(waf, f"/?x-{long}=1")) == []
