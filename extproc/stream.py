"""The protocol of one stream: ProcessingRequests in, ProcessingResponses out, no I/O.

Envoy opens one ext_proc stream for each HTTP request and sends what its processing mode says:
headers, bodies in one of five ways (extproc/modes.py), trailers, first of the request, then of the
response.  This machine feeds them to a Transaction and says what Envoy may go on with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from envoy.service.ext_proc.v3.external_processor_pb2 import HttpBody, ProcessingRequest, ProcessingResponse

from extproc.answers import (
    CONTINUE_REQUEST,
    CONTINUE_RESPONSE,
    NO_RESPONSE_BODY,
    denial,
    override,
    partial_without_body,
    told,
)
from extproc.client import client_address, split_address
from extproc.head import RequestHead, read_head
from extproc.modes import BUFFERED_PARTIAL, FULL_DUPLEX, NONE, STREAMED
from extproc.piece import Answer, Piece
from extproc.policies import ADDRESS_ATTRIBUTE, ROUTE_ATTRIBUTE, Policy, PolicySet, UnknownPolicyError
from extproc.side import MAX_HELD_BYTES, Side
from waf_core import Interruption, Transaction
from waf_core.errors import UsageError
from waf_core.exchange import Exchange
from waf_core.persistence import Store
from waf_core.settings import AuditEngine, EngineMode, LimitAction

COUNTED_BYTES = 16384
"""Longer bodies are heavy anyway: in those of megabytes the counting itself would hold others up."""

PLAIN_BYTES = 8
"""Bytes of a request that are judged in a microsecond, if they are plain text."""

RESPONSE_BYTES = 16
"""Of a response: few rules look at them."""

ARGUMENT_MICROSECONDS = 4

SPECIAL_MICROSECONDS = 8
"""Of each byte that attacks are made of."""

PLAIN_CODINGS = (b"", b"identity")
"""Content-Encoding of a body whose bytes are what they mean."""

_BODIES = ("request_body", "response_body")

_SPECIAL = b"<>'`();|%$\\"
"""Those: few other texts have many."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The settings that the machine needs."""

    trusted_hops: int = 0
    hidden_request_headers: frozenset[str] = frozenset()
    deny_body: str = "Forbidden\n"
    deny_content_type: str = "text/plain; charset=utf-8"
    recorded_bytes: int = 0
    """Bytes of each body that are kept for `exchange` (explanations, shadow policies)."""
    audited: bool = False
    """Is there an audit log?"""


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
        self.done = False
        """Nothing that Envoy could still show is needed, though a download, a socket or a stream of events goes on."""
        self._response_over = False
        """Nothing more of the response needs an answer."""
        self.refused_by_envoy = False
        self.failed = 0
        """The status with which the request was refused because it could not be judged; 0: it could."""
        self.kept_bytes = 0
        """Of both bodies."""
        self.cancelled = False
        """Did whoever asked go away before all was judged?"""
        self.store_failed = False
        self.only_observed = False
        """Would Envoy not heed a verdict (observability_mode of its filter), although the policy blocks?"""
        self.uninspected: list[str] = []
        """Why bodies went unseen: the metric envoy_waf_bodies_uninspected_total tells."""
        self.missing_attributes: list[str] = []
        """Those that the policies need and Envoy does not send."""
        self.trace_parent = ""
        """The traceparent header (W3C Trace Context) that Envoy or the client sent."""
        self._on_finish = on_finish
        self._request = Side(True, CONTINUE_REQUEST)
        self._response = Side(False, CONTINUE_RESPONSE)
        self._head: RequestHead | None = None
        self._told: tuple[int, int, str] | None = None
        """Matched rules, score and verdict that Envoy has been told of."""
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
            answers = self._answers(kind, message, body)
        except UsageError as error:
            raise StreamError(f"{kind} comes at a wrong time: {error}") from error
        if self.tx is None:
            return answers
        if kind in _BODIES:
            self._count_kept(self.tx)
        if not self.blocked:
            self.done = self._response_over and self._request.over
            if self.tx.matched_rules:
                self._tell(self.tx, answers)
        return answers

    def _tell(self, tx: Transaction, answers: list[Answer]) -> None:
        """Envoy learns what matched although it may go on; with the next message of its own that there is, and once."""
        found = len(tx.matched_rules), tx.anomaly_score, tx.verdict
        if found == self._told:
            return
        for index, answer in enumerate(answers):
            if not isinstance(answer, Piece):
                answers[index] = told(answer, tx, self.policy.name)
                self._told = found
                return

    def _answers(self, kind: str | None, message: ProcessingRequest, body: Sequence[bytes] | None) -> list[Answer]:
        if kind == "request_headers":
            return self._request_headers(message)
        if self.tx is None:
            return self._unseen_request(kind, message, body)
        if kind == "request_body":
            return self._request_body(_pieces(message.request_body, body), message.request_body.end_of_stream)
        if kind == "request_trailers":
            return self._trailers(self._request)
        if kind == "response_headers":
            return self._response_headers(message)
        if kind == "response_body":
            return self._response_body(_pieces(message.response_body, body), message.response_body.end_of_stream)
        if kind == "response_trailers":
            return self._trailers(self._response)
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
                return [CONTINUE_RESPONSE.headers]
        elif self.refused_by_envoy and kind == "response_body":
            side = message.response_body
            return [self._response.pass_on(_pieces(side, body), side.end_of_stream)]
        elif self.refused_by_envoy and kind == "response_trailers":
            return [CONTINUE_RESPONSE.trailers]
        raise StreamError(f"the first message is {kind}: request_header_mode has to be SEND")

    def weight(self, message: ProcessingRequest, body: Sequence[bytes] | None, size: int) -> int:
        """Microseconds that handling this message, of `size` bytes, may take, by and large.  The last piece of a body
        is judged with all that came before; most others are only kept."""
        kind = message.WhichOneof("request")
        tx = self.tx
        if kind == "request_headers":
            return _microseconds(size, [header.raw_value for header in message.request_headers.headers.headers])
        if tx is None:
            return 0
        if kind == "request_body" or kind == "request_trailers":
            if self._request.judged:
                return 0
            pieces = _pieces(message.request_body, body)
            if self._request.ends_with(size, kind != "request_body" or message.request_body.end_of_stream):
                return _microseconds(size + tx.request_body.length, pieces)
            return _microseconds(tx.request_body.weight(pieces), ())
        if kind == "response_body" or kind == "response_trailers":
            if self._response.judged:
                return 0
            if self._response.ends_with(size, kind != "response_body" or message.response_body.end_of_stream):
                return tx.response_body.judged_bytes(size) // RESPONSE_BYTES
            return tx.response_body.weight(size) // RESPONSE_BYTES
        return 0

    def fail(self, status: int) -> None:
        """It cannot be judged, and is refused."""
        self.blocked = True
        self.failed = status

    def close(self) -> None:
        """The stream is over: phase 5, exactly once."""
        if self._closed:
            return
        self._closed = True
        if self.tx is not None:
            self.tx.process_logging()
        if self._on_finish is not None:
            self._on_finish(self)

    @property
    def unfinished(self) -> bool:
        """Is there more to be judged?"""
        judged = self._request.judged and (self._response.judged or self._response_over)
        return not (judged or self.blocked or self.refused_by_envoy)

    @property
    def broken_off(self) -> bool:
        """Has not all come, or not all been kept, that there was to be judged?"""
        cut = self._request.awaits_body or self._response.awaits_body
        return bool(self.failed) or (cut and not self.blocked)

    @property
    def outcome(self) -> str:
        """What came of it: failed (refused, because it could not be judged), refused_by_envoy, blocked, detected,
        cancelled, or pass."""
        if self.failed:
            return "failed"
        if self.refused_by_envoy:
            return "refused_by_envoy"
        verdict = self.tx.verdict if self.tx is not None else "pass"
        return "cancelled" if verdict == "pass" and self.cancelled else verdict

    @property
    def ends(self) -> bool:
        """Should it be ended from our side?  Not in FULL_DUPLEX_STREAMED mode: Envoy loses what is on its way then,
        even of bodies that it was told not to show."""
        return self.blocked or (self.done and FULL_DUPLEX not in (self._request.mode, self._response.mode))

    # -- what was seen --------------------------------------------------------------------------

    @property
    def awaits_body(self) -> bool:
        """Has the request's body still to come, or to end?"""
        return self._request.awaits_body and not self.blocked

    @property
    def passes_on(self) -> bool:
        """Is all judged that its client still sends, or reads?"""
        request, response = self._request, self._response
        sends = request.expects_body and not request.ended
        return request.judged and (response.judged or sends) and not self.blocked

    def exchange(self) -> Exchange:
        """The request and response as far as they were seen; bodies up to `recorded_bytes`."""
        tx = self.tx
        assert tx is not None
        return Exchange(
            method=tx.method,
            uri=tx.uri_raw,
            version=tx.protocol,
            headers=list(tx.request_headers),
            body=self._request.recorded,
            status=tx.response_status,
            response_headers=tx.sent_response_headers,
            response_body=self._response.recorded,
            client_ip=tx.client_ip.decode("latin-1"),
            client_port=tx.client_port,
            server_ip=tx.server_ip.decode("latin-1"),
            server_port=tx.server_port,
            label=tx.id,
        )

    @property
    def recorded_whole(self) -> bool:
        """Has `exchange` all that was seen of the bodies?"""
        return max(self._request.seen_bytes, self._response.seen_bytes) <= self.options.recorded_bytes

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
        side.expects_body = not end and not reason
        if side.expects_body and (tx.request_header(b"content-encoding") or b"").lower() not in PLAIN_CODINGS:
            self.uninspected.append("encoded")
        if not side.expects_body:
            side.judged = True
            if reason:
                self.uninspected.append(reason)
            stop = self._contradiction(reason) or tx.process_request_body()
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
        head = self._head = read_head(message, options.hidden_request_headers)
        self.trace_parent = head.trace_parent
        self.missing_attributes = [name for name in self._policies.attributes if name not in head.attributes]
        route = head.attributes.get(ROUTE_ATTRIBUTE, "")
        try:
            policy = self._policies.select(self._named_policy, head.authority, head.path, route)
        except UnknownPolicyError as error:
            raise StreamError(str(error)) from error
        self.policy = policy
        tx = policy.waf.new_transaction(head.request_id, self._store)
        peer, port = split_address(head.attributes.get(ADDRESS_ATTRIBUTE, ""))
        server, server_port = split_address(head.attributes.get("destination.address", ""))
        address = client_address(peer, head.forwarded, options.trusted_hops)
        tx.process_connection(address, port, server, server_port)
        self.only_observed = message.observability_mode and tx.engine is EngineMode.ON
        if self.only_observed or (tx.engine is EngineMode.ON and not policy.blocks(tx.client_ip)):
            tx.engine = EngineMode.DETECTION_ONLY
        tx.process_uri(head.target, head.method, head.protocol)
        for name, value in head.headers:
            tx.add_request_header(name, value)
        return tx

    def _body_unseen(self) -> str:
        """Why a body must not be waited for, or ""."""
        tx = self.tx
        assert tx is not None
        head = self._head
        assert head is not None
        if head.connect:
            return "connect"
        if head.upgrade and tx.request_header(b"upgrade") is not None:
            return "upgrade"
        if head.grpc:
            return "grpc"
        if tx.engine is EngineMode.OFF or tx.allowed in ("all", "request"):
            return "rules"
        if not tx.request_body.access:
            return "rules"
        if self._request.mode == NONE:
            return "mode"
        return ""

    def _contradiction(self, reason: str) -> Interruption | None:
        """What is upgraded has no body: bytes that are announced as one would pass unseen, and an upstream that knows
        nothing of upgrades would read them."""
        tx, head = self.tx, self._head
        assert tx is not None
        assert head is not None
        if reason != "upgrade" or not head.announces_body:
            return None
        return tx.reject(400, "an upgrade that announces a body")

    def _after_request_headers(self, end: bool) -> ProcessingResponse:
        """Continue, and ask for no message that nothing here needs."""
        tx = self.tx
        assert tx is not None
        drop_body = not end and not self._request.expects_body and self._request.mode != NONE
        phase = self._response_phase()
        need_headers, need_body = phase >= 3, phase == 4 and not self._tunnel()
        self._response_over = not need_headers
        if not drop_body and need_headers and need_body:
            return CONTINUE_REQUEST.headers
        return override(
            NONE if not self._request.expects_body else self._request.mode,
            self._response.mode if need_body else NONE,
            need_headers,
        )

    def _response_phase(self) -> int:
        """The last phase for which the response has to be asked for: 0 (none), 3 (headers) or 4 (body)."""
        tx = self.tx
        assert tx is not None
        judged = tx.engine is not EngineMode.OFF and tx.allowed != "all"
        phase = tx.program.response_phase if judged else 0
        if phase == 4 and not (tx.response_body.access or tx.program.opens_response_body):
            phase = 3
        recorded = self.options.audited and tx.audit_engine is not AuditEngine.OFF
        shadowed = self.policy.shadow is not None and self.policy.shadow.waf.program.response_phase
        # A record has the status; a shadow sees the headers, but no body is held for it alone.
        return max(phase, 3) if recorded or shadowed else phase

    def _tunnel(self) -> bool:
        head = self._head
        return head is not None and (head.connect or head.upgrade or head.grpc)

    def _request_body(self, body: Sequence[bytes], end: bool) -> list[Answer]:
        tx, side = self.tx, self._request
        assert tx is not None
        side.ended = end
        if side.judged:
            return [side.pass_on(body, end)]
        for piece in body:
            side.record(piece, self.options.recorded_bytes)
            stop = tx.write_request_body(piece)
            if stop is not None:
                return [self._deny(stop)]
        if end:
            self._check_length()
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
            return [side.go_on.body]
        return self._judge(side, side.go_on.body)

    def _check_length(self) -> None:
        """Raises StreamError if the request's body is not as long as its head says.  Envoy checks that, but loses parts
        behind it: 1.36 does when it asks again (`retry_policy` in FULL_DUPLEX_STREAMED mode)."""
        head, seen = self._head, self._request.seen_bytes
        assert head is not None
        if head.contradicts(seen):
            said = head.length.decode("latin-1")
            raise StreamError(
                f"Envoy shows {seen} bytes of a request's body of {said}: its retry_policy loses parts, or a filter"
                " ahead changes bodies and leaves Content-Length as it was"
            )

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
        return self._judge(side, None, end)

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
        wanted = not end and not self._tunnel() and tx.wants_response_body
        side.expects_body = wanted and side.mode != NONE
        if wanted and tx.response_header(b"content-encoding").lower() not in PLAIN_CODINGS:
            self.uninspected.append("encoded")
        if not side.expects_body:
            side.judged = True
            if wanted:
                self.uninspected.append("mode")
            stop = tx.process_response_body()
            if stop is not None:
                return [self._deny(stop)]
            self._response_over = not end
            if side.mode == BUFFERED_PARTIAL:
                return [partial_without_body(tx.response_header(b"content-length"))]
            return [side.go_on.headers if end or side.mode == NONE else NO_RESPONSE_BODY]
        if side.mode == FULL_DUPLEX:
            side.held_headers = side.go_on.headers
            return []
        return [side.go_on.headers]

    def _response_body(self, body: Sequence[bytes], end: bool) -> list[Answer]:
        tx, side = self.tx, self._response
        assert tx is not None
        if side.judged:
            return [side.pass_on(body, end)]
        for piece in body:
            side.record(piece, self.options.recorded_bytes)
            stop = tx.write_response_body(piece)
            if stop is not None:
                return [self._deny(stop)]
        if side.mode == BUFFERED_PARTIAL:
            if not end and not tx.response_body.cut:
                self.uninspected.append("partial")
                tx.response_body.cut = True
            end = True
        if side.mode == FULL_DUPLEX:
            side.hold(body)
            # Past the limit the rest is not inspected: it need not be held either.
            if not end and not tx.response_body.cut:
                return []
            return self._judge(side, None, end)
        if not end and side.mode == STREAMED:
            return [side.go_on.body]
        return self._judge(side, side.go_on.body)

    # -- both directions ------------------------------------------------------------------------

    def _judge(self, side: Side, answer: ProcessingResponse | None, end: bool = True) -> list[Answer]:
        """Phase 2 or 4; then what was held may go, and the answer after it.  `end`: the body has ended."""
        tx = self.tx
        assert tx is not None
        side.judged = True
        stop = tx.process_request_body() if side.request else tx.process_response_body()
        if tx.response_body.undecoded:
            self.uninspected.append("encoded")
        if stop is not None:
            return [self._deny(stop)]
        if side.request and tx.request_body.length and not tx.request_body.processor:
            self.uninspected.append("unparsed")
        return side.release(end) + ([answer] if answer is not None else [])

    def _count_kept(self, tx: Transaction) -> None:
        """What is kept for a verdict, for rules behind it, and for explanations are the same bytes."""
        request, response = self._request, self._response
        self.kept_bytes = max(request.held_bytes, request.recorded_bytes, tx.request_body.kept_bytes) + max(
            response.held_bytes, response.recorded_bytes, tx.response_body.kept_bytes
        )

    def _trailers(self, side: Side) -> list[Answer]:
        side.ended = True
        if not side.judged:
            if side.request:
                self._check_length()
            return self._judge(side, side.go_on.trailers, end=False)
        return [side.go_on.trailers]

    def _deny(self, stop: Interruption) -> ProcessingResponse:
        tx, options, head = self.tx, self.options, self._head
        assert tx is not None
        assert head is not None
        self.blocked = True
        self.blocked_phase = tx.phase
        return denial(
            stop, tx, self.policy.name, grpc=head.grpc, body=options.deny_body, content_type=options.deny_content_type
        )


def _microseconds(size: int, pieces: Sequence[bytes]) -> int:
    """What judging so many bytes may take.  Of the pieces, which come last, it is told how much is plain text, how many
    arguments there may be (`[1,2,3]`), and how much may belong to attacks; that costs ten times as much."""
    plain = size // PLAIN_BYTES
    if size > COUNTED_BYTES:
        return plain
    text = b"".join(pieces)
    arguments = text.count(b",") + text.count(b"&")
    special = len(text) - len(text.translate(None, _SPECIAL))
    return plain + ARGUMENT_MICROSECONDS * arguments + SPECIAL_MICROSECONDS * special


def _pieces(side: HttpBody, body: Sequence[bytes] | None) -> Sequence[bytes]:
    """The body of a message, which is in it or beside it."""
    return body or [side.body]
