"""How much memory the container has, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from extproc.container import memory_limit, memory_note
from extproc.loading import load_settings

MIB = 1 << 20


@pytest.mark.parametrize(
    ("file", "text", "limit"),
    [
        ("memory.max", "805306368\n", 768 * MIB),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "268435456\n", 256 * MIB),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
        ("other", "1", None),
    ],
)
def test_the_limit_of_either_version_of_cgroups(tmp_path: Path, file: str, text: str, limit: int | None) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert memory_limit(tmp_path) == limit


def test_what_is_too_little_is_told() -> None:
    assert memory_note(load_settings(), None) == ""
    assert memory_note(load_settings(), 768 * MIB) == ""
    assert "may take 512 MiB, and 570 MiB may be needed" in memory_note(load_settings(), 512 * MIB)
    assert memory_note(load_settings(max_body_memory=64 * MIB), 512 * MIB) == ""
    assert "1320 MiB" in memory_note(load_settings(workers=2), 1024 * MIB)
