"""Which policy judges a request."""

from __future__ import annotations

import re

import pytest

from demo.stack import PROJECT
from extproc.config import ConfigError, PolicySettings
from extproc.loading import load_settings
from extproc.match import normal_path
from extproc.policies import Policy, PolicySet, UnknownPolicyError, compile_policies
from waf_core import WAF, SecLangError
from waf_core.operators.regex import Rx

POLICIES = [
    {"name": "admin", "match": [{"paths": ["/admin"]}]},
    {"name": "deep", "match": [{"paths": ["/admin/users"]}]},
    {"name": "host", "match": [{"hosts": ["api.example.com"]}]},
    {"name": "wild", "match": [{"hosts": ["*.example.com"]}]},
    {"name": "deeper", "match": [{"hosts": ["*.eu.example.com", "shop.example.net."]}]},
    {"name": "ipv6", "match": [{"hosts": ["[2001:db8::1]"]}]},
    {"name": "spelled", "match": [{"paths": ["/a//b/../%63", "/\u00fcber", "/10%2A"]}]},
    {"name": "route", "match": [{"routes": ["checkout"]}]},
    {"name": "both", "match": [{"hosts": ["api.example.com"], "paths": ["/v1/"]}]},
]


@pytest.fixture(scope="module")
def policies() -> PolicySet:
    return compile_policies(load_settings(rules=["@recommended"], policies=POLICIES))


@pytest.mark.parametrize(
    ("host", "uri", "route", "expected"),
    [
        ("x.org", "/", "", "default"),
        ("x.org", "/admin", "", "admin"),
        ("x.org", "/admin/", "", "admin"),
        ("api.example.com", "/v1/.", "", "both"),
        ("api.example.com", "/v1/x/..", "", "both"),
        ("api.example.com", "/v1", "", "host"),
        ("x.org", "/administrator", "", "default"),
        ("x.org", "/admin/users/7?x=1", "", "deep"),
        ("x.org", "//admin", "", "admin"),
        ("x.org", "/%61dmin/x", "", "admin"),
        ("x.org", "/static/../admin", "", "admin"),
        ("x.org", "/static/%2e%2e/admin", "", "admin"),
        ("x.org", "http://x.org/admin", "", "admin"),
        ("API.example.com:8443", "/", "", "host"),
        ("api.example.com.", "/", "", "host"),
        ("api.example.com.:443", "/", "", "host"),
        ("api.example.com", "/v1/items", "", "both"),
        ("www.example.com", "/", "", "wild"),
        ("example.com", "/", "", "default"),
        ("www.eu.example.com", "/", "", "deeper"),
        ("SHOP.example.net", "/", "", "deeper"),
        ("[2001:DB8::1]:8443", "/", "", "ipv6"),
        ("x.org", "/a/c/d", "", "spelled"),
        ("x.org", "/%c3%bcber", "", "spelled"),
        ("x.org", "/10*/x", "", "spelled"),
        ("api.example.com", "/admin", "checkout", "route"),
    ],
)
def test_selection(policies: PolicySet, host: str, uri: str, route: str, expected: str) -> None:
    assert policies.select("", host.encode(), uri.encode(), route).name == expected


def test_an_exact_host_beats_a_wildcard_whatever_else_its_match_lists() -> None:
    found = compile_policies(
        load_settings(
            rules=["@recommended"],
            policies=[
                {"name": "exact", "match": [{"hosts": ["www.example.com"]}]},
                {"name": "mixed", "match": [{"hosts": ["api.example.org", "*.example.com"]}]},
            ],
        )
    )
    assert found.select("", b"www.example.com", b"/", "").name == "exact"
    assert found.select("", b"api.example.org", b"/", "").name == "mixed"


def test_envoy_may_name_the_policy_and_a_wrong_name_is_an_error(policies: PolicySet) -> None:
    assert policies.select("deep", b"x.org", b"/", "").name == "deep"
    with pytest.raises(UnknownPolicyError, match="no such one"):
        policies.select("typo", b"x.org", b"/", "")


def test_equal_policies_share_their_program(policies: PolicySet) -> None:
    assert policies.by_name["admin"].waf is policies.default.waf


def test_policies_that_differ_share_their_patterns() -> None:
    found = compile_policies(
        load_settings(
            rules=["@recommended", "@baseline"], policies=[{"name": "own", "directives": 'SecAction "id:1,pass"'}]
        )
    )
    automata = [
        {u.info.id: rx._capture for u in policy.waf.program.units if isinstance(rx := u.links[0].operator, Rx)}
        for policy in found.policies
    ]
    assert found.default.waf is not found.by_name["own"].waf
    assert automata[0]
    assert all(automata[1][number] is automaton for number, automaton in automata[0].items())


def test_the_documentation_says_what_a_policy_may_have() -> None:
    text = (PROJECT / "docs" / "operations.md").read_text()
    (sentence,) = re.findall(r"A policy may have its own ([^;]*);", text)
    assert set(re.findall(r"`(\w+)`", sentence)) == PolicySettings.model_fields.keys() - {"name", "match"}


def test_policies_differ_where_they_say_so() -> None:
    found = compile_policies(
        load_settings(
            rules=["@recommended"],
            policies=[
                {"name": "loose", "mode": "DetectionOnly"},
                {"name": "own", "directives": 'SecAction "id:1,pass"'},
                {"name": "node", "untyped_files_as_fields": True},
            ],
        )
    )
    assert [policy.waf.program.settings.untyped_files_as_fields for policy in found.policies] == [False] * 3 + [True]
    assert found.by_name["loose"].waf.program.settings.engine.value == "DetectionOnly"
    assert len(found.by_name["own"].waf.program.units) == len(found.default.waf.program.units) + 1


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ([{"name": "a"}, {"name": "a"}], "two policies named 'a'"),
        ([{"name": "default"}], "two policies named 'default'"),
        ([{"name": "a", "shadow": "b"}], "has the shadow 'b'"),
        ([{"name": "a", "match": [{}]}], "a match needs hosts, paths or routes"),
        ([{"name": "a", "match": [{"paths": ["x"]}]}], "has to begin with /"),
        ([{"name": "a", "match": [{"paths": ["/admin/*"]}]}], "/admin is for all below it"),
        ([{"name": "a", "match": [{"paths": ["/a?b=1"]}]}], "a query is not compared"),
        ([{"name": "a", "match": [{"paths": ["/a;b"]}]}], "a parameter is not compared"),
        ([{"name": "a", "match": [{"hosts": ["*"]}]}], "leave .hosts. out"),
        ([{"name": "a", "match": [{"hosts": ["x.org:443"]}]}], "ports are not compared"),
        ([{"name": "a", "match": [{"hosts": ["2001:db8::1"]}]}], "IPv6 addresses in brackets"),
        ([{"name": "a", "match": [{"hosts": ["https://x.org"]}]}], "without scheme and path"),
        ([{"name": "a", "match": [{"hosts": ["www.*.org"]}]}], "is none: write"),
        ([{"name": "a", "match": [{"hosts": ["*example.com"]}]}], "is none: write"),
        ([{"name": "a", "match": [{"hosts": [""]}]}], "is none: write"),
        ([{"name": "a", "match": [{"hosts": ["m\u00fcller.example"]}]}], "in ASCII"),
        ([{"name": "a", "match": [{"routes": [""]}]}], "name of a route is empty"),
        (
            [
                {"name": "a", "match": [{"hosts": ["x.org", "y.org"], "paths": ["/v1/"]}]},
                {"name": "b", "match": [{"hosts": ["Y.org."], "paths": ["//v1"]}]},
            ],
            "'a' and 'b' are both for the same requests: host y.org, path /v1",
        ),
        ([{"name": "a b"}], "policies.0.name"),
        ([{"name": "a", "paranoia": 2}], "policies.0.paranoia"),
    ],
)
def test_mistakes_are_told(policies: list[dict[str, object]], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("'", ".")):
        load_settings(policies=policies)


def test_a_broken_policy_is_told_with_its_place() -> None:
    with pytest.raises(SecLangError, match=r"<directives of policy a>:1.*SecNonsense"):
        compile_policies(
            load_settings(rules=["@recommended"], policies=[{"name": "a", "directives": "SecNonsense On"}])
        )


def test_canary_keeps_its_share_and_its_clients() -> None:
    waf = WAF.from_directives("SecRuleEngine On")
    policy = Policy("p", waf, PolicySet.single(waf).default.info, blocking_percent=20)
    clients = [f"10.0.{i // 250}.{i % 250}".encode() for i in range(5000)]
    chosen = [client for client in clients if policy.blocks(client)]
    assert 0.17 < len(chosen) / len(clients) < 0.23
    assert all(policy.blocks(client) for client in chosen)
    policy.blocking_percent = 0
    assert not any(policy.blocks(client) for client in clients)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/a/./b", "/a/b"),
        ("/a;x=1/b", "/a"),
        ("/a+b", "/a+b"),
        ("", "/"),
        ("/a#f", "/a"),
        ("*", "/"),
        ("http://x?next=/admin", "/"),
        ("http://x", "/"),
    ],
)
def test_normal_path(uri: str, path: str) -> None:
    assert normal_path(uri.encode()) == path
