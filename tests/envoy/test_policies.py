"""Policies, canary and shadow with real Envoy; the route may name the policy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from demo.stack import Stack, http_manager, waf_filter
from tests.envoy.conftest import BROWSER
from tests.waiting import eventually

pytestmark = pytest.mark.xdist_group("policies")

EVIL = 'SecRule ARGS "@streq evil" "id:1,phase:2,deny"\n'
WORSE = 'SecRule ARGS "@streq worse" "id:2,phase:2,deny"\n'
SETTINGS = {
    "rules": ["@recommended"],
    "directives": EVIL,
    "shadow": "candidate",
    "policies": [
        {"name": "candidate", "directives": WORSE},
        {"name": "admin", "match": [{"paths": ["/admin"]}], "directives": EVIL + WORSE},
        {"name": "loose", "match": [{"hosts": ["*.loose.example"]}], "mode": "DetectionOnly"},
        {"name": "canary", "match": [{"paths": ["/canary"]}], "blocking_percent": 0},
        {"name": "named", "directives": WORSE},
        {"name": "by-route", "match": [{"routes": ["checkout"]}], "directives": WORSE},
    ],
}


def add_routes(config: dict[str, Any], stack: Stack) -> None:
    """One route that names its policy, one that has a name, one that names a policy that is not there."""
    routes = http_manager(config)["route_config"]["virtual_hosts"][0]["routes"]
    upstream = {"cluster": "upstream", "timeout": "0s"}
    for path, policy in (("/named", "named"), ("/typo", "typo")):
        overrides = {"grpc_initial_metadata": [{"key": "x-envoy-waf-policy", "value": policy}]}
        filters = {
            "envoy.filters.http.ext_proc": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
                "overrides": overrides,
            }
        }
        routes.insert(0, {"match": {"prefix": path}, "route": upstream, "typed_per_filter_config": filters})
    routes.insert(0, {"name": "checkout", "match": {"prefix": "/checkout"}, "route": upstream})


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack("buffered", settings=SETTINGS, edit=add_routes) as running:
        yield running


@pytest.mark.parametrize(
    ("host", "path", "word", "status"),
    [
        ("h.example", "/hello", "evil", 403),
        ("h.example", "/hello", "worse", 200),
        ("h.example", "/admin", "worse", 403),
        ("h.example", "/x/../admin", "worse", 403),
        ("www.loose.example", "/hello", "evil", 200),
        ("h.example", "/canary", "evil", 200),
        ("h.example", "/named", "worse", 403),
        ("h.example", "/named", "evil", 200),
        ("h.example", "/checkout/pay", "worse", 403),
        ("h.example", "/checkout/pay", "evil", 200),
        ("h.example", "/typo", "nothing", 500),
    ],
)
def test_the_right_policy_judges(stack: Stack, host: str, path: str, word: str, status: int) -> None:
    answer = httpx.get(f"{stack.url}{path}?a={word}", headers={**BROWSER, "Host": host})
    # Any page of the upstream's is a pass: it has none at most of these paths.
    assert (answer.status_code if answer.status_code in (403, 500) else 200) == status


def test_what_each_policy_did_is_counted(stack: Stack) -> None:
    def metrics() -> str:
        return httpx.get(f"http://127.0.0.1:{stack.admin_port}/metrics").text

    def told(series: str) -> bool:
        return series in metrics()

    for path in ("/hello?a=evil", "/hello?a=worse", "/canary?a=evil"):
        httpx.get(stack.url + path, headers=BROWSER)
    for series in (
        'envoy_waf_requests_total{phase="2",policy="default",status="403",verdict="deny"}',
        'envoy_waf_requests_total{phase="",policy="canary",status="403",verdict="detected"}',
        'envoy_waf_shadow_verdicts_total{candidate="pass",live="block",policy="default",shadow="candidate"}',
        'envoy_waf_shadow_verdicts_total{candidate="block",live="pass",policy="default",shadow="candidate"}',
        'envoy_waf_phase_seconds_count{phase="2"}',
        "envoy_waf_streams_in_flight",
    ):
        assert eventually(partial(told, series)), series
    assert "shadow policy differs" in stack.sidecar.text()


def without_attributes(config: dict[str, Any], stack: Stack) -> None:
    del waf_filter(config)["request_attributes"]


def test_attributes_that_envoy_does_not_send_are_told_once_and_counted() -> None:
    """Without them a policy for a route judges nothing, and no client has an address."""
    settings = {"rules": ["@recommended"], "policies": SETTINGS["policies"][-1:]}
    with Stack("buffered", settings=settings, edit=without_attributes) as running:

        def missed(name: str) -> bool:
            metrics = httpx.get(f"http://127.0.0.1:{running.admin_port}/metrics").text
            return f'envoy_waf_attributes_missing_total{{name="{name}"}} 2.0' in metrics

        for _ in range(2):
            assert httpx.get(f"{running.url}/hello", headers=BROWSER).status_code == 200
        assert eventually(partial(missed, "xds.route_name"))
        assert eventually(partial(missed, "source.address"))
        assert running.sidecar.text().count("Envoy does not send an attribute") == 2


def test_attributes_that_envoy_sends_are_not_missed(stack: Stack) -> None:
    httpx.get(f"{stack.url}/hello", headers=BROWSER)
    assert "does not send an attribute" not in stack.sidecar.text()
