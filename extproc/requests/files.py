"""Requests from files: HAR, raw HTTP messages, JSON audit logs, access logs.  The kind is told by the content."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from extproc.requests.message import split_request
from extproc.requests.plain import RequestError
from waf_core.exchange import Exchange

MAX_FILE_BYTES = 1 << 30

CODING = "content-encoding"

_REQUEST_LINE = re.compile(rb'^[A-Za-z]+ [^"\r\n]* HTTP/\d(?:\.\d)?\r?\n')
_COMBINED = re.compile(
    r'^(?P<ip>\S+) \S+ \S+ \[[^\]]*\] "(?P<line>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) \S+'
    r'(?: "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)")?'
)
"""Apache's and nginx's combined log format."""


def read_exchanges(path: Path) -> Iterator[Exchange]:
    """Every request of a file.  Raises RequestError with the place of what is wrong."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RequestError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from error
    if _REQUEST_LINE.match(data):
        yield from_raw(data, str(path))
        return
    if data.lstrip()[:1] == b"{":
        try:
            document = json.loads(data)
        except ValueError:
            document = None
        if isinstance(document, dict) and "log" in document:
            yield from _har(document, path)
            return
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        if line.strip():
            yield _line(line, f"{path}:{number}")


def from_raw(data: bytes, label: str) -> Exchange:
    """A raw HTTP/1.1 request message.  Line ends may be LF alone."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        head, _, body = data.partition(b"\n\n")
        data = head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body
    if body and not re.search(rb"(?im)^(content-length|transfer-encoding):", head):
        # Typed by hand: what follows the head is meant to be the body.
        data = data.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(body), 1)
    method, uri, version, headers, body = split_request(data)
    if not method or not uri:
        raise RequestError(f"{label}: the first line is no request line")
    return Exchange(method, uri, version, headers, body, label=label)


def _har(document: dict[str, Any], path: Path) -> Iterator[Exchange]:
    """HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/)."""
    entries = document["log"].get("entries") if isinstance(document["log"], dict) else None
    if not isinstance(entries, list):
        raise RequestError(f"{path}: log.entries is missing")
    for number, entry in enumerate(entries):
        where = f"{path}: entry {number}"
        try:
            request = entry["request"]
            parts = urlsplit(request["url"])
            headers = [(h["name"], h["value"]) for h in request.get("headers", []) if not h["name"].startswith(":")]
            if not any(name.lower() == "host" for name, _ in headers):
                headers.insert(0, ("Host", parts.netloc))
            posted = request.get("postData") or {}
            fields = [(p["name"], p.get("value") or "") for p in posted.get("params") or []]
            body = str(posted.get("text") or urlencode(fields)).encode("utf-8", "surrogateescape")
            response = entry.get("response") or {}
            content = response.get("content") or {}
            text = str(content.get("text") or "")
            answer = base64.b64decode(text) if content.get("encoding") == "base64" else text.encode()
            yield Exchange(
                method=request["method"].encode(),
                uri=((parts.path or "/") + (f"?{parts.query}" if parts.query else "")).encode(
                    "utf-8", "surrogateescape"
                ),
                version=b"HTTP/1.1",
                headers=_encoded(headers),
                body=body,
                status=int(response.get("status") or 0),
                response_headers=_encoded(
                    # A HAR file has the decoded text.
                    [(h["name"], h["value"]) for h in response.get("headers", []) if h["name"].lower() != CODING]
                ),
                response_body=answer,
                label=where,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RequestError(f"{where} is no HAR entry: {error!r}") from error


def _encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(n.encode("utf-8", "surrogateescape"), v.encode("utf-8", "surrogateescape")) for n, v in headers]


def _line(line: str, where: str) -> Exchange:
    if line.lstrip().startswith("{"):
        return _audit(line, where)
    found = _COMBINED.match(line)
    if found is None:
        raise RequestError(f"{where}: neither an audit record in JSON nor an access log in the combined format")
    method, _, rest = found["line"].partition(" ")
    uri, _, version = rest.rpartition(" ")
    headers = [("Host", "localhost"), ("Accept", "*/*")]
    for name, value in (("User-Agent", found["agent"]), ("Referer", found["referer"])):
        if value and value != "-":
            headers.append((name, value))
    return Exchange(
        method=method.encode(),
        uri=uri.encode("utf-8", "surrogateescape"),
        version=version.encode(),
        headers=_encoded(headers),
        status=int(found["status"]),
        client_ip=found["ip"],
        label=where,
    )


def read_audit(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, transaction) of each record of a JSON audit log.  Raises RequestError."""
    try:
        text = path.read_text("utf-8", "replace")
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", _transaction(line, f"{path}:{number}")


def _transaction(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
        transaction = record["transaction"]
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{where} is no audit record in JSON (`transaction` is missing)") from error
    if not isinstance(transaction, dict):
        raise RequestError(f"{where}: `transaction` is no object")
    return transaction


def _audit(line: str, where: str) -> Exchange:
    transaction = _transaction(line, where)
    try:
        request = transaction["request"]
        headers = [(str(n), str(v)) for n, v in (request.get("headers") or {}).items()]
        return Exchange(
            method=str(request["method"]).encode(),
            uri=str(request["uri"]).encode("utf-8", "surrogateescape"),
            version=f"HTTP/{request.get('http_version', 1.1)}".encode(),
            headers=_encoded(headers),
            body=str(request.get("body") or "").encode("utf-8", "surrogateescape"),
            client_ip=str(transaction.get("client_ip") or "127.0.0.1"),
            label=str(transaction.get("unique_id") or where),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{where}: the record lacks {error}") from error
