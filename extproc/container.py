"""How much memory the container has (cgroups), and whether that is enough."""

from __future__ import annotations

from pathlib import Path

from extproc.config import Settings
from extproc.transport.room import RESERVE_PART

CGROUPS = Path("/sys/fs/cgroup")

_FILES = ("memory.max", "memory/memory.limit_in_bytes")
"""Of cgroups v2, v1."""

UNLIMITED = 1 << 60
"""What v1 says without a limit is more."""

WORKER_BYTES = 150 << 20
"""A process with the Core Rule Set."""

JUDGING_BYTES = 100 << 20
"""Bodies that are being judged, twice over."""

SUPERVISOR_BYTES = 180 << 20
"""60, and while it tries rules 120 of a process for that."""


def memory_limit(root: Path = CGROUPS) -> int | None:
    """Bytes that the container may take; None: there is no limit, or none that can be read."""
    for name in _FILES:
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < UNLIMITED:
            return int(text)
    return None


def memory_note(settings: Settings, limit: int | None) -> str:
    """What is wrong with so much memory, or nothing."""
    bodies = settings.max_body_memory + settings.max_body_memory // RESERVE_PART
    needed = settings.workers * (WORKER_BYTES + JUDGING_BYTES + bodies)
    if settings.workers > 1:
        needed += SUPERVISOR_BYTES
    if limit is None or limit >= needed:
        return ""
    return (
        f"the container may take {limit >> 20} MiB, and {needed >> 20} MiB may be needed when many large bodies come"
        " at once: the kernel would end the process.  Give it more, or set max_body_memory to less"
    )
