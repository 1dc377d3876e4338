"""The protocol machine, message by message, without a server."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse

from extproc.answers import CONTINUE_REQUEST, CONTINUE_RESPONSE, NO_RESPONSE_BODY
from extproc.config import ENVOYS_OWN
from extproc.modes import BUFFERED, BUFFERED_PARTIAL, FULL_DUPLEX, NONE, SEND, SKIP, STREAMED
from extproc.piece import Answer, Piece
from extproc.policies import PolicySet
from extproc.session import LIGHT_MICROSECONDS
from extproc.side import MAX_HELD_BYTES
from extproc.stream import Stream, StreamError, StreamOptions
from tests.core.transactions import ids, make
from tests.sidecar.messages import (
    request_body,
    request_headers,
    request_trailers,
    response_body,
    response_headers,
    response_trailers,
)
from waf_core import WAF
from waf_core.compiler import CompileOptions
from waf_core.exchange import run

RULES = """
SecRule ARGS|REQUEST_HEADERS "@contains evil" "id:1,phase:1,deny"
SecRule ARGS_POST|REQUEST_BODY "@contains evil" "id:2,phase:2,deny"
SecRule RESPONSE_HEADERS "@contains evil" "id:3,phase:3,deny"
SecRule RESPONSE_BODY "@contains evil" "id:4,phase:4,deny"
SecAction "id:5,phase:5,pass,nolog,setvar:tx.logged=+1"
"""
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def waf() -> WAF:
    return make(RULES)


def messages_of(answers: list[Answer]) -> list[ProcessingResponse]:
    return [
        ProcessingResponse.FromString(b"".join(answer.parts())) if isinstance(answer, Piece) else answer
        for answer in answers
    ]


def play(waf: WAF, *messages: ProcessingRequest, **options: Any) -> tuple[Stream, list[list[ProcessingResponse]]]:
    stream = Stream(PolicySet.single(waf), StreamOptions(**options))
    answers = [messages_of(stream.handle(message)) for message in messages]
    stream.close()
    return stream, answers


def denied(answer: list[ProcessingResponse]) -> int:
    (message,) = answer
    assert message.WhichOneof("response") == "immediate_response"
    return int(message.immediate_response.status.code)


def streamed(answers: list[ProcessingResponse], side: str) -> list[tuple[bytes, bool]]:
    out = []
    for answer in answers:
        piece = getattr(answer, side).response.body_mutation.streamed_response
        out.append((piece.body, piece.end_of_stream))
    return out


def test_request_without_a_body_needs_one_answer(waf: WAF) -> None:
    _, answers = play(waf, request_headers("/?a=1"), response_headers(end=True))
    assert answers == [[CONTINUE_REQUEST.headers], [CONTINUE_RESPONSE.headers]]


def test_verdict_in_phase_1_ends_the_stream(waf: WAF) -> None:
    stream, answers = play(waf, request_headers("/?a=evil", end=False), request_body(b"x"))
    assert denied(answers[0]) == 403
    assert answers[1] == []
    assert stream.blocked_phase == 1


@pytest.mark.parametrize("mode", [BUFFERED, STREAMED])
def test_body_in_one_piece(waf: WAF, mode: int) -> None:
    head = request_headers(method="POST", headers=FORM, end=False, mode=mode)
    assert play(waf, head, request_body(b"a=b"))[1] == [[CONTINUE_REQUEST.headers], [CONTINUE_REQUEST.body]]
    assert denied(play(waf, head, request_body(b"a=evil"))[1][1]) == 403


def test_streamed_pieces_are_passed_and_judged_at_the_end(waf: WAF) -> None:
    head = request_headers(method="POST", headers=FORM, end=False, mode=STREAMED)
    _, answers = play(waf, head, request_body(b"a=ev", end=False), request_body(b"il", end=True))
    assert answers[1] == [CONTINUE_REQUEST.body]
    assert denied(answers[2]) == 403


def test_streamed_body_that_ends_with_trailers(waf: WAF) -> None:
    head = request_headers(method="POST", headers=FORM, end=False, mode=STREAMED)
    _, answers = play(waf, head, request_body(b"a=evil", end=False), request_trailers())
    assert denied(answers[2]) == 403


def test_full_duplex_holds_headers_and_pieces_until_the_verdict(waf: WAF) -> None:
    head = request_headers(method="POST", headers=FORM, end=False, mode=FULL_DUPLEX)
    _, answers = play(waf, head, request_body(b"a=", end=False), request_body(b"b"))
    assert answers[:2] == [[], []]
    assert answers[2][0].WhichOneof("response") == "request_headers"
    assert streamed(answers[2][1:], "request_body") == [(b"a=", False), (b"b", True)]
    _, answers = play(waf, head, request_body(b"a=ev", end=False), request_body(b"il"))
    assert answers[:2] == [[], []]
    assert denied(answers[2]) == 403


def test_full_duplex_with_trailers(waf: WAF) -> None:
    head = request_headers(method="POST", headers=FORM, end=False, mode=FULL_DUPLEX)
    _, answers = play(waf, head, request_body(b"a=b", end=False), request_trailers())
    kinds = [answer.WhichOneof("response") for answer in answers[2]]
    assert kinds == ["request_headers", "request_body", "request_trailers"]
    assert streamed(answers[2][1:2], "request_body") == [(b"a=b", False)]


PIECES = [request_body(b"a=b", end=False), request_body(b"&c=")]
TRAILERS = [request_body(b"a=b&c=", end=False), request_trailers()]


@pytest.mark.parametrize(
    ("mode", "messages"),
    [
        (BUFFERED, [request_body(b"a=b&c=")]),
        *((mode, messages) for mode in (STREAMED, FULL_DUPLEX) for messages in (PIECES, TRAILERS)),
    ],
)
@pytest.mark.parametrize(("length", "whole"), [("6", True), ("006", True), ("9", False), ("5", False), ("0", False)])
def test_a_body_that_is_not_as_long_as_its_head_says_does_not_pass(
    waf: WAF, mode: int, messages: list[ProcessingRequest], length: str, whole: bool
) -> None:
    stream = Stream(PolicySet.single(waf), StreamOptions())
    stream.handle(request_headers(method="POST", headers=FORM | {"content-length": length}, end=False, mode=mode))
    for message in messages[:-1]:
        stream.handle(message)
    if whole:
        assert stream.handle(messages[-1])
        assert not stream.blocked
    else:
        with pytest.raises(StreamError, match=f"6 bytes of a request's body of {length}"):
            stream.handle(messages[-1])


def test_a_body_of_a_partial_buffer_may_be_shorter_than_its_head_says() -> None:
    waf = make("SecRequestBodyLimitAction ProcessPartial\n" + RULES)
    head = request_headers(method="POST", headers=FORM | {"content-length": "9"}, end=False, mode=BUFFERED_PARTIAL)
    stream, answers = play(waf, head, request_body(b"a=b", end=False))
    assert answers[1] == [CONTINUE_REQUEST.body]
    assert stream.uninspected == ["partial"]


def test_full_duplex_past_the_limit_passes_the_rest_when_rules_say_so() -> None:
    waf = make("SecRequestBodyLimit 4\nSecRequestBodyLimitAction ProcessPartial\n" + RULES)
    head = request_headers(method="POST", headers=FORM, end=False, mode=FULL_DUPLEX)
    _, answers = play(waf, head, request_body(b"a=bcdef", end=False), request_body(b"evil"))
    assert streamed(answers[1][1:], "request_body") == [(b"a=bcdef", False)]
    assert streamed(answers[2], "request_body") == [(b"evil", True)]


def test_full_duplex_never_holds_without_bound() -> None:
    waf = make(f"SecRequestBodyLimit {MAX_HELD_BYTES * 4}\nSecRequestBodyNoFilesLimit {MAX_HELD_BYTES * 4}\n" + RULES)
    stream = Stream(PolicySet.single(waf), StreamOptions())
    stream.handle(request_headers(method="POST", headers=FORM, end=False, mode=FULL_DUPLEX))
    piece = bytes(1 << 20)
    for _ in range(MAX_HELD_BYTES >> 20):
        assert stream.handle(request_body(piece, end=False)) == []
    assert denied(messages_of(stream.handle(request_body(piece, end=False)))) == 413


def test_partial_body_is_refused_or_judged_as_far_as_it_goes() -> None:
    head = request_headers(method="POST", headers=FORM, end=False, mode=BUFFERED_PARTIAL)
    assert denied(play(make(RULES), head, request_body(b"a=b", end=False))[1][1]) == 413
    lenient = make("SecRequestBodyLimitAction ProcessPartial\n" + RULES)
    stream, answers = play(lenient, head, request_body(b"a=b", end=False))
    assert answers[1] == [CONTINUE_REQUEST.body]
    assert stream.uninspected == ["partial"]
    assert denied(play(lenient, head, request_body(b"a=evil", end=False))[1][1]) == 403


@pytest.mark.parametrize(
    ("method", "headers", "reason"),
    [
        ("GET", {"connection": "keep-alive, Upgrade", "upgrade": "websocket"}, "upgrade"),
        ("CONNECT", {}, "connect"),
        ("POST", {"content-type": "application/grpc+proto", "te": "trailers"}, "grpc"),
    ],
)
def test_streams_that_would_hang_are_not_buffered(waf: WAF, method: str, headers: dict[str, str], reason: str) -> None:
    stream, (answer, *_) = play(waf, request_headers("/x", method=method, headers=headers, end=False, mode=BUFFERED))
    (message,) = answer
    assert message.mode_override.request_body_mode == NONE
    assert message.mode_override.response_body_mode == NONE
    assert stream.uninspected == [reason]


def test_a_redirect_has_nothing_in_its_url_that_no_url_has() -> None:
    waf = make('SecRule ARGS:u "@rx ." "id:1,phase:1,deny,redirect:https://example.com/?from=%{MATCHED_VAR}#top"')
    (answer, *_) = play(waf, request_headers("/?u=a%2fb%0d%0aSet-Cookie:%20x%c3%a9%22%25"))[1]
    headers = answer[0].immediate_response.headers.set_headers
    location = next(h.header.raw_value for h in headers if h.header.key == "location")
    assert location == b"https://example.com/?from=a/b%0D%0ASet-Cookie:%20x%C3%A9%22%#top"


def test_bodies_that_envoy_does_not_show_are_counted(waf: WAF) -> None:
    head = request_headers("/", method="POST", headers=FORM, end=False, mode=NONE)
    assert play(waf, head)[0].uninspected == ["mode"]
    assert play(waf, head, response_headers(end=True))[0].uninspected == ["mode"]
    assert play(waf, head, response_headers())[0].uninspected == ["mode", "mode"]
    assert play(waf, request_headers("/", mode=NONE), response_headers(204, end=True))[0].uninspected == []


@pytest.mark.parametrize(("encoding", "reasons"), [("gzip", ["encoded"]), ("Identity", []), ("br", ["encoded"])])
def test_compressed_responses_are_counted(waf: WAF, encoding: str, reasons: list[str]) -> None:
    """Rules see their bytes, which tell nothing."""
    head = request_headers("/", mode=BUFFERED)
    answer = response_headers(headers={"content-encoding": encoding})
    stream, _ = play(waf, head, answer, response_body(b"\x1f\x8b"))
    assert stream.uninspected == reasons
    assert play(waf, head, response_headers(304, {"content-encoding": encoding}, end=True))[0].uninspected == []


def test_compressed_responses_are_judged_as_clients_see_them() -> None:
    decoding = make(RULES, CompileOptions(decompress_responses=True))
    head = request_headers("/", mode=BUFFERED)
    answer = response_headers(headers={"content-encoding": "gzip"})
    coded = gzip.compress(b"this is evil")
    stream, answers = play(decoding, head, answer, response_body(coded), recorded_bytes=1000)
    assert denied(answers[-1]) == 403
    assert stream.uninspected == []
    # What is explained, or judged aside, is what came.
    again = run(decoding, stream.exchange())
    assert again.interruption is not None
    assert again.interruption.rule_id == 4
    stream, answers = play(decoding, head, answer, response_body(coded[:-1]))
    assert denied(answers[-1]) == 403
    assert stream.uninspected == ["encoded"]
    other = response_headers(headers={"content-encoding": "compress"})
    assert play(decoding, head, other, response_body(b"\x1f\x9d"))[0].uninspected == ["encoded"]


@pytest.mark.parametrize(("coding", "reasons"), [("gzip", ["encoded"]), ("identity", [])])
def test_compressed_requests_are_counted(waf: WAF, coding: str, reasons: list[str]) -> None:
    head = request_headers("/", method="POST", headers={**FORM, "content-encoding": coding}, end=False)
    assert play(waf, head, request_body(b"a=1"))[0].uninspected == reasons
    assert play(waf, request_headers("/", headers={"content-encoding": coding}))[0].uninspected == []


@pytest.mark.parametrize(
    ("content_type", "body", "reasons"),
    [("text/plain", b"a=evil", ["unparsed"]), ("text/plain", b"", []), (FORM["content-type"], b"a=1", [])],
)
def test_bodies_that_nothing_takes_apart_are_counted(
    waf: WAF, content_type: str, body: bytes, reasons: list[str]
) -> None:
    head = request_headers("/", method="POST", headers={"content-type": content_type}, end=False)
    assert play(waf, head, request_body(body))[0].uninspected == reasons
    forced = make('SecAction "id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"')
    assert play(forced, head, request_body(b'{"a":1}'))[0].uninspected == []


def test_decoding_much_weighs_much() -> None:
    decoding = make(f"SecResponseBodyLimit 500000\n{RULES}", CompileOptions(decompress_responses=True))
    weights = []
    for headers in ({}, {"content-encoding": "gzip"}):
        stream = Stream(PolicySet.single(decoding), StreamOptions())
        stream.handle(request_headers("/", mode=BUFFERED))
        stream.handle(response_headers(headers=headers))
        weights.append([stream.weight(response_body(b""), [b"x" * size], size) for size in (16_000, 160_000)])
    assert weights == [[1000, 10_000], [8000, 31_250]]


def test_an_upgrade_header_alone_hides_no_body(waf: WAF) -> None:
    head = request_headers(method="POST", headers={**FORM, "upgrade": "websocket"}, end=False)
    assert denied(play(waf, head, request_body(b"a=evil"))[1][1]) == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-length": "6"}, 400),
        ({"x-envoy-waf-original-transfer-encoding": "chunked"}, 400),
        ({"content-length": "0"}, None),
        ({}, None),
    ],
)
def test_an_upgrade_that_announces_a_body_is_refused(waf: WAF, headers: dict[str, str], status: int | None) -> None:
    upgrade = {"connection": "Upgrade", "upgrade": "websocket"}
    head = request_headers("/", method="POST", headers={**upgrade, **headers}, end=False)
    stream, answers = play(waf, head)
    assert (denied(answers[0]) if status else stream.blocked) == (status or False)


def test_messages_that_no_rule_needs_are_not_asked_for() -> None:
    request_only = make('SecRule ARGS "@contains evil" "id:1,phase:2,deny"')
    (answer, *_) = play(request_only, request_headers("/"))[1]
    assert answer[0].mode_override.response_header_mode == SKIP
    assert answer[0].mode_override.response_body_mode == NONE
    for rules in ("", 'SecRule TX:a "@eq 1" "id:2,phase:5,pass"'):
        logging = make(f'SecRule ARGS "@contains evil" "id:1,phase:2,deny"\n{rules}')
        assert play(logging, request_headers("/"))[1][0][0].mode_override.response_header_mode == SKIP
    headers_only = make('SecRequestBodyAccess Off\nSecRule ARGS "@contains evil" "id:1,phase:1,deny"')
    (answer, *_) = play(headers_only, request_headers("/", end=False, mode=BUFFERED))[1]
    assert answer[0].mode_override.request_body_mode == NONE


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize(("length", "again"), [("57", "57"), ("", ""), ("5, 7", "")])
def test_a_response_that_is_not_judged_keeps_its_length_in_partial_mode(end: bool, length: str, again: str) -> None:
    waf = make('SecRule RESPONSE_BODY "@contains evil" "id:1,phase:4,deny"\nSecResponseBodyMimeType text/html')
    headers = {"content-type": "image/png"} | ({"content-length": length} if length else {})
    _, answers = play(waf, request_headers("/", mode=BUFFERED_PARTIAL), response_headers(headers=headers, end=end))
    (answer,) = answers[1]
    assert answer.mode_override.response_body_mode == NONE
    mutation = answer.response_headers.response.header_mutation
    assert [each.header.raw_value.decode() for each in mutation.set_headers] == ([again] if again else [])


def test_a_rule_of_the_logging_phase_sees_the_response() -> None:
    waf = make('SecRule RESPONSE_STATUS "@rx ^40[13]$" "id:1,phase:5,pass,log"')
    stream, answers = play(waf, request_headers("/"), response_headers(403, end=True))
    assert answers[0][0].mode_override.response_header_mode == SEND
    assert answers[0][0].mode_override.response_body_mode == NONE
    assert stream.tx is not None
    assert ids(stream.tx) == [1]
    waf = make('SecRule RESPONSE_BODY "@contains evil" "id:1,phase:5,pass,log"')
    stream, _ = play(waf, request_headers("/"), response_headers(), response_body(b"evil"))
    assert stream.tx is not None
    assert ids(stream.tx) == [1]


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_a_rule_may_ask_for_the_body_of_the_response(phase: int) -> None:
    waf = make(
        f'SecResponseBodyAccess Off\nSecRule ARGS:a "@eq 1" "id:1,phase:{phase},pass,nolog,ctl:responseBodyAccess=On"\n'
        'SecRule RESPONSE_BODY "@contains evil" "id:2,phase:4,deny"'
    )
    opened = request_headers("/?a=1", end=False), request_body(b""), response_headers(), response_body(b"evil")
    _, answers = play(waf, *opened)
    assert not answers[0][0].HasField("mode_override")
    assert denied(answers[3]) == 403
    _, answers = play(waf, request_headers("/?a=2"), response_headers())
    assert answers[1] == [NO_RESPONSE_BODY]
    closed = make('SecResponseBodyAccess Off\nSecRule RESPONSE_BODY "@contains evil" "id:2,phase:4,deny"')
    assert play(closed, request_headers("/"))[1][0][0].mode_override.response_body_mode == NONE


@pytest.mark.parametrize(("engine", "mode"), [("On", SEND), ("RelevantOnly", SEND), ("Off", SKIP)])
def test_an_audit_log_has_the_status_of_the_response(engine: str, mode: int) -> None:
    waf = make(f'SecAuditEngine {engine}\nSecRule ARGS "@contains evil" "id:1,phase:2,deny"')
    _, answers = play(waf, request_headers("/"), audited=True)
    assert answers[0][0].mode_override.response_header_mode == mode
    assert answers[0][0].mode_override.response_body_mode == NONE


def test_a_shadow_sees_the_headers_of_the_response() -> None:
    policies = PolicySet.single(make('SecRule ARGS "@contains evil" "id:1,phase:2,deny"'))
    shadow = PolicySet.single(make('SecRule RESPONSE_STATUS "@eq 500" "id:1,phase:3,deny"')).default
    policies.default.shadow = shadow
    (answer,) = Stream(policies, StreamOptions()).handle(request_headers("/"))
    assert isinstance(answer, ProcessingResponse)
    assert answer.mode_override.response_header_mode == SEND
    shadow.waf = make('SecRule ARGS "@contains evil" "id:1,phase:2,deny"')
    (answer,) = Stream(policies, StreamOptions()).handle(request_headers("/"))
    assert isinstance(answer, ProcessingResponse)
    assert answer.mode_override.response_header_mode == SKIP


def test_override_never_turns_a_body_mode_on(waf: WAF) -> None:
    """From NONE to FULL_DUPLEX_STREAMED Envoy loses the first piece (envoy issue 40340)."""
    for mode in (NONE, BUFFERED, STREAMED, BUFFERED_PARTIAL, FULL_DUPLEX):
        for rules in (RULES, 'SecAction "id:1,phase:1,pass,nolog"'):
            for end in (True, False):
                answers = play(make(rules), request_headers("/", end=end, mode=mode))[1][0]
                for answer in answers:
                    if answer.HasField("mode_override"):
                        assert answer.mode_override.request_body_mode in (mode, NONE)
                        assert answer.mode_override.response_body_mode in (mode, NONE)


def test_messages_that_come_although_not_asked_for_pass(waf: WAF) -> None:
    """Without allow_mode_override Envoy ignores the override."""
    head = request_headers("/x", method="CONNECT", end=False, mode=BUFFERED)
    assert play(waf, head, request_body(b"anything"))[1][1] == [CONTINUE_REQUEST.body]


def test_response_phases(waf: WAF) -> None:
    head = request_headers("/")
    assert denied(play(waf, head, response_headers(headers={"x-a": "evil"}))[1][1]) == 403
    assert denied(play(waf, head, response_headers(), response_body(b"evil"))[1][2]) == 403
    assert play(waf, head, response_headers(), response_body(b"fine"))[1][2] == [CONTINUE_RESPONSE.body]


@pytest.mark.parametrize("content_type", ["text/event-stream", "image/png", "application/grpc"])
def test_response_bodies_outside_the_mime_types_are_not_buffered(waf: WAF, content_type: str) -> None:
    _, answers = play(waf, request_headers("/"), response_headers(headers={"content-type": content_type}))
    assert answers[1] == [NO_RESPONSE_BODY]


def test_full_duplex_response_is_held_until_the_verdict(waf: WAF) -> None:
    head = request_headers("/", mode=FULL_DUPLEX)
    _, answers = play(waf, head, response_headers(), response_body(b"ab", end=False), response_body(b"c"))
    assert answers[1:3] == [[], []]
    assert answers[3][0] == CONTINUE_RESPONSE.headers
    assert streamed(answers[3][1:], "response_body") == [(b"ab", False), (b"c", True)]
    _, answers = play(waf, head, response_headers(), response_body(b"ev", end=False), response_body(b"il"))
    assert denied(answers[3]) == 403
    _, answers = play(waf, head, response_headers(), response_body(b"ok", end=False), response_trailers())
    assert [a.WhichOneof("response") for a in answers[3]] == ["response_headers", "response_body", "response_trailers"]


def test_local_reply_while_the_request_is_held(waf: WAF) -> None:
    head = request_headers(method="POST", headers=FORM, end=False, mode=BUFFERED)
    stream, answers = play(waf, head, response_headers(413, end=True))
    assert answers[1] == [CONTINUE_RESPONSE.headers]
    assert stream.tx is not None
    assert stream.tx.response_status == 413


@pytest.mark.parametrize("count", range(4))
def test_logging_runs_once_however_the_stream_ends(waf: WAF, count: int) -> None:
    messages = [request_headers(end=False, method="POST", headers=FORM), request_body(b"a=b"), response_headers()]
    finished: list[Stream] = []
    stream = Stream(PolicySet.single(waf), StreamOptions(), finished.append)
    for message in messages[:count]:
        stream.handle(message)
    stream.close()
    stream.close()
    assert finished == [stream]
    if count:
        assert stream.tx is not None
        assert stream.tx.tx[b"logged"] == b"1"


def test_first_message_has_to_be_request_headers(waf: WAF) -> None:
    with pytest.raises(StreamError, match="request_header_mode has to be SEND"):
        play(waf, response_headers())


def test_error_page_for_a_request_that_envoy_refused_passes(waf: WAF) -> None:
    stream, answers = play(waf, response_headers(400), response_body(b"bad"))
    assert answers == [[CONTINUE_RESPONSE.headers], [CONTINUE_RESPONSE.body]]
    assert stream.refused_by_envoy
    assert stream.outcome == "refused_by_envoy"


def test_immediate_response_carries_body_details_and_metadata() -> None:
    waf = make(RULES)
    _, (answer, *_) = play(waf, request_headers("/?a=evil"), deny_body="No. {id}", deny_content_type="text/x")
    immediate = answer[0].immediate_response
    assert immediate.body.startswith(b"No. ")
    assert immediate.details == "envoy_waf_deny{rule_1}"
    assert immediate.headers.set_headers[0].header.raw_value == b"text/x"
    metadata = answer[0].dynamic_metadata.fields["envoy_waf"].struct_value.fields
    assert metadata["action"].string_value == "deny"
    assert [v.number_value for v in metadata["rule_ids"].list_value.values] == [1]


def test_what_matches_and_passes_is_told_to_envoy_once() -> None:
    rules = """
        SecRequestBodyAccess On
        SecResponseBodyAccess On
        SecResponseBodyMimeType text/plain
        SecRule ARGS_GET "@contains odd" "id:1,phase:1,pass,log,setvar:tx.blocking_inbound_anomaly_score=3"
        SecRule ARGS_GET "@contains odd" "id:2,phase:1,pass,nolog"
        SecRule ARGS_POST "@contains evil" "id:3,phase:2,deny,setvar:tx.blocking_inbound_anomaly_score=8"
    """
    body = request_body(b"b=evil")
    later = (response_headers(), response_body(b"x"))

    def told(answers: list[list[ProcessingResponse]]) -> list[tuple[str, int, int, list[int]]]:
        found = []
        for answer in (answer for some in answers for answer in some):
            if answer.HasField("dynamic_metadata"):
                fields = answer.dynamic_metadata.fields["envoy_waf"].struct_value.fields
                numbers = [int(v.number_value) for v in fields["rule_ids"].list_value.values]
                action, rule = fields["action"].string_value, int(fields["rule_id"].number_value)
                found.append((action, rule, int(fields["score"].number_value), numbers))
        return found

    for mode in (BUFFERED, BUFFERED_PARTIAL, STREAMED, FULL_DUPLEX):
        head = request_headers("/?a=odd", method="POST", headers=FORM, end=False, mode=mode)
        answers = play(make(rules + "SecRuleEngine DetectionOnly"), head, body, *later)[1]
        matched = [] if mode == FULL_DUPLEX else [("matched", 0, 3, [1])]
        assert told(answers) == [*matched, ("detected", 3, 8, [1, 3])]
        assert told(play(make(rules), request_headers("/?a=b"), *later)[1]) == []
    assert not CONTINUE_REQUEST.headers.HasField("dynamic_metadata")


def test_nothing_is_called_blocked_that_envoy_only_shows() -> None:
    head = request_headers("/?a=evil")
    head.observability_mode = True
    stream, answers = play(make(RULES), head, response_headers(end=True))
    assert [len(answer) for answer in answers] == [1, 1]
    assert stream.tx is not None
    assert (stream.tx.verdict, stream.blocked, stream.only_observed) == ("detected", False, True)
    assert not play(make(RULES + "SecRuleEngine DetectionOnly"), head)[0].only_observed


UNSEEN = {"content-type": "application/octet-stream"}


@pytest.mark.parametrize("mode", [BUFFERED, BUFFERED_PARTIAL, STREAMED, FULL_DUPLEX])
def test_a_stream_is_done_when_envoy_can_show_nothing_more(waf: WAF, mode: int) -> None:
    get = request_headers("/?a=b", mode=mode)
    post = request_headers(method="POST", headers=FORM, end=False, mode=mode)
    socket = request_headers(headers={"connection": "upgrade", "upgrade": "websocket"}, end=False, mode=mode)

    def play_all(rules: WAF, *messages: ProcessingRequest) -> list[tuple[bool, bool]]:
        """Behind each message: is it done, and does it end from our side?"""
        stream = Stream(PolicySet.single(rules), StreamOptions())
        found = []
        for message in messages:
            stream.handle(message)
            found.append((stream.done, stream.ends))
        stream.close()
        return found

    goes_on = (False, False)
    done = (True, mode != FULL_DUPLEX)
    inspecting = make(RULES + "SecResponseBodyAccess On\nSecResponseBodyMimeType text/html")
    assert play_all(inspecting, get, response_headers(), response_body(b"x")) == [goes_on] * 3
    assert play_all(inspecting, get, response_headers(headers=UNSEEN)) == [goes_on, done]
    assert play_all(inspecting, get, response_headers(end=True)) == [goes_on] * 2  # its end is near anyway
    assert play_all(inspecting, socket, response_headers(101, headers=UNSEEN)) == [goes_on, done]
    assert play_all(inspecting, post, request_body(b"a=b"), response_headers(headers=UNSEEN)) == [goes_on] * 2 + [done]
    only_requests = make('SecRule ARGS "@contains evil" "id:1,phase:2,deny"')
    assert play_all(only_requests, get) == [done]
    assert play_all(only_requests, post, request_body(b"a=b")) == [goes_on, done]


def test_full_duplex_is_done_when_all_pieces_have_gone_through(waf: WAF) -> None:
    rules = "SecRequestBodyAccess On\nSecRequestBodyLimit 5\nSecRequestBodyLimitAction ProcessPartial\n"
    limited = make(rules + 'SecRule RESPONSE_STATUS "@eq 500" "id:1,phase:3,deny"')
    head = request_headers(method="POST", headers=FORM, end=False, mode=FULL_DUPLEX)
    pieces = [request_body(b"a=123456", end=False), request_body(b"7", end=False)]
    for last in (request_body(b"8"), request_trailers()):
        stream = Stream(PolicySet.single(limited), StreamOptions())
        for message in (head, *pieces, response_headers(headers=UNSEEN)):
            stream.handle(message)
            assert not stream.done
        assert stream.handle(last)
        assert stream.done


def test_redirect() -> None:
    waf = make('SecRule ARGS "@contains evil" "id:1,phase:1,redirect:https://x/?a=%{ARGS.a}"')
    immediate = play(waf, request_headers("/?a=evil"))[1][0][0].immediate_response
    assert immediate.status.code == 302
    assert immediate.headers.set_headers[0].header.key == "location"
    assert immediate.headers.set_headers[0].header.raw_value == b"https://x/?a=evil"


def test_grpc_request_gets_a_grpc_status() -> None:
    head = request_headers("/?a=evil", method="POST", headers={"content-type": "application/grpc"}, end=False)
    assert play(make(RULES), head)[1][0][0].immediate_response.grpc_status.status == 7


def test_what_rules_see_of_the_request() -> None:
    seen = make("")
    headers = {"x-request-id": "abc-1", "x-forwarded-proto": "http", "x-own": "1"}
    hidden = frozenset({"x-request-id", "x-forwarded-proto"})
    head = request_headers(
        "/p?q=1", headers=headers, attributes={"request.protocol": "HTTP/2", "source.address": "[::1]:5"}
    )
    stream, _ = play(seen, head, hidden_request_headers=hidden)
    tx = stream.tx
    assert tx is not None
    assert tx.id == "abc-1"
    assert (tx.client_ip, tx.client_port, tx.protocol) == (b"::1", 5, b"HTTP/2")
    assert tx.request_headers == [(b"Host", b"www.example.com"), (b"x-own", b"1")]


@pytest.mark.parametrize("name", ["cookie", "referer", "content-type", "x-api"])
def test_copies_of_headers_that_a_client_sends_hide_nothing(name: str) -> None:
    """Envoy's configuration makes copies of three headers, and takes those of clients away where it is in use."""
    waf = make('SecRule REQUEST_HEADERS "@contains evil" "id:1,phase:1,deny"')
    head = request_headers(headers={name: "evil", f"x-envoy-waf-original-{name}": "good"})
    assert denied(play(waf, head)[1][0]) == 403


def test_what_envoy_takes_away_is_seen_in_its_copies() -> None:
    copies = {"referer": "no url", "connection": "close", "transfer-encoding": "chunked"}
    headers = {"x-envoy-waf-original-" + name: value for name, value in copies.items()}
    tx = play(make(""), request_headers(headers={**headers, "referer": "no url"}))[0].tx
    assert tx is not None
    seen = [(name.decode(), value.decode()) for name, value in tx.request_headers if name != b"Host"]
    assert sorted(seen) == sorted(copies.items())


@pytest.mark.parametrize("name", ENVOYS_OWN)
def test_headers_of_envoys_own_are_hidden_only_when_envoy_may_have_written_them(name: str) -> None:
    """Behind a proxy that it trusts Envoy passes them on as they come."""
    waf = make('SecRule REQUEST_HEADERS "@rx ." "id:1,phase:1,deny,chain"\nSecRule MATCHED_VAR_NAME "@contains x-"')
    hidden = frozenset(ENVOYS_OWN)
    for value in ("https", "192.0.2.1", "2001:db8::1", "true", "8cf688b9-38f6-4e88-b1e3-d9bbe7d39cd1"):
        assert play(waf, request_headers(headers={name: value}), hidden_request_headers=hidden)[1][0]
        assert not play(waf, request_headers(headers={name: value}), hidden_request_headers=hidden)[0].blocked
    for value in ("${jndi:ldap://x}", "a" * 65, "a b"):
        assert denied(play(waf, request_headers(headers={name: value}), hidden_request_headers=hidden)[1][0]) == 403


def test_an_id_that_is_none_is_not_taken_over() -> None:
    stream, _ = play(make(""), request_headers(headers={"x-request-id": "<script>"}))
    assert stream.tx is not None
    assert "<" not in stream.tx.id


def test_chunked_framing_that_envoy_hides_is_restored() -> None:
    head = request_headers(method="POST", headers={"content-type": "text/plain"}, end=False)
    tx = play(make(""), head, request_body(b"x"))[0].tx
    assert tx is not None
    assert tx.request_header(b"transfer-encoding") == b"chunked"


def _weights(waf: WAF, head: ProcessingRequest, *messages: ProcessingRequest) -> list[int]:
    """Of each message, when its turn comes."""
    stream = Stream(PolicySet.single(waf), StreamOptions())
    out = []
    for message in (head, *messages):
        out.append(stream.weight(message, None, message.ByteSize()))
        stream.handle(message)
    stream.close()
    return out[1:]


def _upload(mode: int) -> ProcessingRequest:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    return request_headers(method="POST", headers=headers, end=False, mode=mode)


PART = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
LONG = b"x" * 10_000


def test_what_costs_much_is_heavy_and_what_applications_send_is_not(waf: WAF) -> None:
    def weigh(headers: dict[str, str]) -> int:
        message = request_headers(headers=headers)
        return Stream(PolicySet.single(waf), StreamOptions()).weight(message, None, message.ByteSize())

    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
    browser = {
        "user-agent": agent,
        "accept": "text/html,application/xml;q=0.9,*/*;q=0.8",
        "accept-language": "en,de;q=0.5",
    }
    assert weigh(browser | {"cookie": "; ".join(f"name{i}=value{i}" for i in range(40))}) < LIGHT_MICROSECONDS
    assert weigh({"cookie": "a" * 20_000}) > LIGHT_MICROSECONDS
    assert weigh({"cookie": "; ".join(f"c{i}='or(1)<" for i in range(60))}) > LIGHT_MICROSECONDS
    head = request_headers(method="POST", headers=FORM, end=False, mode=BUFFERED)
    orders = [{"id": i, "name": "Ada Lovelace", "items": ["tea", "milk & sugar"], "price": 9.5} for i in range(40)]
    for body, heavy in (
        (json.dumps(orders).encode(), False),
        (b"x" * 10_000, False),
        (b"[" + b"1," * 1000 + b"1]", True),
        (b"a=" + b"'or(1)<" * 100, True),
        (b"x" * 20_000, True),
    ):
        (weight,) = _weights(waf, head, request_body(body))
        assert (weight > LIGHT_MICROSECONDS) is heavy, body[:50]


@pytest.mark.parametrize("mode", [STREAMED, FULL_DUPLEX])
def test_pieces_that_are_only_kept_weigh_nothing(waf: WAF, mode: int) -> None:
    form = request_headers(method="POST", headers=FORM, end=False, mode=mode)
    more = [request_body(LONG, end=False)] * 3
    *kept, last = _weights(waf, form, *more, request_body(b"y"))
    assert kept == [0, 0, 0]
    assert last >= 3_750
    *kept, end = _weights(waf, form, *more, request_trailers())
    assert kept == [0, 0, 0]
    assert end >= 3_750


def test_pieces_of_files_weigh_nothing(waf: WAF) -> None:
    file, text = request_body(LONG, end=False), request_body(LONG + b"\r\n" + PART + LONG, end=False)
    first = request_body(PART + LONG, end=False)
    weights = _weights(waf, _upload(FULL_DUPLEX), first, file, file, text, file, request_body(b"\r\n--b--\r\n"))
    assert weights[1:3] == [0, 0]
    assert weights[4] == 0
    assert min(weights[0], weights[3]) >= 1_250
    assert weights[5] > 6_250


@pytest.mark.parametrize("limit", ["SecRequestBodyLimit 15000", "SecRequestBodyNoFilesLimit 15000"])
@pytest.mark.parametrize("action", ["Reject", "ProcessPartial"])
def test_pieces_that_reach_a_limit_weigh_all(limit: str, action: str) -> None:
    waf = make(f"{limit}\nSecRequestBodyLimitAction {action}\n" + RULES)
    form = request_headers(method="POST", headers=FORM, end=False, mode=FULL_DUPLEX)
    kept, full, *_ = _weights(waf, form, *[request_body(LONG, end=False)] * 2)
    assert kept == 0
    assert full >= 2_500
    text = b"--b\r\nContent-Disposition: form-data; name=f\r\n\r\n" + LONG
    assert min(_weights(waf, _upload(FULL_DUPLEX), *[request_body(text, end=False)] * 2)) >= 1_250


@pytest.mark.parametrize("mode", [BUFFERED, BUFFERED_PARTIAL])
def test_buffered_bodies_weigh_all_whether_they_end_or_not(waf: WAF, mode: int) -> None:
    form = request_headers(method="POST", headers=FORM, end=False, mode=mode)
    assert min(_weights(waf, form, request_body(LONG, end=False))) >= 1_250
    assert min(_weights(waf, form, request_body(LONG))) >= 1_250


def test_responses_weigh_when_they_end_or_reach_the_limit() -> None:
    head = (request_headers(mode=FULL_DUPLEX), response_headers())
    piece = response_body(LONG, end=False)
    assert _weights(make(RULES), *head, piece, piece, response_body(b"y"))[1:3] == [0, 0]
    assert _weights(make(RULES), *head, piece, piece, response_body(b"y"))[3] >= 1_250
    limited = make("SecResponseBodyLimit 15000\nSecResponseBodyLimitAction ProcessPartial\n" + RULES)
    weights = _weights(limited, *head, piece, piece, piece)
    assert weights[1] == 0
    assert weights[2] >= 1_250
    assert weights[3] == 0, "what is passed on is not looked at"


def test_a_body_beside_its_message(waf: WAF) -> None:
    head = request_headers(method="POST", headers=FORM, end=False, mode=FULL_DUPLEX)
    stream = Stream(PolicySet.single(waf), StreamOptions())
    assert stream.handle(head) == []
    assert stream.handle(request_body(b"", end=False), [b"a=", b"1&b"]) == []
    answers = messages_of(stream.handle(request_body(b""), [b"=ev", b"", b"en"]))
    assert streamed(answers[1:], "request_body") == [(b"a=1&b", False), (b"=even", True)]
    stream = Stream(PolicySet.single(waf), StreamOptions())
    stream.handle(head)
    assert denied(messages_of(stream.handle(request_body(b""), [b"a=ev", b"il"]))) == 403
