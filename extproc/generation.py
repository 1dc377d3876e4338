"""Settings and rules as the supervisor has tried them: one file, which its workers read when they start and reload.

So all serve the same, and a worker that starts anew serves it, too, whatever the files of rules and settings have
become.  It holds the settings that a reload may change, without secrets, and what the rules were read from
(waf_core/reading.py): a line of JSON, and the contents that it lists, one behind the other.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from extproc.config import Settings
from extproc.fixed import FIXED_SETTINGS
from waf_core.reading import Reader, Recorded, Recorder, is_private

_ELSEWHERE = {*FIXED_SETTINGS, "admin_token"}
"""Settings that workers have from their start."""


class Generation(NamedTuple):
    """What serves: the settings, and what the files of their rules are read with."""

    settings: Settings
    reader: Reader


def store(path: Path, settings: Settings, recorder: Recorder) -> None:
    """Write the file, atomically, for nobody else to read.  Raises OSError."""
    head = {
        "settings": settings.model_dump(mode="json", exclude=_ELSEWHERE),
        "sizes": {name: len(content) for name, content in recorder.contents.items()},
        "found": recorder.found,
        "files": sorted(recorder.files),
    }
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as out:  # mode 0600
        out.write(json.dumps(head).encode() + b"\n")
        out.writelines(recorder.contents.values())
    os.replace(out.name, path)


def load(path: Path, started_with: dict[str, Any]) -> Generation:
    """What `store` has written, with the other settings of `started_with`.  Raises OSError, also when somebody else may
    have written it."""
    with path.open("rb") as file:
        if not is_private(os.fstat(file.fileno())):
            raise PermissionError(errno.EPERM, "others may have written what the supervisor has tried", str(path))
        head = json.loads(file.readline())
        contents = {name: file.read(size) for name, size in head["sizes"].items()}
    settings = Settings(**{**started_with, **head["settings"]})
    return Generation(settings, Recorded(contents, head["found"], head["files"]))
