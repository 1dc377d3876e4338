"""`python -m extproc.trial_process PATH`: compile the rules of the settings on standard input, and write what serves
then to PATH.  What came of it goes to standard output."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import extproc.starting  # noqa: F401  (before the rest of the package)
from extproc.announce import announcements
from extproc.config import ConfigError, Settings
from extproc.generation import store
from extproc.policies import compile_policies
from extproc.watch import rule_files
from waf_core.errors import WafError
from waf_core.reading import Recorder

LAST = "1000"
"""As `oom_score_adj`: where memory is short the kernel ends a trial, and not a worker."""


def main() -> int:
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(LAST)
    recorder = Recorder()
    answer: dict[str, object] = {"error": ""}
    try:
        settings = Settings(**json.load(sys.stdin))
        policies = compile_policies(settings, recorder)
        store(Path(sys.argv[1]), settings, recorder)
        answer |= {"files": rule_files(policies), "lines": list(announcements(policies, settings))}
    except (ConfigError, WafError, OSError) as error:
        answer["error"] = str(error)
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
