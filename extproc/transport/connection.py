"""One HTTP/2 connection (RFC 9113), and the gRPC calls on it, without I/O.

`receive` takes bytes from the peer and appends to `events`; bytes for the peer go to the `write` that the
connection was made with, as few times as there is occasion.

Flow control gives back pressure both ways.  The window of a stream is opened again when its message has been
handled (`release`), not when it has come; a call that is busy holds it shut (`hold`), and so does one whose answers
wait.  What is sent waits in the call while the peer's windows are shut, and large messages while too much of such is
on its way (flight.py).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

import hpack

from extproc.transport import flight, frames, messages
from extproc.transport.flight import Flight
from extproc.transport.frames import ProtocolError, frame, number
from extproc.transport.messages import Assembler, Message, RpcError
from extproc.transport.room import Room

STREAM_WINDOW = 1 << 17
"""Bytes that a peer may send on one stream before they are handled."""

CONNECTION_WINDOW = 16 << 20

MAX_HEADER_BYTES = 65536
"""A block of headers, packed and unpacked."""

MAX_CONTINUATIONS = 16

MAX_KNOWN_BLOCKS = 64
"""Blocks of headers that need not be unpacked again."""

PIECE_BYTES = 64
"""What a piece of a message counts for beyond its own bytes."""

_INDEXED = bytes(range(0x80, 0xFF))
"""A block of only these bytes refers to the tables and changes nothing in them (RFC 7541, section 6.1)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection is allowed."""

    message_bytes: int
    calls: int
    """At the same time."""


class Event(NamedTuple):
    """Something that happened to a call: it is `opened`, a `message` has come, the peer has sent all (`ended`), there
    is no room for what it sends (`crowded`; nothing more is taken), or it is over before its time (`gone`)."""

    kind: str
    call: Call
    message: Message = ()
    size: int = 0
    """Bytes of the window to `release` when it is handled."""
    charge: int = 0
    """Bytes of the room, which `next_event` gives back."""


def _block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Packed so that the peer's table stays as it is."""
    return bytes(hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(name, value) for name, value in headers]))


_BEGIN = _block([(b":status", b"200"), (b"content-type", b"application/grpc")])
_PING = frame(frames.PING, 0, 0, flight.PAYLOAD)
_END_OK = _block([(b"grpc-status", b"0")])


def _status_block(status: int, text: str, *, alone: bool) -> bytes:
    headers = [(b":status", b"200"), (b"content-type", b"application/grpc")] if alone else []
    headers.append((b"grpc-status", b"%d" % status))
    if text:
        # Percent-encoded, as gRPC over HTTP/2 says of grpc-message.
        safe = "".join(chr(b) if 0x20 <= b < 0x7F and b != 0x25 else f"%{b:02X}" for b in text.encode()[:1024])
        headers.append((b"grpc-message", safe.encode()))
    return _block(headers)


class Call:
    """One stream.  `session` belongs to whoever serves the call."""

    __slots__ = (
        "_connection", "assembler", "backlog", "charged", "crowded", "headers", "held", "id", "over", "owed",
        "peer_ended", "returnable", "session", "started", "status", "unreturned", "unsent", "window",
    )  # fmt: skip

    def __init__(self, connection: Connection, stream: int, headers: Mapping[bytes, bytes], window: int) -> None:
        self._connection = connection
        self.id = stream
        self.headers = headers
        self.window = window
        """Bytes that the peer lets us send."""
        self.assembler = Assembler(connection.limits.message_bytes)
        self.charged = 0
        """Bytes that an unfinished message takes from the room."""
        self.crowded = False
        """There was no room: what still comes is left out."""
        self.unreturned = 0
        """Bytes of the window that the peer has used."""
        self.returnable = 0
        """Of those, what has been handled and can be given back."""
        self.held = False
        self.backlog: deque[memoryview] = deque()
        self.unsent = 0
        """Bytes in `backlog`."""
        self.owed = 0
        """Of those, what has been taken from the room."""
        self.started = False
        """Response headers are sent."""
        self.status: tuple[int, str] | None = None
        """How it ends, once that is known."""
        self.peer_ended = False
        self.over = False
        self.session: Any = None

    @property
    def room(self) -> Room:
        return self._connection.room

    @property
    def path(self) -> bytes:
        return self.headers.get(b":path", b"")

    def send(self, message: bytes, *more: bytes) -> None:
        """An answer, of which `more` goes on without being joined.  Nothing happens when the call is over."""
        if not self.over and self.status is None:
            size = len(message) + sum(map(len, more))
            first = messages.prefix(size) + message
            self.unsent += size + messages.PREFIX_BYTES
            self.backlog.append(memoryview(first))
            # Envoy takes empty frames for a flood.
            self.backlog += [memoryview(part) for part in more if part]
            self._connection.pump(self)

    def finish(self, status: int = messages.OK, text: str = "") -> None:
        """End the call, behind what is still to be sent."""
        if not self.over and self.status is None:
            self.status = (status, text)
            self._connection.pump(self)

    def note_check(self, serving: bool) -> None:
        """Its peer has asked whether this serves, and goes by the answer."""
        self._connection.checked = time.monotonic() if serving else -inf

    def drop(self) -> None:
        """Send nothing of what waits."""
        self.backlog.clear()
        self.unsent = 0

    def hold(self) -> None:
        """Do not let the peer send more than the window until `resume`."""
        self.held = True

    def resume(self) -> None:
        self.held = False
        self.release(0)

    def release(self, size: int) -> None:
        """So many bytes have been handled."""
        self.returnable += size
        if self.returnable >= STREAM_WINDOW // 2 and not (self.held or self.over or self.peer_ended or self.backlog):
            self._connection.write(frame(frames.WINDOW_UPDATE, 0, self.id, number(self.returnable)))
            self.unreturned -= self.returnable
            self.returnable = 0


class Connection:
    """The server's end."""

    def __init__(self, send: Callable[[bytes], None], limits: Limits, room: Room) -> None:
        self.limits = limits
        self.room = room
        self._send = send
        self._output: list[bytes | memoryview] = []
        self.corked = False
        """While set, output is collected until `flush`."""
        self.events: deque[Event] = deque()
        self.calls: dict[int, Call] = {}
        self._rest = b""
        self.greeted = False
        self._settled = False
        """The peer's first SETTINGS has come."""
        self._decoder = hpack.Decoder(max_header_list_size=MAX_HEADER_BYTES)
        self._known_blocks: dict[bytes, dict[bytes, bytes]] = {}
        self._fragments: tuple[int, int, list[bytes]] | None = None
        """(stream, flags, pieces) of headers that go on in CONTINUATION frames."""
        self.checked = -inf
        """When its peer asked last whether this serves (time.monotonic); -inf: never, or it knows that it does not."""
        self._last = 0
        self._closing = False
        self._unreturned = 0
        self._window = frames.DEFAULT_WINDOW
        self._first_window = frames.DEFAULT_WINDOW
        self._max_frame = frames.DEFAULT_MAX_FRAME
        self._flight: Flight[Call] = Flight()
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            frames.DATA: self._data,
            frames.HEADERS: self._headers,
            frames.CONTINUATION: self._continuation,
            frames.RST_STREAM: self._reset,
            frames.SETTINGS: self._settings,
            frames.PING: self._ping,
            frames.WINDOW_UPDATE: self._window_update,
            frames.PUSH_PROMISE: self._push_promise,
        }

    # -- out --------------------------------------------------------------------------------------

    def write(self, *pieces: bytes | memoryview) -> None:
        self._output += pieces
        if not self.corked:
            self.flush()

    def flush(self) -> None:
        """Send what has been collected."""
        if self._output:
            data = b"".join(self._output)
            self._output.clear()
            self._send(data)

    def pump(self, call: Call, share: int | None = None) -> None:
        """Send what waits, as far as it goes; then the end, if there is one.  `share`: bytes of large messages that are
        the call's own now, if it has waited for them."""
        out: list[bytes | memoryview] = []
        on_flight = self._flight
        if share is None:
            share = 0 if on_flight.crowded else flight.FLIGHT_BYTES
        before = self._window
        while call.backlog:
            piece = call.backlog[0]
            room = min(call.window, self._window, self._max_frame)
            large = len(piece) > flight.SMALL_BYTES
            if large and room > 0:
                room = min(room, share, on_flight.room)
                if room <= 0:
                    on_flight.wait(call)
            if room <= 0:
                break
            if not call.started:
                call.started = True
                out.append(frame(frames.HEADERS, frames.END_HEADERS, call.id, _BEGIN))
            if len(piece) > room:
                call.backlog[0] = piece[room:]
                piece = piece[:room]
            else:
                call.backlog.popleft()
            size = len(piece)
            if large:
                share -= size
                on_flight.take(size)
            call.window -= size
            self._window -= size
            out.append(frames.head(size, frames.DATA, 0, call.id))
            out.append(piece)
        call.unsent -= before - self._window
        if call.unsent != call.owed:
            self.room.left += call.owed - call.unsent
            call.owed = call.unsent
        if on_flight.asks():
            out.append(_PING)
        if call.status is not None and not call.backlog:
            status, text = call.status
            plain = status == messages.OK and call.started
            block = _END_OK if plain else _status_block(status, text, alone=not call.started)
            out.append(frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, call.id, block))
            if not call.peer_ended:
                # The peer need not send the rest (RFC 9113, section 8.1).
                out.append(frame(frames.RST_STREAM, 0, call.id, number(frames.NO_ERROR)))
            self._forget(call)
        if out:
            self.write(*out)
        if call.returnable and not call.backlog:
            call.release(0)

    def _land(self) -> None:
        """The peer has taken what was on its way."""
        calls = self._flight.landed()
        share = max(self._flight.room // max(len(calls), 1), frames.DEFAULT_MAX_FRAME)
        for call in calls:
            self.pump(call, share)
        if self._flight.asks():
            self.write(_PING)

    def goaway(self, code: int = frames.NO_ERROR, text: str = "") -> None:
        """No new calls; those that are open go on."""
        self._closing = True
        self.write(frame(frames.GOAWAY, 0, 0, number(self._last) + number(code) + text.encode()[:256]))

    # -- in ---------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Raises ProtocolError; the connection cannot be used behind that."""
        if self._rest:
            data = self._rest + data
        at = 0
        if not self.greeted:
            if not data.startswith(frames.PREFACE):
                if not frames.PREFACE.startswith(data):
                    raise ProtocolError(frames.PROTOCOL_ERROR, "not HTTP/2: this port speaks gRPC without TLS")
                self._rest = data
                return
            at = len(frames.PREFACE)
            self._greet()
        size = len(data)
        unpack = frames.HEAD.unpack_from
        while size - at >= frames.HEAD_BYTES:
            high, low, kind, flags, stream = unpack(data, at)
            length = high << 8 | low
            if length > frames.DEFAULT_MAX_FRAME:
                raise ProtocolError(frames.FRAME_SIZE_ERROR, "a frame larger than SETTINGS_MAX_FRAME_SIZE")
            end = at + frames.HEAD_BYTES + length
            if end > size:
                break
            if self._fragments is not None and kind != frames.CONTINUATION:
                raise ProtocolError(frames.PROTOCOL_ERROR, "CONTINUATION expected")
            if not self._settled and kind != frames.SETTINGS:
                raise ProtocolError(frames.PROTOCOL_ERROR, "the first frame has to be SETTINGS")
            handler = self._handlers.get(kind)
            if handler is not None:
                handler(flags, stream & frames.STREAM_MASK, data[at + frames.HEAD_BYTES : end])
            at = end
        self._rest = data[at:]

    def _greet(self) -> None:
        self.greeted = True
        values = {
            frames.SETTING_MAX_STREAMS: self.limits.calls,
            frames.SETTING_INITIAL_WINDOW: STREAM_WINDOW,
            frames.SETTING_MAX_HEADERS: MAX_HEADER_BYTES,
        }
        more = number(CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
        self.write(frames.settings(values) + frame(frames.WINDOW_UPDATE, 0, 0, more))

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._unreturned += size
        if self._unreturned > CONNECTION_WINDOW:
            raise ProtocolError(frames.FLOW_CONTROL_ERROR, "more data than the connection's window")
        if self._unreturned >= CONNECTION_WINDOW // 2:
            self.write(frame(frames.WINDOW_UPDATE, 0, 0, number(self._unreturned)))
            self._unreturned = 0
        call = self.calls.get(stream)
        if call is None:
            if stream == 0 or stream > self._last:
                raise ProtocolError(frames.PROTOCOL_ERROR, "DATA on a stream that is not open")
            return
        call.unreturned += size
        if call.unreturned > STREAM_WINDOW:
            self._fail(call, frames.FLOW_CONTROL_ERROR)
            return
        if call.peer_ended:
            self._fail(call, frames.STREAM_CLOSED)
            return
        if call.status is None and not call.crowded:
            self._take(call, frames.unpadded(flags, payload), size)
        if flags & frames.END_STREAM:
            self._end(call)

    def _take(self, call: Call, data: bytes, size: int) -> None:
        try:
            done = call.assembler.feed(data)
        except RpcError as error:
            self._abort(call, error)
            return
        charge = 0
        if done:
            charge, call.charged = call.charged, 0
            last = len(done) - 1
            self.events += [
                Event("message", call, m, size if i == last else 0, charge if i == 0 else 0) for i, m in enumerate(done)
            ]
        if call.assembler.unfinished:
            charge = len(data) + PIECE_BYTES
            call.charged += charge
            self.room.left -= charge
            if self.room.crowded(call.charged):
                self._refund(call)
                call.crowded = True
                call.assembler.clear()
                self.events.append(Event("crowded", call))
                return
        if not done:
            call.release(size)

    def _refund(self, call: Call) -> None:
        self.room.left += call.charged + call.owed
        call.charged = call.owed = 0

    def next_event(self) -> Event:
        """The first of `events`, which has then been taken."""
        event = self.events.popleft()
        self.room.left += event.charge
        return event

    def _headers(self, flags: int, stream: int, payload: bytes) -> None:
        block = frames.unpadded(flags, payload)
        if flags & frames.HAS_PRIORITY:
            block = block[5:]
        if flags & frames.END_HEADERS:
            self._block(stream, flags, block)
        else:
            self._fragments = (stream, flags, [block])

    def _continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._fragments is None or self._fragments[0] != stream:
            raise ProtocolError(frames.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, first_flags, pieces = self._fragments
        pieces.append(payload)
        if len(pieces) > MAX_CONTINUATIONS or sum(map(len, pieces)) > MAX_HEADER_BYTES:
            raise ProtocolError(frames.ENHANCE_YOUR_CALM, f"more than {MAX_HEADER_BYTES} bytes of headers")
        if flags & frames.END_HEADERS:
            self._fragments = None
            self._block(stream, first_flags, b"".join(pieces))

    def _block(self, stream: int, flags: int, block: bytes) -> None:
        # Always: the table belongs to the connection.
        headers = self._unpack(block)
        ends = bool(flags & frames.END_STREAM)
        call = self.calls.get(stream)
        if call is not None:
            if not ends or call.peer_ended:
                self._fail(call, frames.PROTOCOL_ERROR)
            else:
                self._end(call)
            return
        if stream % 2 == 0:
            raise ProtocolError(frames.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if stream <= self._last:
            return  # the trailers of a call that is over
        self._last = stream
        if self._closing or len(self.calls) >= self.limits.calls:
            self.write(frame(frames.RST_STREAM, 0, stream, number(frames.REFUSED_STREAM)))
            return
        call = self.calls[stream] = Call(self, stream, headers, self._first_window)
        if headers.get(b":method") != b"POST" or not headers.get(b"content-type", b"").startswith(b"application/grpc"):
            answer = _block([(b":status", b"415")])
            self.write(frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, answer))
            self._forget(call)
            return
        self.events.append(Event("opened", call))
        if ends:
            self._end(call)

    def _unpack(self, block: bytes) -> dict[bytes, bytes]:
        known = self._known_blocks.get(block)
        if known is not None:
            return known
        try:
            headers = {bytes(name): bytes(value) for name, value in self._decoder.decode(block, raw=True)}
        except hpack.HPACKError as error:
            raise ProtocolError(frames.COMPRESSION_ERROR, f"headers cannot be unpacked: {error}") from error
        if block.translate(None, _INDEXED) or len(self._known_blocks) >= MAX_KNOWN_BLOCKS:
            self._known_blocks.clear()
        else:
            self._known_blocks[block] = headers
        return headers

    def _end(self, call: Call) -> None:
        call.peer_ended = True
        if call.status is not None:
            return
        if call.assembler.unfinished:
            self._abort(call, RpcError(messages.INTERNAL, "the stream ends within a message"))
            return
        self.events.append(Event("ended", call))

    def _reset(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ProtocolError(frames.FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
        if stream == 0 or stream > self._last:
            raise ProtocolError(frames.PROTOCOL_ERROR, "RST_STREAM of a stream that is not open")
        call = self.calls.get(stream)
        if call is not None:
            self._lose(call)

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:
        self._settled = True
        if flags & frames.ACK:
            return
        for name, value in frames.read_settings(payload):
            if name == frames.SETTING_INITIAL_WINDOW:
                if value > frames.LARGEST_WINDOW:
                    raise ProtocolError(frames.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
                for call in self.calls.values():
                    call.window += value - self._first_window
                self._first_window = value
            elif name == frames.SETTING_MAX_FRAME:
                if not frames.DEFAULT_MAX_FRAME <= value <= frames.LARGEST_MAX_FRAME:
                    raise ProtocolError(frames.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of range")
                self._max_frame = value
        self.write(frame(frames.SETTINGS, frames.ACK, 0))
        self._pump_all()

    def _ping(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise ProtocolError(frames.FRAME_SIZE_ERROR, "PING of a wrong length")
        if not flags & frames.ACK:
            self.write(frame(frames.PING, frames.ACK, 0, payload))
        elif payload == flight.PAYLOAD:
            self._land()

    def _window_update(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ProtocolError(frames.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
        more = int.from_bytes(payload, "big") & frames.STREAM_MASK
        if stream == 0:
            self._window += more
            if not more or self._window > frames.LARGEST_WINDOW:
                raise ProtocolError(frames.FLOW_CONTROL_ERROR, "WINDOW_UPDATE out of range")
            self._pump_all()
            return
        call = self.calls.get(stream)
        if call is None:
            return
        call.window += more
        if not more or call.window > frames.LARGEST_WINDOW:
            self._fail(call, frames.FLOW_CONTROL_ERROR)
        elif call.backlog:
            self.pump(call)

    def _push_promise(self, flags: int, stream: int, payload: bytes) -> None:
        raise ProtocolError(frames.PROTOCOL_ERROR, "a client must not push")

    def _pump_all(self) -> None:
        for call in [call for call in self.calls.values() if call.backlog]:
            self.pump(call)

    # -- the end of a call --------------------------------------------------------------------------

    def _fail(self, call: Call, code: int) -> None:
        """The peer broke the rules of a stream."""
        self.write(frame(frames.RST_STREAM, 0, call.id, number(code)))
        self._lose(call)

    def _abort(self, call: Call, error: RpcError) -> None:
        """The peer sent what cannot be taken."""
        call.drop()
        call.finish(error.status, error.text)
        self.events.append(Event("gone", call))

    def _lose(self, call: Call) -> None:
        self._forget(call)
        self.events.append(Event("gone", call))

    def _forget(self, call: Call) -> None:
        call.over = True
        call.drop()
        self._refund(call)
        self._flight.forget(call)
        self.calls.pop(call.id, None)

    def lost(self) -> None:
        """The connection is gone, and all its calls."""
        for call in list(self.calls.values()):
            self._lose(call)
