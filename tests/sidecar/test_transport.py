"""The connection against the h2 library's client, byte for byte, and against what no client should send."""

from __future__ import annotations

import itertools

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.transport import connection as wire
from extproc.transport import frames, messages
from extproc.transport.connection import Call, Connection, Limits
from extproc.transport.flight import FLIGHT_BYTES, PAYLOAD
from extproc.transport.frames import ProtocolError, frame, number
from extproc.transport.messages import Assembler, RpcError
from extproc.transport.room import Room
from tests.sidecar.messages import prefixed

HEADERS = [
    (":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "waf"), ("te", "trailers"),
    ("content-type", "application/grpc"),
]  # fmt: skip
START = frames.PREFACE + frames.settings({})


def _ignore(data: bytes) -> None:
    """Nobody is there."""


class Pair:
    """A client of the h2 library and our connection, which echoes every message when `turn` is called."""

    def __init__(
        self, *, calls: int = 10, message_bytes: int = 1 << 24, room: int = 1 << 30, window: int = 65535
    ) -> None:
        self.to_client: list[bytes] = []
        self.room = Room(room)
        self.server = Connection(self.to_client.append, Limits(message_bytes, calls), self.room)
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.client.initiate_connection()
        self.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.events: list[h2.events.Event] = []
        self.exchange()

    def exchange(self) -> None:
        """Bytes go to and fro until there are none."""
        while True:
            data = self.client.data_to_send()
            if data:
                self.server.receive(data)
            sent, self.to_client[:] = b"".join(self.to_client), []
            if sent:
                self.events += self.client.receive_data(sent)
            elif not data:
                return

    def begin(self, headers: list[tuple[str, str]] = HEADERS, *, end: bool = False) -> int:
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, headers, end_stream=end)
        self.exchange()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """As much of it as the windows allow at once; the rest when they open."""
        while data or end:
            room = min(self.client.local_flow_control_window(stream), self.client.max_outbound_frame_size)
            assert room > 0 or not data, "the window stays shut"
            piece, data = data[:room], data[room:]
            self.client.send_data(stream, piece, end_stream=end and not data)
            end = end and bool(data)
            self.exchange()

    def turn(self) -> None:
        """Handle what has come: echo."""
        while self.server.events:
            event = self.server.next_event()
            if event.kind == "message":
                event.call.send(b"".join(event.message))
                event.call.release(event.size)
            elif event.kind == "ended":
                event.call.finish()
        self.exchange()

    def received(self, stream: int) -> bytes:
        """Data that the client has got; it gives the windows back."""
        data = b""
        for event in list(self.events):
            if isinstance(event, h2.events.DataReceived) and event.stream_id == stream:
                data += event.data or b""
                self.events.remove(event)
                if event.flow_controlled_length:
                    self.client.acknowledge_received_data(event.flow_controlled_length, stream)
        self.exchange()
        return data

    def trailers(self, stream: int) -> dict[str, str]:
        for event in self.events:
            kinds = (h2.events.TrailersReceived, h2.events.ResponseReceived)
            if isinstance(event, kinds) and event.stream_id == stream:
                found = {str(name): str(value) for name, value in event.headers or ()}
                if "grpc-status" in found or found[":status"] != "200":
                    return found
        return {}


def test_a_call() -> None:
    pair = Pair()
    stream = pair.begin()
    pair.send(stream, prefixed(b"one"))
    pair.turn()
    assert pair.received(stream) == prefixed(b"one")
    pair.send(stream, prefixed(b"two") + prefixed(b"")[:3])
    pair.turn()
    assert pair.received(stream) == prefixed(b"two")
    pair.send(stream, prefixed(b"")[3:], end=True)
    pair.turn()
    assert pair.received(stream) == prefixed(b"")
    assert pair.trailers(stream) == {"grpc-status": "0"}
    assert not pair.server.calls


def test_headers_are_the_same_from_the_table_and_unpacked() -> None:
    pair = Pair()
    seen = []
    for extra in ([], [], [("x-id", "1")], [("x-id", "1")], [("x-id", "2")], []):
        pair.begin([*HEADERS, *extra], end=True)
        seen.append({k.decode(): v.decode() for k, v in pair.server.events[0].call.headers.items()})
        assert seen[-1] == dict([*HEADERS, *extra])
        pair.turn()


def test_large_messages_wait_for_windows() -> None:
    pair = Pair(window=1000)
    stream = pair.begin()
    message = bytes(range(256)) * 20_000
    pair.send(stream, prefixed(message))
    pair.turn()
    got = b""
    while len(got) < len(message) + 5:
        piece = pair.received(stream)
        assert piece, "nothing more comes"
        got += piece
    assert got == prefixed(message)
    pair.send(stream, b"", end=True)
    pair.turn()
    assert pair.trailers(stream) == {"grpc-status": "0"}
    assert pair.room.left == 1 << 30


def test_a_window_that_opens_in_settings() -> None:
    pair = Pair(window=10)
    stream = pair.begin()
    pair.send(stream, prefixed(b"x" * 100))
    pair.turn()
    assert len(pair.received(stream)) == 10
    pair.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 500})
    pair.exchange()
    assert len(pair.received(stream)) == 95


def test_a_call_that_is_held_takes_no_more_than_its_window() -> None:
    pair = Pair(message_bytes=1 << 26)
    stream = pair.begin()
    call: Call = pair.server.next_event().call
    call.hold()
    message = prefixed(b"x" * 10_000)
    with pytest.raises(AssertionError, match="stays shut"):
        pair.send(stream, message * 1000)
    assert sum(event.size for event in pair.server.events) <= wire.STREAM_WINDOW
    while pair.server.events:
        call.release(pair.server.next_event().size)
    call.resume()
    pair.exchange()
    assert pair.client.local_flow_control_window(stream) > wire.STREAM_WINDOW // 2


def _open_wide(calls: int) -> tuple[Pair, list[int], list[Call]]:
    """Calls whose peer's windows hold nothing back."""
    pair = Pair(window=1 << 24)
    pair.client.increment_flow_control_window(1 << 24)
    streams = [pair.begin() for _ in range(calls)]
    return pair, streams, [pair.server.next_event().call for _ in streams]


def test_small_answers_do_not_wait_behind_a_large_one() -> None:
    pair, (large, small), (first, second) = _open_wide(2)
    first.send(b"x" * 1_000_000)
    second.send(b"small")
    sent = b"".join(pair.to_client)
    assert FLIGHT_BYTES <= len(sent) <= FLIGHT_BYTES + 1000
    assert sent.endswith(prefixed(b"small"))
    first.finish()
    pair.exchange()
    assert pair.received(small) == prefixed(b"small")
    assert pair.received(large) == prefixed(b"x" * 1_000_000)
    assert pair.trailers(large)["grpc-status"] == "0"


def test_an_answer_in_parts() -> None:
    pair, (stream,), (call,) = _open_wide(1)
    call.send(b"", b"", b"one", b"", b"", b"x" * 20_000, b"")
    call.send(b"two", b"")
    sent = b"".join(pair.to_client)
    assert frames.head(0, frames.DATA, 0, stream) not in sent
    pair.exchange()
    assert pair.received(stream) == prefixed(b"one" + b"x" * 20_000) + prefixed(b"two")


def test_large_answers_take_turns() -> None:
    pair, streams, calls = _open_wide(4)
    for call in calls:
        call.send(b"x" * 1_000_000)
    rounds = []
    while pair.to_client:
        sent, pair.to_client[:] = b"".join(pair.to_client), []
        assert len(sent) <= FLIGHT_BYTES + 1000
        sizes = dict.fromkeys(streams, 0)
        for event in pair.client.receive_data(sent):
            if isinstance(event, h2.events.DataReceived):
                sizes[event.stream_id] += len(event.data or b"")
        rounds.append(list(sizes.values()))
        pair.server.receive(pair.client.data_to_send())
    assert [sum(sizes) for sizes in zip(*rounds, strict=True)] == [1_000_005] * 4
    so_far = [0] * 4
    for sizes_now in rounds[:-8]:
        so_far = [before + now for before, now in zip(so_far, sizes_now, strict=True)]
        assert max(so_far[1:]) - min(so_far[1:]) <= FLIGHT_BYTES // 2
    assert len(rounds) > 30


def test_a_large_answer_that_nobody_waits_for_any_more() -> None:
    pair, streams, calls = _open_wide(3)
    for call in calls:
        call.send(b"x" * 1_000_000)
    pair.client.reset_stream(streams[0])
    pair.client.reset_stream(streams[1])
    pair.exchange()
    assert pair.received(streams[2]) == prefixed(b"x" * 1_000_000)


def test_who_does_not_take_its_answers_may_not_send_more() -> None:
    pair, (stream,), (call,) = _open_wide(1)
    call.send(b"x" * 1_000_000)
    pair.to_client.clear()
    for _ in range(wire.STREAM_WINDOW // 10_000):
        pair.client.send_data(stream, prefixed(b"y" * 9_995))
        pair.server.receive(pair.client.data_to_send())
        call.release(pair.server.next_event().size)
    assert not pair.to_client
    pair.server.receive(frame(frames.PING, frames.ACK, 0, PAYLOAD))
    while call.backlog:
        assert frames.head(4, frames.WINDOW_UPDATE, 0, stream) not in b"".join(pair.to_client)
        pair.server.receive(frame(frames.PING, frames.ACK, 0, PAYLOAD))
    assert frames.head(4, frames.WINDOW_UPDATE, 0, stream) in b"".join(pair.to_client)


def test_pings_that_were_not_asked_for() -> None:
    pair, (stream,), (call,) = _open_wide(1)
    for _ in range(3):
        pair.server.receive(frame(frames.PING, frames.ACK, 0, PAYLOAD))
        pair.server.receive(frame(frames.PING, frames.ACK, 0, b"\0" * 8))
    call.send(b"x" * 1_000_000)
    assert len(b"".join(pair.to_client)) <= FLIGHT_BYTES + 1000
    pair.server.receive(frame(frames.PING, frames.ACK, 0, b"\0" * 8))
    assert len(b"".join(pair.to_client)) <= FLIGHT_BYTES + 1000
    pair.exchange()
    assert pair.received(stream) == prefixed(b"x" * 1_000_000)


def test_what_is_not_handled_is_not_given_back() -> None:
    pair = Pair()
    stream = pair.begin()
    message = prefixed(b"x" * 10_000)
    with pytest.raises(AssertionError, match="stays shut"):
        pair.send(stream, message * 1000)


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (b"\x01\0\0\0\x01x", "12", "compressed messages are not accepted"),
        (b"\0\0\xff\xff\xff", "8", "a message of 16777215 bytes; 1000 is the limit"),
    ],
)
def test_messages_that_are_not_taken(data: bytes, status: str, text: str) -> None:
    pair = Pair(message_bytes=1000)
    stream = pair.begin()
    pair.send(stream, data)
    assert [event.kind for event in pair.server.events] == ["opened", "gone"]
    assert pair.trailers(stream)["grpc-status"] == status
    assert pair.trailers(stream)["grpc-message"] == text


def test_a_stream_that_ends_within_a_message() -> None:
    pair = Pair()
    stream = pair.begin()
    pair.send(stream, prefixed(b"abc")[:-1], end=True)
    assert pair.trailers(stream)["grpc-status"] == "13"
    assert pair.server.events[-1].kind == "gone"


def test_unfinished_messages_have_one_room() -> None:
    pair = Pair(room=50_000)
    first, second = pair.begin(), pair.begin()
    pair.send(first, prefixed(b"x" * 40_000)[:-1])
    pair.send(second, prefixed(b"x" * 40_000)[:32_768])
    pair.send(second, b"x" * 16_384)
    assert [(event.kind, event.call.id) for event in pair.server.events][2:] == [("crowded", second)]
    pair.server.events.pop().call.finish(messages.RESOURCE_EXHAUSTED, "no room")
    pair.exchange()
    assert pair.trailers(second)["grpc-status"] == "8"
    pair.send(first, b"x", end=True)
    pair.turn()
    assert pair.room.left == 50_000
    assert pair.received(first) == prefixed(b"x" * 40_000)


def test_more_calls_than_the_limit_are_refused() -> None:
    pair = Pair(calls=2)
    for _ in range(2):
        pair.begin()
    pair.client.remote_settings.max_concurrent_streams = 100
    pair.client.remote_settings.acknowledge()
    refused = pair.begin()
    assert [(e.stream_id, e.error_code) for e in pair.events if isinstance(e, h2.events.StreamReset)] == [
        (refused, h2.errors.ErrorCodes.REFUSED_STREAM)
    ]


def test_no_new_calls_while_draining() -> None:
    pair = Pair()
    old = pair.begin()
    pair.server.goaway()
    pair.server.receive(_headers_frame(3))
    assert list(pair.server.calls) == [old]
    pair.server.events.clear()
    pair.server.receive(frame(frames.DATA, frames.END_STREAM, old, prefixed(b"x")))
    assert [event.kind for event in pair.server.events] == ["message", "ended"]


def test_a_reset_call_is_gone() -> None:
    pair = Pair()
    stream = pair.begin()
    pair.client.reset_stream(stream)
    pair.exchange()
    opened, gone = pair.server.events
    assert (opened.kind, gone.kind, gone.call.over) == ("opened", "gone", True)
    gone.call.send(b"too late")
    gone.call.finish()
    pair.exchange()
    assert not pair.received(stream)


def test_a_lost_connection_loses_its_calls() -> None:
    pair = Pair()
    pair.begin()
    pair.begin()
    pair.server.events.clear()
    pair.server.lost()
    assert [event.kind for event in pair.server.events] == ["gone", "gone"]


def test_other_requests_are_no_calls() -> None:
    pair = Pair()
    stream = pair.begin([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "waf")], end=True)
    assert pair.trailers(stream)[":status"] == "415"
    assert not pair.server.events


def test_pings_are_answered() -> None:
    pair = Pair()
    pair.client.ping(b"12345678")
    pair.exchange()
    assert any(isinstance(event, h2.events.PingAckReceived) for event in pair.events)


def test_headers_in_many_pieces() -> None:
    pair = Pair()
    pair.begin([*HEADERS, ("x-long", "y" * 40_000)], end=True)
    assert pair.server.events[0].call.headers[b"x-long"] == b"y" * 40_000


def _headers_frame(stream: int, flags: int = frames.END_HEADERS) -> bytes:
    block = wire._block([(name.encode(), value.encode()) for name, value in HEADERS])
    return frame(frames.HEADERS, flags, stream, block)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(frames.DATA, 0, 0, b"x"), frames.PROTOCOL_ERROR),
        (frame(frames.DATA, 0, 7, b"x"), frames.PROTOCOL_ERROR),
        (_headers_frame(2), frames.PROTOCOL_ERROR),
        (_headers_frame(0), frames.PROTOCOL_ERROR),
        (frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x80"), frames.COMPRESSION_ERROR),
        (frame(frames.HEADERS, frames.END_HEADERS | frames.PADDED, 1, b"\x09abc"), frames.PROTOCOL_ERROR),
        (_headers_frame(1, 0) + frame(frames.PING, 0, 0, b"12345678"), frames.PROTOCOL_ERROR),
        (frame(frames.CONTINUATION, 0, 1, b""), frames.PROTOCOL_ERROR),
        (_headers_frame(1, 0) + frame(frames.CONTINUATION, 0, 1) * 100, frames.ENHANCE_YOUR_CALM),
        (_headers_frame(1, 0) + frame(frames.CONTINUATION, 0, 1, b"x" * 16_000) * 5, frames.ENHANCE_YOUR_CALM),
        (frame(frames.RST_STREAM, 0, 9, b"\0" * 4), frames.PROTOCOL_ERROR),
        (frame(frames.RST_STREAM, 0, 1, b"\0"), frames.FRAME_SIZE_ERROR),
        (frame(frames.PING, 0, 0, b"123"), frames.FRAME_SIZE_ERROR),
        (frame(frames.SETTINGS, 0, 0, b"123"), frames.FRAME_SIZE_ERROR),
        (frames.settings({frames.SETTING_INITIAL_WINDOW: 1 << 31}), frames.FLOW_CONTROL_ERROR),
        (frames.settings({frames.SETTING_MAX_FRAME: 1}), frames.PROTOCOL_ERROR),
        (frame(frames.WINDOW_UPDATE, 0, 0, b"123"), frames.FRAME_SIZE_ERROR),
        (frame(frames.WINDOW_UPDATE, 0, 0, number(0)), frames.FLOW_CONTROL_ERROR),
        (frame(frames.WINDOW_UPDATE, 0, 0, number(frames.LARGEST_WINDOW)), frames.FLOW_CONTROL_ERROR),
        (frame(frames.PUSH_PROMISE, 0, 1, b""), frames.PROTOCOL_ERROR),
        (frame(frames.DATA, 0, 1, b"x" * 16_385), frames.FRAME_SIZE_ERROR),
    ],
)  # fmt: skip
def test_connections_that_break_the_protocol_end(data: bytes, code: int) -> None:
    server = Connection(_ignore, Limits(1000, 10), Room(1 << 20))
    server.receive(START)
    with pytest.raises(ProtocolError) as error:
        server.receive(data)
    assert error.value.code == code


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", frames.PREFACE + frame(frames.PING, 0, 0, b"12345678"), b"\x16\x03\x01"]
)
def test_what_is_not_http_2_is_refused(data: bytes) -> None:
    server = Connection(_ignore, Limits(1000, 10), Room(1 << 20))
    with pytest.raises(ProtocolError):
        server.receive(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(frames.WINDOW_UPDATE, 0, 1, number(0)), frames.FLOW_CONTROL_ERROR),
        (_headers_frame(1), frames.PROTOCOL_ERROR),
        (frame(frames.DATA, frames.END_STREAM, 1) + frame(frames.DATA, 0, 1, b"x"), frames.STREAM_CLOSED),
    ],
)
def test_streams_that_break_the_protocol_end_alone(data: bytes, code: int) -> None:
    sent: list[bytes] = []
    server = Connection(sent.append, Limits(1000, 10), Room(1 << 20))
    server.receive(START + _headers_frame(1) + _headers_frame(3))
    server.receive(data)
    assert sent[-1] == frame(frames.RST_STREAM, 0, 1, number(code))
    assert list(server.calls) == [3]
    assert server.events[-1].kind == "gone"


def test_more_data_than_the_window_ends_a_stream() -> None:
    sent: list[bytes] = []
    server = Connection(sent.append, Limits(1 << 30, 10), Room(1 << 30))
    server.receive(START + _headers_frame(1))
    message = prefixed(b"x" * 16_379)
    for _ in range(wire.STREAM_WINDOW // 16_384 + 1):
        server.receive(frame(frames.DATA, 0, 1, message))
    assert sent[-1] == frame(frames.RST_STREAM, 0, 1, number(frames.FLOW_CONTROL_ERROR))


def _conversation() -> bytes:
    data = START + frame(frames.PRIORITY, 0, 1, b"\0" * 5) + _headers_frame(1) + _headers_frame(3)
    data += frame(frames.DATA, frames.PADDED, 1, b"\x03" + prefixed(b"one") + prefixed(b"tw")[:6] + b"\0\0\0")
    data += frame(frames.DATA, 0, 3, prefixed(b"") * 3) + frame(99, 0, 0, b"unknown")
    data += frame(frames.DATA, 0, 1, b"w") + frame(frames.RST_STREAM, 0, 3, b"\0" * 4)
    return data + _headers_frame(1, frames.END_HEADERS | frames.END_STREAM)


def _events(pieces: list[bytes]) -> tuple[list[tuple[object, ...]], bytes]:
    sent: list[bytes] = []
    server = Connection(sent.append, Limits(1000, 10), Room(1 << 20))
    for piece in pieces:
        server.receive(piece)
    return [(e.kind, e.call.id, b"".join(e.message), e.size) for e in server.events], b"".join(sent)


@given(st.lists(st.integers(0, len(_conversation())), max_size=20))
@settings(deadline=None)
def test_it_does_not_matter_where_the_bytes_are_cut(cuts: list[int]) -> None:
    data = _conversation()
    edges = [0, *sorted(cuts), len(data)]
    events, sent = _events([data[a:b] for a, b in itertools.pairwise(edges)])
    assert (events, sent) == _events([data])
    assert [e[:3] for e in events] == [
        ("opened", 1, b""), ("opened", 3, b""), ("message", 1, b"one"), ("message", 3, b""), ("message", 3, b""),
        ("message", 3, b""), ("message", 1, b"tw"), ("gone", 3, b""), ("ended", 1, b""),
    ]  # fmt: skip


_frames = st.builds(
    frame, st.integers(0, 11), st.integers(0, 255), st.integers(0, 7),
    st.one_of(st.binary(max_size=40), st.just(b"\0" * 4), st.just(_headers_frame(1)[9:])),
)  # fmt: skip


@given(st.lists(_frames, max_size=30), st.booleans(), st.sampled_from([20, 200, 1 << 20]))
@settings(deadline=None, max_examples=300)
def test_whatever_comes_the_connection_ends_or_goes_on(parts: list[bytes], answer: bool, size: int) -> None:
    server = Connection(_ignore, Limits(100, 3), room := Room(size))
    server.receive(START)
    try:
        for part in parts:
            server.receive(part)
            while server.events:
                event = server.next_event()
                if answer and event.kind == "message":
                    event.call.send(b"".join(event.message))
                    event.call.release(event.size)
                elif answer and event.kind == "ended":
                    event.call.finish()
                elif event.kind == "crowded":
                    event.call.finish(messages.RESOURCE_EXHAUSTED)
            assert len(server.calls) <= 3
    except ProtocolError:
        pass
    server.lost()
    assert not server.calls
    assert room.left == size


@given(st.lists(st.binary(max_size=30), max_size=8), st.lists(st.integers(0, 300), max_size=20))
def test_messages_come_out_as_they_went_in(contents: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(prefixed, contents))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assembler = Assembler(30)
    out = [m for a, b in itertools.pairwise(edges) for m in assembler.feed(data[a:b])]
    assert [b"".join(message) for message in out] == contents
    assert not assembler.unfinished
    with pytest.raises(RpcError):
        assembler.feed(prefixed(b"x" * 31))
