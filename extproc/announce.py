"""What the log says of the rules that a start has compiled."""

from __future__ import annotations

from collections.abc import Iterator

from extproc import __version__
from extproc.config import Settings
from extproc.container import memory_limit, memory_note
from extproc.idle import idle_notes
from extproc.log import Line
from extproc.policies import PolicySet

TOLD_NOTES = 5
"""Of each policy."""


def announcements(policies: PolicySet, settings: Settings) -> Iterator[Line]:
    """What will serve, and what to know about it."""
    for note in idle_notes(settings, policies):
        yield Line("warning", "settings or rules do nothing", {"note": note})
    note = memory_note(settings, memory_limit())
    if note:
        yield Line("warning", "little memory", {"note": note})
    for policy in policies.policies:
        program = policy.waf.program
        loaded = {
            "version": __version__,
            "policy": policy.name,
            "ruleset": policy.info.sentence,
            "rules": len(program.units),
            "paranoia_level": program.paranoia_level,
            "mode": program.settings.engine.value,
            "notes": len(program.notes),
        }
        yield Line("info", "rules loaded", loaded)
        if program.notes:
            event = "rules do not all do what they seem to; `envoy-waf check` shows all notes"
            yield Line("warning", event, {"policy": policy.name, "notes": program.notes[:TOLD_NOTES]})
        if policy.info.name == "baseline":
            event = "no Core Rule Set installed: the built-in baseline rules serve; run `envoy-waf crs install`"
            yield Line("warning", event, {})
        if settings.workers > 1 and program.record_openers and not settings.redis_url:
            event = "collections (IP, SESSION, ...) are counted in each worker by itself; set redis_url to share them"
            yield Line("warning", event, {"policy": policy.name})
