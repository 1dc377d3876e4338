"""What `envoy-waf check` notes: rules that cannot do what they seem to."""

from __future__ import annotations

import re

import pytest

from tests.core.transactions import ids, make, run
from tests.crs import crs_or_skip
from waf_core import WAF
from waf_core.compiler import CompileOptions

NOTES = {
    'SecRule ARGS "@rx a(?!b)" "id:1,phase:2,pass"': r"1:15.*backtracking.*RE2 cannot compile the pattern: invalid perl operator: .*at offset 1: '\(\?!b\)' \(put what must not follow",
    r'SecRule ARGS "@rx (a)\1" "id:1,phase:2,pass"': r"at offset 3: .*back references have no equivalent",
    'SecRule ARGS "@rx a++b" "id:1,phase:2,pass"': r"possessive quantifier is the plain one",
    'SecAction "id:1,phase:1,deny"\nSecAction "id:2,phase:1,pass"\nSecAction "id:3,phase:1,pass"': r"rule 1 always ends the phase: 2 rules of phase 1 behind it never run \(2 to 3\)",
    'SecAction "id:1,phase:1,pass,skipAfter:m"\nSecAction "id:2,phase:1,pass"\nSecMarker m\nSecAction "id:3,phase:1,pass"': r"rule 1 always jumps: 1 rules of phase 1 behind it never run \(2\)",
    'SecRule WEBSERVER_ERROR_LOG "@rx a" "id:1,phase:1,pass"': r"WEBSERVER_ERROR_LOG is always empty: there is no web server",
    'SecRule REMOTE_ADDR "@geoLookup" "id:1,phase:1,pass"': r"@geoLookup never matches: set SecGeoLookupDb",
    'SecRule REMOTE_ADDR "@rbl x.example" "id:1,phase:1,pass"': r"@rbl never matches: no DNS is asked",
    'SecRule ARGS "@rx a" "id:1,phase:2,pass,chain"\nSecRule ARGS "@rx b" "t:none,nolog"': r"2:\d+: nolog has no effect in a chained rule \(of 1\)",
    'SecRule REQUEST_URI|!ARGS:x "@rx a" "id:1,phase:2,pass"': r"1:21: rule 1 excludes something of ARGS, at which it does",
    'SecAction "id:1,phase:1,pass,initcol:ip=%{REMOTE_ADR}"': r"rule 1: %\{REMOTE_ADR\} is no variable: it stands for",
    'SecRule REMOTE_ADDR "@rx a" "id:1,phase:2,pass,logdata:\'%{REMOTE_HOSTS}\'"': r"%\{REMOTE_HOSTS\} is no variable",
    'SecRule REMOTE_ADDR "@rx a" "id:1,phase:5,deny"': r"rule 1 cannot deny in phase 5",
    'SecRule REMOTE_ADDR "@rx a" "id:1,phase:1,pass,ctl:ruleRemoveById=7"': r"1:\d+: ctl:ruleremovebyid=7 changes nothing",
    'SecAction "id:1,phase:1,pass"\nSecAction "id:2,phase:1,pass,ctl:ruleRemoveById=1"': r"2:\d+: ctl:ruleremovebyid=1 comes too late: rule 2 runs behind",
    'SecRule ARGS "@rx a" "id:1,phase:2,pass,setvar:ip.a=1"\nSecRule IP:a "@eq 1" "id:2,phase:2,deny"': r"1:1: IP is never opened \(initcol\): 2 rules \(1, ...\)",
    'SecAction "id:1,phase:1,pass,initcol:ip=%{REMOTE_ADDR},setvar:ip.a=%{SESSION.b}"': r"SESSION is never opened",
    'SecRule REMOTE_PORT "@gt x" "id:1,phase:1,pass"': r"1:22: 'x' is no number: it counts as 0",
    'SecRule RESPONSE_BODY "@rx a" "id:1,phase:4,pass"': r"SecResponseBodyAccess is Off: rule 1",
    'SecRule ARGS_POST "@rx a" "id:1,phase:2,pass"': r"SecRequestBodyAccess is Off: rule 1 looking",
    'SecAction "id:1,phase:1,pass,setvar:tx.scor=+1"\nSecRule TX:score "@gt 1" "id:2,phase:1,deny"': r"^tx\.scor is counted by rule 1 and no rule reads it",
    'SecAction "id:1,phase:1,pass,setvar:tx.a=-1"\nSecAction "id:2,phase:1,pass,setvar:tx.a=+%{tx.c}"\nSecAction "id:3,phase:1,pass,setvar:tx.c=2"': r"^tx\.a is counted by 2 rules \(1, \.\.\.\) and",
    'SecRule REMOTE_PORT "@gt %{tx.most}" "id:1,phase:1,pass"': r"^%\{tx\.most\} is used by rule 1 and no rule sets it",
    'SecAction "id:1,phase:1,pass,setvar:tx.a=+%{TX.Critical}"\nSecRule TX:/^a/ "@gt 1" "id:2,phase:1,deny"': r"^%\{tx\.critical\} is used by rule 1",
    'SecRule ARGS "@rx a" "id:1,phase:2,block"\nSecDefaultAction "phase:1,deny"\nSecAction "id:2,phase:1,block"': r"^`block` means pass in phase 2 \(SecDefaultAction .*rule 1 using it",
    "SecTmpDir /tmp": r"SecTmpDir has no effect here: bodies stay in memory",
}


@pytest.mark.parametrize("rules", NOTES)
def test_note(rules: str) -> None:
    (note,) = WAF.from_directives(rules).program.notes
    assert re.search(NOTES[rules], note), note


def test_a_rule_that_looks_at_nothing() -> None:
    excludes, nothing = WAF.from_directives('SecRule !ARGS:x "@rx a" "id:1,phase:2,pass"').program.notes
    assert "1:9: rule 1 excludes something of ARGS" in excludes
    assert "1:1: rule 1 looks at nothing: it never matches" in nothing


def test_what_is_there_without_a_body_needs_no_note() -> None:
    rules = (
        'SecRule OUTBOUND_DATA_ERROR "@eq 1" "id:1,phase:4,pass"\nSecRule &RESPONSE_BODY "@eq 0" "id:2,phase:4,pass"\n'
        'SecRule REQBODY_ERROR "@eq 1" "id:3,phase:2,pass"\nSecRule &ARGS_POST "@eq 0" "id:4,phase:2,pass"'
    )
    assert WAF.from_directives(rules).program.notes == []


def test_rules_that_do_what_they_seem_to_need_no_notes() -> None:
    rules = (
        "SecRule ARGS|!ARGS:x|&ARGS:/y/ \"@rx a\" \"id:1,phase:2,pass,msg:'%{RULE.id} %{TX.0} %{TIME}',logdata:'%{ENV.A}'\"\n"
        'SecRule RESPONSE_BODY|RESPONSE_HEADERS "@rx a" "id:2,phase:4,deny"\n'
        'SecRule ARGS_POST "@ge 007" "id:3,phase:2,pass,ctl:ruleRemoveTargetById=1-9;ARGS:z"\n'
        'SecAction "id:5,phase:3,pass,ctl:ruleRemoveById=2"\nSecAction "id:6,phase:1,pass,ctl:ruleRemoveById=1-3"\n'
        'SecAction "id:7,phase:1,pass,setvar:tx.a=+%{tx.x_%{TX.1}}"\nSecRule TX:a "@gt %{tx.x_1}" "id:8,phase:1,deny"\n'
        'SecAction "id:9,phase:1,pass,setvar:tx.x_%{RULE.id}=+1"\nSecRule &TX:most "@eq 0" "id:10,phase:1,pass"\n'
        'SecRule ARGS "@gt %{tx.most}" "id:11,phase:2,pass,setvar:tx.seen=+1,logdata:\'%{tx.seen} %{tx.nobody}\'"\n'
        'SecAction "id:4,phase:5,pass,initcol:ip=%{REMOTE_ADDR},expirevar:ip.a=%{TX.a}"'
    )
    assert make(rules).program.notes == []


def test_the_core_rule_set_counts_and_uses_nothing_in_vain_and_its_parts_do() -> None:
    root = crs_or_skip()
    whole = [str(root / "crs-setup.conf.example"), *map(str, sorted((root / "rules").glob("*.conf")))]
    assert [note for note in WAF.from_files(whole).program.notes if "tx." in note] == []
    notes = WAF.from_files([path for path in whole if "-941-" in path or "-942-" in path]).program.notes
    assert any(note.startswith("tx.inbound_anomaly_score_pl1 is counted by ") for note in notes)
    assert any(note.startswith("%{tx.critical_anomaly_score} is used by ") for note in notes)


MULTIPHASE = CompileOptions(multiphase=True)
SPLIT = (
    'SecRule ARGS|REQUEST_COOKIES|ARGS_NAMES "@streq bad" "id:1,phase:2,pass,log,setvar:tx.n=+1"\n'
    'SecRule TX:n "@ge 1" "id:2,phase:1,deny"'
)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_multiphase_judges_the_query_in_phase_1_and_the_body_in_phase_2() -> None:
    early = run(make(SPLIT, MULTIPHASE), "/?a=bad")
    assert ids(early) == [1, 2]
    assert early.matched_rules[0].variable == "ARGS:a"
    assert early.request_body.length == 0
    late = run(make(SPLIT, MULTIPHASE), "/?a=b", method="POST", headers=FORM, body=b"c=bad")
    assert ids(late) == [1]
    assert late.tx[b"n"] == b"1"
    assert ids(run(make(SPLIT), "/?a=bad")) == [1]


def test_multiphase_respects_exclusions_by_name() -> None:
    exclusion = 'SecAction "id:9,phase:1,pass,nolog,ctl:ruleRemoveTargetById=1;ARGS:a"\n'
    assert ids(run(make(exclusion + SPLIT, MULTIPHASE), "/?a=bad")) == []
    assert ids(run(make(exclusion + SPLIT, MULTIPHASE), "/?b=bad")) == [1, 2]


def test_unicode_map_decides_what_url_decode_uni_yields(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("map")
    (folder / "unicode.mapping").write_text("# comment\n1250 (x)\n2200:40\n\n20127 (US-ASCII)\n2215:2f 221a:76\n")
    rules = f'SecUnicodeMapFile {folder}/unicode.mapping 20127\nSecRule ARGS "@streq a/b" "id:1,phase:2,pass,log,t:urlDecodeUni"'
    assert ids(run(rules, "/?x=a%25u2215b")) == [1]
    assert ids(run(rules.split("\n")[1], "/?x=a%25u2215b")) == []
