"""The audit record in the three formats that other tools read.

JSON    ModSecurity v3's shape: {"transaction": {..., "messages": [...]}}, one line
Native  ModSecurity's sections --ID-A-- to --ID-Z--
OCSF    Open Cybersecurity Schema Framework 1.3, class 4002 HTTP Activity with the security-control profile
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from waf_core.auditing.log_line import bracketed
from waf_core.auditing.record import AuditRecord, Message
from waf_core.json_line import json_line

PRODUCT = "envoy-waf"


def to_json(record: AuditRecord) -> str:
    """ModSecurity v3's JSON on one line.  Fields of ours beyond it are in `envoy_waf`."""
    transaction: dict[str, Any] = {
        "client_ip": record.client_ip,
        "time_stamp": time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(record.time)),
        "server_id": PRODUCT,
        "client_port": record.client_port,
        "host_ip": record.server_ip,
        "host_port": record.server_port,
        "unique_id": record.id,
        "is_interrupted": record.interrupted,
        "request": {
            "method": record.method,
            "http_version": _version(record.http_version),
            "hostname": record.host,
            "uri": record.uri,
            **({"body": record.request_body} if record.request_body else {}),
            "headers": _object(record.request_headers),
        },
        "response": {
            "http_code": record.status,
            "headers": _object(record.response_headers),
            **({"body": record.response_body} if record.response_body else {}),
        },
    }
    if "H" in record.parts:
        transaction["producer"] = {
            "modsecurity": PRODUCT,
            "connector": "envoy ext_proc",
            "secrules_engine": {"On": "Enabled", "Off": "Disabled"}.get(record.engine, record.engine),
            "components": record.components,
            **({"sensor_id": record.sensor} if record.sensor else {}),
        }
    transaction["messages"] = [_message(message) for message in record.messages]
    transaction["envoy_waf"] = {
        "time": record.time,
        "action": record.action,
        "detected": record.detected,
        "rule_id": record.rule_id,
        "reason": record.reason,
        "score": record.score,
        "policy": record.policy,
        "limits": record.limits,
        **({"files": [{"name": n, "size": s} for n, s in record.files]} if record.files else {}),
    }
    return json_line({"transaction": transaction})


def _object(headers: list[tuple[str, str]]) -> dict[str, str]:
    """Headers that repeat are joined, as HTTP allows (RFC 9110, section 5.3)."""
    out: dict[str, str] = {}
    for name, value in headers:
        out[name] = f"{out[name]}, {value}" if name in out else value
    return out


def _version(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _message(message: Message) -> dict[str, Any]:
    rule = message.rule
    return {
        "message": message.text,
        "details": {
            "match": f"Matched at {message.variable}: {message.value}",
            "reference": ",".join(message.variables),
            "ruleId": str(rule.id),
            "file": rule.position.file,
            "lineNumber": str(rule.position.line),
            "data": message.data,
            "severity": "" if rule.severity is None else str(rule.severity),
            "ver": rule.version,
            "rev": rule.revision,
            "tags": list(message.tags),
            "maturity": rule.maturity or "0",
            "accuracy": rule.accuracy or "0",
        },
    }


def to_native(record: AuditRecord) -> str:
    """The sections of ModSecurity's native format; every one ends with an empty line."""
    boundary = "".join(c for c in record.id if c.isalnum())[:16] or "x"
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(record.time))
    peers = f"{record.client_ip} {record.client_port} {record.server_ip or '-'} {record.server_port}"
    sections = [("A", f"[{stamp}] {record.id} {peers}")]
    if "B" in record.parts:
        line = f"{_line(record.method)} {_line(record.uri)} HTTP/{_line(record.http_version)}"
        sections.append(("B", "\n".join([line, *_lines(record.request_headers)])))
    if record.request_body is not None:
        sections.append(("C" if "C" in record.parts else "I", _body(record.request_body)))
    if record.response_body is not None:
        sections.append(("E", _body(record.response_body)))
    if "F" in record.parts:
        head = f"HTTP/{_line(record.http_version)} {record.status}"
        sections.append(("F", "\n".join([head, *_lines(record.response_headers)])))
    if "H" in record.parts:
        lines = [_native_message(message) for message in record.messages]
        if record.interrupted:
            lines.append(f"Action: Intercepted ({record.action})")
        lines.append(f"Producer: {PRODUCT}; {'; '.join(record.components)}".rstrip("; "))
        lines.append(f'Engine-Mode: "{record.engine}"')
        if record.sensor:
            lines.append(f'Sensor-Id: "{_line(record.sensor)}"')
        sections.append(("H", "\n".join(lines)))
    if record.files:
        sections.append(("J", "\n".join(f"{_line(name)} {_line(size)}" for name, size in record.files)))
    if "K" in record.parts:
        sections.append(("K", "\n".join(_line(message.rule.text) for message in record.messages)))
    out = "".join(f"--{boundary}-{letter}--\n{text}\n\n" for letter, text in sections)
    return f"{out}--{boundary}-Z--\n"


def _lines(headers: list[tuple[str, str]]) -> list[str]:
    return [f"{_line(name)}: {_line(value)}" for name, value in headers]


def _line(text: str) -> str:
    """One line: what is sent cannot begin a section of its own."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _body(text: str) -> str:
    return ("\n" + text).replace("\n--", "\n\\x2d-")[1:]


def _native_message(message: Message) -> str:
    rule = message.rule
    fields = [
        ("file", rule.position.file),
        ("line", str(rule.position.line)),
        ("id", str(rule.id)),
        ("msg", message.text),
        ("data", message.data),
        ("severity", rule.severity_name),
        ("ver", rule.version),
        *(("tag", tag) for tag in message.tags),
    ]
    return f"Message: Matched at {_line(message.variable)}." + bracketed(fields)


_OCSF_SEVERITY = {0: 6, 1: 5, 2: 5, 3: 4, 4: 3, 5: 2, 6: 1, 7: 1}
"""SecLang's severities to OCSF's severity_id (1 informational .. 6 fatal)."""


def to_ocsf(record: AuditRecord) -> str:
    """One OCSF event, class HTTP Activity (4002) on one line."""
    severities = [m.rule.severity for m in record.messages if m.rule.severity is not None]
    blocked = record.interrupted
    event = {
        "metadata": {
            "version": "1.3.0",
            "product": {"name": PRODUCT, "vendor_name": PRODUCT},
            "profiles": ["security_control"],
            "uid": record.id,
        },
        "category_uid": 4,
        "class_uid": 4002,
        "activity_id": _OCSF_METHODS.get(record.method, 99),
        "type_uid": 400200 + _OCSF_METHODS.get(record.method, 99),
        "time": int(record.time * 1000),
        "severity_id": _OCSF_SEVERITY[min(severities)] if severities else 1,
        "action_id": 2 if blocked else 1,
        "disposition_id": 2 if blocked else (15 if record.detected else 1),
        "status_id": 2 if blocked else 1,
        "src_endpoint": {"ip": record.client_ip, "port": record.client_port},
        "dst_endpoint": {"ip": record.server_ip, "port": record.server_port, "hostname": record.host},
        "http_request": {
            "http_method": record.method,
            "version": record.http_version,
            "url": {"hostname": record.host, "path": record.uri},
            "http_headers": [{"name": n, "value": v} for n, v in record.request_headers],
            "uid": record.id,
        },
        "http_response": {"code": record.status},
        "firewall_rule": {"uid": str(record.rule_id), "desc": record.reason or record.action},
        "policy": {"name": record.policy},
        "risk_score": record.score,
        "enrichments": [
            {"name": "rule", "value": str(m.rule.id), "type": "rule", "data": {"message": m.text, "match": m.data}}
            for m in record.messages
        ],
    }
    return json_line(event)


_OCSF_METHODS = {
    "CONNECT": 1, "DELETE": 2, "GET": 3, "HEAD": 4, "OPTIONS": 5, "POST": 6, "PUT": 7, "TRACE": 8, "PATCH": 9,
}  # fmt: skip

FORMATS: dict[str, Callable[[AuditRecord], str]] = {"JSON": to_json, "Native": to_native, "OCSF": to_ocsf}
"""By the names of SecAuditLogFormat."""
