"""What Envoy is told, as messages: go on, go on without showing what nobody needs, or stop."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyResponse,
    HeadersResponse,
    ImmediateResponse,
    ProcessingResponse,
    TrailersResponse,
)
from google.protobuf.struct_pb2 import Struct

from extproc.modes import FULL_DUPLEX, NONE, SEND, SKIP
from waf_core import Interruption, Transaction

METADATA_NAMESPACE = "envoy_waf"
"""Namespace of the dynamic metadata; Envoy's filter has to list it in `receiving_namespaces`."""

MAX_TOLD_RULES = 32
"""Rules that matched, in the metadata."""

GRPC_PERMISSION_DENIED = 7


class Continue(NamedTuple):
    """Answers to the messages of one direction: nothing is changed, go on.  They are shared, and never changed."""

    headers: ProcessingResponse
    body: ProcessingResponse
    trailers: ProcessingResponse


CONTINUE_REQUEST = Continue(
    ProcessingResponse(request_headers=HeadersResponse()),
    ProcessingResponse(request_body=BodyResponse()),
    ProcessingResponse(request_trailers=TrailersResponse()),
)
CONTINUE_RESPONSE = Continue(
    ProcessingResponse(response_headers=HeadersResponse()),
    ProcessingResponse(response_body=BodyResponse()),
    ProcessingResponse(response_trailers=TrailersResponse()),
)
NO_RESPONSE_BODY = ProcessingResponse(
    response_headers=HeadersResponse(), mode_override=ProcessingMode(response_body_mode=NONE)
)
"""Go on with the response, and do not show its body."""


def partial_without_body(length: bytes) -> ProcessingResponse:
    """The same in BUFFERED_PARTIAL mode, where Envoy has taken away the Content-Length, since bodies might be changed:
    it is `length` again (empty: there was none)."""
    if not length.isdigit():
        return NO_RESPONSE_BODY
    answer = ProcessingResponse()
    answer.CopyFrom(NO_RESPONSE_BODY)
    mutation = answer.response_headers.response.header_mutation
    mutation.set_headers.append(_header("content-length", length.decode()))
    return answer


_SERIALIZED: dict[int, bytes] = {
    id(message): message.SerializeToString() for message in (*CONTINUE_REQUEST, *CONTINUE_RESPONSE, NO_RESPONSE_BODY)
}


def serialize(answer: ProcessingResponse) -> bytes:
    """The common answers are serialized once."""
    return _SERIALIZED.get(id(answer)) or bytes(answer.SerializeToString())


def override(request_body: int, response_body: int, response_headers: bool) -> ProcessingResponse:
    """Go on with the request, in these body modes from here on, with the response's headers or without."""
    key = (request_body, response_body, response_headers)
    found = _OVERRIDES.get(key)
    if found is None:
        found = _OVERRIDES[key] = ProcessingResponse(
            request_headers=HeadersResponse(),
            mode_override=ProcessingMode(
                request_body_mode=request_body,
                response_body_mode=response_body,
                response_header_mode=SEND if response_headers else SKIP,
                # FULL_DUPLEX_STREAMED is only valid together with trailers.
                request_trailer_mode=SEND if request_body == FULL_DUPLEX else SKIP,
                response_trailer_mode=SEND if response_body == FULL_DUPLEX else SKIP,
            ),
        )
    return found


_OVERRIDES: dict[tuple[int, int, bool], ProcessingResponse] = {}


def denial(
    stop: Interruption, tx: Transaction, policy: str, *, grpc: bool, body: str, content_type: str
) -> ProcessingResponse:
    """The verdict.  `body` may have `{id}` for the transaction's id; a redirect has no body."""
    immediate = ImmediateResponse(details=f"envoy_waf_{stop.action}{{rule_{stop.rule_id}}}")
    immediate.status.code = stop.status
    if stop.action == "redirect":
        immediate.headers.set_headers.append(_header("location", _location(stop.data)))
    else:
        immediate.headers.set_headers.append(_header("content-type", content_type))
        immediate.body = body.replace("{id}", tx.id).encode()
    if grpc:
        immediate.grpc_status.status = GRPC_PERMISSION_DENIED
    return ProcessingResponse(immediate_response=immediate, dynamic_metadata=_metadata(tx, policy))


def told(answer: ProcessingResponse, tx: Transaction, policy: str) -> ProcessingResponse:
    """The same answer, with what rules have found so far."""
    found = ProcessingResponse()
    found.CopyFrom(answer)
    found.dynamic_metadata.CopyFrom(_metadata(tx, policy))
    return found


def engine_failure() -> ProcessingResponse:
    """Fail closed: the request is refused because the engine could not judge it."""
    return _refuse(500, "envoy_waf_error", b"Internal Server Error\n")


def store_failure() -> ProcessingResponse:
    """The request is refused because its records cannot be had (`redis_on_failure: closed`)."""
    return _refuse(503, "envoy_waf_store_unavailable", b"Service Unavailable\n")


def too_slow() -> ProcessingResponse:
    """The request is refused because its body is long in coming, and others wait for its place."""
    return _refuse(503, "envoy_waf_overload", b"Service Unavailable\n")


def no_room() -> ProcessingResponse:
    """The request is refused because its body would have to be held, and too much is held already."""
    return _refuse(503, "envoy_waf_no_room", b"Service Unavailable\n")


def _refuse(status: int, details: str, body: bytes) -> ProcessingResponse:
    immediate = ImmediateResponse(details=details, body=body)
    immediate.status.code = status
    return ProcessingResponse(immediate_response=immediate)


def _metadata(tx: Transaction, policy: str) -> Struct:
    """For Envoy's access log and the filters behind: %DYNAMIC_METADATA(envoy_waf:action)% and so on."""
    stop = tx.interruption or tx.detected
    struct = Struct()
    struct.update(
        {
            METADATA_NAMESPACE: {
                "action": tx.interruption.action if tx.interruption else "detected" if tx.detected else "matched",
                "rule_id": stop.rule_id if stop else 0,
                "rule_ids": [matched.rule.id for matched in tx.matched_rules[:MAX_TOLD_RULES]],
                "score": tx.anomaly_score,
                "phase": tx.phase,
                "policy": policy,
                "transaction_id": tx.id,
            }
        }
    )
    return struct


def _location(url: str) -> str:
    """Macros bring in what clients send: of that, a header has only what a URI may have (RFC 3986)."""
    return quote(url.encode("latin-1"), safe="%:/?#[]@!$&'()*+,;=~")


def _header(name: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(
        header=HeaderValue(key=name, raw_value=value.encode("utf-8")),
        append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
