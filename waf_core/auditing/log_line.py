"""What is written about a transaction: the log line of a rule, the audit record.

The line has the shape of ModSecurity's error log (`[id "942100"] [msg "..."]`), which CRS's
own test tools read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waf_core.rule import MatchedRule
    from waf_core.transaction import Transaction

MAX_TEXT = 1024
"""Characters of one message or of its data in a log line."""


def bracketed(fields: Iterable[tuple[str, str]]) -> str:
    """` [name "value"]` of each field that has a value."""
    return "".join(f' [{name} "{_quoted(value)}"]' for name, value in fields if value)


def _quoted(text: str) -> str:
    """A text as it may stand between double quotes: control characters as \\xHH, of bounded length."""
    clean = text[:MAX_TEXT].replace("\\", "\\\\").replace('"', '\\"')
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in clean)


def log_line(tx: Transaction, matched: MatchedRule) -> str:
    """One line for a matched rule."""
    rule = matched.rule
    verb, stop = "Warning", tx.interruption
    if stop is not None and stop.rule_id == rule.id:
        verb = f"Access denied with code {stop.status}"
    fields = [
        ("file", rule.position.file),
        ("line", str(rule.position.line)),
        ("id", str(rule.id)),
        ("rev", rule.revision),
        ("msg", matched.message),
        ("data", matched.data),
        ("severity", rule.severity_name),
        ("ver", rule.version),
        ("maturity", rule.maturity),
        ("accuracy", rule.accuracy),
        *(("tag", tag) for tag in matched.tags),
        ("hostname", tx.server_name.decode("latin-1")),
        ("uri", tx.uri.decode("latin-1")),
        ("unique_id", tx.id),
    ]
    head = f"ModSecurity: {verb} (phase {rule.phase}). Matched {matched.variable}."
    return head + bracketed(fields)
