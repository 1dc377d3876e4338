"""`envoy-waf serve`: the sidecar."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import structlog
import uvloop

from extproc import __version__, log
from extproc.commands.common import fail, load
from extproc.commands.options import ALL_FLAGS, given_flags, settings_options
from extproc.config import ConfigError, Settings
from extproc.container import memory_limit, memory_note
from extproc.idle import idle_notes
from extproc.loading import Reread
from extproc.policies import PolicySet, compile_policies
from extproc.watch import watched_files
from waf_core.errors import WafError
from waf_core.memory import release


@click.command("serve")
@settings_options(*ALL_FLAGS)
def serve_command(config: Path | None, **flags: Any) -> None:
    """Serve Envoy's ext_proc filter until SIGTERM."""
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
            from extproc.supervisor import Supervisor

            files = watched_files(policies, reread)
            # The workers compile them again; here they were only tried.
            del policies
            release()
            uvloop.run(Supervisor(settings, reread, files).run())
        else:
            from extproc.worker import Worker

            worker = Worker(settings, policies, reread=reread)
            # They are the worker's: held here, they would outlive a reload.
            del policies
            uvloop.run(worker.run())
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
