"""grpc.health.v1: what Kubernetes and load balancers ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from extproc.transport import messages
from extproc.transport.connection import Call
from extproc.transport.messages import Message
from extproc.transport.server import SessionFactory

MAX_WATCHERS = 100

SERVING: Final = HealthCheckResponse(status=HealthCheckResponse.SERVING).SerializeToString()


class Health:
    """The state of some services, and who watches it."""

    def __init__(self, services: tuple[str, ...]) -> None:
        self._state = dict.fromkeys(services, HealthCheckResponse.NOT_SERVING)
        self._watchers: set[_Watch] = set()

    @property
    def methods(self) -> Mapping[bytes, SessionFactory]:
        return {
            b"/grpc.health.v1.Health/Check": lambda call: _Check(self, call),
            b"/grpc.health.v1.Health/Watch": lambda call: _Watch(self, call, self._watchers),
        }

    def set(self, *, serving: bool) -> None:
        """Of all services."""
        state = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        self._state = dict.fromkeys(self._state, state)
        for watcher in list(self._watchers):
            watcher.tell()

    def close(self) -> None:
        """Nobody is told any more."""
        for watcher in list(self._watchers):
            watcher.close()

    def answer(self, service: str) -> bytes | None:
        """The state of a service; None when it is not known."""
        state = self._state.get(service)
        return None if state is None else HealthCheckResponse(status=state).SerializeToString()


class _Check:
    """One question, one answer."""

    def __init__(self, health: Health, call: Call) -> None:
        self._health = health
        self._call = call

    def message(self, message: Message) -> None:
        service = _service(self._call, message)
        if service is None:
            return
        answer = self._health.answer(service)
        if answer is None:
            self._call.finish(messages.NOT_FOUND, f"no service {service!r}")
            return
        self._call.note_check(answer == SERVING)
        self._call.send(answer)
        self._call.finish()

    def ended(self) -> None:
        self._call.finish(messages.INVALID_ARGUMENT, "a question is missing")

    def crowded(self) -> None:
        _refuse(self._call)

    def gone(self) -> None:
        """Nothing is kept."""


class _Watch:
    """One question; an answer now and at every change."""

    def __init__(self, health: Health, call: Call, watchers: set[_Watch]) -> None:
        self._health = health
        self._call = call
        self._watchers = watchers
        self._service: str | None = None

    def message(self, message: Message) -> None:
        if len(self._watchers) >= MAX_WATCHERS:
            self._call.finish(messages.RESOURCE_EXHAUSTED, f"more than {MAX_WATCHERS} watchers")
            return
        self._service = _service(self._call, message)
        if self._service is not None:
            self._watchers.add(self)
            self.tell()

    def tell(self) -> None:
        """Send the state."""
        assert self._service is not None
        unknown = HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN).SerializeToString()
        self._call.send(self._health.answer(self._service) or unknown)

    def close(self) -> None:
        """The server stops."""
        self._watchers.discard(self)
        self._call.finish(messages.UNAVAILABLE, "the server stops")

    def ended(self) -> None:
        """Nothing more is asked; it goes on hearing."""

    def crowded(self) -> None:
        self._watchers.discard(self)
        _refuse(self._call)

    def gone(self) -> None:
        self._watchers.discard(self)


def _refuse(call: Call) -> None:
    call.finish(messages.RESOURCE_EXHAUSTED, "no room for so many bytes")


def _service(call: Call, message: Message) -> str | None:
    try:
        return str(HealthCheckRequest.FromString(b"".join(message)).service)
    except DecodeError:
        call.finish(messages.INVALID_ARGUMENT, "not a HealthCheckRequest")
        return None
