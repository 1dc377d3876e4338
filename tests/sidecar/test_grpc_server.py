"""The server on real sockets, with grpcio's client."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc

from demo.stack import free_port
from extproc.transport import frames, messages
from extproc.transport.connection import Call, Limits
from extproc.transport.health import Health
from extproc.transport.messages import Message
from extproc.transport.room import Room
from extproc.transport.server import HEARD_SECONDS, GrpcServer

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SLOW_SECONDS = 0.01


class Echo:
    """`slow` takes its time, `fail` fails."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def message(self, message: Message) -> None:
        data = b"".join(message)
        if data == b"fail":
            raise ValueError(data)
        if data == b"slow":
            time.sleep(SLOW_SECONDS)
        self._call.send(data)

    def ended(self) -> None:
        self._call.finish()

    def crowded(self) -> None:
        self._call.finish(messages.RESOURCE_EXHAUSTED)

    def gone(self) -> None:
        """Nothing is kept."""


class Running:
    """A server on a loop of its own."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        self.address = address
        self.health = Health(("", "echo"))
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))
        self._thread.start()
        assert self._started.wait(5)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self.refused: list[None] = []
        methods = {b"/echo": Echo, **self.health.methods}
        self.server = GrpcServer(methods, Limits(1 << 26, 1000), Room(1 << 30), lambda: self.refused.append(None))
        await self.server.start(self.address)
        self._started.set()
        await self._end.wait()

    def call(self, function: Callable[[], Any]) -> Any:
        async def wrapped() -> Any:
            return function()

        return self.run(wrapped())

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def stop(self) -> None:
        self.run(self.server.stop(0))
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


@pytest.fixture
def running() -> Iterator[Running]:
    server = Running(("127.0.0.1", free_port()))
    yield server
    server.stop()


@contextlib.contextmanager
def channel(target: str) -> Iterator[Any]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    # A connection of its own for each channel.
    with grpc.insecure_channel(target, options=[*options, ("grpc.use_local_subchannel_pool", 1)]) as opened:
        yield opened


def target(address: tuple[str, int] | str) -> str:
    return f"unix:{address}" if isinstance(address, str) else f"{address[0]}:{address[1]}"


def echo(channel: Any) -> Any:
    return channel.stream_stream("/echo", request_serializer=bytes, response_deserializer=bytes)


@pytest.mark.parametrize("kind", ["IPv4", "name", "all addresses", "socket"])
def test_listens_where_it_is_told(kind: str, tmp_path: Path) -> None:
    port = free_port()
    hosts = {"IPv4": "127.0.0.1", "name": "localhost", "all addresses": "::"}
    address = (hosts[kind], port) if kind in hosts else str(tmp_path / "waf.sock")
    if kind == "socket":
        # One that a killed process left.
        socket.socket(socket.AF_UNIX).bind(str(address))
    if kind == "all addresses" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    server = Running(address)
    try:
        with channel(target(address if kind == "socket" else ("127.0.0.1", port))) as opened:
            assert list(echo(opened)(iter([b"one", b"", b"two"]), timeout=5)) == [b"one", b"", b"two"]
    finally:
        server.stop()


def test_large_messages_go_both_ways(running: Running) -> None:
    message = bytes(range(256)) * 40_000
    with channel(target(running.address)) as opened:
        assert list(echo(opened)(iter([message, message]), timeout=20)) == [message, message]


def test_many_calls_at_once(running: Running) -> None:
    with channel(target(running.address)) as opened:
        calls = [echo(opened)(iter([b"%d" % i, b"x" * i]), timeout=10) for i in range(200)]
        assert [list(call) for call in calls] == [[b"%d" % i, b"x" * i] for i in range(200)]


def test_unknown_methods_and_failing_sessions(running: Running) -> None:
    with channel(target(running.address)) as opened:
        unknown = opened.unary_unary("/no/such", request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.RpcError) as error:
            unknown(b"", timeout=5)
        assert (error.value.code(), error.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "no method /no/such")
        with pytest.raises(grpc.RpcError) as error:
            list(echo(opened)(iter([b"fail"]), timeout=5))
        assert error.value.code() is grpc.StatusCode.INTERNAL
        assert list(echo(opened)(iter([b"goes on"]), timeout=5)) == [b"goes on"]


def test_health_is_told_when_asked_and_when_it_changes(running: Running) -> None:
    with channel(target(running.address)) as opened:
        stub = health_pb2_grpc.HealthStub(opened)
        request = health_pb2.HealthCheckRequest
        assert stub.Check(request(), timeout=5).status == NOT_SERVING
        with pytest.raises(grpc.RpcError) as error:
            stub.Check(request(service="other"), timeout=5)
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(request(service="echo"), timeout=10)
        assert next(watch).status == NOT_SERVING
        running.call(lambda: running.health.set(serving=True))
        assert next(watch).status == SERVING
        assert stub.Check(request(service="echo"), timeout=5).status == SERVING
        other = stub.Watch(request(service="other"), timeout=10)
        assert next(other).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        other.cancel()
        running.call(running.health.close)
        with pytest.raises(grpc.RpcError) as error:
            next(watch)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_draining_lets_open_calls_end(running: Running) -> None:
    go_on = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"before"
        go_on.wait(5)
        yield b"after"

    with channel(target(running.address)) as opened:
        answers = echo(opened)(requests(), timeout=10)
        assert next(answers) == b"before"
        stopping = asyncio.run_coroutine_threadsafe(running.server.stop(10), running._loop)
        time.sleep(0.2)
        assert not stopping.done()
        with channel(target(running.address)) as late, pytest.raises(grpc.RpcError):
            list(echo(late)(iter([b"late"]), timeout=2))
        go_on.set()
        assert list(answers) == [b"after"]
        stopping.result(5)


def test_who_asks_for_its_health_hears_of_the_end_before_calls_are_refused(running: Running) -> None:
    running.call(lambda: running.health.set(serving=True))
    with channel(target(running.address)) as gone, channel(target(running.address)) as opened:
        for each in (gone, opened):
            assert health_pb2_grpc.HealthStub(each).Check(health_pb2.HealthCheckRequest(), timeout=5).status == SERVING
        gone.close()  # nobody waits for this one
        running.call(lambda: running.health.set(serving=False))
        stopping = asyncio.run_coroutine_threadsafe(running.server.stop(10), running._loop)
        with channel(target(running.address)) as meanwhile:
            assert list(echo(meanwhile)(iter([b"one"]), timeout=5)) == [b"one"]
        assert not stopping.done()
        stub = health_pb2_grpc.HealthStub(opened)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == NOT_SERVING
        start = time.monotonic()
        stopping.result(5)
        assert time.monotonic() - start < HEARD_SECONDS / 2
        with channel(target(running.address)) as late, pytest.raises(grpc.RpcError):
            list(echo(late)(iter([b"late"]), timeout=2))


def test_a_browser_is_told_what_this_is(running: Running) -> None:
    assert isinstance(running.address, tuple)
    with socket.create_connection(running.address) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: waf\r\n\r\n")
        answer = b""
        while piece := client.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 505 ")
    assert answer.endswith(b"not HTTP/2: this port speaks gRPC without TLS\n")
    assert len(running.refused) == 1


def test_a_broken_connection_is_told_why_and_counted(running: Running) -> None:
    assert isinstance(running.address, tuple)
    with socket.create_connection(running.address) as client:
        client.sendall(frames.PREFACE + frames.settings({}) + frames.frame(frames.DATA, 0, 1, b"x"))
        answer = b""
        while piece := client.recv(4096):
            answer += piece
    assert answer.endswith(frames.number(frames.PROTOCOL_ERROR) + b"DATA on a stream that is not open")
    assert len(running.refused) == 1


def test_a_burst_keeps_nobody_else_waiting(running: Running) -> None:
    burst = 60
    with channel(target(running.address)) as busy, channel(target(running.address)) as other:
        assert list(echo(other)(iter([b"hello"]), timeout=5)) == [b"hello"]
        answers = [echo(busy)(iter([b"slow"]), timeout=20) for _ in range(burst)]
        begin = time.monotonic()
        assert list(echo(other)(iter([b"quick"]), timeout=20)) == [b"quick"]
        assert time.monotonic() - begin < burst * SLOW_SECONDS / 3
        assert [list(call) for call in answers] == [[b"slow"]] * burst


@pytest.mark.parametrize("what", [frames.frame(frames.PING, 0, 0, b"12345678"), frames.settings({})])
def test_who_does_not_read_is_not_read_from(running: Running, what: bytes) -> None:
    assert isinstance(running.address, tuple)
    with socket.create_connection(running.address) as client:
        client.sendall(frames.PREFACE + frames.settings({}))
        client.settimeout(1)
        flood = what * 2_000_000
        with pytest.raises(TimeoutError):
            client.sendall(flood)
        with channel(target(running.address)) as opened:
            assert list(echo(opened)(iter([b"others go on"]), timeout=5)) == [b"others go on"]
