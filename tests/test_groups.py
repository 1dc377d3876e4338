"""Tests that share a stack, or what takes a minute to make, run in one process."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("groups")
@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="there is one process")
def test_they_have_their_group(request: pytest.FixtureRequest) -> None:
    """Without it each process makes all of that, and nothing fails."""
    assert request.node.nodeid.endswith("@groups"), "pytest-xdist's --dist loadgroup does nothing with this pytest"
