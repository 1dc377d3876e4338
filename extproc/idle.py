"""Settings that are given and do nothing, as the others are, and rules that do nothing: `envoy-waf check` tells."""

from __future__ import annotations

from collections.abc import Callable

from extproc.config import Settings
from extproc.policies import PolicySet
from waf_core.settings import EngineMode

_IDLE: tuple[tuple[str, Callable[[Settings], bool], str], ...] = (
    *(
        (name, lambda s: not s.audit_log, "audit_log is not set")
        for name in ("audit_format", "audit_queue", "audit_file_bytes", "audit_files")
    ),
    *(
        (name, lambda s: bool(s.audit_log) and not s.audit_log.startswith("/"), "audit_log is no file")
        for name in ("audit_file_bytes", "audit_files")
    ),
    ("redis_on_failure", lambda s: s.redis_url is None, "redis_url is not set"),
    ("cache_dir", lambda s: not s.hyperscan, "hyperscan is false"),
    ("runtime_dir", lambda s: s.workers == 1, "there is one worker"),
    ("admin_token", lambda s: not (s.admin or s.admin_grpc), "there is no admin server"),
    ("blocking_percent", lambda s: s.mode in ("DetectionOnly", "Off"), "mode is not On: nothing is blocked"),
    ("crs_root", lambda s: not _names_crs(s), "no rules are @crs"),
)
"""(setting, when it is idle, why)."""


def _names_crs(settings: Settings) -> bool:
    """Do the rules of any policy, or its directives, name the Core Rule Set (or nothing, which is to name it)?"""
    parts = settings.by_policy().values()
    return any(not part.rules or any("@crs" in text for text in (*part.rules, part.directives)) for part in parts)


def idle_settings(settings: Settings) -> list[str]:
    """Each in a sentence."""
    parts = [("", settings, settings.model_fields_set)]
    parts += [(f"policy {p.name}: ", settings.for_policy(p), p.model_fields_set) for p in settings.policies]
    return [
        f"{owner}{name} has no effect: {why}"
        for owner, own, given in parts
        for name, idle, why in _IDLE
        if name in given and idle(own)
    ]


def idle_notes(settings: Settings, policies: PolicySet) -> list[str]:
    """All of them."""
    return [*idle_settings(settings), *idle_limits(settings, policies), *idle_rules(settings, policies)]


def idle_rules(settings: Settings, policies: PolicySet) -> list[str]:
    """Policies whose rules are not asked, though nobody has said so."""
    own = settings.by_policy()
    return [
        f"policy {policy.name}: nothing is judged: SecRuleEngine is Off, as it is when no rules set it; set mode, or"
        " put @recommended ahead of the rules"
        for policy in policies.policies
        if own[policy.name].mode is None and policy.waf.program.settings.engine is EngineMode.OFF
    ]


def idle_limits(settings: Settings, policies: PolicySet) -> list[str]:
    """What is wrong with limits of rules that bodies can never come near."""
    return [
        f"policy {policy.name}: SecRequestBodyLimit {limit} lets larger bodies pass than max_body_memory"
        f" ({settings.max_body_memory}), which refuses them"
        for policy in policies.policies
        if (limit := policy.waf.program.settings.request_body_limit) > settings.max_body_memory
    ]
