"""Sockets, and whose turn it is.

Each connection handles one message in a turn of the event loop, so that a burst on one of them, or a slow
message, keeps neither the others nor health probes waiting, and every answer leaves before the next is made.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Protocol, cast

import structlog

from extproc.transport import messages
from extproc.transport.connection import Call, Connection, Event, Limits
from extproc.transport.frames import ProtocolError
from extproc.transport.messages import Message
from extproc.transport.room import Room

MAX_CONNECTIONS = 1024
"""Peers are the threads of an Envoy and some probes."""

MAX_WAITING_EVENTS = 512
"""A connection with more is not read from."""

MAX_UNWRITTEN_BYTES = 1 << 20
"""When so much waits to be written, the connection is not read: its peer does not read either."""

CHECKED_SECONDS = 3.0
"""Who has asked for this server's health so recently asks again and again, and goes by the answer."""

HEARD_SECONDS = 2.0
"""How long such peers may take to ask again, when the server stops, and then to send nothing more."""

HEEDED_SECONDS = 0.2
"""When no call has come for so long, all of a peer's threads know it."""

UNIX_MODE = 0o660

NOT_HTTP2 = b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"


class Session(Protocol):
    """Who serves a call."""

    def message(self, message: Message) -> None:
        """The next one.  If it cannot be handled at once, keep it and `hold` the call."""

    def crowded(self) -> None:
        """There is no room for more that this peer sends: `finish` the call."""

    def ended(self) -> None:
        """The peer has sent everything; `finish` the call when all is answered."""

    def gone(self) -> None:
        """The call is over before its time."""


SessionFactory = Callable[[Call], Session]
"""Begins to serve a call; by its path."""


class GrpcServer:
    """Serves the methods of a table, by path (`/package.Service/Method`)."""

    def __init__(
        self,
        methods: Mapping[bytes, SessionFactory],
        limits: Limits,
        room: Room,
        refused: Callable[[], None] | None = None,
    ) -> None:
        """`refused` is called for each connection that is closed for what its peer did."""
        self._methods = methods
        self._limits = limits
        self._refused = refused
        self._room = room
        self._listener: asyncio.Server | None = None
        self.peers: set[_Peer] = set()
        self._opened = -inf
        """When the last call came (time.monotonic)."""
        self.log = structlog.get_logger("envoy_waf")

    async def start(self, address: tuple[str, int] | str) -> None:
        """Listen on HOST, PORT or on the path of a Unix socket, which is replaced (any other file is not).
        Raises OSError."""
        loop = asyncio.get_running_loop()
        if isinstance(address, str):
            self._listener = await loop.create_unix_server(self._peer, address)
            os.chmod(address, UNIX_MODE)
            return
        host, port = address
        if host == "::" and socket.has_dualstack_ipv6():
            # All addresses, of IPv4 too, as other servers take it.
            listening = socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
            self._listener = await loop.create_server(self._peer, sock=listening)
        else:
            self._listener = await loop.create_server(self._peer, host, port)

    def _peer(self) -> _Peer:
        return _Peer(self)

    def connection(self, send: Callable[[bytes], None]) -> Connection:
        """A new one, with the limits of this server."""
        return Connection(send, self._limits, self._room)

    def refuse(self, reason: str) -> None:
        """A connection is closed for what its peer did: say and count it."""
        self.log.warning("a gRPC connection is closed", reason=reason)
        if self._refused is not None:
            self._refused()

    async def stop(self, seconds: float) -> None:
        """No new calls; those that are open get some time to end.  Who asks again and again whether this serves (Envoy)
        hears first that it does not, and gives calls to others."""
        assert self._listener is not None
        if any(peer.checks for peer in self.peers):
            await self._until(lambda: not any(peer.checks for peer in self.peers), min(seconds, HEARD_SECONDS))
            await self._until(lambda: time.monotonic() - self._opened > HEEDED_SECONDS, min(seconds, HEARD_SECONDS))
        self._listener.close()
        for peer in list(self.peers):
            peer.drain()
        await self._until(lambda: not any(peer.busy for peer in self.peers), seconds)
        for peer in list(self.peers):
            peer.close()
        await asyncio.sleep(0)

    async def _until(self, happened: Callable[[], bool], seconds: float) -> None:
        """Or until time is up."""
        deadline = time.monotonic() + seconds
        while not happened() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    def open(self, call: Call) -> None:
        """Begin to serve a call."""
        self._opened = time.monotonic()
        factory = self._methods.get(call.path)
        if factory is None:
            call.finish(messages.UNIMPLEMENTED, f"no method {call.path.decode('latin-1')}")
        else:
            session = factory(call)
            if not call.over:
                call.session = session


class _Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: GrpcServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._unread = False
        """Reading is paused: too much waits to be handled."""
        self._unwritten = False
        """The peer does not read: nor do we."""

    @property
    def checks(self) -> bool:
        """Does it ask again and again whether this serves, and has still to hear that it does not?"""
        return time.monotonic() - self._connection.checked < CHECKED_SECONDS

    @property
    def busy(self) -> bool:
        return bool(self._connection.calls or self._connection.events)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(MAX_UNWRITTEN_BYTES)
        self._connection = self._server.connection(self._transport.write)
        self._server.peers.add(self)
        if len(self._server.peers) > MAX_CONNECTIONS:
            self._server.refuse(f"more than {MAX_CONNECTIONS} connections")
            transport.close()

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        connection.corked = True
        try:
            connection.receive(data)
        except ProtocolError as error:
            self._refuse(error)
            return
        if connection.events and not self._scheduled:
            self._turn()
        else:
            connection.flush()
            connection.corked = False
        self._read_or_wait()

    def _refuse(self, error: ProtocolError) -> None:
        self._server.refuse(str(error))
        if self._connection.greeted:
            self._connection.goaway(error.code, str(error))
        else:
            self._transport.write(NOT_HTTP2 + str(error).encode() + b"\n")
        self._connection.flush()
        self._transport.close()

    def _turn(self) -> None:
        """Handle what has happened, up to the first message."""
        connection = self._connection
        events = connection.events
        connection.corked = True
        self._scheduled = False
        while events:
            event = connection.next_event()
            self._handle(event)
            if event.kind == "message" and not event.call.over:
                break
        connection.flush()
        connection.corked = False
        if events:
            self._scheduled = True
            self._loop.call_soon(self._turn)
        elif self._unread:
            self._read_or_wait()

    def _handle(self, event: Event) -> None:
        kind, call, message, size, _ = event
        session: Session | None = call.session
        try:
            if kind == "message":
                if session is not None and not call.over:
                    session.message(message)
                    call.release(size)
            elif kind == "opened":
                if not call.over:
                    self._server.open(call)
            elif session is not None:
                if kind == "ended":
                    session.ended()
                elif kind == "crowded":
                    session.crowded()
                else:
                    session.gone()
        except Exception:
            self._server.log.exception("a gRPC call failed")
            call.finish(messages.INTERNAL, "internal error")
            if session is not None and kind != "gone":
                self._handle(Event("gone", call))

    def _read_or_wait(self) -> None:
        full = len(self._connection.events) > MAX_WAITING_EVENTS
        if full == self._unread:
            return
        self._unread = full
        self._pause_or_resume()

    def _pause_or_resume(self) -> None:
        if self._transport.is_closing():
            return
        if self._unread or self._unwritten:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self._unwritten = True
        self._pause_or_resume()

    def resume_writing(self) -> None:
        self._unwritten = False
        self._pause_or_resume()

    def connection_lost(self, error: Exception | None) -> None:
        self._server.peers.discard(self)
        self._connection.corked = True
        self._connection.lost()
        while self._connection.events:
            self._handle(self._connection.next_event())

    def drain(self) -> None:
        """No new calls."""
        self._connection.goaway()

    def close(self) -> None:
        """End the connection with what is on it."""
        self._transport.close()
