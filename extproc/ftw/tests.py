"""CRS regression tests as go-ftw sees them: reading the YAML, building the HTTP request.

The format is documented by the CRS project (ftw-tests-schema); what `autocomplete_headers` and
form data do follows go-ftw's behaviour.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, unquote_to_bytes

import yaml


@dataclass(slots=True)
class Expectation:
    """What one stage's log and status have to show."""

    expect_ids: list[int] = field(default_factory=list)
    no_expect_ids: list[int] = field(default_factory=list)
    match_regex: str | None = None
    no_match_regex: str | None = None
    status: int | None = None
    expect_error: bool | None = None


@dataclass(slots=True)
class Stage:
    """One request and what is expected of it."""

    raw: bytes
    expectation: Expectation


@dataclass(slots=True)
class Case:
    """One test: its name is RULE-ID, as in `942100-3`."""

    name: str
    description: str
    stages: list[Stage]


def load_cases(folder: Path) -> Iterator[Case]:
    """Every test of a file or below a folder, in the order of the files."""
    files = [folder] if folder.is_file() else sorted((*folder.rglob("*.yaml"), *folder.rglob("*.yml")))
    for path in files:
        for document in yaml.load_all(path.read_text("utf-8"), Loader=yaml.CSafeLoader):
            if not document:
                continue
            for test in document["tests"]:
                stages = [
                    Stage(build_request(stage["input"]), read_expectation(stage["output"])) for stage in test["stages"]
                ]
                yield Case(f"{document['rule_id']}-{test['test_id']}", test.get("desc", "").strip(), stages)


def read_expectation(output: dict[str, Any]) -> Expectation:
    """The `output` of a stage."""
    log = output.get("log", {})
    return Expectation(
        log.get("expect_ids", []),
        log.get("no_expect_ids", []),
        log.get("match_regex"),
        log.get("no_match_regex"),
        output.get("status"),
        output.get("expect_error"),
    )


def build_request(source: dict[str, Any]) -> bytes:
    """The bytes that go-ftw sends."""
    if source.get("encoded_request"):
        return base64.b64decode(source["encoded_request"])
    headers = [(str(name), str(value)) for name, value in (source.get("headers") or {}).items()]
    data = (source.get("data") or "").encode("utf-8")
    method = source.get("method", "GET")
    complete = source.get("autocomplete_headers", True)
    if data and complete:
        _add(headers, "Content-Type", "application/x-www-form-urlencoded")
        if _get(headers, "Content-Type") == "application/x-www-form-urlencoded":
            data = _encode_form(data)
    if _get(headers, "Content-Type").startswith("multipart/form-data;"):
        data = data.replace(b"\n", b"\r\n")
    if complete:
        _add(headers, "Connection", "close")
        if data or re.search("^POST|PUT|PATCH|DELETE$", method):
            _add(headers, "Content-Length", str(len(data)))
    line = f"{method} {source.get('uri', '/')} {source.get('version', 'HTTP/1.1')}\r\n"
    head = line + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
    return head.encode("utf-8") + data


def _get(headers: list[tuple[str, str]], name: str) -> str:
    return next((v for n, v in headers if n.lower() == name.lower()), "")


def _add(headers: list[tuple[str, str]], name: str, value: str) -> None:
    if not any(n.lower() == name.lower() for n, _ in headers):
        headers.append((name, value))


def _encode_form(data: bytes) -> bytes:
    """Form data that is not escaped yet is escaped, names and values by themselves."""
    if unquote_to_bytes(data.replace(b"+", b" ")) != data:
        return data
    pieces = []
    for piece in data.split(b"&"):
        name, equals, value = piece.partition(b"=")
        pieces.append(quote_plus(name) + ("=" + quote_plus(value) if equals else ""))
    return "&".join(pieces).encode()
