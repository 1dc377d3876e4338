"""`t:normalizePath` and `t:normalizePathWin` (as ModSecurity does)."""

from __future__ import annotations

from typing import Final

from waf_core.octets import BACKSLASH, SLASH
from waf_core.transformations import KEEPS, transformation
from waf_core.turns import LONG_BYTES, give_way

BLOCK: Final = 2048
"""So many names of a long path are joined: by themselves they take twenty times as much."""


@transformation("normalizePath", "normalisePath", effects=((b"/.", b""),), growth=1, indexes=KEEPS)
def normalize_path(value: bytes) -> bytes:
    """Collapse `//`, `/./` and `/x/../`.  Back references at the start of a relative
    path stay, those above the root of an absolute path vanish; a final slash stays, and none is added."""
    if not value.startswith(b".") and (SLASH not in value or (value.find(b"//") < 0 and value.find(b"/.") < 0)):
        return value
    absolute = value.startswith(b"/")
    segments: list[bytes] = []
    blocks: list[bytes] = []
    """Of names before them, joined."""
    begin = 0
    while True:
        # As far as a slash behind the next bytes: what there is of a long value at once is bounded.
        end = value.find(b"/", begin + LONG_BYTES)
        for part in (value[begin:end] if end >= 0 else value[begin:]).split(b"/"):
            if part in (b"", b"."):
                continue
            if part == b"..":
                if blocks and not segments and not blocks[-1].endswith(b"/.."):
                    segments = blocks.pop().split(b"/")
                if segments and segments[-1] != b"..":
                    segments.pop()
                    continue
                if absolute:
                    continue
            segments.append(part)
        if len(segments) > BLOCK:
            blocks.append(b"/".join(segments))
            segments = []
        if end < 0:
            break
        begin = end + 1
        give_way()
    segments = [*blocks, *segments]
    out = b"/".join(segments)
    if absolute:
        out = b"/" + out
    if segments and value.endswith(b"/"):
        out += b"/"
    return value if out == value else out


@transformation("normalizePathWin", "normalisePathWin", effects=((b"/.\\", b"/"),), growth=1, indexes=KEEPS)
def normalize_path_win(value: bytes) -> bytes:
    """Backslashes become slashes first."""
    return normalize_path(value.replace(b"\\", b"/") if BACKSLASH in value else value)
