"""Settings: precedence, errors, addresses, clients behind proxies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from demo.stack import PROJECT
from extproc.admin.access import token_fits
from extproc.client import client_address, split_address
from extproc.config import ConfigError, Settings, parse_address
from extproc.fixed import FIXED_SETTINGS
from extproc.idle import idle_limits, idle_rules, idle_settings
from extproc.loading import load_settings
from extproc.policies import compile_policies
from extproc.rulesets import RuleSets
from extproc.watch import state_of
from tests.core.transactions import run
from tests.crs import crs_or_skip
from waf_core.errors import SecLangError


def test_flags_beat_environment_beats_file_beats_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "waf.yaml"
    file.write_text("paranoia_level: 2\nanomaly_threshold: 7\nlisten: 127.0.0.1:1\ntrusted_hops: 3\n")
    monkeypatch.setenv("ENVOY_WAF_ANOMALY_THRESHOLD", "8")
    monkeypatch.setenv("ENVOY_WAF_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("ENVOY_WAF_RULES", '["a.conf", "b.conf"]')
    settings = load_settings(file, listen="127.0.0.1:3", mode=None)
    assert settings.paranoia_level == 2
    assert settings.anomaly_threshold == 8
    assert settings.listen == "127.0.0.1:3"
    assert settings.rules == ["a.conf", "b.conf"]
    assert settings.log_level == "info"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paranoia_level: 9", r"paranoia_level \(.*waf.yaml\): .*less than or equal to 4"),
        ("nonsense: 1", r"nonsense .*known settings: .*paranoia_level"),
        ("listen: localhost", r"listen .*write HOST:PORT or unix:/PATH"),
        ("listen: unix:relative", r"a Unix socket needs an absolute path"),
        ("- a\n- b", r"expected `name: value` lines, found list"),
        ("a: [", r"is no YAML"),
        ("mode: On\npaths: 1\nmode: Off", r"waf.yaml is no YAML: 'mode' stands there twice\n.*line 3"),
        ("policies: [{name: a, mode: On, mode: Off}]", r"'mode' stands there twice"),
        ("listen: 127.0.0.1:1\nadmin: 127.0.0.1:1", r"^\S*waf.yaml: admin 127.0.0.1:1 is the address of a worker"),
        ("redis_url: redis:6379", r"redis_url \(.*\): write redis://HOST:PORT/0"),
        ("otlp_endpoint: grpc://collector:4317", r"otlp_endpoint \(.*\): write HOST:PORT"),
        ("paranoia: 1", r"paranoia \(.*waf.yaml\): there is no such setting; did you mean paranoia_level\?"),
        ("\u00e4: \ud800", r"is no text in UTF-8"),
        ("admin_tls_cert: /a\nadmin_tls_key: /b", r"is for admin_grpc, which is not set"),
        ("mode: Maybe", r"mode .*'On', 'DetectionOnly' or 'Off'"),
        ("policies: [x]", r"policies.0 .*`name: value` lines are expected, of anomaly_threshold, .* shadow"),
        ("policies: [{name: a, match: [x]}]", r"policies.0.match.0 .* lines are expected, of hosts, paths, routes$"),
        ("policies: [{name: a, match: {hosts: [x]}}]", r"policies.0.match .*a list is expected: \[a, b\], or lines"),
        ("policies: [{match: [{hosts: [x]}]}]", r"policies.0.name .*: it has to be set"),
        ("watch: perhaps", r"watch .*: true or false is expected"),
    ],
)
def test_errors_name_setting_source_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "waf.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError, match=message):
        load_settings(file)


def test_unknown_environment_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVOY_WAF_PARANOIA", "2")
    message = r"unknown environment variable ENVOY_WAF_PARANOIA; did you mean ENVOY_WAF_PARANOIA_LEVEL\?"
    with pytest.raises(ConfigError, match=message):
        load_settings()


@pytest.mark.parametrize("text", ['["a", "b"]', "a, b", "a,b,", ' ["a",\n"b"]'])
def test_lists_in_the_environment(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVOY_WAF_RULES", text)
    monkeypatch.setenv("ENVOY_WAF_POLICIES", '[{"name": "p", "rules": "x"}]')
    settings = load_settings()
    assert (settings.rules, settings.policies[0].rules) == (["a", "b"], ["x"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("REDACT_HEADERS", '["a"', r"redact_headers \(environment\): no JSON: .*line 1 column 5"),
        ("POLICIES", "a,b", r"policies \(environment\): no JSON"),
        ("POLICIES", '[{"name": "a", "paranoia": 2}]', r"policies.0.paranoia \(environment\): .*mean paranoia_level\?"),
        (
            "POLICIES",
            '[{"name": "a", "match": [{"host": "x"}]}]',
            r"policies.0.match.0.host \(environment\): .* did you mean hosts\?",
        ),
        ("WORKERS", "2.5", r"workers \(environment\): a whole number is expected"),
    ],
)
def test_mistakes_in_the_environment_are_told(
    name: str, text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ENVOY_WAF_{name}", text)
    with pytest.raises(ConfigError, match=message):
        load_settings()


def test_kubernetes_variables_of_a_service_of_our_name_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ("ENVOY_WAF", "ENVOY_WAF_CANARY"):
        for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP_ADMIN", "PORT", "PORT_9002_TCP_ADDR"):
            monkeypatch.setenv(f"{service}_{name}", "tcp://10.0.0.1:9002")
    monkeypatch.setenv("ENVOY_WAF_LOG_LEVEL", "error")
    assert load_settings().log_level == "error"
    monkeypatch.delenv("ENVOY_WAF_SERVICE_HOST")
    with pytest.raises(ConfigError, match="unknown environment variable ENVOY_WAF_PORT"):
        load_settings()


def test_empty_variables_are_no_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose and shells set variables that they have no value for."""
    file = tmp_path / "waf.yaml"
    file.write_text("admin_token: ''\nredis_url: redis://r/0\n")
    for name in ("ADMIN_TOKEN", "CRS_ROOT", "REDIS_URL", "CACHE_DIR", "ADMIN"):
        monkeypatch.setenv(f"ENVOY_WAF_{name}", "")
    settings = load_settings(file)
    assert (settings.admin_token, settings.crs_root, settings.redis_url, settings.cache_dir) == (None,) * 4
    assert settings.admin == ""
    for header in ("Bearer", "Bearer ", "bearer  ", ""):
        assert not token_fits(settings, header)
    assert token_fits(load_settings(admin_token="s3cret"), "bearer s3cret ")
    assert not token_fits(load_settings(admin_token="s3cret"), "Bearer \udcff")
    monkeypatch.setenv("ENVOY_WAF_DATA_DIR", "")
    with pytest.raises(ConfigError, match=r"data_dir \(environment\): write a folder"):
        load_settings(file)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        load_settings(tmp_path / "none.yaml")


def test_addresses() -> None:
    assert parse_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert parse_address("[::1]:80") == ("::1", 80)
    assert parse_address("unix:/a/b") == "/a/b"
    assert split_address("[2001:db8::1]:5") == ("2001:db8::1", 5)
    assert split_address("2001:db8::1") == ("2001:db8::1", 0)
    assert split_address("") == ("", 0)


@pytest.mark.parametrize(
    ("forwarded", "hops", "expected"),
    [
        (["203.0.113.7"], 0, "192.0.2.1"),
        (["203.0.113.7, 192.0.2.1"], 1, "203.0.113.7"),
        (["6.6.6.6, 203.0.113.7, 192.0.2.1"], 1, "203.0.113.7"),
        (["6.6.6.6, 203.0.113.7, 198.51.100.2, 192.0.2.1"], 2, "203.0.113.7"),
        (["203.0.113.7"], 1, "203.0.113.7"),
        (["203.0.113.7"], 5, "203.0.113.7"),
        ([], 2, "192.0.2.1"),
        (["garbage, 192.0.2.1"], 1, "192.0.2.1"),
        (["203.0.113.7", "192.0.2.1"], 1, "203.0.113.7"),
        (["2001:db8::1, 192.0.2.1"], 1, "2001:db8::1"),
    ],
)
def test_client_behind_trusted_proxies(forwarded: list[str], hops: int, expected: str) -> None:
    assert client_address("192.0.2.1", [f.encode() for f in forwarded], hops) == expected


def test_levels_and_thresholds_reach_the_rules(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, paranoia_level=2, anomaly_threshold=9)
    waf = RuleSets(settings).compile()
    assert waf.program.paranoia_level == 2
    assert run(waf).tx[b"inbound_anomaly_score_threshold"] == b"9"


READERS = """
SecRuleEngine On
SecAction "id:1,phase:1,pass,nolog,setvar:tx.blocking_paranoia_level=1,setvar:tx.inbound_anomaly_score_threshold=50"
SecRule REQUEST_METHOD "@streq GET" "id:2,phase:1,pass,nolog,chain"
SecRule TX:Blocking_Paranoia_Level "@ge 3" "setvar:tx.strict=1"
SecRule REQUEST_METHOD "@eq %{tx.inbound_anomaly_score_threshold}" "id:3,phase:1,pass,nolog"
"""


def test_they_are_set_behind_the_set_up_of_rules_wherever_these_lie(tmp_path: Path) -> None:
    path = tmp_path / "own.conf"
    path.write_text(READERS)
    settings = load_settings(data_dir=tmp_path, rules=[str(path)], paranoia_level=3, anomaly_threshold=9)
    tx = run(RuleSets(settings).compile())
    assert (tx.tx[b"strict"], tx.tx[b"inbound_anomaly_score_threshold"]) == (b"1", b"9")
    assert b"executing_paranoia_level" not in tx.tx


def test_crs_may_be_named_in_parts() -> None:
    crs_root = crs_or_skip()
    parts = ["@recommended", "@crs-setup", "@crs/REQUEST-9*.conf", "@crs/RESPONSE-9*.conf"]
    waf = RuleSets(load_settings(crs_root=crs_root, rules=parts, paranoia_level=4)).compile()
    by_path = ["@recommended", str(crs_root / "crs-setup.conf.example"), str(crs_root / "rules" / "*.conf")]
    other = RuleSets(load_settings(rules=by_path, paranoia_level=4)).compile()
    assert waf.program.paranoia_level == other.program.paranoia_level == 4
    assert waf.program.notes == other.program.notes == []


def test_named_rules_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "crs [mine]"
    (folder / "rules").mkdir(parents=True)
    with pytest.raises(SecLangError, match=r"rules has no rules"):
        RuleSets(load_settings(crs_root=folder)).compile()
    (folder / "rules" / "a.conf").write_text('SecAction "id:1,phase:1,pass"')
    (folder / "crs-setup.conf.example").touch()
    with pytest.raises(SecLangError, match=r"<rules>:1:1: no file fits the pattern: '@crs/b\*.conf'"):
        RuleSets(load_settings(crs_root=folder, rules=["@crs/b*.conf"])).compile()
    with pytest.raises(SecLangError, match=r"no file fits the pattern: '@crs-plugins/a\*"):
        RuleSets(load_settings(crs_root=folder, directives='Include "@crs-plugins/a*.conf"')).compile()
    with pytest.raises(SecLangError, match=r"no file fits the pattern: '@crs-plugins/a.conf'"):
        RuleSets(load_settings(crs_root=folder, rules=["@crs-plugins/a.conf"])).compile()
    program = RuleSets(load_settings(crs_root=folder, rules=["@crs/a*.conf", "@crs-plugins/*.conf"])).compile().program
    assert len(program.units) == 1
    # New rules, plugins and an own set-up are noticed.
    state = state_of(program.sought)
    for name in ("rules/a2.conf", "plugins/p.conf", "crs-setup.conf"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        now = state_of(program.sought)
        assert now != state, name
        state = now


def test_settings_that_no_rule_reads_are_noted(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, rules=["@recommended"], paranoia_level=2, anomaly_threshold=9)
    assert RuleSets(settings).compile().program.notes == [
        "<settings>: paranoia_level has no effect: no rule reads tx.blocking_paranoia_level",
        "<settings>: anomaly_threshold has no effect: no rule reads tx.inbound_anomaly_score_threshold",
    ]


@pytest.mark.parametrize(
    ("given", "idle"),
    [
        ({"audit_files": 3}, "audit_files has no effect: audit_log is not set"),
        ({"audit_files": 3, "audit_log": "stdout"}, "audit_files has no effect: audit_log is no file"),
        ({"audit_files": 3, "audit_log": "/a"}, ""),
        ({"redis_on_failure": "closed"}, "redis_on_failure has no effect: redis_url is not set"),
        ({"cache_dir": "/c", "hyperscan": False}, "cache_dir has no effect: hyperscan is false"),
        ({"runtime_dir": "/r"}, "runtime_dir has no effect: there is one worker"),
        ({"admin_token": "t", "admin": ""}, "admin_token has no effect: there is no admin server"),
        ({"crs_root": "/crs", "rules": ["@baseline"]}, "crs_root has no effect: no rules are @crs"),
        ({"crs_root": "/crs", "rules": ["@crs/*.conf"]}, ""),
        ({"crs_root": "/crs", "rules": ["a"], "directives": 'Include "@crs/*.conf"'}, ""),
        ({"crs_root": "/crs", "rules": ["a"], "policies": [{"name": "p", "rules": ["@crs-setup"]}]}, ""),
        ({"blocking_percent": 5, "mode": "On"}, ""),
        (
            {"mode": "Off", "policies": [{"name": "a", "blocking_percent": 5}]},
            "policy a: blocking_percent has no effect: mode is not On: nothing is blocked",
        ),
    ],
)
def test_settings_that_do_nothing_beside_others_are_told(given: dict[str, Any], idle: str) -> None:
    assert idle_settings(load_settings(**given)) == ([idle] if idle else [])


def test_limits_of_rules_that_no_body_comes_near_are_told() -> None:
    given: dict[str, Any] = {"max_body_memory": 2 << 20, "directives": "SecRequestBodyLimit 3000000"}
    settings = load_settings(rules=["@recommended"], **given)
    (note,) = idle_limits(settings, compile_policies(settings))
    assert note.startswith("policy default: SecRequestBodyLimit 3000000 lets larger bodies pass than max_body_memory")
    settings = load_settings(rules=["@recommended"])
    assert idle_limits(settings, compile_policies(settings)) == []


def test_rules_that_nobody_asks_are_told() -> None:
    strict: dict[str, Any] = {"name": "strict", "mode": "On"}
    settings = load_settings(rules=["@baseline"], policies=[{"name": "a"}, strict, {"name": "off", "mode": "Off"}])
    notes = idle_rules(settings, compile_policies(settings))
    assert [note.partition(": nothing is judged: SecRuleEngine is Off")[0] for note in notes] == [
        "policy default", "policy a",
    ]  # fmt: skip
    for good in (load_settings(), load_settings(rules=["@baseline"], mode="DetectionOnly")):
        assert idle_rules(good, compile_policies(good)) == []


def test_own_directives_come_last_and_errors_point_at_them(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, directives="SecRuleRemoveById 8190010\nSecBogus x")
    with pytest.raises(Exception, match=r"<directives>:2:1: unknown directive"):
        RuleSets(settings).compile()


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("On", "On"),
        ("Off", "Off"),
        ("DetectionOnly", "DetectionOnly"),
        ("'on'", "On"),
        ("detectiononly", "DetectionOnly"),
    ],
)
def test_yaml_takes_on_for_true(tmp_path: Path, text: str, mode: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"mode: {text}\npolicies: [{{name: a, mode: {text}}}]\n")
    settings = load_settings(path)
    assert settings.mode == settings.policies[0].mode == mode


def test_the_documentation_has_every_setting_with_its_default_and_what_a_reload_does() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", (PROJECT / "docs" / "settings.md").read_text(), re.MULTILINE)
    told = {name: (default, meaning.endswith("restart")) for name, default, meaning in rows}
    assert len(told) == len(rows)
    expected = {}
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, Path):
            shown = told[name][0]  # it depends on who asks
        elif isinstance(default, list):
            shown = ", ".join(f"`{item}`" for item in default) or "none"
        elif default in (None, ""):
            shown = "none"
        else:
            shown = f"`{str(default).strip() if not isinstance(default, bool) else str(default).lower()}`"
        expected[name] = (shown, name in FIXED_SETTINGS)
    assert told == expected
