"""Stores: counting, expiry, decay, bounds, and records that come late."""

from __future__ import annotations

from tests.core.transactions import make
from waf_core.persistence import Change, MemoryStore
from waf_core.persistence.buffered import BufferedStore


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_counters_add_up_and_records_time_out() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    for _ in range(3):
        store.commit("IP", b"a", [Change("add", b"n", b"2")], 60)
    assert store.load("IP", b"a", 60) == {b"n": b"6"}
    clock.now += 61
    assert store.load("IP", b"a", 60) == {}
    assert len(store) == 0


def test_variables_expire_and_decay() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    store.commit("IP", b"a", [Change("set", b"n", b"10"), Change("deprecate", b"n", b"3/10")], 600)
    store.commit("IP", b"a", [Change("set", b"x", b"1"), Change("expire", b"x", b"5")], 600)
    clock.now += 25
    assert store.load("IP", b"a", 600) == {b"n": b"4"}
    clock.now += 100
    assert store.load("IP", b"a", 600) == {b"n": b"0"}
    store.commit("IP", b"a", [Change("delete", b"n", b"")], 600)
    assert store.load("IP", b"a", 600) == {}


def test_least_recently_used_records_go_first() -> None:
    store = MemoryStore(max_records=2)
    for key in (b"a", b"b", b"a", b"c"):
        store.commit("IP", key, [Change("set", b"n", b"1")], 60)
    assert len(store) == 2
    assert store.load("IP", b"b", 60) == {}
    assert store.load("IP", b"a", 60) == {b"n": b"1"}


RULES = (
    'SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.n=+1"\n'
    'SecRule REQUEST_HEADERS:S "@rx (.+)" "id:2,phase:1,pass,nolog,capture,setsid:%{TX.1},setvar:session.n=+1"'
)


def test_buffered_store_foresees_records_and_hands_over_changes() -> None:
    waf = make(RULES)
    store = BufferedStore()
    tx = waf.new_transaction(store=store)
    tx.process_connection("192.0.2.1")
    tx.process_uri("/", "GET", "1.1")
    tx.add_request_header("S", "abc")
    assert tx.expected_records() == [("IP", b"192.0.2.1")]
    store.records["IP", b"192.0.2.1"] = {b"n": b"41"}
    tx.process_request_headers()
    assert dict(tx.records.pairs("IP"))[b"n"] == b"42"
    assert store.missing == [("SESSION", b"abc")]
    assert [(key, change.kind, change.value) for key, change in store.changes] == [
        (("IP", b"192.0.2.1"), "add", b"1"),
        (("SESSION", b"abc"), "add", b"1"),
    ]
    tx.records.merge("SESSION", {b"n": b"9", b"other": b"x"})
    assert dict(tx.records.pairs("SESSION")) == {b"n": b"10", b"other": b"x", b"key": b"abc"}
