"""`python -m extproc.worker_process`: one worker of a supervisor, which writes what it needs to its standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import uvloop

import extproc.starting  # noqa: F401  (before the rest of the package)
from extproc import log
from extproc.config import ConfigError
from extproc.generation import Generation, load
from extproc.loading import Reread
from extproc.policies import compile_policies
from extproc.worker import Worker
from waf_core import WafError


class _Tried(Reread):
    """What the supervisor has tried, with this worker's own addresses."""

    def __init__(self, path: Path, started_with: dict[str, Any], own: dict[str, Any]) -> None:
        super().__init__(None, {})
        self._stored = path
        self._started_with = started_with
        self._own = own

    def __call__(self) -> Generation:
        found = load(self._stored, self._started_with)
        return found._replace(settings=found.settings.model_copy(update=self._own))


def main() -> int:
    text = sys.stdin.read()
    if not text:
        return 1  # there is nothing to serve
    head = json.loads(text)
    reread = _Tried(Path(head["tried"]), head["settings"], head["own"])
    try:
        settings, reader = reread()
        log.configure(settings.log_level, settings.log_format)
        policies = compile_policies(settings, reader)
        worker = Worker(settings, policies, index=head["index"], generation=head["generation"], reread=reread)
        # They are the worker's: held here, they would outlive a reload.
        del policies, reader
        uvloop.run(worker.run())
    except (ConfigError, WafError, OSError) as error:
        print(f"worker {head['index']}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
