"""Collections shared by two replicas through a real Redis server, and what happens without it."""

from __future__ import annotations

import asyncio
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
from extproc.redis_store import RedisStore
from tests.envoy.conftest import BROWSER
from tests.envoy.test_verdicts import FORM
from tests.waiting import eventually
from waf_core.persistence import Change

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
        store = RedisStore(server.url, 3600)
        key = ("IP", b"192.0.2.1")

        async def at(moment: float, *changes: Change) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(time, "time", lambda: moment)
                await store.commit([(key, change) for change in changes])
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
        start = time.monotonic()
        assert [client.get(stack.url + "/hello").status_code for _ in range(20)] == [status] * 20
        # The breaker opens after three failures: nobody waits twenty times.
        assert time.monotonic() - start < 5
        metrics = client.get(f"http://127.0.0.1:{stack.admin_port}/metrics").text
        assert "envoy_waf_store_errors_total" in metrics
        assert Path(stack.sidecar.output).exists()
