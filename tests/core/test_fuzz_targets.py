"""The targets of `python -m fuzz` hold on random bytes, and can fail."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import bodies
from fuzz.seeds import SEEDS
from fuzz.targets import TARGETS, load


@pytest.mark.parametrize("name", TARGETS)
def test_promises_hold_on_seeds_and_random_bytes(name: str) -> None:
    target = load(name)

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=300))
    def search(data: bytes) -> None:
        target(data)

    for seed in SEEDS.get(name, ()):
        target(seed)
    search()


def test_a_broken_promise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "url_decode", lambda value: value + b"!")
    with pytest.raises(AssertionError):
        bodies.urlencoded(b"a=b")
