"""An ext_proc server that says "continue" to everything: `python -m bench.noop ADDRESS [own]`.

It is made with grpc.aio, as such servers are; with `own` it stands on this project's transport.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest

from extproc.answers import CONTINUE_REQUEST, CONTINUE_RESPONSE, serialize
from extproc.config import parse_address
from extproc.service import MAX_MESSAGE_BYTES, METHOD, SERVICE
from extproc.transport.connection import Call, Limits
from extproc.transport.messages import Message
from extproc.transport.room import Room
from extproc.transport.server import GrpcServer
from waf_core.memory import keep

ANSWERS = {
    "request_headers": CONTINUE_REQUEST.headers,
    "request_body": CONTINUE_REQUEST.body,
    "response_headers": CONTINUE_RESPONSE.headers,
    "response_body": CONTINUE_RESPONSE.body,
}


async def process(requests: AsyncIterator[ProcessingRequest], context: Any) -> AsyncIterator[Any]:
    async for message in requests:
        yield ANSWERS[message.WhichOneof("request")]


async def serve_grpcio(address: str) -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)])
    handler = grpc.stream_stream_rpc_method_handler(
        process, request_deserializer=ProcessingRequest.FromString, response_serializer=serialize
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Process": handler}),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


class Session:
    def __init__(self, call: Call) -> None:
        self._call = call

    def message(self, message: Message) -> None:
        request = ProcessingRequest.FromString(b"".join(message))
        self._call.send(serialize(ANSWERS[request.WhichOneof("request")]))

    def ended(self) -> None:
        self._call.finish()

    def crowded(self) -> None:
        self._call.finish()

    def gone(self) -> None:
        pass


async def serve_own(address: str) -> None:
    await GrpcServer({METHOD: Session}, Limits(MAX_MESSAGE_BYTES, 10_000), Room(1 << 30)).start(parse_address(address))
    await asyncio.Event().wait()


if __name__ == "__main__":
    # As a worker does: the collector has to look at what is new only.
    keep()
    uvloop.run((serve_own if "own" in sys.argv[2:] else serve_grpcio)(sys.argv[1]))
