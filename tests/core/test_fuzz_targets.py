"""The targets of `python -m fuzz` hold on random bytes, and can fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import bodies, unguided
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


def test_the_unguided_search_keeps_what_broke_a_promise(tmp_path: Path) -> None:
    corpus, crash = tmp_path / "corpus", tmp_path / "crash"
    corpus.mkdir()
    (corpus / "seed").write_bytes(b"a=b")
    seen: set[bytes] = set()

    def target(data: bytes) -> None:
        seen.add(data)
        assert len(seen) < 50

    with pytest.raises(AssertionError):
        unguided.search(target, corpus, 60, crash)
    assert crash.read_bytes() in seen
    assert b"a=b" in seen
    assert unguided.search(lambda _: None, corpus, 0.01, crash) > 1
    assert not crash.exists()
