"""Streams as they come over the wire: in order, once, and without anything left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import hpack
import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from prometheus_client.parser import text_string_to_metric_families

from extproc.events import Recorder
from extproc.loading import load_settings
from extproc.metrics import Metrics
from extproc.modes import FULL_DUPLEX, STREAMED
from extproc.policies import compile_policies
from extproc.service import HEAVY_THREADS, METHOD, ExtProcService
from extproc.session import LIGHT_MICROSECONDS
from extproc.stream import Stream
from extproc.transport import frames
from extproc.transport.connection import Connection, Limits
from extproc.transport.messages import Assembler
from extproc.transport.room import Room
from tests.sidecar.messages import prefixed, request_body, request_headers, response_body, response_headers
from waf_core import WAF, Transaction
from waf_core.exchange import Exchange
from waf_core.exchange import run as run_exchange

RULES = """
SecRuleEngine On
SecRequestBodyAccess On
SecRequestBodyLimit 100000000
SecRequestBodyNoFilesLimit 100000000
SecResponseBodyAccess On
SecResponseBodyMimeType text/html
SecRule ARGS "@contains attack" "id:1,phase:2,deny,status:403"
"""
FORM = {"content-type": "application/x-www-form-urlencoded"}
CALL = [(":method", "POST"), (":path", METHOD.decode()), ("content-type", "application/grpc")]


class Line:
    """A client's end of a connection to a service, without sockets."""

    def __init__(self, room: int = 1 << 30, **settings: Any) -> None:
        chosen = load_settings(rules=[], directives=RULES, **settings)
        self.metrics = Metrics()
        self.finished: list[Stream] = []
        recorder = Recorder(self.metrics, chosen, None)
        recorder.finished = self._note(recorder.finished)  # type: ignore[method-assign, assignment]
        self.service = ExtProcService(self.metrics, recorder, None, None)
        self.service.serve(chosen, compile_policies(chosen))
        self.sent: list[bytes] = []
        self.connection = Connection(self.sent.append, Limits(1 << 26, 100), Room(room))
        self.connection.receive(frames.PREFACE + frames.settings({}))
        self._packer, self._unpacker = hpack.Encoder(), hpack.Decoder()
        self._last = -1
        self.answers: dict[int, list[ProcessingResponse]] = {}
        self.status: dict[int, str] = {}
        self._assemblers: dict[int, Assembler] = {}

    def _note(self, record: Callable[[Stream, float], None]) -> Callable[[Stream, float], None]:
        def finished(stream: Stream, seconds: float) -> None:
            self.finished.append(stream)
            record(stream, seconds)

        return finished

    def receive(self, data: bytes) -> None:
        """As the server does, without turns."""
        self.connection.receive(data)
        while self.connection.events:
            event = self.connection.next_event()
            session = event.call.session
            if event.kind == "opened":
                session = self.service.open(event.call)
                event.call.session = None if event.call.over else session
            elif session is not None and event.kind == "message":
                session.message(event.message)
                event.call.release(event.size)
            elif session is not None:
                getattr(session, event.kind)()

    def open(self) -> int:
        self._last += 2
        self.answers[self._last], self._assemblers[self._last] = [], Assembler(1 << 26)
        self.receive(frames.frame(frames.HEADERS, frames.END_HEADERS, self._last, self._packer.encode(CALL)))
        return self._last

    def send(self, stream: int, *requests: ProcessingRequest) -> None:
        data = b"".join(prefixed(request.SerializeToString()) for request in requests)
        for at in range(0, len(data), frames.DEFAULT_MAX_FRAME):
            self.receive(frames.frame(frames.DATA, 0, stream, data[at : at + frames.DEFAULT_MAX_FRAME]))
        # The client reads at once.
        self.receive(b"".join(frames.frame(frames.WINDOW_UPDATE, 0, s, frames.number(1 << 24)) for s in (0, stream)))

    def end(self, stream: int) -> None:
        self.receive(frames.frame(frames.DATA, frames.END_STREAM, stream))

    def reset(self, stream: int) -> None:
        self.receive(frames.frame(frames.RST_STREAM, 0, stream, frames.number(frames.CANCEL)))

    def read(self) -> None:
        """Take down what the service has answered."""
        data = b"".join(self.sent)
        self.sent.clear()
        at = 0
        while at < len(data):
            high, low, kind, _, stream = frames.HEAD.unpack_from(data, at)
            end = at + frames.HEAD_BYTES + (high << 8 | low)
            payload = data[at + frames.HEAD_BYTES : end]
            at = end
            if kind == frames.DATA:
                for message in self._assemblers[stream].feed(payload):
                    self.answers[stream].append(ProcessingResponse.FromString(b"".join(message)))
            elif kind == frames.HEADERS:
                headers = dict(self._unpacker.decode(payload, raw=True))
                if b"grpc-status" in headers:
                    self.status[stream] = headers[b"grpc-status"].decode()

    def kinds(self, stream: int) -> list[str]:
        self.read()
        return [str(answer.WhichOneof("response")) for answer in self.answers[stream]]

    async def idle(self) -> None:
        """Wait for what runs aside."""
        await self.service.tasks.wait()

    def counts(self, name: str, label: str = "kind") -> dict[str, float]:
        """What there is of a counter, by the values of a label."""
        from prometheus_client import generate_latest

        text = generate_latest(self.metrics.registry).decode()
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]
        return {s.labels.get(label, ""): s.value for s in samples if s.value}


def run(scenario: Callable[[Line], Coroutine[Any, Any, None]], **settings: Any) -> Line:
    line = Line(**settings)
    size = line.connection.room.left
    asyncio.run(scenario(line))
    if not line.connection.calls:
        assert line.connection.room.left == size
    return line


def test_a_request_and_its_response() -> None:
    async def scenario(line: Line) -> None:
        stream = line.open()
        for message in (request_headers("/x?a=b"), response_headers(), response_body(b"<p>")):
            line.send(stream, message)
        assert line.kinds(stream) == ["request_headers", "response_headers", "response_body"]
        assert line.counts("envoy_waf_streams_in_flight") == {"": 1}
        line.end(stream)

    line = run(scenario)
    line.read()
    assert line.status == {1: "0"}
    assert len(line.finished) == 1
    assert line.service.streams == 0
    assert line.counts("envoy_waf_stream_errors_total") == {}


def test_a_call_ends_before_a_long_response_does() -> None:
    async def scenario(line: Line) -> None:
        stream = line.open()
        line.send(stream, request_headers("/events"), response_headers(headers={"content-type": "text/event-stream"}))
        assert line.kinds(stream) == ["request_headers", "response_headers"]
        assert line.status == {stream: "0"}
        # Envoy may have more on its way, or drop the stream at the same moment.
        line.send(stream, response_body(b"data: x"))
        line.reset(stream)

    line = run(scenario)
    assert len(line.finished) == 1
    assert line.finished[0].tx is not None
    assert line.finished[0].tx.response_status == 200
    assert line.counts("envoy_waf_stream_errors_total") == {}


def test_a_stream_that_envoy_drops_when_all_is_judged_is_no_error() -> None:
    async def scenario(line: Line) -> None:
        stream = line.open()
        events = response_headers(headers={"content-type": "text/event-stream"})
        line.send(stream, request_headers("/events", mode=FULL_DUPLEX), events)
        assert line.kinds(stream) == ["request_headers", "response_headers"]
        assert line.status == {}
        line.reset(stream)

    line = run(scenario)
    assert len(line.finished) == 1
    assert line.counts("envoy_waf_stream_errors_total") == {}


def test_a_verdict_ends_the_call() -> None:
    async def scenario(line: Line) -> None:
        stream = line.open()
        line.send(stream, request_headers("/x?a=attack"), response_headers())
        assert line.kinds(stream) == ["immediate_response"]

    line = run(scenario)
    assert line.status == {1: "0"}
    assert len(line.finished) == 1


def test_large_bodies_are_judged_aside_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Stream.handle
    main = threading.current_thread()
    threads = set()

    def watched(stream: Stream, message: ProcessingRequest, body: Any) -> Any:
        last = message.request_body.end_of_stream
        threads.add((message.WhichOneof("request"), last, threading.current_thread() is main))
        return handle(stream, message, body)

    async def scenario(line: Line) -> None:
        monkeypatch.setattr(Stream, "handle", watched)
        first, second = line.open(), line.open()
        line.send(first, request_headers(method="POST", headers=FORM, end=False, mode=FULL_DUPLEX))
        pieces = [b"a%d=%b&" % (i, b"x" * 8 * LIGHT_MICROSECONDS) for i in range(6)]
        line.send(first, *[request_body(piece, end=False) for piece in pieces], request_body(b"b=1"))
        assert line.kinds(first) == []
        line.send(second, request_headers("/small"))
        assert line.kinds(second) == ["request_headers"]
        await line.idle()
        assert line.kinds(first) == ["request_headers"] + ["request_body"] * 7
        bodies = [answer.request_body.response.body_mutation.streamed_response for answer in line.answers[first][1:]]
        assert [body.body for body in bodies] == [*pieces, b"b=1"]
        assert [body.end_of_stream for body in bodies] == [False] * 6 + [True]

    run(scenario)
    assert threads == {("request_headers", False, True), ("request_body", False, True), ("request_body", True, False)}


def test_an_attack_in_a_large_body_is_found_behind_what_waits() -> None:
    async def scenario(line: Line) -> None:
        stream = line.open()
        line.send(stream, request_headers(method="POST", headers=FORM, end=False))
        line.send(stream, request_body(b"a=" + b"x" * 100_000 + b"attack"))
        line.end(stream)
        await line.idle()
        assert line.kinds(stream) == ["request_headers", "immediate_response"]

    line = run(scenario)
    assert len(line.finished) == 1
    assert line.finished[0].tx is not None
    assert line.finished[0].tx.interruption is not None


def test_a_stream_that_goes_while_a_thread_has_it() -> None:
    async def scenario(line: Line) -> None:
        stream = line.open()
        line.send(stream, request_headers(method="POST", headers=FORM, end=False))
        line.send(stream, request_body(b"a=" + b"x" * 1_000_000))
        line.reset(stream)
        assert not line.finished
        assert line.service.streams == 1
        await line.idle()

    line = run(scenario)
    assert len(line.finished) == 1
    assert line.service.streams == 0
    assert line.counts("envoy_waf_stream_errors_total") == {"cancelled": 1}


def test_what_has_gone_before_its_turn_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Stream.handle
    go_on = threading.Event()
    judged: list[bytes] = []

    def slow(stream: Stream, message: ProcessingRequest, body: Any) -> Any:
        if message.HasField("request_body"):
            judged.append(b"".join(body or [])[:3])
            go_on.wait(10)
        return handle(stream, message, body)

    async def scenario(line: Line) -> None:
        monkeypatch.setattr(Stream, "handle", slow)
        streams = [line.open() for _ in range(HEAVY_THREADS + 2)]
        for number, stream in enumerate(streams):
            line.send(stream, request_headers(method="POST", headers=FORM, end=False))
            line.send(stream, request_body(b"a=%d" % number + b"x" * 100_000))
        line.reset(streams[-2])
        go_on.set()
        await line.idle()
        assert line.kinds(streams[-1]) == ["request_headers", "request_body"]

    line = run(scenario)
    assert sorted(judged) == [b"a=%d" % number for number in range(HEAVY_THREADS + 2) if number != HEAVY_THREADS]
    assert line.counts("envoy_waf_stream_errors_total") == {"cancelled": 1}


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [(prefixed(b"\xff\xff"), "3"), (prefixed(response_headers().SerializeToString()), "9")],
)
def test_what_is_no_stream_of_ours_is_refused(request_bytes: bytes, status: str) -> None:
    async def scenario(line: Line) -> None:
        line.receive(frames.frame(frames.DATA, 0, line.open(), request_bytes))

    line = run(scenario)
    line.read()
    assert line.status == {1: status}
    assert line.service.streams == 0
    assert line.counts("envoy_waf_stream_errors_total") == {"protocol": 1}


def test_an_engine_that_fails_refuses_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(stream: Stream, message: ProcessingRequest) -> Any:
        raise ZeroDivisionError

    async def scenario(line: Line) -> None:
        monkeypatch.setattr(Stream, "handle", fail)
        stream = line.open()
        line.send(stream, request_headers())
        assert line.kinds(stream) == ["immediate_response"]
        assert line.answers[stream][0].immediate_response.status.code == 500

    line = run(scenario)
    assert line.counts("envoy_waf_stream_errors_total") == {"engine": 1}


HEAD = request_headers(method="POST", headers=FORM, end=False, mode=FULL_DUPLEX)


def refused(line: Line, stream: int) -> bool:
    """Has it been refused, as the last thing that happened to it?"""
    line.read()
    answer = line.answers[stream][-1].immediate_response if line.answers[stream] else None
    return answer is not None and (answer.status.code, answer.details) == (503, "envoy_waf_no_room")


def test_bodies_that_are_held_have_one_room() -> None:
    async def scenario(line: Line) -> None:
        streams = [line.open() for _ in range(4)]
        for stream in streams[:3]:
            line.send(stream, HEAD, *[request_body(b"x" * 10_000, end=False) for _ in range(10)])
        assert [refused(line, stream) for stream in streams[:3]] == [False, False, True]
        assert (line.status, len(line.finished)) == ({streams[2]: "0"}, 1)
        # Of what is refused nothing is left, and what has little may go on when there is no room for more.
        assert line.connection.room.left == 250_000 - 200_000
        line.send(streams[0], *[request_body(b"x" * 10_000, end=False) for _ in range(4)])
        line.send(streams[3], HEAD)
        line.send(streams[3], request_body(b"a=" + b"b" * 11_000))
        assert line.kinds(streams[3]) == ["request_headers", "request_body"]
        assert line.connection.room.left < 0
        line.send(streams[1], request_body(b"x" * 10_000, end=False))
        assert refused(line, streams[1])
        line.send(streams[0], request_body(b"y"))
        await line.idle()
        assert line.kinds(streams[0])[:2] == ["request_headers", "request_body"]
        for stream in (streams[0], streams[3]):
            line.end(stream)

    line = run(scenario, room=250_000)
    # The two that ended have shown no response.
    assert line.counts("envoy_waf_stream_errors_total") == {"memory": 2, "cancelled": 2}
    assert [s.failed for s in line.finished] == [503, 503, 0, 0]
    assert [s.outcome for s in line.finished] == ["failed", "failed", "cancelled", "cancelled"]
    requests = line.metrics.requests.labels("default", "failed", "", "503")
    assert requests._value.get() == 2


def test_bodies_on_their_way_have_the_same_room() -> None:
    async def scenario(line: Line) -> None:
        first, second, third = line.open(), line.open(), line.open()
        line.send(first, HEAD, *[request_body(b"x" * 10_000, end=False) for _ in range(9)])
        line.send(second, request_headers(method="POST", headers=FORM, end=False))
        line.send(second, request_body(b"x" * 200_000))
        assert refused(line, second)
        line.send(third, request_headers("/small"))
        assert line.kinds(third) == ["request_headers"]
        for stream in (first, third):
            line.reset(stream)

    line = run(scenario, room=200_000)
    assert line.counts("envoy_waf_stream_errors_total") == {"memory": 1, "cancelled": 2}


def test_what_waits_for_a_thread_counts() -> None:
    async def scenario(line: Line) -> None:
        streams = [line.open() for _ in range(6)]
        for stream in streams:
            line.send(stream, request_headers(method="POST", headers=FORM, end=False))
            line.send(stream, request_body(b"a=" + b"x" * 100_000))
        assert [refused(line, stream) for stream in streams] == [False] * 4 + [True] * 2
        await line.idle()
        assert [line.kinds(stream) for stream in streams[:4]] == [["request_headers", "request_body"]] * 4
        # Rules behind may still want the bodies.
        assert line.connection.room.left < 100_000
        for stream in streams:
            line.end(stream)

    run(scenario, room=450_000)


def test_a_stream_for_which_there_is_no_room_while_a_thread_has_it() -> None:
    async def scenario(line: Line) -> None:
        stream = line.open()
        line.send(stream, request_headers(method="POST", headers=FORM, end=False, mode=STREAMED))
        line.send(stream, request_body(b"a=" + b"x" * 60_000))
        line.send(stream, request_body(b"x" * 60_000, end=False))
        assert line.kinds(stream) == ["request_headers"]
        assert not line.finished
        await line.idle()
        assert refused(line, stream)

    line = run(scenario, room=80_000)
    assert len(line.finished) == 1


def test_what_the_peer_does_not_take_counts() -> None:
    async def scenario(line: Line) -> None:
        stream = line.open()
        body = request_body(b"a=" + b"x" * 500_000, end=False)
        line.send(stream, HEAD, body, request_body(b"y"))
        await line.idle()
        held = line.connection.room.left
        # Judged, and kept for rules behind; and on its way back: the flight is full until Envoy answers the ping.
        assert 1_000_000 - 950_000 < held < 1_000_000 - 800_000
        line.reset(stream)

    line = run(scenario, room=1_000_000)
    assert line.connection.room.left == 1_000_000


def test_more_streams_than_the_limit() -> None:
    async def scenario(line: Line) -> None:
        first, second = line.open(), line.open()
        line.read()
        assert line.status == {second: "8"}
        line.send(first, request_headers())
        line.end(first)
        third = line.open()
        line.send(third, request_headers())
        assert line.kinds(third) == ["request_headers"]
        line.end(third)

    line = run(scenario, max_streams=1)
    assert line.service.streams == 0
    assert line.counts("envoy_waf_stream_errors_total") == {"overload": 1, "cancelled": 2}


def full(line: Line, *, bodies: int) -> list[int]:
    """As many streams as there may be; so many wait for their bodies, the others for responses."""
    opened = [line.open() for _ in range(line.service.settings.max_streams)]
    for stream in opened[:bodies]:
        line.send(stream, request_headers(method="POST", headers=FORM, end=False, mode=FULL_DUPLEX))
    for stream in opened[bodies:]:
        line.send(stream, request_headers())
    return opened


def is_overload(answer: ProcessingResponse) -> bool:
    immediate = answer.immediate_response
    return (immediate.status.code, immediate.details) == (503, "envoy_waf_overload")


def test_slow_bodies_make_way_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.service.PATIENCE_SECONDS", 0.0)

    async def scenario(line: Line) -> None:
        first, second, response = full(line, bodies=2)
        line.send(first, request_body(b"a=1", end=False))
        for victim in (first, second):
            new = line.open()
            line.send(new, request_headers())
            assert line.kinds(new) == ["request_headers"]
            assert is_overload(line.answers[victim][-1])
            assert line.service.streams == 3
        refused = line.open()
        line.read()
        assert line.status[refused] == "8"
        assert response not in line.status
        assert [stream.failed for stream in line.finished if stream.tx] == [503, 503]

    line = run(scenario, max_streams=3)
    assert line.counts("envoy_waf_stream_errors_total")["overload"] == 3


def test_what_is_judged_on_a_thread_makes_way_when_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.service.PATIENCE_SECONDS", 0.0)

    async def scenario(line: Line) -> None:
        slow = line.open()
        headers = {"content-type": "multipart/form-data; boundary=0123456789"}
        line.send(slow, request_headers(method="POST", headers=headers, end=False, mode=FULL_DUPLEX))
        part = b'--0123456789\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
        line.send(slow, request_body(part + b"x" * 5_000_000, end=False))
        refused = line.open()
        line.read()
        assert line.status == {refused: "8"}
        await line.idle()
        new = line.open()
        line.send(new, request_headers())
        assert line.kinds(new) == ["request_headers"]
        assert is_overload(line.answers[slow][-1])

    run(scenario, max_streams=1)


def test_those_who_have_just_come_do_not_make_way() -> None:
    async def scenario(line: Line) -> None:
        full(line, bodies=2)
        refused = line.open()
        line.read()
        assert line.status == {refused: "8"}

    run(scenario, max_streams=2)


def test_what_is_judged_and_still_passes_makes_way_after_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.service.PATIENCE_SECONDS", 0.0)

    async def scenario(line: Line) -> None:
        upload, reader, busy = (line.open() for _ in range(3))
        line.send(upload, request_headers(method="POST", headers=FORM, end=False, mode=FULL_DUPLEX))
        for stream in (reader, busy):
            line.send(stream, request_headers(mode=FULL_DUPLEX))
        line.send(reader, response_headers(headers={"content-type": "image/png"}))
        for _ in range(2):  # it has not passed for long
            new = line.open()
            line.send(new, request_headers())
        line.read()
        assert is_overload(line.answers[upload][-1])
        assert line.status[new] == "8"
        monkeypatch.setattr("extproc.service.PASSING_SECONDS", 0.0)
        last = line.open()
        line.send(last, request_headers())
        assert line.kinds(last) == ["request_headers"]
        assert line.status[reader] == "8"
        assert line.kinds(reader)[-1] == "response_headers"
        assert busy not in line.status
        (passed,) = [stream for stream in line.finished if stream.tx and stream.tx.response_status]
        assert (passed.failed, passed.blocked) == (0, False)

    line = run(scenario, max_streams=3)
    assert line.counts("envoy_waf_stream_errors_total")["overload"] == 3


def test_a_body_that_is_judged_does_not_make_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.service.PATIENCE_SECONDS", 0.0)

    async def scenario(line: Line) -> None:
        (stream,) = full(line, bodies=1)
        line.send(stream, request_body(b"a=1"))
        refused = line.open()
        line.read()
        assert line.status == {refused: "8"}

    run(scenario, max_streams=1)


SHADOW = {"shadow": "other", "policies": [{"name": "other", "directives": RULES.replace("attack", "suspect")}]}


def shadows(line: Line) -> dict[tuple[str, str], float]:
    """Requests by the live verdict and the shadow's."""
    (family,) = line.metrics.shadow.collect()
    samples = [sample for sample in family.samples if sample.name.endswith("_total")]
    return {(sample.labels["live"], sample.labels["candidate"]): sample.value for sample in samples}


def test_a_shadow_judges_large_bodies_on_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def watched(waf: WAF, exchange: Exchange) -> Transaction:
        threads.append(threading.current_thread().name[:6])
        return run_exchange(waf, exchange)

    async def scenario(line: Line) -> None:
        monkeypatch.setattr("extproc.shadow.run", watched)
        for body in (b"a=suspect", b"a=" + b"x" * 100_000 + b"suspect"):
            stream = line.open()
            line.send(stream, request_headers(method="POST", headers=FORM, end=False), request_body(body))
            await line.idle()
            line.end(stream)
        await line.idle()

    line = run(scenario, **SHADOW)
    assert shadows(line) == {("pass", "block"): 2}
    assert threads == ["MainTh", "shadow"]


def test_what_waits_for_a_shadow_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def slow(waf: WAF, exchange: Exchange) -> Transaction:
        go_on.wait(10)
        return run_exchange(waf, exchange)

    async def scenario(line: Line) -> None:
        monkeypatch.setattr("extproc.shadow.run", slow)
        monkeypatch.setattr("extproc.shadow.MAX_WAITING_BYTES", 250_000)
        for _ in range(3):
            stream = line.open()
            line.send(stream, request_headers(method="POST", headers=FORM, end=False))
            line.send(stream, request_body(b"a=" + b"x" * 100_000))
            while line.kinds(stream) != ["request_headers", "request_body"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            line.end(stream)
        assert shadows(line) == {("pass", "skipped"): 1}
        go_on.set()
        await line.idle()

    line = run(scenario, **SHADOW)
    assert shadows(line) == {("pass", "skipped"): 1, ("pass", "pass"): 2}


def test_a_shadow_does_not_judge_what_has_broken_off() -> None:
    async def scenario(line: Line) -> None:
        for end in (True, False):
            stream = line.open()
            line.send(stream, request_headers("/x?a=suspect", method="POST", headers=FORM, end=end, mode=FULL_DUPLEX))
            if not end:
                line.send(stream, request_body(b"a=x", end=False))
            line.reset(stream)
        stream = line.open()
        line.send(stream, request_headers("/x?a=suspect", mode=FULL_DUPLEX), response_headers())
        line.send(stream, response_body(b"half a page", end=False))
        line.reset(stream)

    line = run(scenario, **SHADOW)
    assert shadows(line) == {("pass", "block"): 1}


def test_what_its_client_has_left_did_not_pass() -> None:
    async def scenario(line: Line) -> None:
        for last in ("reset", "end", "attack"):
            stream = line.open()
            line.send(stream, request_headers(method="POST", headers=FORM, end=False, mode=FULL_DUPLEX))
            if last == "attack":
                line.send(stream, request_body(b"a=attack"))
            else:
                line.send(stream, request_body(b"a=x", end=False))
                line.reset(stream) if last == "reset" else line.end(stream)
        stream = line.open()
        line.send(stream, request_headers(), response_headers(end=True))
        line.end(stream)

    line = run(scenario)
    assert line.counts("envoy_waf_requests_total", "verdict") == {"cancelled": 2, "deny": 1, "pass": 1}
    slices = line.service.recorder.summary.to_dict()["slices"].values()
    assert [sum(counts) for counts in zip(*slices, strict=True)] == [4, 1, 0]


@pytest.mark.parametrize("last", ["end", "reset", "verdict"])
def test_nothing_waits_for_the_garbage_collector(last: str) -> None:
    streams: list[weakref.ref[Stream]] = []

    async def scenario(line: Line) -> None:
        stream = line.open()
        line.send(stream, request_headers("/x?a=attack" if last == "verdict" else "/x"))
        if last == "end":
            line.end(stream)
        elif last == "reset":
            line.reset(stream)
        streams.append(weakref.ref(line.finished.pop()))
        line.answers.clear()

    gc.disable()
    try:
        run(scenario)
        assert streams[0]() is None
    finally:
        gc.enable()
