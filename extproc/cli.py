"""The command line: `envoy-waf serve`, `check`, `crs`, `version`.

Exit status: 0 fine, 1 the rules or settings are wrong, 2 the command line is wrong.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import click
import structlog
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress

from extproc import __version__, crs, log
from extproc.config import ConfigError, Settings, default_data_dir, load_settings
from extproc.rulesets import RuleSets
from waf_core.errors import WafError

_errors = Console(stderr=True, highlight=False)


def _fail(message: str) -> NoReturn:
    _errors.print("[bold red]error:[/]" if _errors.is_terminal else "error:", escape(message), soft_wrap=True)
    sys.exit(1)


def _settings_options(command: Any) -> Any:
    options = [
        click.option(
            "--config", "-c", type=click.Path(path_type=Path), envvar="ENVOY_WAF_CONFIG", help="YAML file of settings."
        ),
        click.option("--rules", "-r", multiple=True, help="SecLang file, glob or named set; may be repeated."),
        click.option("--directives", "-d", help="SecLang text after the rules."),
        click.option("--mode", type=click.Choice(["On", "DetectionOnly", "Off"]), help="Overrides SecRuleEngine."),
        click.option("--paranoia-level", "-p", type=int, help="Blocking paranoia level, 1 to 4."),
        click.option("--anomaly-threshold", type=int, help="Inbound anomaly score that blocks (CRS: 5)."),
        click.option("--data-dir", type=click.Path(path_type=Path), help="Where installed rule sets live."),
        click.option("--crs-root", type=click.Path(path_type=Path), help="A Core Rule Set folder to use."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _load(config: Path | None, **flags: Any) -> Settings:
    flags["rules"] = list(flags["rules"]) or None
    try:
        return load_settings(config, **flags)
    except ConfigError as error:
        _fail(str(error))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """A web application firewall for Envoy: ModSecurity rules over external processing.

    \b
    Start here:
      envoy-waf crs install        bring the OWASP Core Rule Set
      envoy-waf check              see what would be served, and what is wrong
      envoy-waf serve              serve Envoy on 127.0.0.1:9002

    Every setting is a flag, an environment variable (ENVOY_WAF_LISTEN, ...) or a line of the YAML
    file; flags win over the environment, the environment over the file.
    """


@main.command()
@_settings_options
@click.option("--listen", help="gRPC address for Envoy: HOST:PORT or unix:/PATH. [127.0.0.1:9002]")
@click.option("--admin", help="Address of /healthz, /readyz, /metrics; '' for none. [127.0.0.1:9003]")
@click.option("--trusted-hops", type=int, help="Proxies in front of Envoy whose X-Forwarded-For is believed.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["auto", "json", "console"]))
@click.option("--drain-seconds", type=float, help="How long SIGTERM waits for running streams.")
def serve(config: Path | None, **flags: Any) -> None:
    """Serve Envoy's ext_proc filter until SIGTERM."""
    from extproc.worker import Worker

    settings = _load(config, **flags)
    log.configure(settings.log_level, settings.log_format)
    logger = structlog.get_logger("envoy_waf")
    rulesets = RuleSets(settings)
    start = time.perf_counter()
    try:
        waf = rulesets.compile()
    except WafError as error:
        _fail(str(error))
    info = rulesets.info()
    program = waf.program
    for note in program.notes:
        logger.debug("note", note=note)
    logger.info(
        "rules loaded",
        version=__version__,
        ruleset=info.sentence,
        rules=len(program.units),
        paranoia_level=program.paranoia_level,
        mode=program.settings.engine.value,
        notes=len(program.notes),
        seconds=round(time.perf_counter() - start, 2),
    )
    if info.name == "baseline":
        logger.warning("no Core Rule Set installed: the built-in baseline rules serve; run `envoy-waf crs install`")

    async def run() -> None:
        await Worker(settings, waf, info).run()

    try:
        uvloop.run(run())
    except OSError as error:
        _fail(str(error))


@main.command()
@_settings_options
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def check(config: Path | None, as_json: bool, **flags: Any) -> None:
    """Parse and compile the rules; print what is wrong and what is worth knowing."""
    settings = _load(config, **flags)
    rulesets = RuleSets(settings)
    try:
        program = rulesets.compile().program
    except WafError as error:
        if as_json:
            print(json.dumps({"ok": False, "error": str(error)}))
            sys.exit(1)
        _fail(str(error))
    live = {phase: len(p.kept) for phase, p in program.phases.items()}
    if as_json:
        print(
            json.dumps(
                {
                    "ok": True,
                    "ruleset": rulesets.info().sentence,
                    "rules": len(program.units),
                    "live_rules_by_phase": live,
                    "paranoia_level": program.paranoia_level,
                    "mode": program.settings.engine.value,
                    "files": program.files,
                    "notes": program.notes,
                }
            )
        )
        return
    print(f"rule set        {rulesets.info().sentence}")
    print(f"rules           {len(program.units)} from {len(program.files)} files")
    print(f"live            {', '.join(f'phase {phase}: {count}' for phase, count in live.items())}")
    print(f"paranoia level  {program.paranoia_level or 'not set by constants'}")
    print(f"mode            {program.settings.engine.value}")
    for note in program.notes:
        print(f"note: {note}")
    print("ok")


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
            target = crs.install(
                data_dir or default_data_dir(),
                version,
                source=source,
                sha256=sha256,
                key=key,
                progress=lambda done, total: progress.update(task, completed=done, total=total or None),
            )
    except crs.CrsError as error:
        _fail(str(error))
    print(f"installed {target}")


@crs_group.command("show")
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="ENVOY_WAF_DATA_DIR", help="Where to look.")
def crs_show(data_dir: Path | None) -> None:
    """List the installed versions."""
    folder = (data_dir or default_data_dir()) / "crs"
    found = sorted(folder.glob("coreruleset-*"))
    for path in found:
        print(path)
    if not found:
        print(f"none installed in {folder}; run `envoy-waf crs install`")


@main.command()
def version() -> None:
    """Print the version."""
    print(f"envoy-waf {__version__}")


if __name__ == "__main__":
    main()
