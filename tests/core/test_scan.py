"""The scan plan and folding: the same verdicts as asking every rule about every value."""

from __future__ import annotations

import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extproc.ftw.tests import load_cases
from tests.conformance.engine import make_waf
from tests.core.answers import answers
from tests.core.transactions import PLAIN, ids, make, run
from tests.crs import crs_or_skip, find_crs
from waf_core import WAF
from waf_core.actions import SetVar
from waf_core.compiler import CompileOptions
from waf_core.errors import WafError
from waf_core.evaluation import MAX_LOGGED_BYTES, MAX_LOGGED_MATCHES, MAX_MEMORIES
from waf_core.scan.limits import ScanLimits, ScanStatistics
from waf_core.scan.patterns import PatternSet
from waf_core.scan.re2_set import Re2Set


@pytest.fixture(scope="module")
def pair() -> tuple[WAF, WAF]:
    """CRS at level 4: planned and folded, and rule by rule."""
    root = crs_or_skip()
    return make_waf(root), make_waf(root, PLAIN)


@pytest.mark.parametrize("part", range(8))
def test_same_matches_over_the_crs_corpus(pair: tuple[WAF, WAF], part: int) -> None:
    root = find_crs()
    assert root is not None
    cases = list(load_cases(root / "tests" / "regression" / "tests"))[part::8]
    assert len(cases) > 500
    for case in cases:
        for stage in case.stages:
            assert answers(pair[0], stage) == answers(pair[1], stage), case.name


FRAGMENTS = [
    "'",
    " or ",
    "1=1",
    "<script>",
    "../",
    "etc/passwd",
    "%0d%0a",
    "select ",
    "union ",
    ";",
    "|",
    "$(",
    "a",
    "id",
    "\\x41",
    "&lt;",
    "/*",
    "*/",
    "\0",
    "{{7*7}}",
    "${jndi:",
    "0x41",
    "=",
    '"',
    "`",
    "é",
    "\xa0",
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join), st.binary(max_size=40))
def test_same_matches_over_attack_fragments(pair: tuple[WAF, WAF], text: str, noise: bytes) -> None:
    from urllib.parse import quote

    outcomes = []
    for waf in pair:
        tx = run(waf, f"/p?a={quote(text)}&{quote(noise)}=1", headers={"Cookie": f"c={text}", "User-Agent": text})
        outcomes.append([(m.rule.id, m.variable, m.value) for m in tx.matched_rules])
    assert outcomes[0] == outcomes[1]


def test_statistics_of_threads_add_up() -> None:
    statistics = ScanStatistics()
    taken = []

    def count() -> None:
        for _ in range(20_000):
            statistics.add(scans=1)

    threads = [threading.Thread(target=count) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            taken.append(statistics.take()[0])
    finally:
        sys.setswitchinterval(interval)
    taken.append(statistics.take()[0])
    assert min(taken) >= 0
    assert sum(taken) == statistics.scans == 60_000


def test_rules_above_the_paranoia_level_are_gone(pair: tuple[WAF, WAF]) -> None:
    root = find_crs()
    low = WAF.from_directives(f"SecRuleEngine On\nInclude {root}/crs-setup.conf.example\nInclude {root}/rules/*.conf")
    kept = {low.program.phases[2].units[p].info.id for p in low.program.phases[2].kept}
    levels = {tag for u in low.program.units if u.info.id in kept for tag in u.info.tags if tag.startswith("paranoia")}
    assert levels == {"paranoia-level/1"}
    # What is left to visit in every transaction is the scoring, not the detection.
    assert sum(len(phase.always) for phase in low.program.phases.values()) < 40


def test_constants_fold_into_the_initial_tx() -> None:
    rules = (
        'SecRule &TX:level "@eq 0" "id:1,phase:1,pass,nolog,setvar:tx.level=2"\n'
        'SecRule TX:level "@lt 3" "id:2,phase:1,pass,nolog,skipAfter:end"\n'
        'SecRule ARGS "@rx a" "id:3,phase:1,pass,log"\nSecMarker end\n'
        'SecRule TX:level "@eq %{tx.level}" "id:4,phase:1,pass,log"'
    )
    waf = make(rules)
    assert waf.program.initial_tx == {b"level": b"2"}
    assert [waf.program.phases[1].units[p].info.id for p in waf.program.phases[1].kept] == [4]
    assert ids(run(waf, "/?x=a")) == [4]


FOLD_TRAPS = {
    "a rule that traffic decides sets the variable": (
        'SecAction "id:1,phase:1,pass,nolog,setvar:tx.a=1"\nSecRule ARGS:x "@streq 1" "id:2,phase:1,pass,nolog,setvar:tx.a=2"\n'
        'SecRule TX:a "@eq 2" "id:3,phase:1,pass,log"'
    ),
    "a skip that traffic decides jumps over an assignment": (
        'SecAction "id:1,phase:1,pass,nolog,setvar:tx.a=1"\nSecRule ARGS:x "@streq 1" "id:2,phase:1,pass,nolog,skipAfter:m"\n'
        'SecAction "id:3,phase:1,pass,nolog,setvar:tx.a=2"\nSecMarker m\nSecRule TX:a "@eq 2" "id:4,phase:1,pass,log"'
    ),
    "a rule is removed while running": (
        'SecRule ARGS:x "@streq 1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=2"\n'
        'SecAction "id:2,phase:1,pass,nolog,setvar:tx.a=2"\nSecRule TX:a "@eq 2" "id:3,phase:1,pass,log"'
    ),
    "a removed skip uncovers rules": (
        'SecRule ARGS:x "@streq 1" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=2"\n'
        'SecAction "id:2,phase:1,pass,nolog,skipAfter:m"\nSecAction "id:3,phase:1,pass,log"\nSecMarker m\n'
    ),
    "a phase ends early": (
        'SecRule ARGS:x "@streq 1" "id:1,phase:1,allow:phase,nolog"\nSecAction "id:2,phase:1,pass,nolog,setvar:tx.a=2"\n'
        'SecRule TX:a "@eq 2" "id:3,phase:2,pass,log"'
    ),
    "a verdict comes before an assignment that logging reads": (
        'SecRule ARGS:x "@streq 1" "id:1,phase:1,deny,nolog"\nSecAction "id:2,phase:1,pass,nolog,setvar:tx.a=2"\n'
        'SecRule TX:a "@eq 2" "id:3,phase:5,pass,log"'
    ),
    "a name is made from a macro": (
        'SecAction "id:1,phase:1,pass,nolog,setvar:tx.n_1=1"\n'
        'SecRule ARGS:x "@rx ." "id:2,phase:1,pass,nolog,setvar:tx.n_%{MATCHED_VAR}=2"\n'
        'SecRule TX:n_1 "@eq 2" "id:3,phase:1,pass,log"'
    ),
    "a value is read before it is set": (
        'SecRule ARGS "@rx ." "id:1,phase:1,pass,log,chain"\nSecRule TX:a "@eq 2" "t:none"\n'
        'SecAction "id:2,phase:1,pass,nolog,setvar:tx.a=2"\nSecRule TX:a "@eq 2" "id:3,phase:2,pass,log"'
    ),
    "a rule changes what its own test compares with": (
        'SecAction "id:1,phase:1,pass,nolog,setvar:tx.a=1"\n'
        'SecRule ARGS "@eq %{tx.a}" "id:2,phase:1,pass,log,setvar:tx.a=+1"\nSecRule TX:a "@eq 3" "id:3,phase:1,pass,log"'
    ),
    "a rule adds what it changes itself": (
        'SecAction "id:1,phase:1,pass,nolog,setvar:tx.a=1,setvar:tx.b=0"\n'
        'SecRule ARGS "@rx ." "id:2,phase:1,pass,log,setvar:tx.b=+%{tx.a},setvar:tx.a=+1"\n'
        'SecRule TX:b "@eq 3" "id:3,phase:1,pass,log"'
    ),
    "a sum of what is known and what traffic brings": (
        'SecAction "id:1,phase:1,pass,nolog,setvar:tx.a=5"\n'
        'SecRule ARGS "@rx (.)" "id:2,phase:1,pass,log,capture,setvar:tx.b=+%{tx.a},setvar:tx.b=-%{tx.0}"\n'
        'SecRule TX:b "@eq 7" "id:3,phase:1,pass,log"'
    ),
    "a rule reads what it has just set": (
        'SecAction "id:1,phase:1,pass,nolog,setvar:tx.a=2,setvar:tx.b=%{tx.a}"\nSecRule TX:b "@eq 2" "id:2,phase:1,pass,log"'
    ),
    "a later link reads what an earlier one has set": (
        'SecRule &TX:a "@eq 0" "id:1,phase:1,pass,nolog,setvar:tx.a=1,chain"\nSecRule TX:a "@eq 1" "setvar:tx.b=1"\n'
        'SecRule TX:b "@eq 1" "id:2,phase:1,pass,log"'
    ),
    "a skip is skipped": (
        'SecRule ARGS:x "@rx ." "id:1,phase:1,pass,log,skip:1"\nSecAction "id:2,phase:1,pass,nolog,skip:1"\n'
        'SecAction "id:3,phase:1,pass,log"'
    ),
    "two skips overlap": (
        'SecRule ARGS:x "@streq 1" "id:1,phase:1,pass,nolog,skip:2"\nSecAction "id:2,phase:1,pass,nolog,setvar:tx.a=1"\n'
        'SecRule ARGS:x "@streq 2" "id:3,phase:1,pass,nolog,skip:2"\nSecRule &TX:a "@eq 0" "id:4,phase:1,pass,log"\n'
        'SecAction "id:5,phase:1,pass,log"'
    ),
    "half a chain captures for another rule": (
        'SecRule ARGS "@rx (.)" "id:1,phase:1,pass,nolog,capture,chain"\nSecRule ARGS "@streq no" "t:none"\n'
        'SecRule TX:1 "@streq 2" "id:2,phase:1,pass,log"'
    ),
    "half a chain sets what another rule looks at": (
        'SecRule ARGS "@rx ." "id:1,phase:1,pass,nolog,chain"\nSecRule ARGS "@streq no" "t:none"\n'
        'SecRule MATCHED_VAR "@streq 2" "id:2,phase:1,pass,log"'
    ),
}


@pytest.mark.parametrize("name", FOLD_TRAPS)
@pytest.mark.parametrize("uri", ["/", "/?x=1", "/?x=2", "/?x=1&y=2"])
def test_folding_never_changes_an_answer(name: str, uri: str) -> None:
    rules = FOLD_TRAPS[name]
    assert ids(run(make(rules), uri)) == ids(run(make(rules, PLAIN), uri))


def test_what_a_rule_adds_is_known_when_compiled() -> None:
    """CRS's scores: each rule adds what the set-up has set."""
    waf = make(
        'SecAction "id:1,phase:1,pass,nolog,setvar:tx.critical=5"\n'
        'SecRule ARGS "@rx ." "id:2,phase:1,pass,log,setvar:tx.score=+%{tx.critical}"'
    )
    [effect] = waf.program.units[-1].links[0].effects
    assert isinstance(effect, SetVar)
    assert effect.value.constant == b"5"
    assert run(waf, "/?a=1&b=2").tx[b"score"] == b"10"


def test_a_known_value_that_looks_like_a_macro_stays_as_it_is() -> None:
    effect = SetVar("tx.a=%{tx.b}").with_value(b"%{tx.c}")
    tx = run(make('SecAction "id:1,phase:1,pass,nolog,setvar:tx.c=1"'), "/")
    effect(tx)
    assert tx.tx[b"a"] == b"%{tx.c}"


CLEAN_TRAPS = [
    # A harmless rule matches after all: what was set before it must not be set again.
    'SecRule ARGS "@rx ^n$" "id:1,phase:1,pass,nolog,setvar:tx.seen=1"\n'
    'SecAction "id:2,phase:1,pass,nolog,setvar:tx.score=0"\n'
    'SecRule ARGS "@rx ^bad" "id:3,phase:1,pass,log,setvar:tx.score=+5"\n'
    'SecRule TX:score "@ge 5" "id:4,phase:1,deny"',
    # The last rule of a chain matches.
    'SecAction "id:2,phase:1,pass,nolog,setvar:tx.score=0"\n'
    'SecRule ARGS "@rx (.+)" "id:3,phase:1,pass,log,capture,setvar:tx.name_%{TX.1}=1,chain"\n'
    '  SecRule TX:/^name_bad/ "@eq 1" "setvar:tx.score=+5"\n'
    'SecRule TX:score "@ge 5" "id:4,phase:1,deny"',
    # A silent rule jumps over one that would match.
    'SecRule ARGS "@rx ^n" "id:1,phase:1,pass,nolog,skipAfter:m"\n'
    'SecRule ARGS "@rx ad$" "id:3,phase:1,pass,log,setvar:tx.score=+5"\nSecMarker m\n'
    'SecRule TX:score "@ge 5" "id:4,phase:1,deny"',
    # A name made from traffic fits an expression that is always looked at.
    'SecRule ARGS "@rx (.+)" "id:1,phase:1,pass,nolog,capture,setvar:tx.x_%{TX.1}=1"\n'
    'SecRule TX:/ad$/ "@eq 1" "id:4,phase:1,deny"',
    # A silent rule replaces a default that a later chain looks at.
    'SecRule ARGS "@rx ^x" "id:5,phase:1,pass,log"\nSecAction "id:1,phase:1,pass,nolog,setvar:tx.strict=0"\n'
    'SecRule ARGS "@rx ^n" "id:2,phase:1,pass,nolog,setvar:tx.strict=1"\n'
    'SecRule ARGS "@rx ad$" "id:3,phase:2,deny,chain"\nSecRule TX:strict "@eq 1" "t:none"',
    # What it sets is set again behind it.
    'SecRule ARGS "@rx ^n" "id:2,phase:1,pass,nolog,setvar:tx.strict=1"\n'
    'SecRule ARGS "@rx ^m" "id:4,phase:1,pass,log"\nSecAction "id:1,phase:1,pass,nolog,setvar:tx.strict=0"\n'
    'SecRule ARGS "@rx ad$" "id:3,phase:2,deny,chain"\nSecRule TX:strict "@eq 1" "t:none"\n'
    'SecRule ARGS "@rx ^x" "id:5,phase:1,pass,log"',
]


@pytest.mark.parametrize("rules", CLEAN_TRAPS)
@pytest.mark.parametrize("uri", ["/", "/?a=n", "/?a=bad", "/?a=n&b=bad", "/?a=nad"])
def test_the_clean_path_never_changes_an_answer(rules: str, uri: str) -> None:
    planned, plain = run(make(rules), uri), run(make(rules, PLAIN), uri)
    assert ids(planned) == ids(plain)
    assert planned.interruption == plain.interruption
    assert planned.tx == plain.tx


def many_patterns(limits: ScanLimits) -> tuple[PatternSet, list[int], ScanStatistics]:
    statistics = ScanStatistics()
    patterns = PatternSet(statistics, limits)
    numbers = [patterns.add(f"(?i)w{i}[a-z]{{1,30}}x{i}y*".encode()) for i in range(40)]
    patterns.compile()
    return patterns, numbers, statistics


def test_set_that_does_not_fit_gets_more_memory() -> None:
    patterns, numbers, statistics = many_patterns(ScanLimits(set_max_mem=1000))
    everything = (1 << len(numbers)) - 1
    assert patterns.find({b"w7abcx7": everything, b"w8": everything}) == {b"w7abcx7": 1 << numbers[7]}
    assert statistics.set_failures == 0


def test_set_that_fails_makes_every_pattern_a_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    """RE2 reports a failed automaton as "nothing matched"; the missing sentinel gives it away."""

    class FailedSet:
        def Match(self, value: bytes) -> list[int]:  # noqa: N802
            return []

    statistics = ScanStatistics()
    expressions = Re2Set({3: b"a+", 7: b"b+"}, ScanLimits().set_max_mem, statistics)
    assert expressions.match(b"xbx") == [7]
    assert expressions.match(b"x") == ()
    monkeypatch.setattr(expressions, "_set", FailedSet())
    assert expressions.match(b"anything") == [3, 7]
    assert statistics.set_failures == 1


def test_a_set_refuses_what_re2_cannot_read() -> None:
    """RE2 would leave it out, and number the others by what is left."""
    with pytest.raises(WafError, match="RE2 cannot read"):
        Re2Set({1: b"a", 2: b"(b", 3: b"c"}, ScanLimits().set_max_mem, ScanStatistics())


def test_values_are_remembered_within_bounds() -> None:
    options = CompileOptions(limits=ScanLimits(cache_entries=4, cache_value_bytes=8))
    waf = make('SecRule ARGS "@rx evil" "id:1,phase:2,pass,log"', options)
    for value in ("a", "a", "b", "c", "d", "e", "a", "x" * 9, "x" * 9):
        run(waf, f"/?v={value}")
    # a b c d e are scanned once (a stays in the older generation), the long value each time.
    assert waf.program.statistics.scans == 7
    assert ids(run(waf, "/?v=evil")) == [1]
    assert ids(run(waf, "/?v=evil")) == [1]


def test_counters_are_taken_once() -> None:
    statistics = ScanStatistics()
    statistics.add(scans=3, set_failures=1)
    assert statistics.take() == (3, 1)
    statistics.add(scans=2)
    assert statistics.take() == (2, 0)
    assert (statistics.scans, statistics.set_failures) == (5, 1)


MEMO_TRAPS = [
    # CRS 920450: each header's name is noted, and one of the notes is refused.
    'SecRule ARGS_NAMES "@rx ^.*$" "id:1,phase:1,pass,log,capture,t:lowercase,setvar:tx.n_%{tx.0}=/%{tx.0}/,chain"\n'
    'SecRule TX:/^n_/ "@within %{tx.bad}" "setvar:tx.score=+5"\n'
    'SecRule MATCHED_VAR "@rx ." "id:2,phase:1,pass,log"\nSecRule TX:0 "@rx ." "id:3,phase:1,pass,log"',
    # What is refused comes from traffic, after the notes of the same names have been remembered.
    'SecRule ARGS:x "@rx ^(.+)$" "id:5,phase:1,pass,nolog,capture,setvar:tx.bad=/%{tx.1}/"\n'
    'SecRule ARGS_NAMES "@rx ^(.).*$" "id:1,phase:1,pass,log,capture,setvar:tx.n_%{tx.0}=/%{tx.0}/,chain"\n'
    'SecRule TX:/^n_/ "@within %{tx.bad}" "t:none"\nSecRule TX:1 "@rx ." "id:3,phase:1,pass,log"',
    # A note of the same kind is there already.
    'SecRule ARGS:x "@rx ." "id:5,phase:1,pass,nolog,setvar:tx.n_old=/evil/"\n'
    'SecRule ARGS_NAMES "@rx ^.*$" "id:1,phase:1,pass,log,capture,setvar:tx.n_%{tx.0}=/%{tx.0}/,chain"\n'
    'SecRule TX:/^n_/ "@within %{tx.bad}" "t:none"',
    # Another rule makes names of the same beginning, or any, from traffic.
    'SecRule ARGS:x "@rx ^.+$" "id:5,phase:1,pass,nolog,capture,setvar:tx.n_o%{tx.0}=/evil/"\n'
    'SecRule ARGS_NAMES "@rx ^.*$" "id:1,phase:1,pass,log,capture,setvar:tx.n_%{tx.0}=/%{tx.0}/,chain"\n'
    'SecRule TX:/^n_/ "@within %{tx.bad}" "t:none"',
    'SecRule ARGS_NAMES "@rx ^n_.*$" "id:5,phase:1,pass,nolog,capture,setvar:tx.%{tx.0}=/evil/"\n'
    'SecRule ARGS_NAMES "@rx ^.*$" "id:1,phase:1,pass,log,capture,setvar:tx.n_%{tx.0}=/%{tx.0}/,chain"\n'
    'SecRule TX:/^n_/ "@within %{tx.bad}" "t:none"',
    # The target of a chain is removed for one request.
    'SecRule ARGS:x "@streq off" "id:5,phase:1,pass,nolog,ctl:ruleRemoveTargetById=1;ARGS_NAMES:evil"\n'
    'SecRule ARGS_NAMES "@rx ^.*$" "id:1,phase:1,pass,log,capture,setvar:tx.n_%{tx.0}=/%{tx.0}/,chain"\n'
    'SecRule TX:/^n_/ "@within %{tx.bad}" "t:none"',
]


@pytest.mark.parametrize("rules", MEMO_TRAPS)
def test_what_is_remembered_of_chains_never_changes_an_answer(rules: str) -> None:
    rules = 'SecAction "id:9,phase:1,pass,nolog,setvar:tx.bad=/evil/ /worse/"\n' + rules
    planned, plain = make(rules), make(rules, PLAIN)
    assert any(unit.memo for phase in planned.program.phases.values() for unit in phase.units)
    uris = ["/", "/?a=1", "/?a=2&b=1", "/?evil=1", "/?x=a&a=1", "/?x=evil&a=1", "/?x=off&evil=1", "/?x=off&a=1"]
    uris += ["/?x=1&n_a=1", "/?n_a=1&x=2", "/?n_b=1"]
    for uri in [*uris, *uris, *reversed(uris)]:
        one, two = run(planned, uri), run(plain, uri)
        assert ids(one) == ids(two), uri
        assert one.tx == two.tx, uri
        assert (one.matched_var, one.matched_var_name) == (two.matched_var, two.matched_var_name), uri


def test_what_is_remembered_of_chains_is_bounded_and_made_up_inputs_do_not_stay() -> None:
    waf = make('SecAction "id:9,phase:1,pass,nolog,setvar:tx.bad=/evil/ /worse/"\n' + MEMO_TRAPS[0])
    (memo,) = [unit.memo for phase in waf.program.phases.values() for unit in phase.units if unit.memo]
    sizes = []
    for number in range(MAX_MEMORIES + 100):
        run(waf, f"/?a{number}=1")
        sizes.append(len(memo.known))
    assert max(sizes) == MAX_MEMORIES
    assert sizes[-1] == 100


def test_only_names_that_others_may_set_are_looked_for_before_a_chain_is_remembered() -> None:
    def looked_for(rules: str) -> int:
        program = make(rules).program
        return sum(len(unit.memo.patterns) for phase in program.phases.values() for unit in phase.units if unit.memo)

    assert [looked_for(rules) for rules in MEMO_TRAPS] == [0, 0, 1, 1, 1, 0]
    others = MEMO_TRAPS[3].replace("tx.n_o", "tx.other_")
    assert looked_for(others) == 0
    assert looked_for(others.replace("TX:/^n_/", "TX:/n_/")) == 1


TARGETS = (
    'SecRule ARGS:x "@rx ." "id:9,phase:1,pass,nolog,ctl:ruleRemoveTargetById=1-6;ARGS:a"\n'
    'SecRule ARGS|ARGS_NAMES|REQUEST_COOKIES|REQUEST_HEADERS:X|!ARGS:b "@rx (a+)(b?)" "id:1,phase:1,pass,log,capture,'
    "logdata:'%{tx.0} %{tx.1} %{matched_var_name} %{matched_var}',setvar:tx.seen=%{tx.seen}%{tx.2}.\"\n"
    'SecRule ARGS:a|ARGS:b|XML:/*|ARGS:a "!@contains b" "id:2,phase:2,pass,log,setvar:tx.seen=%{tx.seen}%{matched_var}"\n'
    'SecRule &ARGS|&ARGS:a "@eq 1" "id:3,phase:1,pass,log"\n'
    'SecRule &ARGS:a|ARGS:b "@ge 1" "id:4,phase:2,pass,log"\n'
    'SecRule ARGS_POST|ARGS_GET_NAMES|REQUEST_BODY "@endsWith a" "id:5,phase:2,pass,log,t:lowercase,chain"\n'
    'SecRule ARGS|MATCHED_VARS "@beginsWith a" "capture,chain"\nSecRule TX:0 "@within abab" "setvar:tx.seen=+1"\n'
    'SecRule ARGS|REQUEST_COOKIES_NAMES "@rx b" "id:6,phase:2,pass,log,multiMatch,t:lowercase,t:removeWhitespace"\n'
    'SecRule ARGS "@rx (b)|(a)" "id:7,phase:2,pass,log,multiMatch,capture,t:lowercase,t:hexEncode,'
    "logdata:'%{tx.0} %{tx.1} %{tx.2}',setvar:tx.seen=%{tx.seen}%{tx.0}\"\n"
    'SecRule ARGS|REQUEST_COOKIES "@rx ^(.)(.)?$" "id:8,phase:2,pass,log,capture,t:lowercase,'
    "logdata:'%{tx.0} %{tx.1} %{tx.2} %{matched_var}',setvar:tx.seen=%{tx.seen}%{tx.1}\"\n"
    'SecRule ARGS "@rx ^(.)(.)?$" "id:10,phase:2,pass,log,t:lowercase,logdata:\'%{tx.0} %{matched_var}\'"\n'
    'SecRule ARGS "!@rx ^(.)(.)?$" "id:11,phase:2,pass,log,capture,t:lowercase,logdata:\'%{tx.0} %{matched_var}\'"\n'
)
FEW_VALUES = st.sampled_from(["a", "b", "ab", "ba", "A", "aab", "", "off", "1"])
FEW_PAIRS = st.lists(st.tuples(st.sampled_from(["a", "b", "x", "ab"]), FEW_VALUES), max_size=4)


@pytest.fixture(scope="module")
def targets() -> tuple[WAF, WAF]:
    return make(TARGETS), make(TARGETS, PLAIN)


@settings(max_examples=300, deadline=None)
@given(FEW_PAIRS, FEW_PAIRS, FEW_PAIRS, FEW_VALUES)
def test_matches_are_those_of_the_targets_in_their_order(
    targets: tuple[WAF, WAF],
    query: list[tuple[str, str]],
    form: list[tuple[str, str]],
    cookies: list[tuple[str, str]],
    header: str,
) -> None:
    """The same values are in many variables, some of which a rule excludes, counts, names twice or loses."""
    outcomes = []
    for waf in targets:
        headers = {"X": header, "Cookie": "; ".join(f"{n}={v}" for n, v in cookies)}
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = "&".join(f"{n}={v}" for n, v in form).encode()
        tx = run(waf, "/?" + "&".join(f"{n}={v}" for n, v in query), headers=headers, method="POST", body=body)
        outcomes.append([(m.rule.id, m.data, m.variable, m.value, m.matches) for m in tx.matched_rules] + [tx.tx])
    assert outcomes[0] == outcomes[1]


SUMS = (
    'SecRule ARGS:a "@rx ." "id:1,phase:1,pass,nolog,setvar:tx.pl1=+%{tx.five}"\n'
    'SecRule ARGS:b "@rx ." "id:2,phase:1,pass,log,setvar:tx.pl2=+3"\n'
    'SecRule TX:level "@ge 1" "id:11,phase:1,pass,nolog,setvar:tx.sum=+%{tx.pl1}"\n'
    'SecRule TX:level "@ge 2" "id:12,phase:1,pass,nolog,setvar:tx.sum=+%{tx.pl2}"\n'
    'SecRule &TX:pl2 "@eq 1" "id:13,phase:1,pass,nolog,setvar:tx.seen=%{tx.sum}/%{tx.pl2}"\n'
)
ROUTINE_TRAPS = {
    "plain": SUMS,
    # Rules about what the last one matched come behind it.
    "matched": SUMS + 'SecRule MATCHED_VAR "@rx ." "id:20,phase:1,pass,log,logdata:\'%{matched_var_name}\'"',
    # A rule skips into the middle.
    "skip": 'SecRule ARGS:skip "@rx ." "id:5,phase:1,pass,nolog,skipAfter:MIDDLE"\n'
    + SUMS.replace('SecRule TX:level "@ge 2"', 'SecMarker MIDDLE\nSecRule TX:level "@ge 2"'),
    # One of them is removed for one request.
    "removed": 'SecRule ARGS:off "@rx ." "id:5,phase:1,pass,nolog,ctl:ruleRemoveById=12"\n' + SUMS,
    # The scan brings up a rule between them.
    "between": SUMS + 'SecRule ARGS:c "@rx ." "id:14,phase:1,pass,nolog,setvar:tx.sum=100"\n'
    'SecRule TX:level "@ge 1" "id:15,phase:1,pass,nolog,setvar:tx.sum=+1"\n'
    'SecRule TX:sum "@gt 100" "id:16,phase:1,pass,log"',
    # The level itself comes from traffic.
    "level": 'SecRule ARGS:level "@rx ^[0-9]$" "id:5,phase:1,pass,nolog,capture,setvar:tx.level=%{tx.0}"\n' + SUMS,
}


@pytest.mark.parametrize("name", ROUTINE_TRAPS)
def test_what_is_remembered_of_sums_never_changes_an_answer(name: str) -> None:
    rules = 'SecAction "id:9,phase:1,pass,nolog,setvar:tx.five=5,setvar:tx.level=2,setvar:tx.sum=0"\n'
    rules += ROUTINE_TRAPS[name] + '\nSecRule TX:sum "@gt 4" "id:99,phase:1,deny,log"'
    planned, plain = make(rules), make(rules, PLAIN)
    assert planned.program.phases[1].routines
    uris = ["/", "/?a=1", "/?b=1", "/?a=1&b=1", "/?a=1&b=1&c=1", "/?c=1", "/?a=1&level=1", "/?b=1&level=9"]
    uris += ["/?a=1&b=1&off=1", "/?a=1&skip=1", "/?b=1&skip=1"]
    for uri in [*uris, *uris, *reversed(uris)]:
        one, two = run(planned, uri), run(plain, uri)
        assert ids(one) == ids(two), uri
        assert one.tx == two.tx, uri
        assert one.interruption == two.interruption, uri


PHASES = """
SecRule REQUEST_HEADERS:Content-Type "@rx json" "id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule ARGS "@contains evil" "id:10,phase:1,pass,log"
SecRule ARGS "@contains evil" "id:20,phase:2,pass,log"
SecRule ARGS_NAMES "@contains evil" "id:21,phase:2,pass,log"
SecRule ARGS_GET "@contains evil" "id:22,phase:2,pass,log"
SecRule ARGS_POST "@contains evil" "id:23,phase:2,pass,log"
SecRule &ARGS "@eq 2" "id:24,phase:2,pass,log"
SecRule ARGS_COMBINED_SIZE "@ge 8" "id:25,phase:2,pass,log"
SecRule REQBODY_PROCESSOR "@streq JSON" "id:26,phase:2,pass,log"
SecRule REQUEST_HEADERS:X-A|REQUEST_HEADERS_NAMES|REQUEST_URI "@contains evil" "id:27,phase:2,pass,log"
SecRule ARGS|REQUEST_HEADERS:X-A|!ARGS:ok "@contains evil" "id:28,phase:4,pass,log"
SecRule &REQUEST_HEADERS:X-A "@eq 0" "id:29,phase:2,pass,log"
SecRule ARGS "!@pm evil good" "id:30,phase:2,pass,log"
SecRule RESPONSE_BODY "!@pm evil good" "id:31,phase:4,pass,log"
"""


@pytest.mark.parametrize("uri", ["/", "/?a=evil", "/?evil=1&b=good", "/evil?ok=evil", "/?a=plain"])
@pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded", "application/json"])
def test_values_are_judged_for_later_phases_as_soon_as_they_are_settled(uri: str, kind: str) -> None:
    planned, plain = make(PHASES), make(PHASES, PLAIN)
    for text in (b"evil", b"good", b"fine"):
        for header in ("", "evil"):
            headers = {"Content-Type": kind} if kind else {}
            if header:
                headers |= {"X-A": header, "evil-name": "1"}
            body = b"" if not kind else b'{"p":"%b"}' % text if "json" in kind else b"p=%b" % text
            method = "POST" if kind else "GET"
            one, two = (
                run(waf, uri, method=method, headers=headers, body=body, response=text) for waf in (planned, plain)
            )
            assert [(m.rule.id, m.variable, len(m.matches)) for m in one.matched_rules] == [
                (m.rule.id, m.variable, len(m.matches)) for m in two.matched_rules
            ]


def test_what_is_logged_is_bounded() -> None:
    rules = "SecRule ARGS \"@contains x\" \"id:1,phase:1,pass,log,msg:'%{matched_var}',logdata:'%{matched_var}'\""
    [matched] = run(rules, "/?a=" + "x" * 5000).matched_rules
    assert matched.data == matched.message == "x" * MAX_LOGGED_BYTES + f"... ({5000 - MAX_LOGGED_BYTES} bytes more)"
    assert matched.value == b"x" * MAX_LOGGED_BYTES
    assert matched.matches == [(b"ARGS:a", matched.value)]
    many = "&".join(f"a{number}=x" for number in range(MAX_LOGGED_MATCHES + 1))
    for action in ("log", "sanitiseMatched"):
        [matched] = run(f'SecRule ARGS "@contains x" "id:1,phase:1,pass,{action}"', f"/?{many}").matched_rules
        assert len(matched.matches) == MAX_LOGGED_MATCHES
