"""The supervisor tries rules before its workers take them: in a process of its own, whose memory goes with it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from extproc.config import ConfigError, Settings
from extproc.log import Line

TRIAL_SECONDS = 120.0
"""A trial that takes longer has failed."""


class Tried(NamedTuple):
    """Of rules that compile."""

    files: list[str]
    """To watch."""
    lines: list[Line]
    """To log (extproc/announce.py)."""


async def try_rules(settings: Settings, path: Path) -> Tried:
    """Compile what the settings say, and store it as the generation at `path`.  Raises ConfigError when the rules or
    settings are wrong, or cannot be tried; then the file stays as it was.  Raises OSError when there can be no further
    process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "extproc.trial_process",
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # what a terminal's ^C means is the supervisor's to say
    )
    # Those that nobody has set are told from the others: some do nothing, and a note on that is only for who set them.
    head = json.dumps(settings.model_dump(mode="json", exclude_unset=True)).encode()
    try:
        async with asyncio.timeout(TRIAL_SECONDS):
            said, _ = await process.communicate(head)
    except TimeoutError:
        raise ConfigError(f"the rules could not be tried within {TRIAL_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        memory = "; is there memory for them?" if process.returncode == -signal.SIGKILL else ""
        raise ConfigError(f"the rules could not be tried: {how_it_ended(process.returncode)}{memory}")
    answer = json.loads(said)
    if answer["error"]:
        raise ConfigError(answer["error"])
    return Tried(answer["files"], [Line(*line) for line in answer["lines"]])


def how_it_ended(code: int | None) -> str:
    """A process, in words."""
    if code is None or code >= 0:
        return f"exit status {code}"
    return signal.strsignal(-code) or f"signal {-code}"
