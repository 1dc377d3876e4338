"""Tests of compiled modules that are older than their sources would tell nothing."""

from __future__ import annotations

import pytest

from tests import compiled


def pytest_configure() -> None:
    complaint = compiled.complaint()
    if complaint:
        pytest.exit(complaint, returncode=3)
