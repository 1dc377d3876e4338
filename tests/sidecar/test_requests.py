"""Requests from curl command lines and from files."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from extproc.requests.curl import parse_curl
from extproc.requests.files import from_raw, read_exchanges
from extproc.requests.plain import RequestError, exchange_from_json, exchange_to_json
from waf_core.exchange import Exchange


def test_a_url_alone() -> None:
    found = parse_curl(["http://shop.example:8080?q=1#frag"])
    assert (found.method, found.uri) == (b"GET", b"/?q=1")
    assert (b"Host", b"shop.example:8080") in found.headers


@pytest.mark.parametrize(
    ("line", "method", "uri", "body"),
    [
        ("curl -X PUT http://h/a -d x=1 -d y=2", b"PUT", b"/a", b"x=1&y=2"),
        ("curl -XDELETE http://h/a", b"DELETE", b"/a", b""),
        ("curl -sSik -o out http://h/a", b"GET", b"/a", b""),
        ("curl -G -d 'q=a b' http://h/s?x=1", b"GET", b"/s?x=1&q=a b", b""),
        ("curl -I http://h/", b"HEAD", b"/", b""),
        ("curl --data-urlencode 'q=<a>' http://h/", b"POST", b"/", b"q=%3Ca%3E"),
        ("curl --json '{\"a\":1}' --url=http://h/j", b"POST", b"/j", b'{"a":1}'),
        ("curl --request=PATCH h/x", b"PATCH", b"/x", b""),
    ],
)
def test_command_lines(line: str, method: bytes, uri: bytes, body: bytes) -> None:
    found = parse_curl(shlex.split(line))
    assert (found.method, found.uri, found.body) == (method, uri, body)


def test_headers_cookies_and_credentials() -> None:
    found = dict(parse_curl(shlex.split("curl -H 'X-A: b' -b c=d -u me:pw -A agent http://h/")).headers)
    assert found[b"X-A"] == b"b"
    assert found[b"Cookie"] == b"c=d"
    assert found[b"Authorization"] == b"Basic bWU6cHc="
    assert found[b"User-Agent"] == b"agent"


def test_files_are_sent(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("content")
    found = parse_curl(["-F", f"file=@{tmp_path}/f.txt", "-F", "a=b", "http://h/"])
    assert b'filename="f.txt"' in found.body
    assert b"content" in found.body
    assert parse_curl(["-d", f"@{tmp_path}/f.txt", "http://h/"]).body == b"content"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("curl", "one URL, found 0"),
        ("curl http://a/ http://b/", "one URL, found 2"),
        ("curl --nonsense http://a/", "option --nonsense"),
        ("curl http://[::1/", "is no URL: Invalid IPv6 URL"),
        ("curl -H nocolon http://a/", "no colon"),
        ("curl http://a/ -d", "needs a value"),
        ("curl -d @/no/such/file http://a/", "cannot read"),
    ],
)
def test_curl_mistakes(line: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse_curl(shlex.split(line))


def test_raw_messages_may_be_typed_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    path.write_bytes(b"POST /a?b=c HTTP/1.1\nHost: h\nContent-Type: text/plain\n\nhello")
    (found,) = read_exchanges(path)
    assert (found.method, found.uri, found.body) == (b"POST", b"/a?b=c", b"hello")
    chunked = from_raw(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "x")
    assert chunked.body == b"abc"


def test_har(tmp_path: Path) -> None:
    entry: dict[str, Any] = {
        "request": {"method": "POST", "url": "https://h.example/p?q=1", "headers": [{"name": ":path", "value": "/"}],
                    "postData": {"text": "a=b"}},
        "response": {"status": 200, "headers": [{"name": "Content-Type", "value": "text/html"},
                                                {"name": "Content-Encoding", "value": "gzip"}],
                     "content": {"text": "aGk=", "encoding": "base64"}},
    }  # fmt: skip
    path = tmp_path / "s.har"
    path.write_text(json.dumps({"log": {"entries": [entry]}}))
    (found,) = read_exchanges(path)
    assert (found.uri, found.body, found.status, found.response_body) == (b"/p?q=1", b"a=b", 200, b"hi")
    assert found.headers == [(b"Host", b"h.example")]
    assert found.response_headers == [(b"Content-Type", b"text/html")]
    entry["request"]["postData"] = {"params": [{"name": "a b", "value": "1&2"}, {"name": "c"}]}
    path.write_text(json.dumps({"log": {"entries": [entry]}}))
    assert [one.body for one in read_exchanges(path)] == [b"a+b=1%262&c="]
    path.write_text(json.dumps({"log": {"entries": [{"request": {}}]}}))
    with pytest.raises(RequestError, match="entry 0 is no HAR entry"):
        list(read_exchanges(path))


def test_access_logs_and_what_is_neither(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text('1.2.3.4 - - [24/Nov/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 12 "-" "Mozilla/5.0"\n' * 2)
    found = list(read_exchanges(path))
    assert [(e.client_ip, e.uri, e.status) for e in found] == [("1.2.3.4", b"/a", 200)] * 2
    path.write_text("hello\n")
    with pytest.raises(RequestError, match=r"access.log:1: neither"):
        list(read_exchanges(path))


def test_json_there_and_back() -> None:
    exchange = Exchange(uri=b"/\xff", headers=[(b"A", b"\x00")], body=b"\xfe")
    back = exchange_from_json(exchange_to_json(exchange))
    assert (back.uri, back.headers, back.body) == (exchange.uri, exchange.headers, exchange.body)
