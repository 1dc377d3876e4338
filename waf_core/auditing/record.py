"""The audit record: what is kept of a transaction, by the parts that are asked for.

Which transactions have one, and which parts, follows the ModSecurity reference manual (SecAuditEngine,
SecAuditLogParts, SecAuditLogRelevantStatus).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from waf_core.auditing.redaction import Redaction, mask
from waf_core.settings import AuditEngine

if TYPE_CHECKING:
    from waf_core.rule import MatchedRule, RuleInfo
    from waf_core.transaction import Transaction

MAX_BODY = 65536
"""Bytes of a body that a record shows."""

MAX_TEXT = 2048
"""Characters of one message, and of what it says it found."""

MAX_MESSAGES = 200

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Message:
    """One rule that matched."""

    rule: RuleInfo
    text: str
    data: str
    tags: tuple[str, ...]
    variable: str
    value: str
    variables: tuple[str, ...]
    """Every variable that it found something in."""


@dataclass(slots=True)
class AuditRecord:
    """Secrets are hidden already.  `status` is what the client got: the verdict's, or the response's."""

    id: str
    time: float
    client_ip: str
    client_port: int
    server_ip: str
    server_port: int
    method: str
    uri: str
    http_version: str
    host: str
    status: int
    interrupted: bool
    detected: bool
    action: str
    rule_id: int
    reason: str
    score: int
    engine: str
    components: list[str]
    sensor: str = ""
    """SecSensorId."""
    request_headers: Headers = field(default_factory=list)
    request_body: str | None = None
    response_headers: Headers = field(default_factory=list)
    response_body: str | None = None
    files: list[tuple[str, str]] = field(default_factory=list)
    """(name, size) of uploads."""
    messages: list[Message] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    parts: str = ""
    policy: str = "default"


@lru_cache(maxsize=64)
def _status_pattern(text: str) -> re.Pattern[str] | None:
    return re.compile(text) if text else None


def is_wanted(tx: Transaction, status: int) -> bool:
    """Does SecAuditEngine want a record of this transaction?"""
    if tx.audit_engine is AuditEngine.ON:
        return True
    if tx.audit_engine is AuditEngine.OFF:
        return False
    if any(matched.audit for matched in tx.matched_rules) or tx.interruption is not None or tx.detected is not None:
        return True
    pattern = _status_pattern(tx.program.settings.audit_log_relevant_status)
    return pattern is not None and pattern.search(str(status)) is not None


def make_record(tx: Transaction, hidden: Redaction | None = None, *, policy: str = "default") -> AuditRecord:
    """The record of a finished transaction, without what `hidden` hides (None: what is hidden by default)."""
    hidden = hidden or Redaction(tx)
    verdict = tx.interruption or tx.detected
    settings = tx.program.settings
    parts = tx.audit_parts
    record = AuditRecord(
        id=tx.id,
        time=tx.started_at,
        client_ip=tx.client_ip.decode("latin-1"),
        client_port=tx.client_port,
        server_ip=tx.server_ip.decode("latin-1"),
        server_port=tx.server_port,
        method=_text(tx.method),
        uri=hidden.text(_text(tx.uri_raw)),
        http_version=tx.protocol.decode("latin-1").removeprefix("HTTP/"),
        host=_text(tx.server_name),
        status=tx.interruption.status if tx.interruption else tx.response_status,
        interrupted=tx.interruption is not None,
        detected=tx.detected is not None,
        action=verdict.action if verdict else "pass",
        rule_id=verdict.rule_id if verdict else 0,
        reason=verdict.reason if verdict else "",
        score=tx.anomaly_score,
        engine=tx.engine.value,
        components=list(settings.component_signatures),
        sensor=settings.sensor_id,
        limits=list(tx.limits),
        parts=parts,
        policy=policy,
    )
    if "B" in parts:
        record.request_headers = [(_text(n), hidden.header(n, v)) for n, v in tx.request_headers]
    if "C" in parts or "I" in parts:
        record.request_body = hidden.text(_text(tx.request_body.kept[:MAX_BODY]))
    if "F" in parts:
        record.response_headers = [(_text(n), hidden.header(n, v)) for n, v in tx.sent_response_headers]
    if "E" in parts:
        record.response_body = hidden.text(_text(tx.response_body.kept[:MAX_BODY]))
    if "J" in parts:
        record.files = [(_text(name), _text(size)) for name, size in tx.request_body.file_sizes]
    if "H" in parts or "K" in parts:
        record.messages = [_message(m, hidden) for m in tx.matched_rules[:MAX_MESSAGES] if m.audit]
    return record


def _message(matched: MatchedRule, hidden: Redaction) -> Message:
    variables = tuple(dict.fromkeys(_text(name) for name, _ in matched.matches))
    value = _text(matched.value[:MAX_TEXT])
    data = matched.data[:MAX_TEXT]
    if any(hidden.variable(name) for name, _ in matched.matches):
        value, data = mask(min(len(value), 16)), mask(min(len(data), 16)) if data else ""
    else:
        value, data = hidden.text(value), hidden.text(data)
    text, variable = hidden.text(matched.message[:MAX_TEXT]), matched.variable[:MAX_TEXT]
    tags = matched.tags
    if tags is not matched.rule.tags:  # they may have what traffic brought
        tags = tuple([hidden.text(tag[:MAX_TEXT]) for tag in tags])
    return Message(matched.rule, text, data, tags, variable, value, variables)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
