"""Envoy's messages, in short."""

from __future__ import annotations

from collections.abc import Mapping

from envoy.config.core.v3.base_pb2 import HeaderMap, HeaderValue
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    HttpBody,
    HttpHeaders,
    HttpTrailers,
    ProcessingRequest,
    ProtocolConfiguration,
)
from google.protobuf.struct_pb2 import Struct


def header_map(headers: Mapping[str, str]) -> HeaderMap:
    return HeaderMap(headers=[HeaderValue(key=k, raw_value=v.encode("latin-1")) for k, v in headers.items()])


def request_headers(
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    end: bool = True,
    mode: int | None = None,
    attributes: Mapping[str, str] | None = None,
) -> ProcessingRequest:
    """The first message; `mode` is the body mode of both sides."""
    all_headers = {":method": method, ":path": path, ":authority": "www.example.com", ":scheme": "http"}
    message = ProcessingRequest(
        request_headers=HttpHeaders(headers=header_map(all_headers | dict(headers or {})), end_of_stream=end)
    )
    if mode is not None:
        message.protocol_config.CopyFrom(ProtocolConfiguration(request_body_mode=mode, response_body_mode=mode))
    struct = Struct()
    struct.update({"source.address": "192.0.2.9:1234", "request.protocol": "HTTP/1.1", **(attributes or {})})
    message.attributes["envoy.filters.http.ext_proc"].CopyFrom(struct)
    return message


def request_body(body: bytes, *, end: bool = True) -> ProcessingRequest:
    return ProcessingRequest(request_body=HttpBody(body=body, end_of_stream=end))


def response_headers(
    status: int = 200, headers: Mapping[str, str] | None = None, *, end: bool = False
) -> ProcessingRequest:
    all_headers = {":status": str(status), "content-type": "text/html"} | dict(headers or {})
    return ProcessingRequest(response_headers=HttpHeaders(headers=header_map(all_headers), end_of_stream=end))


def response_body(body: bytes, *, end: bool = True) -> ProcessingRequest:
    return ProcessingRequest(response_body=HttpBody(body=body, end_of_stream=end))


def request_trailers() -> ProcessingRequest:
    return ProcessingRequest(request_trailers=HttpTrailers())


def response_trailers() -> ProcessingRequest:
    return ProcessingRequest(response_trailers=HttpTrailers())


def prefixed(message: bytes) -> bytes:
    """As gRPC has it on the wire: uncompressed, so many bytes."""
    return b"\0" + len(message).to_bytes(4, "big") + message
