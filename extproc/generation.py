"""Settings and rules as the supervisor has tried them: one file, which its workers read when they start and reload.

So all serve the same, and a worker that starts anew serves it, too, whatever the files of rules and settings have
become.  It holds the settings that a reload may change, without secrets, and what the rules were read from
(waf_core/reading.py).
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from extproc.config import Settings
from extproc.fixed import FIXED_SETTINGS
from waf_core.reading import Reader, Recorded, Recorder

_ELSEWHERE = {*FIXED_SETTINGS, "admin_token"}
"""Settings that workers have from their start."""


class Generation(NamedTuple):
    """What serves: the settings, and what the files of their rules are read with."""

    settings: Settings
    reader: Reader


def store(path: Path, settings: Settings, recorder: Recorder) -> None:
    """Write the file, atomically, for nobody else to read.  Raises OSError."""
    document = {"settings": settings.model_dump(mode="json", exclude=_ELSEWHERE), "read": recorder.to_dict()}
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as out:  # mode 0600
        json.dump(document, out)
    os.replace(out.name, path)


def load(path: Path, started_with: dict[str, Any]) -> Generation:
    """What `store` has written, with the other settings of `started_with`.  Raises OSError."""
    document = json.loads(path.read_bytes())
    return Generation(Settings(**{**started_with, **document["settings"]}), Recorded(document["read"]))
