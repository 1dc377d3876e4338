"""`envoy-waf serve`: the sidecar."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import structlog
import uvloop

from extproc import log
from extproc.commands.common import fail, load
from extproc.commands.options import ALL_FLAGS, given_flags, settings_options
from extproc.config import ConfigError, Settings
from extproc.loading import Reread
from waf_core.errors import WafError

if TYPE_CHECKING:
    from extproc.worker import Worker


@click.command("serve")
@settings_options(*ALL_FLAGS)
def serve_command(config: Path | None, **flags: Any) -> None:
    """Serve Envoy's ext_proc filter until SIGTERM."""
    reread = Reread(config, given_flags(flags))
    settings = load(config, flags)
    log.configure(settings.log_level, settings.log_format)
    try:
        # Only what serves here is imported.
        if settings.workers > 1:
            from extproc.supervisor import Supervisor

            uvloop.run(Supervisor(settings, reread).run())
        else:
            uvloop.run(_worker(settings, reread).run())
    except (OSError, ConfigError, WafError) as error:
        fail(str(error))


def _worker(settings: Settings, reread: Reread) -> Worker:
    """The only one.  Raises WafError."""
    from extproc.announce import announcements
    from extproc.policies import compile_policies
    from extproc.worker import Worker

    start = time.perf_counter()
    policies = compile_policies(settings)
    log.write(announcements(policies, settings))
    structlog.get_logger("envoy_waf").info("compiled", seconds=round(time.perf_counter() - start, 2), workers=1)
    return Worker(settings, policies, reread=reread)
