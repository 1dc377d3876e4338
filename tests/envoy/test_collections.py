"""Collections shared by two replicas through a real Redis server, and what happens without it."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from demo.stack import PROJECT, Stack, free_port
from extproc.redis_store import MAX_FIELDS, RedisStore
from tests.envoy.conftest import BROWSER
from tests.envoy.test_verdicts import FORM
from tests.waiting import eventually
from waf_core.persistence import Change, MemoryStore

pytestmark = pytest.mark.xdist_group("redis")
LIMITS = str(PROJECT / "deploy" / "rules" / "rate-limits.conf")


class RedisServer:
    def __init__(self) -> None:
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="envoy-waf-redis-")
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port)
        self.start()

    def start(self) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("redis-server is not installed: `make setup` installs it where it can")
        command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, "--save", ""]
        self.child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert eventually(self.answers)

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def stop(self) -> None:
        self.child.terminate()
        self.child.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    running = RedisServer()
    yield running
    running.stop()
    shutil.rmtree(running.folder)


@pytest.fixture(scope="module")
def replicas(server: RedisServer) -> Iterator[tuple[Stack, Stack]]:
    """Two sidecars, each behind its own Envoy, with one Redis."""
    settings = {"redis_url": server.url, "rules": ["@recommended", LIMITS]}
    with Stack("buffered", settings=settings) as one, Stack("full-duplex-socket", settings=settings) as two:
        yield one, two


@pytest.fixture
def client(server: RedisServer) -> Iterator[httpx.Client]:
    server.client.flushall()
    with httpx.Client(headers=BROWSER, timeout=20) as browser:
        yield browser


def login(client: httpx.Client, stack: Stack) -> int:
    """A failed login: the sample upstream answers what /status says."""
    return client.post(f"{stack.url}/login?fail", content=b"user=ada", headers=FORM).status_code


def test_failed_logins_on_two_replicas_add_up(replicas: tuple[Stack, Stack], client: httpx.Client) -> None:
    statuses = [login(client, replicas[i % 2]) for i in range(6)]
    assert statuses == [401] * 5 + [429]
    assert client.get(replicas[0].url + "/hello").status_code == 429
    assert client.get(replicas[1].url + "/hello").status_code == 429


def test_rate_limit_counts_over_two_replicas(
    server: RedisServer, replicas: tuple[Stack, Stack], client: httpx.Client
) -> None:
    statuses = [client.get(replicas[i % 2].url + "/hello").status_code for i in range(104)]
    assert statuses.count(429) in (3, 4)
    assert statuses[:100] == [200] * 100
    (key,) = server.client.keys("envoy-waf:*")
    assert key == b"envoy-waf:ip:127.0.0.1"
    assert 0 < server.client.ttl(key) <= 3600


def test_counters_expire(server: RedisServer, client: httpx.Client) -> None:
    rules = (
        'SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.n=+1,expirevar:ip.n=2"\n'
        'SecRule IP:n "@gt 1" "id:2,phase:1,deny,status:429"'
    )
    settings = {"redis_url": server.url, "rules": ["@recommended"], "directives": rules}
    with Stack("buffered", settings=settings) as stack:
        assert [client.get(stack.url + "/hello").status_code for _ in range(2)] == [200, 429]
        time.sleep(2.5)
        assert client.get(stack.url + "/hello").status_code == 200


def test_variables_end_and_decay_when_their_time_is_over(
    server: RedisServer, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the second in which they were set."""
    seen: list[dict[bytes, bytes]] = []

    async def steps() -> None:
        store = RedisStore(server.url)
        key = ("IP", b"192.0.2.1")

        async def at(moment: float, *changes: Change) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(time, "time", lambda: moment)
                await store.commit([(key, change, 3600) for change in changes])
                seen.append((await store.load([key]))[key])

        await at(1000.9, Change("set", b"a", b"1"), Change("expire", b"a", b"1"))
        await at(1001.8, Change("set", b"b", b"5"), Change("deprecate", b"b", b"2/1"))
        await at(1002.0, Change("add", b"a", b"1"))
        await at(1002.9)
        server.client.hset("envoy-waf:ip:192.0.2.1", "x:b", "soon")
        await at(1003.0)
        await store.close()

    asyncio.run(steps())
    assert seen == [
        {b"a": b"1"},
        {b"a": b"1", b"b": b"5"},
        {b"a": b"1", b"b": b"5"},
        {b"a": b"1", b"b": b"3"},
        {b"a": b"1"},
    ]


def test_a_record_is_in_redis_what_it_is_in_memory(
    server: RedisServer, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counters go on after they have decayed to nothing, too."""
    rng = random.Random(5)
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    key = ("IP", b"192.0.2.1")

    def change() -> Change:
        name = rng.choice((b"a", b"b"))
        value = {
            "add": b"%d" % rng.randrange(-2, 9), "set": rng.choice((b"7", b"40", b"12 or so", b"x", b"")),
            "delete": b"", "expire": b"%d" % rng.randrange(1, 30), "deprecate": b"%d/%d" % (rng.randrange(4), rng.randrange(1, 9)),
        }  # fmt: skip
        kind = rng.choices([*value], weights=[6, 2, 1, 2, 2])[0]
        return Change(kind, name, value[kind])

    async def compare() -> None:
        nonlocal now
        redis_store = RedisStore(server.url)
        for _ in range(60):
            server.client.flushall()
            memory = MemoryStore(time.time)
            for _ in range(12):
                now += rng.choice((0, 0, 0.5, 1, 3, 40))
                changes = [change() for _ in range(rng.randrange(1, 4))]
                memory.commit(*key, changes, 3600)
                await redis_store.commit([(key, one, 3600) for one in changes])
                now += rng.choice((0, 0.5, 1, 7))
                assert (await redis_store.load([key]))[key] == memory.load(*key, 3600)
        await redis_store.close()

    asyncio.run(compare())


def test_records_are_bounded_and_end_when_their_rules_say_so(server: RedisServer, client: httpx.Client) -> None:
    async def fill() -> dict[bytes, bytes]:
        store = RedisStore(server.url)
        key, long = ("IP", b"192.0.2.1"), ("SESSION", b"k" * 5000)
        names = [Change("set", b"%d" % number, b"1") for number in range(1000)]
        await store.commit([(key, change, 60) for change in names])
        await store.commit([(long, names[0], 7), (("SESSION", b"k" * 5001), names[1], 8)])
        found = await store.load([key, long])
        await store.close()
        assert found[long] == {b"0": b"1"}
        return found[key]

    assert len(asyncio.run(fill())) == MAX_FIELDS
    assert server.client.ttl("envoy-waf:ip:192.0.2.1") == 60
    others = server.client.keys("envoy-waf:session:*")
    assert sorted(map(server.client.ttl, others)) == [7, 8]
    assert all(len(name) < 100 for name in others)


def test_what_redis_refuses_is_counted_and_told_once(server: RedisServer, client: httpx.Client) -> None:
    """A server without memory answers, and takes nothing."""
    settings = {"redis_url": server.url, "rules": ["@recommended", LIMITS]}
    with Stack("buffered", settings=settings) as stack:
        server.client.config_set("maxmemory", 1)
        try:
            assert [client.get(stack.url + "/hello").status_code for _ in range(3)] == [200] * 3
        finally:
            server.client.config_set("maxmemory", 0)
        assert eventually(lambda: stack.sidecar.text().count("Redis fails") == 1)
        assert "not allowed when used memory" in stack.sidecar.text()
        metrics = client.get(f"http://127.0.0.1:{stack.admin_port}/metrics").text
        (count,) = re.findall(r"^envoy_waf_store_errors_total (\S+)", metrics, re.MULTILINE)
        assert float(count) >= 3
        client.get(stack.url + "/hello")
        assert eventually(lambda: "Redis answers again" in stack.sidecar.text())


def test_changes_that_are_too_many_are_told(server: RedisServer, client: httpx.Client) -> None:
    rules = "\n".join(
        [
            'SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR}"',
            *(
                f'SecRule ARGS "@rx ." "id:{n},phase:2,pass,nolog,setvar:ip.%{{MATCHED_VAR_NAME}}-{n}=1"'
                for n in range(2, 14)
            ),
        ]
    )
    settings = {"redis_url": server.url, "rules": ["@recommended"], "directives": rules}
    with Stack("buffered", settings=settings) as stack:
        form = "&".join(f"a{n}=1" for n in range(900)).encode()
        assert client.post(f"{stack.url}/login", content=form, headers=FORM).status_code == 200
        assert eventually(lambda: '"lost":800,"limit":10000' in stack.sidecar.text())
        metrics = client.get(f"http://127.0.0.1:{stack.admin_port}/metrics").text
        assert re.search(r"^envoy_waf_store_errors_total [1-9]", metrics, re.MULTILINE)


def test_record_that_nobody_foresaw_counts_all_the_same(server: RedisServer, client: httpx.Client) -> None:
    rules = (
        'SecRule ARGS:session "@rx ^(.+)$" "id:1,phase:1,pass,nolog,capture,setsid:%{TX.1},setvar:session.n=+1"\n'
        'SecRule SESSION:n "@gt 2" "id:2,phase:3,deny,status:429"'
    )
    settings = {"redis_url": server.url, "rules": ["@recommended"], "directives": rules}
    with Stack("buffered", settings=settings) as stack:
        url = stack.url + "/hello?session=abc"
        assert [client.get(url).status_code for _ in range(4)] == [200, 200, 429, 429]
        assert server.client.hget("envoy-waf:session:abc", "v:n") == b"4"


@pytest.mark.parametrize(("choice", "status"), [("open", 200), ("closed", 503)])
def test_without_redis_the_stated_choice_holds(choice: str, status: int, client: httpx.Client) -> None:
    settings = {
        "redis_url": f"redis://127.0.0.1:{free_port()}/0",
        "redis_on_failure": choice,
        "rules": ["@recommended", LIMITS],
    }
    with Stack("buffered", settings=settings) as stack:
        assert eventually(lambda: "Redis fails" in stack.sidecar.text())
        start = time.monotonic()
        assert [client.get(stack.url + "/hello").status_code for _ in range(20)] == [status] * 20
        # The breaker opens after three failures: nobody waits twenty times.
        assert time.monotonic() - start < 5
        metrics = client.get(f"http://127.0.0.1:{stack.admin_port}/metrics").text
        assert "envoy_waf_store_errors_total" in metrics
        assert Path(stack.sidecar.output).exists()
