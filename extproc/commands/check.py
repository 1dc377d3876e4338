"""`envoy-waf check`: what would be served, and what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from extproc.commands.common import EXIT_WRONG, fail, load, print_json
from extproc.commands.options import RULE_FLAGS, settings_options
from extproc.config import ConfigError, Settings
from extproc.envoy_config.notes import notes_of_files
from extproc.idle import idle_notes
from extproc.policies import PolicySet, compile_policies
from waf_core.errors import WafError


@click.command("check")
@settings_options(*RULE_FLAGS)
@click.option(
    "--envoy", "-e", multiple=True, type=click.Path(path_type=Path),
    help="Envoy's configuration (YAML, JSON, /config_dump, EnvoyFilter, EnvoyExtensionPolicy): note what in it undoes"
    " verdicts, or hides things from the rules (may be repeated).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def check_command(config: Path | None, envoy: tuple[Path, ...], as_json: bool, **flags: Any) -> None:
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
    live = {phase: len(p.kept) for phase, p in program.phases.items()}
    notes = [*_all_notes(policies, settings), *of_envoy]
    if as_json:
        print_json(
            {
                "ok": True,
                "ruleset": info.sentence,
                "rules": len(program.units),
                "live_rules_by_phase": live,
                "paranoia_level": program.paranoia_level,
                "mode": program.settings.engine.value,
                "policies": {p.name: len(p.waf.program.units) for p in policies.policies},
                "files": program.files,
                "notes": notes,
            }
        )
        return
    print(f"rule set        {info.sentence}")
    print(f"rules           {len(program.units)} from {len(program.files)} files")
    print(f"live            {', '.join(f'phase {phase}: {count}' for phase, count in live.items())}")
    print(f"paranoia level  {program.paranoia_level or 'not set by constants'}")
    print(f"mode            {program.settings.engine.value}")
    for policy in policies.policies[1:]:
        other = policy.waf.program
        print(f"policy          {policy.name}: {len(other.units)} rules, {other.settings.engine.value}")
    for note in notes:
        print(f"note: {note}")
    print("ok")


def _all_notes(policies: PolicySet, settings: Settings) -> list[str]:
    """On the settings, and on the rules of all policies; each once."""
    notes = idle_notes(settings, policies)
    for policy in policies.policies:
        notes += policy.waf.program.notes
    return list(dict.fromkeys(notes))
