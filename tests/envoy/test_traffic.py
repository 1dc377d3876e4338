"""What must not hang, break or be lost: uploads, sockets, streams, parallel requests, crashes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import grpc
import h2.connection
import httpx
import pytest
from websockets.sync.client import connect

from demo.stack import Process, Stack
from extproc.service import PATIENCE_SECONDS
from tests.asking import total
from tests.envoy.conftest import BODY_MODES, BROWSER, count_of_envoy
from tests.envoy.test_verdicts import FORM, HOSTILE, multipart
from tests.waiting import eventually

ALL_MODES = [pytest.param(m, marks=pytest.mark.xdist_group(m)) for m in BODY_MODES]
UPLOAD_MODES = [pytest.param(m, marks=pytest.mark.xdist_group(m)) for m in BODY_MODES if "partial" not in m]


@pytest.mark.parametrize("mode", UPLOAD_MODES)
def test_upload_of_5_mb_arrives_whole(stacks: Callable[..., Stack], browser: httpx.Client, mode: str) -> None:
    body, headers = multipart("file", "video.bin", os.urandom(5 << 20))
    answer = browser.post(stacks(mode).url + "/upload", content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()


def _are_open(stack: Stack, number: int) -> bool:
    return count_of_envoy(stack, "upstream_rq_active") >= number


@pytest.mark.parametrize("mode", ALL_MODES)
def test_slow_uploads_take_no_place_of_others(stacks: Callable[..., Stack], browser: httpx.Client, mode: str) -> None:
    """Envoy lets a cluster have 1,024 requests at a time, unless its configuration says otherwise."""
    stack = stacks(mode)
    head = {":method": "POST", ":scheme": "http", ":path": "/login", ":authority": BROWSER["Host"]}
    head |= {name.lower(): BROWSER[name] for name in ("User-Agent", "Accept")}
    head |= {"content-type": FORM["Content-Type"], "content-length": "100"}
    with contextlib.ExitStack() as connections:
        for opened in range(100, 1201, 100):
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", stack.port)))
            client = h2.connection.H2Connection()
            client.initiate_connection()
            for number in range(100):
                client.send_headers(1 + 2 * number, list(head.items()))
            connection.sendall(client.data_to_send())
            # All at once they would wait longer for each other than Envoy lets them, on a machine that is busy.
            assert eventually(partial(_are_open, stack, number=opened), 30)
        assert browser.get(stack.url + "/").status_code == 200


@pytest.mark.parametrize("mode", ["full-duplex", "buffered"])
def test_when_all_places_are_taken_the_slowest_upload_makes_way(mode: str, browser: httpx.Client) -> None:
    head = f"POST /login HTTP/1.1\r\nHost: {BROWSER['Host']}\r\nContent-Type: {FORM['Content-Type']}\r\n"
    with (
        Stack(mode, settings={"rules": ["@recommended"], "max_streams": 3}) as stack,
        contextlib.ExitStack() as sockets,
    ):
        slow = [sockets.enter_context(socket.create_connection(("127.0.0.1", stack.port))) for _ in range(3)]
        for each in slow:
            each.sendall(f"{head}Content-Length: 100\r\n\r\na=1".encode())
        series = "envoy_waf_streams_in_flight"
        assert eventually(lambda: total(stack.admin_port, series) == 3)
        assert browser.get(stack.url + "/").status_code == 500, "they have not been slow for long"
        time.sleep(PATIENCE_SECONDS)
        assert browser.get(stack.url + "/").status_code == 200
        (victim,), _, _ = select.select(slow, (), (), 5)  # which came first at the sidecar is Envoy's business
        assert victim.recv(1000).startswith(b"HTTP/1.1 503 ")
        assert total(stack.admin_port, 'envoy_waf_stream_errors_total{kind="overload"}') == 2
        other = next(each for each in slow if each is not victim)
        other.sendall(b"b" * 97)
        other.settimeout(5)
        assert other.recv(1000).startswith(b"HTTP/1.1 200 ")


IMPATIENT = """
import signal
import extproc.service
extproc.service.PASSING_SECONDS = 600.0
signal.signal(signal.SIGUSR2, lambda *_: setattr(extproc.service, "PASSING_SECONDS", 0.0))
from extproc.cli import main
main()
"""


class ImpatientStack(Stack):
    """Its sidecar lets all pass for long when places are taken, until a signal comes: then for no time at all."""

    def _start(self, name: str, command: Sequence[str]) -> Process:
        return super()._start(name, [command[0], "-c", IMPATIENT, *command[3:]] if name == "sidecar" else command)


UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    + "A" * 22
    + "==\r\n"
)


@pytest.mark.parametrize(("path", "more"), [("/large/30000000", ""), ("/ws", UPGRADE)])
def test_slow_readers_and_sockets_make_way_when_all_places_are_taken(
    path: str, more: str, browser: httpx.Client
) -> None:
    """Only in this mode Envoy shows the sidecar what is judged already."""
    with (
        ImpatientStack("full-duplex", settings={"rules": ["@recommended"], "max_streams": 3}) as stack,
        contextlib.ExitStack() as sockets,
    ):
        slow = [sockets.enter_context(socket.socket()) for _ in range(3)]
        for each in slow:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            each.connect(("127.0.0.1", stack.port))
            each.sendall(f"GET {path} HTTP/1.1\r\nHost: {BROWSER['Host']}\r\n{more}\r\n".encode())
            assert each.recv(50).startswith(b"HTTP/1.1 ")
        assert browser.get(stack.url + "/hello").status_code == 500, "they have not been slow for long"
        stack.sidecar.child.send_signal(signal.SIGUSR2)
        for _ in range(3):  # one place is enough for them
            assert browser.get(stack.url + "/hello").status_code == 200
        assert total(stack.admin_port, "envoy_waf_streams_in_flight") == 2
        assert total(stack.admin_port, 'envoy_waf_stream_errors_total{kind="overload"}') == 2
        ended = 0
        for each in slow:
            each.settimeout(1)
            with contextlib.suppress(TimeoutError):
                while each.recv(1 << 20):
                    pass
                ended += 1
        assert ended == 1


@pytest.mark.parametrize(("mode", "whole"), [("full-duplex", False), ("buffered", True)])
def test_bodies_that_would_take_too_much_memory_are_refused_and_others_go_on(mode: str, whole: bool) -> None:
    """`whole`: Envoy shows bodies only when it has them whole, and large ones at that."""
    file, headers = multipart("file", "video.bin", os.urandom(5 << 20))
    last = threading.Event()
    answers: list[int] = []

    def upload(stack: Stack) -> None:
        def pieces() -> Iterator[bytes]:
            yield file[:-30]
            last.wait(60)
            yield file[-30:]

        with contextlib.suppress(httpx.TransportError):  # an answer ahead of the end may end the connection
            answers.append(
                httpx.post(stack.url + "/upload", content=pieces(), headers=BROWSER | headers, timeout=60).status_code
            )

    def errors(stack: Stack) -> float:
        return total(stack.admin_port, 'envoy_waf_stream_errors_total{kind="memory"}')

    settings = {"rules": ["@recommended"], "max_body_memory": (3 << 20) if whole else (8 << 20)}
    with Stack(mode, settings=settings) as stack:
        uploads = [threading.Thread(target=upload, args=(stack,)) for _ in range(3)]
        for thread in uploads:
            thread.start()
        if whole:
            last.set()
        # Two of three; all of them when there is no room for two at the same moment.
        assert eventually(lambda: errors(stack) >= (3 if whole else 2), 30), (answers, stack.sidecar.tail())
        small = httpx.post(stack.url + "/login", content=b"user=ada", headers=BROWSER | FORM)
        assert small.status_code == 200
        last.set()
        for thread in uploads:
            thread.join()
        assert answers.count(200) == 3 - errors(stack)
        assert set(answers) <= {200, 503}
        smaller, headers = multipart("file", "video.bin", os.urandom(2 << 20))
        assert httpx.post(stack.url + "/upload", content=smaller, headers=BROWSER | headers).status_code == 200
        assert stack.sidecar.text().count("too many bytes of bodies are held") == 1


@pytest.mark.parametrize("mode", ALL_MODES)
def test_upload_above_the_limit_is_refused(stacks: Callable[..., Stack], browser: httpx.Client, mode: str) -> None:
    body, headers = multipart("file", "video.bin", bytes(13_200_000))
    assert browser.post(stacks(mode).url + "/upload", content=body, headers=headers).status_code == 413


@pytest.mark.parametrize("mode", UPLOAD_MODES)
def test_attack_behind_a_large_file_is_found(stacks: Callable[..., Stack], browser: httpx.Client, mode: str) -> None:
    body, headers = multipart("file", "video.bin", os.urandom(3 << 20))
    body = body.replace(b"\r\n\r\nhello\r\n", b"\r\n\r\n" + b"1' or '1'='1' -- \r\n")
    assert browser.post(stacks(mode).url + "/upload", content=body, headers=headers).status_code == 403


@pytest.mark.parametrize("mode", ALL_MODES)
def test_large_response_arrives_whole(stacks: Callable[..., Stack], browser: httpx.Client, mode: str) -> None:
    answer = browser.get(stacks(mode).url + "/large/2400000")
    assert answer.status_code == 200
    assert answer.content == b"a harmless line of text\n" * 100_000


@pytest.mark.parametrize("mode", ALL_MODES)
def test_page_beyond_the_buffer_arrives_whole(stacks: Callable[..., Stack], browser: httpx.Client, mode: str) -> None:
    answer = browser.get(stacks(mode).url + "/large/19200000")
    assert (answer.status_code, len(answer.content)) == (200, 19_200_000)


@pytest.mark.parametrize("mode", [m for m in ALL_MODES if "buffered" in str(m.values[0])])
def test_lengths_stay(stacks: Callable[..., Stack], browser: httpx.Client, mode: str) -> None:
    """But those of pages that are judged, and of requests in a mode that shows a part of them."""
    url = stacks(mode).url
    if "partial" not in mode:
        posted = browser.post(url + "/login/echo", content=b"a=1", headers=FORM)
        assert ["Content-Length", "3"] in posted.json()["headers"]
    picture = browser.get(url + "/picture")
    assert picture.headers.get("Content-Length") == str(len(picture.content)) == "5008"
    assert browser.head(url + "/picture").headers.get("Content-Length") == "5008"
    assert browser.head(url + "/hello").headers.get("Content-Length") == str(len(browser.get(url + "/hello").content))


@pytest.mark.parametrize("mode", [m for m in UPLOAD_MODES if "duplex" in str(m.values[0])])
def test_large_bodies_at_once_arrive_whole(stacks: Callable[..., Stack], mode: str) -> None:
    url = stacks(mode).url

    async def upload(client: httpx.AsyncClient, size: int) -> None:
        body, headers = multipart("file", "video.bin", os.urandom(size))
        answer = await client.post(url + "/upload", content=body, headers=headers)
        assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()

    async def download(client: httpx.AsyncClient, pause: float) -> None:
        digest = hashlib.sha256()
        async with client.stream("GET", url + "/large/2400000") as answer:
            async for chunk in answer.aiter_raw(65536):
                digest.update(chunk)
                await asyncio.sleep(pause)
        assert digest.digest() == hashlib.sha256(b"a harmless line of text\n" * 100_000).digest()

    async def small(client: httpx.AsyncClient) -> None:
        for query, expected in (("1", 200), ("1' or '1'='1' -- ", 403)) * 10:
            answer = await client.get(url + "/", params={"a": query})
            assert answer.status_code == expected

    async def all_at_once() -> None:
        async with httpx.AsyncClient(headers=BROWSER, timeout=30) as client:
            uploads = [upload(client, size) for size in (100, 70_000, 300_000, 3 << 20, 8 << 20, 8 << 20)]
            downloads = [download(client, pause) for pause in (0, 0, 0.02, 0.02)]
            await asyncio.gather(*uploads, *downloads, small(client), small(client))

    asyncio.run(all_at_once())


@pytest.mark.parametrize("mode", ALL_MODES)
def test_an_upgrade_that_announces_a_body_is_refused(
    stacks: Callable[..., Stack], browser: httpx.Client, mode: str
) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Content-Type": "application/x-www-form-urlencoded"}
    assert browser.post(stacks(mode).url + "/x", content=b"a=1", headers=headers).status_code == 400
    assert browser.post(stacks(mode).url + "/x", content=iter([b"a=1"]), headers=headers).status_code == 400


@pytest.mark.parametrize("mode", ALL_MODES)
def test_websocket_echoes(stacks: Callable[..., Stack], mode: str) -> None:
    url = stacks(mode).url.replace("http", "ws") + "/ws"
    headers = {k: v for k, v in BROWSER.items() if k != "Host"} | {"Origin": "http://shop.example.com"}
    user_agent = headers.pop("User-Agent")
    with connect(url, additional_headers=headers, user_agent_header=user_agent, open_timeout=10) as socket:
        for text in ("one", "two"):
            socket.send(text)
            assert socket.recv(timeout=10) == f"echo: {text}"


@pytest.mark.parametrize("mode", ALL_MODES)
def test_server_sent_events_arrive_as_they_are_sent(
    stacks: Callable[..., Stack], browser: httpx.Client, mode: str
) -> None:
    start = time.monotonic()
    arrivals = []
    with browser.stream("GET", stacks(mode).url + "/events") as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data:"):
                arrivals.append(time.monotonic() - start)
    assert len(arrivals) == 3
    # The upstream waits 0.33 s between events: together at the end would mean buffering.
    assert arrivals[2] - arrivals[0] > 0.4


@pytest.mark.parametrize("mode", ALL_MODES)
def test_what_stays_open_for_long_takes_nothing_of_the_sidecar(stacks: Callable[..., Stack], mode: str) -> None:
    stack = stacks(mode)

    def metrics() -> str:
        return httpx.get(f"http://127.0.0.1:{stack.admin_port}/metrics").text

    def errors() -> list[str]:
        return [line for line in metrics().splitlines() if line.startswith("envoy_waf_stream_errors_total")]

    before = errors()
    ends = not mode.startswith("full-duplex")  # there Envoy would lose what is on its way
    with connect(f"ws://127.0.0.1:{stack.port}/ws", additional_headers=BROWSER, user_agent_header=None) as socket:
        assert not ends or eventually(lambda: "envoy_waf_streams_in_flight 0.0" in metrics())
        socket.send("still there?")
        assert socket.recv(5) == "echo: still there?"
    with httpx.stream("GET", stack.url + "/events", headers=BROWSER, timeout=10) as events:
        pieces = events.iter_raw()
        assert next(pieces)
        assert not ends or eventually(lambda: "envoy_waf_streams_in_flight 0.0" in metrics(), 0.5)
        assert b"data: 2" in b"".join(pieces)
    assert eventually(lambda: "envoy_waf_streams_in_flight 0.0" in metrics())
    assert errors() == before


@pytest.mark.parametrize("mode", ALL_MODES)
def test_grpc_calls_pass(stacks: Callable[..., Stack], mode: str) -> None:
    """CRS's list of content types has no gRPC: a policy for gRPC has to allow it."""
    allow = "SecRuleUpdateTargetById 920420 !REQUEST_HEADERS:Content-Type\nSecRuleRemoveById 920420"
    stack = stacks(mode, directives=allow)
    with grpc.insecure_channel(f"127.0.0.1:{stack.port}") as channel:
        unary = channel.unary_unary("/demo.Echo/Unary")
        assert unary(b"hello", timeout=10) == b"hello"
        chat = channel.stream_stream("/demo.Echo/Chat")
        sent: list[bytes] = []
        wake = threading.Event()

        def talk() -> Any:
            for number in range(3):
                sent.append(b"%d" % number)
                yield sent[-1]
                assert wake.wait(10)
                wake.clear()

        # Each answer has to come before the next message is sent: nothing may be buffered.
        for number, answer in enumerate(chat(talk(), timeout=20)):
            assert answer == b"%d" % number
            wake.set()
        assert len(sent) == 3


@pytest.mark.xdist_group("buffered")
def test_200_requests_in_parallel_get_their_own_verdicts(stacks: Callable[..., Stack]) -> None:
    stack = stacks("buffered")

    async def run() -> list[int]:
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(headers=BROWSER, timeout=60, limits=limits) as client:
            bad = HOSTILE["form"]["content"]
            calls = [
                client.post(f"{stack.url}/p{i}", content=bad if i % 2 else b"user=ada", headers=FORM)
                for i in range(200)
            ]
            return [answer.status_code for answer in await asyncio.gather(*calls)]

    assert asyncio.run(run()) == [200, 403] * 100


@pytest.mark.xdist_group("crash")
def test_killed_sidecar_fails_closed_and_recovers(browser: httpx.Client) -> None:
    from demo.stack import find_crs

    with Stack("buffered", crs=find_crs()) as stack:
        assert browser.get(stack.url + "/hello").status_code == 200

        def slow_body() -> Any:
            yield b"user=ada"
            stack.sidecar.stop(signal.SIGKILL)
            yield b"&more=1"

        assert browser.post(stack.url + "/login", content=slow_body(), headers=FORM).status_code == 500
        assert browser.get(stack.url + "/hello").status_code >= 500
        stack.start_sidecar()
        stack.sidecar.wait_for(f"http://127.0.0.1:{stack.admin_port}/readyz")
        assert eventually(lambda: browser.get(stack.url + "/hello").status_code == 200)


@pytest.mark.xdist_group("crash")
def test_sigterm_drains_and_ends_cleanly(browser: httpx.Client) -> None:
    from demo.stack import find_crs

    with Stack("buffered", crs=find_crs()) as stack:
        assert browser.get(stack.url + "/hello").status_code == 200
        assert stack.sidecar.stop() == 0
        events = [json.loads(line)["event"] for line in stack.sidecar.text().splitlines()]
        assert events[-2:] == ["draining", "stopped"]


@pytest.mark.xdist_group("buffered")
def test_client_that_goes_away_is_logged_once(stacks: Callable[..., Stack]) -> None:
    """Phase 5 runs exactly once, also when Envoy resets the stream in the middle."""
    import socket

    ended = "SecAction \"id:77,phase:5,pass,log,msg:'ended'\""
    stack = stacks("buffered", directives=ended)
    with socket.create_connection(("127.0.0.1", stack.port)) as raw:
        head = "POST /gone HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 100\r\n"
        raw.sendall((head + "Content-Type: application/x-www-form-urlencoded\r\n\r\nuser=").encode())
        time.sleep(0.3)
    (line,) = eventually(lambda: [t for t in stack.sidecar.text().splitlines() if '"/gone"' in t])
    assert [rule["msg"] for rule in json.loads(line)["rules"]] == ["ended"]
    metrics = f"http://127.0.0.1:{stack.admin_port}/metrics"
    assert eventually(lambda: "envoy_waf_streams_in_flight 0.0" in httpx.get(metrics).text)
    assert stack.sidecar.text().count('"/gone"') == 1


@pytest.mark.parametrize("mode", ALL_MODES)
def test_only_what_was_still_to_be_judged_counts_as_cancelled(
    stacks: Callable[..., Stack], browser: httpx.Client, mode: str
) -> None:
    stack = stacks(mode)
    cancelled = 'envoy_waf_stream_errors_total{kind="cancelled"}'
    verdict = 'envoy_waf_requests_total{phase="",policy="default",status="",verdict="cancelled"}'
    errors, requests = total(stack.admin_port, cancelled), total(stack.admin_port, "envoy_waf_requests_total")
    left = total(stack.admin_port, verdict)
    for path in ("/hello", "/picture", "/large/700000", "/leak", "/status/204"):
        browser.get(stack.url + path)
    browser.post(stack.url + "/up", data={"a": "b"})
    assert eventually(lambda: total(stack.admin_port, "envoy_waf_requests_total") == requests + 6)
    assert total(stack.admin_port, cancelled) == errors
    with socket.create_connection(("127.0.0.1", stack.port)) as connection:
        connection.sendall(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n1")
        assert eventually(lambda: total(stack.admin_port, "envoy_waf_streams_in_flight") == 1)
    assert eventually(lambda: total(stack.admin_port, cancelled) == errors + 1)
    assert eventually(lambda: total(stack.admin_port, verdict) == left + 1)
