"""What several modules of these tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def crs_databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps what Hyperscan makes of the Core Rule Set, which takes a minute.  Tests that use it belong to the group
    "databases": one process runs them."""
    return tmp_path_factory.mktemp("databases")
