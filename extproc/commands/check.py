"""`envoy-waf check`: what would be served, and what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from extproc.commands.common import EXIT_FOUND, EXIT_WRONG, fail, load, print_json
from extproc.commands.options import RULE_FLAGS, settings_options
from extproc.config import ConfigError, Settings
from extproc.envoy_config.notes import notes_of_files
from extproc.idle import idle_notes
from extproc.policies import PolicySet, compile_policies
from waf_core.errors import WafError
from waf_core.program import Program


@click.command("check")
@settings_options(*RULE_FLAGS)
@click.option(
    "--envoy", "-e", multiple=True, type=click.Path(path_type=Path),
    help="Envoy's configuration (YAML, JSON, /config_dump, EnvoyFilter, EnvoyExtensionPolicy): note what in it undoes"
    " verdicts, or hides things from the rules (may be repeated).",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="End with status 3 if there is anything to note (in CI).")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def check_command(config: Path | None, envoy: tuple[Path, ...], strict: bool, as_json: bool, **flags: Any) -> None:
    """Parse and compile the rules; print what is wrong and what is worth knowing."""
    settings = load(config, flags)
    try:
        policies = compile_policies(settings)
        of_envoy = notes_of_files(envoy, settings, policies)
    except (WafError, ConfigError) as error:
        if as_json:
            print_json({"ok": False, "error": str(error)})
            sys.exit(EXIT_WRONG)
        fail(str(error))
    program, info = policies.default.waf.program, policies.default.info
    notes = [*_all_notes(policies, settings), *of_envoy]
    failed = strict and bool(notes)
    if as_json:
        print_json(
            {
                "ok": not failed,
                "ruleset": info.sentence,
                "rules": len(program.units),
                "live_rules_by_phase": _live(program),
                "paranoia_level": program.paranoia_level,
                "mode": program.settings.engine.value,
                "policies": {p.name: len(p.waf.program.units) for p in policies.policies},
                "files": program.files,
                "notes": notes,
            }
        )
    else:
        _print(policies, notes, failed=failed)
    if failed:
        sys.exit(EXIT_FOUND)


def _print(policies: PolicySet, notes: list[str], *, failed: bool) -> None:
    program, info = policies.default.waf.program, policies.default.info
    live = ", ".join(f"phase {phase}: {count}" for phase, count in _live(program).items())
    print(f"rule set        {info.sentence}")
    print(f"rules           {len(program.units)} from {len(program.files)} files")
    print(f"live            {live}")
    print(f"paranoia level  {program.paranoia_level or 'not set by constants'}")
    print(f"mode            {program.settings.engine.value}")
    for policy in policies.policies[1:]:
        other = policy.waf.program
        print(f"policy          {policy.name}: {len(other.units)} rules, {other.settings.engine.value}")
    for note in notes:
        print(f"note: {note}")
    verdict = "not ok" if failed else "ok"
    print(f"{verdict}, with {len(notes)} note{'s' * (len(notes) > 1)}" if notes else verdict)


def _live(program: Program) -> dict[int, int]:
    """How many rules of each phase are left when constants are folded."""
    return {phase: len(plan.kept) for phase, plan in program.phases.items()}


def _all_notes(policies: PolicySet, settings: Settings) -> list[str]:
    """On the settings, and on the rules of all policies; each once."""
    notes = idle_notes(settings, policies)
    for policy in policies.policies:
        notes += policy.waf.program.notes
    return list(dict.fromkeys(notes))
