"""Stores: counting, expiry, decay, bounds, and records that come late."""

from __future__ import annotations

import random

from tests.core.transactions import make
from waf_core.persistence import Change, MemoryStore
from waf_core.persistence.buffered import MAX_CHANGES, BufferedStore
from waf_core.persistence.changes import Changes
from waf_core.persistence.memory import MAX_VALUE_BYTES


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


def test_records_are_bounded_in_bytes() -> None:
    """Keys, names and values may be a client's."""
    now = [0.0]
    store = MemoryStore(lambda: now[0], max_bytes=1_000_000)
    for number in range(300):
        key = b"%d" % number + b"k" * 10_000
        name = b"n" * 1000 + b"%d" % number
        changes = [Change("set", name, b"v" * 1000), Change("expire", name, b"60"), Change("deprecate", name, b"1/60")]
        store.commit("SESSION", key, changes, 600)
        assert 0 < store.size <= 1_000_000
    assert 50 < len(store) < 100
    many = [Change("expire", b"%d" % i, b"60") for i in range(1000)]
    many += [Change("deprecate", b"%d" % i, b"1/60") for i in range(1000)]
    store.commit("IP", b"x", many, 600)
    assert store.size <= 1_000_000
    now[0] = 1000.0
    for number in range(300):
        store.load("SESSION", b"%d" % number + b"k" * 10_000, 600)
    assert store.load("IP", b"x", 600) == {}
    assert (len(store), store.size) == (0, 0)


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
    assert [(key, change.kind, change.value) for key, change, _ in store.changes] == [
        (("IP", b"192.0.2.1"), "add", b"1"),
        (("SESSION", b"abc"), "add", b"1"),
    ]
    changes = [
        Change("add", b"n", b"1"),
        Change("set", b"mode", b"5"),
        Change("delete", b"gone", b""),
        Change("expire", b"n", b"60"),
    ]
    tx.records.merge("SESSION", {b"n": b"9", b"other": b"x", b"mode": b"4", b"gone": b"1"}, changes)
    assert dict(tx.records.pairs("SESSION")) == {b"n": b"10", b"other": b"x", b"mode": b"5", b"key": b"abc"}


def test_changes_of_one_request_are_bounded_and_those_beyond_are_counted() -> None:
    store = BufferedStore()
    for _ in range(3):
        store.commit("IP", b"a", [Change("add", b"n", b"1")] * 4000, 60)
    assert (len(store.changes), store.lost) == (MAX_CHANGES, 2000)


def test_changes_in_their_shortest_form_do_what_each_of_them_does() -> None:
    rng = random.Random(7)
    most = 0
    for _ in range(2000):
        clock = Clock()
        each, short = MemoryStore(clock), MemoryStore(clock)
        for _ in range(4):
            changes = Changes()
            for _ in range(rng.randrange(1, 12)):
                name = rng.choice((b"a", b"b"))
                number, seconds = rng.randrange(-3, 9), rng.randrange(1, 30)
                match rng.choice(("set", "add", "add", "delete", "expire", "deprecate")):
                    case "set":
                        value = rng.choice((b"7", b"12 or so", b"", b"x"))
                        changes.set(name, value)
                        change = Change("set", name, value)
                    case "add":
                        changes.add(name, number)
                        change = Change("add", name, b"%d" % number)
                    case "delete":
                        changes.delete(name)
                        change = Change("delete", name, b"")
                    case "expire":
                        changes.expire(name, seconds)
                        change = Change("expire", name, b"%d" % seconds)
                    case _:
                        changes.deprecate(name, abs(number), seconds)
                        change = Change("deprecate", name, b"%d/%d" % (abs(number), seconds))
                each.commit("IP", b"k", [change], 600)
            taken = changes.take()
            most = max(most, len(taken))
            short.commit("IP", b"k", taken, 600)
            assert changes.take() == []
            for _ in range(3):
                clock.now += rng.choice((0, 0.5, 1, 3, 40))
                assert short.load("IP", b"k", 600) == each.load("IP", b"k", 600)
    assert 5 <= most <= 8


def test_variable_that_is_changed_with_each_argument_is_one_change() -> None:
    changes = Changes()
    for _ in range(10_000):
        changes.add(b"n", 1)
        changes.expire(b"n", 60)
        changes.set(b"text", b"x" * 100_000)
    assert changes.take() == [
        Change("add", b"n", b"10000"),
        Change("expire", b"n", b"60"),
        Change("set", b"text", b"x" * MAX_VALUE_BYTES),
    ]


def test_variable_without_any_time_left_ends() -> None:
    changes = Changes()
    changes.set(b"n", b"1")
    changes.expire(b"n", 0)
    assert changes.take() == [Change("delete", b"n", b"")]
