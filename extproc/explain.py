"""Why was this blocked?  Runs an exchange through a policy with a trace and tells, rule by rule, what matched.

The result is plain data (JSON): the CLI prints it, the admin server sends it, the dashboard shows it.
"""

from __future__ import annotations

import re
from typing import Any

from extproc.printable import printable
from extproc.tuning import propose_for
from waf_core import WAF
from waf_core.exchange import Exchange, run
from waf_core.operators.numeric import to_int
from waf_core.trace import TracedMatch, TracedRule

MAX_SHOWN = 500
"""Bytes of one value."""

_SCORE_NAME = re.compile(rb"(?:in|out)bound_anomaly_score(?:_pl\d)?$")
_THRESHOLDS = (b"inbound_anomaly_score_threshold", b"outbound_anomaly_score_threshold")


def show(value: bytes) -> str:
    """A value for people: printable, of bounded length."""
    text = printable(value[:MAX_SHOWN].decode("utf-8", "backslashreplace"))
    return text + (f"... ({len(value)} bytes)" if len(value) > MAX_SHOWN else "")


def explain(waf: WAF, exchange: Exchange, policy: str = "default") -> dict[str, Any]:
    """Judge an exchange anew and tell what decided."""
    tx = run(waf, exchange, trace=True)
    assert tx.trace is not None
    stop = tx.interruption or tx.detected
    rules = [_rule(traced) for traced in tx.trace.rules]
    threshold = {name.decode(): to_int(tx.tx[name]) for name in _THRESHOLDS if name in tx.tx}
    return {
        "policy": policy,
        "request": f"{show(exchange.method)} {show(exchange.uri)} {show(exchange.version)}",
        "client": exchange.client_ip,
        "label": exchange.label,
        "mode": tx.engine.value,
        "verdict": tx.verdict,
        "status": stop.status if stop else 0,
        "decided_by": stop.rule_id if stop else 0,
        "reason": _reason(stop, rules),
        "score": tx.anomaly_score,
        "thresholds": threshold,
        "limits": tx.limits,
        "rules": [rule for rule in rules if rule["matches"] or rule["decides"] or rule["score"]],
        "proposals": [p.text for p in propose_for(rules, show(exchange.uri).partition("?")[0])],
    }


def _reason(stop: Any, rules: list[dict[str, Any]]) -> str:
    if stop is None:
        return "no rule asked to stop it"
    if not stop.rule_id:
        return str(stop.reason)
    deciding = next((rule for rule in rules if rule["id"] == stop.rule_id), None)
    if deciding is None:
        return str(stop.reason)
    return str(deciding["message"]) or f"{deciding['file']}:{deciding['line']}"


def _rule(traced: TracedRule) -> dict[str, Any]:
    info = traced.rule
    changes = {show(name): [None if v is None else show(v) for v in pair] for name, pair in traced.changes.items()}
    return {
        "id": info.id,
        "phase": traced.phase,
        "message": show(traced.message.encode("utf-8", "replace")),
        "logged": traced.logged,
        "severity": info.severity_name,
        "file": info.position.file,
        "line": info.position.line,
        "tags": [show(tag.encode("utf-8", "replace")) for tag in traced.tags],
        "decides": traced.action != "pass",
        "action": traced.action,
        "score": _added(traced),
        "matches": [_match(match) for match in traced.matches],
        "changes": changes,
    }


def _added(traced: TracedRule) -> int:
    """What a rule of detection added to an anomaly score; those that add scores up have no severity."""
    if traced.rule.severity is None:
        return 0
    added = [
        to_int(after) - to_int(before or b"0")
        for name, (before, after) in traced.changes.items()
        if after is not None and _SCORE_NAME.search(name)
    ]
    return max(added, default=0)


def _match(match: TracedMatch) -> dict[str, Any]:
    return {
        "variable": show(match.variable),
        "value": show(match.value),
        "steps": [{"t": step.name, "value": show(step.value)} for step in match.steps],
        "operator": match.operator if len(match.operator) <= MAX_SHOWN else match.operator[:MAX_SHOWN] + "...",
    }


def render(found: dict[str, Any], *, everything: bool = False) -> str:
    """The explanation as text for a terminal.  Rules that only prepare or count are left out unless `everything`."""
    lines = [f"{found['request']}   policy {found['policy']}, mode {found['mode']}"]
    for rule in found["rules"]:
        if not (everything or rule["score"] or rule["decides"] or rule["logged"]):
            continue
        points = f"  +{rule['score']} points" if rule["score"] else ""
        mark = f"  -> {rule['action']}" if rule["decides"] else ""
        lines.append(f"\nrule {rule['id']}  phase {rule['phase']}  {rule['severity']}{points}{mark}".rstrip())
        if rule["message"]:
            lines.append(f"  {rule['message']}")
        lines.append(f"  {rule['file']}:{rule['line']}")
        for match in rule["matches"]:
            lines.append(f"  {match['variable']} = {match['value']}")
            lines += [f"      t:{step['t']} -> {step['value']}" for step in match["steps"]]
            lines.append(f"      {match['operator'][:160]}")
    limits = ", ".join(
        f"{name.removesuffix('_anomaly_score_threshold')} {n}" for name, n in found["thresholds"].items()
    )
    lines.append("")
    lines.append(f"score    {found['score']}" + (f"   (blocks at: {limits})" if limits else ""))
    if found["limits"]:
        lines.append(f"limits   {', '.join(found['limits'])}")
    status = f" {found['status']}" if found["status"] else ""
    decided = f" by rule {found['decided_by']}" if found["decided_by"] else ""
    lines.append(f"verdict  {found['verdict']}{status}{decided}: {found['reason']}")
    return "\n".join(lines)
