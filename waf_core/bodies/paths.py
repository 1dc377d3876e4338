"""Names of arguments that come from a tree (JSON, XML): they begin with the keys of all that they are in.

So a hundred kilobytes of JSON, one long key with a thousand numbers in it, would be a hundred megabytes of names.  A
name repeats what its container is called; how much all of them repeat is bounded by the size of the document.
"""

from __future__ import annotations

import re
from typing import Final

MAX_PATH: Final = 4096
"""Characters that a container may be called."""

REPEATED: Final = 16
"""Characters of containers' names that all arguments may repeat, for each byte of the document.  (`[1,2,3]` has two
bytes for each argument, and GeoJSON calls them `json.features.0.geometry.coordinates.0.1`.)"""

FREE: Final = 4096
"""So many besides."""

LABEL_WEIGHT: Final = 2
"""Those of names like `Price ($)` or `Driver's age` count so much,"""

ODD_WEIGHT: Final = 16
"""and those with quotes, angle brackets and the like: each may be an attack, and be judged as one."""

TOO_MUCH: Final = "has arguments with too long names: one key has too many others in it"

_PLAIN: Final = re.compile(r"[\w .:/@$+#*,-]*")
_LABEL: Final = re.compile(r"[^\x00-\x1f\"<>;\\|={}`\x7f]*")


def allowance(size: int) -> int:
    """What the names of a document of so many bytes may take (`share`)."""
    return REPEATED * size + FREE


def share(path: str) -> int:
    """What one more argument in the container of this name takes."""
    if len(path) > MAX_PATH:
        return 1 << 40
    if _PLAIN.fullmatch(path):
        return len(path)
    return (LABEL_WEIGHT if _LABEL.fullmatch(path) else ODD_WEIGHT) * len(path)
