"""The command line: `envoy-waf serve`, `check`, `crs`, `completion`, `version`; the rest is in extproc/commands.

Exit status: 0 fine, 1 the rules, settings or input are wrong, 2 the command line is wrong, 3 what was looked
for was found (a block, a difference, a failed test).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import structlog
import uvloop
from click.shell_completion import get_completion_class
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress

import extproc.starting  # noqa: F401  (before the rest of the package)
from extproc import __version__, crs, log
from extproc.commands.common import fail, load
from extproc.commands.explain import explain_command
from extproc.commands.ftw import test_command
from extproc.commands.options import ALL_FLAGS, RULE_FLAGS, given_flags, settings_options
from extproc.commands.replay import replay_command
from extproc.commands.tune import tune_command
from extproc.config import ConfigError, Settings, default_data_dir
from extproc.container import memory_limit, memory_note
from extproc.envoy_config.notes import notes_of_files
from extproc.idle import idle_notes
from extproc.loading import Reread
from extproc.policies import PolicySet, compile_policies
from extproc.rulesets import installed_versions
from extproc.watch import watched_files
from waf_core.errors import WafError
from waf_core.memory import release


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """A web application firewall for Envoy: ModSecurity rules over external processing.

    \b
    Start here:
      envoy-waf crs install        bring the OWASP Core Rule Set
      envoy-waf check              see what would be served, and what is wrong
      envoy-waf serve              serve Envoy on 127.0.0.1:9002
      envoy-waf explain URL        see what a request matches, and why it is blocked

    \b
    Exit status: 0 fine; 1 rules, settings or input are wrong; 2 wrong command line;
    3 what was looked for was found (a block, a difference, a failed test).

    Every setting is a flag of `serve`, an environment variable (ENVOY_WAF_LISTEN, ...) or a line of
    the YAML file; flags win over the environment, the environment over the file.  (The admin token is
    no flag, and policies are for the file.)
    """


@main.command()
@settings_options(*ALL_FLAGS)
def serve(config: Path | None, **flags: Any) -> None:
    """Serve Envoy's ext_proc filter until SIGTERM."""
    from extproc.supervisor import Supervisor
    from extproc.worker import Worker

    settings = load(config, flags)
    reread = Reread(config, given_flags(flags))
    log.configure(settings.log_level, settings.log_format)
    logger = structlog.get_logger("envoy_waf")
    start = time.perf_counter()
    try:
        policies = compile_policies(settings)
    except WafError as error:
        fail(str(error))
    _tell(policies, settings)
    logger.info("compiled", seconds=round(time.perf_counter() - start, 2), workers=settings.workers)

    try:
        if settings.workers > 1:
            files = watched_files(policies, reread)
            # The workers compile them again; here they were only tried.
            del policies
            release()
            uvloop.run(Supervisor(settings, reread, files).run())
        else:
            uvloop.run(Worker(settings, policies, reread=reread).run())
    except (OSError, ConfigError) as error:
        fail(str(error))


def _tell(policies: PolicySet, settings: Settings) -> None:
    """Say what will serve."""
    logger = structlog.get_logger("envoy_waf")
    for note in idle_notes(settings, policies):
        logger.warning("a setting does nothing", note=note)
    note = memory_note(settings, memory_limit())
    if note:
        logger.warning("little memory", note=note)
    for policy in policies.policies:
        program = policy.waf.program
        for note in program.notes:
            logger.debug("note", policy=policy.name, note=note)
        logger.info(
            "rules loaded",
            version=__version__,
            policy=policy.name,
            ruleset=policy.info.sentence,
            rules=len(program.units),
            paranoia_level=program.paranoia_level,
            mode=program.settings.engine.value,
            notes=len(program.notes),
        )
        if policy.info.name == "baseline":
            logger.warning("no Core Rule Set installed: the built-in baseline rules serve; run `envoy-waf crs install`")
        if settings.workers > 1 and program.record_openers and not settings.redis_url:
            logger.warning(
                "collections (IP, SESSION, ...) are counted in each worker by itself; set redis_url to share them",
                policy=policy.name,
            )


@main.command()
@settings_options(*RULE_FLAGS)
@click.option(
    "--envoy", "-e", multiple=True, type=click.Path(path_type=Path),
    help="Envoy's configuration (YAML, JSON, /config_dump, EnvoyFilter): note what in it undoes verdicts, or hides"
    " things from the rules (may be repeated).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def check(config: Path | None, envoy: tuple[Path, ...], as_json: bool, **flags: Any) -> None:
    """Parse and compile the rules; print what is wrong and what is worth knowing."""
    settings = load(config, flags)
    try:
        policies = compile_policies(settings)
        of_envoy = notes_of_files(envoy, settings, policies)
    except (WafError, ConfigError) as error:
        if as_json:
            print(json.dumps({"ok": False, "error": str(error)}))
            sys.exit(1)
        fail(str(error))
    program, info = policies.default.waf.program, policies.default.info
    live = {phase: len(p.kept) for phase, p in program.phases.items()}
    notes = [*_all_notes(policies, settings), *of_envoy]
    if as_json:
        print(
            json.dumps(
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


@main.group("crs")
def crs_group() -> None:
    """The OWASP Core Rule Set: install and show it."""


@crs_group.command("install")
@click.argument("version", default=crs.DEFAULT_VERSION)
@click.option("--from", "source", type=click.Path(path_type=Path), help="An archive or folder that is already here.")
@click.option("--sha256", help="Trust the archive with this hash instead of its signature.")
@click.option(
    "--key", type=click.Path(path_type=Path, exists=True), help="The CRS project's public key, if gpg lacks it."
)
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="ENVOY_WAF_DATA_DIR", help="Where to install.")
def crs_install(version: str, source: Path | None, sha256: str | None, key: Path | None, data_dir: Path | None) -> None:
    """Download (or take) the Core Rule Set, check it, and install it into the data folder."""
    console = Console(stderr=True)
    try:
        with Progress("[progress.description]{task.description}", BarColumn(), DownloadColumn(), console=console,
                      disable=not console.is_terminal) as progress:  # fmt: skip
            task = progress.add_task("Core Rule Set", total=None)
            installed = crs.install(
                data_dir or default_data_dir(),
                version,
                source=source,
                sha256=sha256,
                key=key,
                progress=lambda done, total: progress.update(task, completed=done, total=total or None),
            )
    except crs.CrsError as error:
        fail(str(error))
    print(f"installed {installed.folder}")
    if installed.kept and installed.before is not None:
        print(f"kept from {installed.before.name}: {', '.join(installed.kept)}")
    print("a sidecar that runs takes it with a reload: kill -HUP, or POST /api/reload")


@crs_group.command("show")
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="ENVOY_WAF_DATA_DIR", help="Where to look.")
def crs_show(data_dir: Path | None) -> None:
    """List the installed versions; the last one serves."""
    folder = data_dir or default_data_dir()
    found = installed_versions(folder)
    for path in found:
        print(path)
    if not found:
        print(f"none installed in {folder / 'crs'}; run `envoy-waf crs install`")


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash:  echo 'eval "$(envoy-waf completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(envoy-waf completion zsh)"' >> ~/.zshrc
    fish:  envoy-waf completion fish > ~/.config/fish/completions/envoy-waf.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    print(found(main, {}, "envoy-waf", "_ENVOY_WAF_COMPLETE").source())


@main.command()
def version() -> None:
    """Print the version."""
    print(f"envoy-waf {__version__}")


for _command in (explain_command, replay_command, tune_command, test_command):
    main.add_command(_command)


if __name__ == "__main__":
    main()
