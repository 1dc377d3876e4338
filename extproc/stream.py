"""The protocol of one stream: ProcessingRequests in, ProcessingResponses out, no I/O.

Envoy opens one ext_proc stream for each HTTP request and sends what its processing mode says:
headers, bodies in one of five ways, trailers, first of the request, then of the response.  This
machine feeds them to a Transaction and says what Envoy may go on with.

What it holds back, by body mode (envoy.extensions.filters.http.ext_proc.v3.ProcessingMode):

  BUFFERED, BUFFERED_PARTIAL   Envoy holds; one body message comes, one answer goes.
  STREAMED                     every piece is passed on as soon as it is answered, so a verdict
                               of phase 2 can come too late for the upstream: detection only.
  FULL_DUPLEX_STREAMED         this machine holds headers and pieces until phase 2 (or 4) has
                               run, and then releases them.

The mode is what Envoy itself announces in the first message (`protocol_config`).  Body modes are
only ever overridden to NONE, and response headers to SKIP: from NONE to FULL_DUPLEX_STREAMED
Envoy loses the first piece (envoy issue 40340).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyResponse,
    HeadersResponse,
    HttpBody,
    ImmediateResponse,
    ProcessingRequest,
    ProcessingResponse,
    TrailersResponse,
)
from google.protobuf.struct_pb2 import Struct

from extproc.client import client_address, split_address
from extproc.piece import Answer, Piece
from extproc.policies import Policy, PolicySet, UnknownPolicyError
from waf_core import Interruption, Transaction
from waf_core.errors import UsageError
from waf_core.exchange import Exchange
from waf_core.persistence import Store
from waf_core.settings import EngineMode, LimitAction

NONE = ProcessingMode.NONE
STREAMED = ProcessingMode.STREAMED
BUFFERED = ProcessingMode.BUFFERED
BUFFERED_PARTIAL = ProcessingMode.BUFFERED_PARTIAL
FULL_DUPLEX = ProcessingMode.FULL_DUPLEX_STREAMED
SKIP = ProcessingMode.SKIP

METADATA_NAMESPACE = "envoy_waf"
"""Namespace of the dynamic metadata; Envoy's filter has to list it in `receiving_namespaces`."""

ORIGINAL_PREFIX = "x-envoy-waf-original-"
"""Copies of headers that Envoy consumes or drops; made by the filter's recommended configuration."""

MAX_HELD_BYTES = 64 << 20
"""What one stream holds back in FULL_DUPLEX_STREAMED mode, whatever the rules' limits say."""

GRPC_PERMISSION_DENIED = 7

CONTINUE_REQUEST_HEADERS = ProcessingResponse(request_headers=HeadersResponse())
CONTINUE_RESPONSE_HEADERS = ProcessingResponse(response_headers=HeadersResponse())
CONTINUE_REQUEST_BODY = ProcessingResponse(request_body=BodyResponse())
CONTINUE_RESPONSE_BODY = ProcessingResponse(response_body=BodyResponse())
CONTINUE_REQUEST_TRAILERS = ProcessingResponse(request_trailers=TrailersResponse())
CONTINUE_RESPONSE_TRAILERS = ProcessingResponse(response_trailers=TrailersResponse())


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The settings that the machine needs."""

    trusted_hops: int = 0
    hidden_request_headers: frozenset[str] = frozenset()
    deny_body: str = "Forbidden\n"
    deny_content_type: str = "text/plain; charset=utf-8"
    recorded_bytes: int = 0
    """Bytes of each body that are kept for `exchange` (explanations, shadow policies)."""


@dataclass(slots=True)
class _Side:
    """Where one direction of the stream stands."""

    mode: int = BUFFERED
    expects_body: bool = False
    judged: bool = False
    """The body phase has run: what still comes is passed on."""
    held: list[Sequence[bytes]] = field(default_factory=list)
    held_bytes: int = 0
    held_headers: ProcessingResponse | None = None

    def hold(self, body: Sequence[bytes]) -> None:
        """Until the verdict."""
        self.held.append(body)
        self.held_bytes += sum(map(len, body))

    def ends_with(self, size: int, last: bool) -> bool:
        """Is the body judged with a piece of so many bytes, the last one or not, whatever the rules' limits are?"""
        return last or self.mode not in (STREAMED, FULL_DUPLEX) or self.held_bytes + size > MAX_HELD_BYTES


class StreamError(Exception):
    """Envoy sent what the protocol does not allow at this place."""


class Stream:
    """One HTTP request.  `handle` each message, then `close` once, whatever happened."""

    def __init__(
        self,
        policies: PolicySet,
        options: StreamOptions,
        on_finish: Callable[[Stream], None] | None = None,
        store: Store | None = None,
        named_policy: str = "",
    ) -> None:
        self._policies = policies
        self._named_policy = named_policy
        self.policy: Policy = policies.default
        """The default until the request's headers have come."""
        self._store = store
        self._judging = False
        self.options = options
        self.tx: Transaction | None = None
        self.blocked = False
        self.blocked_phase = 0
        self.refused_by_envoy = False
        self.store_failed = False
        self.uninspected: list[str] = []
        """Why bodies went unseen: upgrade, connect, grpc, event-stream, partial."""
        self.trace_parent = ""
        """The traceparent header (W3C Trace Context) that Envoy or the client sent."""
        self._recorded: tuple[list[bytes], list[bytes]] = ([], [])
        self._recorded_bytes = [0, 0]
        self._on_finish = on_finish
        self._request = _Side()
        self._response = _Side()
        self._grpc = False
        self._upgrade = False
        self._connect = False
        self._closed = False

    # -- entry points ---------------------------------------------------------------------------

    def handle(self, message: ProcessingRequest, body: Sequence[bytes] | None = None) -> list[Answer]:
        """Answers to one message, in order.  `body`: that of the message, if it is not in it.  After a verdict nothing
        more is answered.  Raises StreamError."""
        if self.blocked:
            return []
        if message.HasField("protocol_config"):
            self._request.mode = message.protocol_config.request_body_mode
            self._response.mode = message.protocol_config.response_body_mode
        kind = message.WhichOneof("request")
        try:
            return self._answers(kind, message, body)
        except UsageError as error:
            raise StreamError(f"{kind} comes at a wrong time: {error}") from error

    def _answers(self, kind: str | None, message: ProcessingRequest, body: Sequence[bytes] | None) -> list[Answer]:
        if kind == "request_headers":
            return self._request_headers(message)
        if self.tx is None:
            return self._unseen_request(kind, message, body)
        if kind == "request_body":
            return self._request_body(_pieces(message.request_body, body), message.request_body.end_of_stream)
        if kind == "request_trailers":
            return self._request_trailers()
        if kind == "response_headers":
            return self._response_headers(message)
        if kind == "response_body":
            return self._response_body(_pieces(message.response_body, body), message.response_body.end_of_stream)
        if kind == "response_trailers":
            return self._response_trailers()
        raise StreamError(f"unknown message {kind}")

    def _unseen_request(
        self, kind: str | None, message: ProcessingRequest, body: Sequence[bytes] | None
    ) -> list[Answer]:
        """Envoy refused the request before any filter saw it, and shows its own error page.  A
        response that is no error means that requests are not shown: that must not pass."""
        if kind == "response_headers":
            status = next((h.raw_value for h in message.response_headers.headers.headers if h.key == ":status"), b"")
            if status[:1] in (b"4", b"5"):
                self.refused_by_envoy = True
                return [CONTINUE_RESPONSE_HEADERS]
        elif self.refused_by_envoy and kind == "response_body":
            end = message.response_body.end_of_stream
            return [_pass_body(self._response.mode, _pieces(message.response_body, body), end, request=False)]
        elif self.refused_by_envoy and kind == "response_trailers":
            return [CONTINUE_RESPONSE_TRAILERS]
        raise StreamError(f"the first message is {kind}: request_header_mode has to be SEND")

    def weight(self, message: ProcessingRequest, body: Sequence[bytes] | None, size: int) -> int:
        """Bytes of a body that handling this message, of `size` bytes, will judge or take apart.  The last piece is
        judged with all that came before; most others are only kept."""
        kind = message.WhichOneof("request")
        tx = self.tx
        if tx is None:
            return 0
        if kind == "request_body" or kind == "request_trailers":
            if self._request.judged:
                return 0
            if self._request.ends_with(size, kind != "request_body" or message.request_body.end_of_stream):
                return size + tx.request_body.length
            return tx.request_body.weight(_pieces(message.request_body, body))
        if kind == "response_body" or kind == "response_trailers":
            if self._response.judged:
                return 0
            if self._response.ends_with(size, kind != "response_body" or message.response_body.end_of_stream):
                return size + tx.response_body.length
            return tx.response_body.weight(size)
        return 0

    def close(self) -> None:
        """The stream is over: phase 5, exactly once."""
        if self._closed:
            return
        self._closed = True
        if self.tx is not None:
            self.tx.process_logging()
        if self._on_finish is not None:
            self._on_finish(self)

    # -- what was seen --------------------------------------------------------------------------

    def _record(self, side: int, body: bytes) -> None:
        room = self.options.recorded_bytes - self._recorded_bytes[side]
        if room > 0 and body:
            self._recorded[side].append(body[:room])
            self._recorded_bytes[side] += len(body)

    def exchange(self) -> Exchange:
        """The request and response as far as they were seen; bodies up to `recorded_bytes`."""
        tx = self.tx
        assert tx is not None
        return Exchange(
            method=tx.method,
            uri=tx.uri_raw,
            version=tx.protocol,
            headers=list(tx.request_headers),
            body=b"".join(self._recorded[0]),
            status=tx.response_status,
            response_headers=list(tx.response_headers),
            response_body=b"".join(self._recorded[1]),
            client_ip=tx.client_ip.decode("latin-1"),
            client_port=tx.client_port,
            server_ip=tx.server_ip.decode("latin-1"),
            server_port=tx.server_port,
            label=tx.id,
        )

    @property
    def recorded_whole(self) -> bool:
        """Has `exchange` all that was seen of the bodies?"""
        return max(self._recorded_bytes) <= self.options.recorded_bytes

    # -- request --------------------------------------------------------------------------------

    def _request_headers(self, message: ProcessingRequest) -> list[Answer]:
        if self._judging:
            raise StreamError("request headers came twice")
        self._judging = True
        end = message.request_headers.end_of_stream
        tx = self.begin(message)
        stop = tx.process_request_headers()
        if stop is not None:
            return [self._deny(stop)]
        side = self._request
        reason = "" if end else self._body_unseen()
        side.expects_body = not end and not reason and self._request.mode != NONE
        if not side.expects_body:
            side.judged = True
            if reason:
                self.uninspected.append(reason)
            stop = tx.process_request_body()
            if stop is not None:
                return [self._deny(stop)]
        answer = self._after_request_headers(end)
        if side.expects_body and side.mode == FULL_DUPLEX:
            side.held_headers = answer
            return []
        return [answer]

    def begin(self, message: ProcessingRequest) -> Transaction:
        """Make the transaction from the request headers, without judging it yet."""
        if self.tx is None:
            self.tx = self._new_transaction(message)
        return self.tx

    def _new_transaction(self, message: ProcessingRequest) -> Transaction:
        options = self.options
        method = path = b""
        authority: bytes | None = None
        headers: list[tuple[str, bytes]] = []
        originals: dict[str, bytes] = {}
        forwarded: list[bytes] = []
        request_id: str | None = None
        has_length = False
        for header in message.request_headers.headers.headers:
            name = header.key
            value = header.raw_value or header.value.encode("utf-8", "surrogateescape")
            if name[:1] == ":":
                if name == ":method":
                    method = value
                elif name == ":path":
                    path = value
                elif name == ":authority":
                    authority = value
                continue
            if name == "x-forwarded-for":
                forwarded.append(value)
            elif name == "x-request-id":
                request_id = value[:64].decode("latin-1")
            elif name == "content-length":
                has_length = True
            elif name == "content-type":
                self._grpc = value[:16] == b"application/grpc"
            elif name == "traceparent":
                self.trace_parent = value[:64].decode("latin-1")
            elif name == "connection":
                self._upgrade = b"upgrade" in value.lower()
            if name.startswith(ORIGINAL_PREFIX):
                originals[name[len(ORIGINAL_PREFIX) :]] = value
            elif name not in options.hidden_request_headers:
                headers.append((name, value))
        attributes = _attributes(message)
        try:
            self.policy = policy = self._policies.select(
                self._named_policy, authority or b"", path, attributes.get("xds.route_name", "")
            )
        except UnknownPolicyError as error:
            raise StreamError(str(error)) from error
        tx = policy.waf.new_transaction(request_id, self._store)
        peer, port = split_address(attributes.get("source.address", ""))
        server, server_port = split_address(attributes.get("destination.address", ""))
        address = client_address(peer, forwarded, options.trusted_hops)
        tx.process_connection(address, port, server, server_port)
        if tx.engine is EngineMode.ON and not policy.blocks(tx.client_ip):
            tx.engine = EngineMode.DETECTION_ONLY
        protocol = attributes.get("request.protocol", "HTTP/1.1")
        self._connect = method == b"CONNECT"
        tx.process_uri((authority or b"") if self._connect and not path else path, method, protocol)
        if authority is not None:
            tx.add_request_header(b"Host", authority)
        # What the client sent wins over what Envoy made of it.
        if originals:
            headers = [item for item in headers if item[0] not in originals] + list(originals.items())
        for name, value in headers:
            tx.add_request_header(name.encode("latin-1", "replace"), value)
        ends = message.request_headers.end_of_stream
        known = "transfer-encoding" in originals
        if not (known or ends or has_length or self._upgrade or self._connect) and protocol == "HTTP/1.1":
            # Envoy's codec consumes Transfer-Encoding; a body without a length was chunked.
            tx.add_request_header(b"Transfer-Encoding", b"chunked")
        return tx

    def _body_unseen(self) -> str:
        """Why a body must not be waited for, or ""."""
        tx = self.tx
        assert tx is not None
        if self._connect:
            return "connect"
        if self._upgrade and tx.request_header(b"upgrade") is not None:
            return "upgrade"
        if self._grpc:
            return "grpc"
        if tx.engine is EngineMode.OFF or tx.allowed in ("all", "request"):
            return "rules"
        if not tx.request_body.access:
            return "rules"
        return ""

    def _after_request_headers(self, end: bool) -> ProcessingResponse:
        """Continue, and ask for no message that nothing here needs."""
        tx = self.tx
        assert tx is not None
        drop_body = not end and not self._request.expects_body and self._request.mode != NONE
        program = self.policy.waf.program
        no_rules = tx.engine is EngineMode.OFF or tx.allowed == "all"
        need_headers = not no_rules and (program.has_rules(3) or program.has_rules(4))
        need_body = need_headers and program.has_rules(4) and tx.response_body.access and not self._tunnel()
        if not drop_body and need_headers and need_body:
            return CONTINUE_REQUEST_HEADERS
        return _override(
            NONE if not self._request.expects_body else self._request.mode,
            self._response.mode if need_body else NONE,
            need_headers,
        )

    def _tunnel(self) -> bool:
        return self._connect or self._upgrade or self._grpc

    def _request_body(self, body: Sequence[bytes], end: bool) -> list[Answer]:
        tx, side = self.tx, self._request
        assert tx is not None
        if side.judged:
            return [_pass_body(side.mode, body, end, request=True)]
        for piece in body:
            self._record(0, piece)
            stop = tx.write_request_body(piece)
            if stop is not None:
                return [self._deny(stop)]
        if side.mode == BUFFERED_PARTIAL and not end:
            # Envoy's buffer is full; the rest of the body will never be shown.
            self.uninspected.append("partial")
            tx.request_body.cut = True
            if tx.program.settings.request_body_limit_action is LimitAction.REJECT:
                stop = tx.reject(413, "the request body exceeds Envoy's buffer")
                if stop is not None:
                    return [self._deny(stop)]
            end = True
        if side.mode == FULL_DUPLEX:
            return self._hold_request(body, end)
        if not end and side.mode == STREAMED:
            return [CONTINUE_REQUEST_BODY]
        return self._judge_request(CONTINUE_REQUEST_BODY)

    def _hold_request(self, body: Sequence[bytes], end: bool) -> list[Answer]:
        tx, side = self.tx, self._request
        assert tx is not None
        side.hold(body)
        if not end and not tx.request_body.cut and side.held_bytes <= MAX_HELD_BYTES:
            return []
        if side.held_bytes > MAX_HELD_BYTES and not tx.request_body.cut:
            stop = tx.reject(413, f"more than {MAX_HELD_BYTES} bytes would have to be held")
            if stop is not None:
                return [self._deny(stop)]
        return self._judge_request(None, end)

    def _judge_request(self, answer: ProcessingResponse | None, end: bool = True) -> list[Answer]:
        """Phase 2; then what was held may go."""
        tx, side = self.tx, self._request
        assert tx is not None
        side.judged = True
        stop = tx.process_request_body()
        if stop is not None:
            return [self._deny(stop)]
        return _release(side, end, request=True) + ([answer] if answer is not None else [])

    def _request_trailers(self) -> list[Answer]:
        if not self._request.judged:
            return self._judge_request(CONTINUE_REQUEST_TRAILERS, end=False)
        return [CONTINUE_REQUEST_TRAILERS]

    # -- response -------------------------------------------------------------------------------

    def _response_headers(self, message: ProcessingRequest) -> list[Answer]:
        tx, side = self.tx, self._response
        assert tx is not None
        # A local reply of Envoy's may come while the request is still being held.
        if not self._request.judged:
            self._request.judged = True
            stop = tx.process_request_body()
            if stop is not None:
                return [self._deny(stop)]
        status = 0
        for header in message.response_headers.headers.headers:
            value = header.raw_value or header.value.encode("utf-8", "surrogateescape")
            if header.key == ":status":
                status = int(value) if value.isdigit() else 0
            elif header.key[:1] != ":":
                tx.add_response_header(header.key.encode("latin-1", "replace"), value)
        protocol = tx.protocol
        stop = tx.process_response_headers(status, protocol)
        if stop is not None:
            return [self._deny(stop)]
        end = message.response_headers.end_of_stream
        side.expects_body = not end and side.mode != NONE and not self._tunnel() and tx.wants_response_body
        if not side.expects_body:
            side.judged = True
            stop = tx.process_response_body()
            if stop is not None:
                return [self._deny(stop)]
            if end or side.mode == NONE:
                return [CONTINUE_RESPONSE_HEADERS]
            return [NO_RESPONSE_BODY]
        if side.mode == FULL_DUPLEX:
            side.held_headers = CONTINUE_RESPONSE_HEADERS
            return []
        return [CONTINUE_RESPONSE_HEADERS]

    def _response_body(self, body: Sequence[bytes], end: bool) -> list[Answer]:
        tx, side = self.tx, self._response
        assert tx is not None
        if side.judged:
            return [_pass_body(side.mode, body, end, request=False)]
        for piece in body:
            self._record(1, piece)
            stop = tx.write_response_body(piece)
            if stop is not None:
                return [self._deny(stop)]
        if side.mode == BUFFERED_PARTIAL:
            if not end:
                self.uninspected.append("partial")
                tx.response_body.cut = True
            end = True
        if side.mode == FULL_DUPLEX:
            side.hold(body)
            # Past the limit the rest is not inspected: it need not be held either.
            if not end and not tx.response_body.cut:
                return []
            return self._judge_response(None, end)
        if not end and side.mode == STREAMED:
            return [CONTINUE_RESPONSE_BODY]
        return self._judge_response(CONTINUE_RESPONSE_BODY)

    def _judge_response(self, answer: ProcessingResponse | None, end: bool = True) -> list[Answer]:
        tx, side = self.tx, self._response
        assert tx is not None
        side.judged = True
        stop = tx.process_response_body()
        if stop is not None:
            return [self._deny(stop)]
        return _release(side, end, request=False) + ([answer] if answer is not None else [])

    def _response_trailers(self) -> list[Answer]:
        if not self._response.judged:
            return self._judge_response(CONTINUE_RESPONSE_TRAILERS, end=False)
        return [CONTINUE_RESPONSE_TRAILERS]

    # -- verdicts -------------------------------------------------------------------------------

    def _deny(self, stop: Interruption) -> ProcessingResponse:
        tx = self.tx
        assert tx is not None
        self.blocked = True
        self.blocked_phase = tx.phase
        immediate = ImmediateResponse(details=f"envoy_waf_{stop.action}{{rule_{stop.rule_id}}}")
        immediate.status.code = stop.status
        if stop.action == "redirect":
            immediate.headers.set_headers.append(_header("location", stop.data))
        else:
            immediate.headers.set_headers.append(_header("content-type", self.options.deny_content_type))
            immediate.body = self.options.deny_body.replace("{id}", tx.id).encode()
        if self._grpc:
            immediate.grpc_status.status = GRPC_PERMISSION_DENIED
        answer = ProcessingResponse(immediate_response=immediate)
        answer.dynamic_metadata.CopyFrom(self.metadata(stop))
        return answer

    def metadata(self, stop: Interruption) -> Struct:
        """For Envoy's access log: %DYNAMIC_METADATA(envoy_waf:action)% and so on."""
        tx = self.tx
        assert tx is not None
        struct = Struct()
        struct.update(
            {
                METADATA_NAMESPACE: {
                    "action": stop.action,
                    "rule_id": stop.rule_id,
                    "rule_ids": [matched.rule.id for matched in tx.matched_rules[:32]],
                    "score": tx.anomaly_score,
                    "phase": tx.phase,
                    "policy": self.policy.name,
                    "transaction_id": tx.id,
                }
            }
        )
        return struct


def engine_failure() -> ProcessingResponse:
    """Fail closed: the request is refused because the engine could not judge it."""
    return _refuse(500, "envoy_waf_error", b"Internal Server Error\n")


def store_failure() -> ProcessingResponse:
    """The request is refused because its records cannot be had (`redis_on_failure: closed`)."""
    return _refuse(503, "envoy_waf_store_unavailable", b"Service Unavailable\n")


def _refuse(status: int, details: str, body: bytes) -> ProcessingResponse:
    immediate = ImmediateResponse(details=details, body=body)
    immediate.status.code = status
    return ProcessingResponse(immediate_response=immediate)


def _override(request_body: int, response_body: int, response_headers: bool) -> ProcessingResponse:
    key = (request_body, response_body, response_headers)
    found = _OVERRIDES.get(key)
    if found is None:
        found = _OVERRIDES[key] = ProcessingResponse(
            request_headers=HeadersResponse(),
            mode_override=ProcessingMode(
                request_body_mode=request_body,
                response_body_mode=response_body,
                response_header_mode=ProcessingMode.SEND if response_headers else SKIP,
                # FULL_DUPLEX_STREAMED is only valid together with trailers.
                request_trailer_mode=ProcessingMode.SEND if request_body == FULL_DUPLEX else SKIP,
                response_trailer_mode=ProcessingMode.SEND if response_body == FULL_DUPLEX else SKIP,
            ),
        )
    return found


_OVERRIDES: dict[tuple[int, int, bool], ProcessingResponse] = {}
NO_RESPONSE_BODY = ProcessingResponse(
    response_headers=HeadersResponse(), mode_override=ProcessingMode(response_body_mode=NONE)
)


def _pieces(side: HttpBody, body: Sequence[bytes] | None) -> Sequence[bytes]:
    """The body of a message, which is in it or beside it."""
    return body or [side.body]


def _pass_body(mode: int, body: Sequence[bytes], end: bool, *, request: bool) -> Answer:
    """Let a piece through that is not held."""
    if mode == FULL_DUPLEX:
        return Piece(body, end, request)
    return CONTINUE_REQUEST_BODY if request else CONTINUE_RESPONSE_BODY


def _release(side: _Side, end: bool, *, request: bool) -> list[Answer]:
    out: list[Answer] = []
    if side.held_headers is not None:
        out.append(side.held_headers)
        side.held_headers = None
    last = len(side.held) - 1
    out += [Piece(body, end and i == last, request) for i, body in enumerate(side.held)]
    side.held = []
    return out


def _header(name: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(
        header=HeaderValue(key=name, raw_value=value.encode("utf-8")),
        append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _attributes(message: ProcessingRequest) -> dict[str, str]:
    """Envoy's attributes as text (`request_attributes` of the filter chooses them)."""
    out: dict[str, str] = {}
    for struct in message.attributes.values():
        for name, value in struct.fields.items():
            out[name] = value.string_value
    return out
