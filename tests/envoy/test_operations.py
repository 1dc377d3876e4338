"""Watching files, audit records, the admin servers, traces: what an operator sees of real traffic."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent import futures
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from demo.stack import Stack, free_port
from extproc.admin.pb import admin_pb2 as pb
from extproc.control import MAX_WATCHERS
from tests.envoy.conftest import BROWSER
from tests.waiting import eventually

pytestmark = pytest.mark.xdist_group("operations")

EVIL = 'SecRule ARGS "@streq evil" "id:1,phase:2,deny,msg:\'Evil\',tag:attack-evil"\n'
SECRETS = {**BROWSER, "Authorization": "Basic c2VjcmV0LXVzZXI=", "Cookie": "session=very-secret"}


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[list[bytes], str]]:
    """A real OTLP/gRPC receiver: what it was sent, and its address."""
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    spans: list[Any] = []

    class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Receiver(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield spans, f"http://127.0.0.1:{port}"
    server.stop(0)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, collector: tuple[list[Any], str]) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("audit")
    settings = {
        "rules": ["@recommended"],
        "directives": EVIL,
        "audit_log": str(folder / "audit.json"),
        "admin_grpc": f"127.0.0.1:{free_port()}",
        "otlp_endpoint": collector[1],
    }
    with Stack("buffered", settings=settings) as running:
        yield running


def block(stack: Stack, **headers: str) -> str:
    """Send one bad request; its transaction id, when the sidecar has told of it (after the answer)."""
    answer = httpx.get(f"{stack.url}/hello?a=evil&password=hunter2", headers={**SECRETS, **headers})
    assert answer.status_code == 403
    number = answer.text.rpartition(" ")[2].strip()
    assert eventually(lambda: number in httpx.get(f"http://127.0.0.1:{stack.admin_port}/api/events").text)
    return number


def records(stack: Stack) -> list[dict[str, Any]]:
    path = Path(stack.settings["audit_log"])
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["transaction"] for line in lines]


def test_a_block_is_in_the_audit_log_without_secrets(stack: Stack) -> None:
    number = block(stack)
    assert eventually(lambda: any(r["unique_id"] == number for r in records(stack)))
    record = next(r for r in records(stack) if r["unique_id"] == number)
    assert record["is_interrupted"] is True
    assert record["messages"][0]["details"]["ruleId"] == "1"
    for text in (json.dumps(record), stack.sidecar.text()):
        assert not [secret for secret in ("c2VjcmV0", "very-secret", "hunter2") if secret in text]


def test_the_audit_file_is_reopened_on_sighup(stack: Stack) -> None:
    path = Path(stack.settings["audit_log"])
    block(stack)
    assert eventually(path.exists)
    path.rename(path.with_suffix(".old"))
    os.kill(stack.sidecar.child.pid, signal.SIGHUP)
    assert eventually(path.exists)
    number = block(stack)
    assert eventually(lambda: any(r["unique_id"] == number for r in records(stack)))


def call(stack: Stack, method: str, question: Any, answer: Any) -> Any:
    with grpc.insecure_channel(stack.settings["admin_grpc"]) as channel:
        ask = channel.unary_unary(
            f"/envoy_waf.admin.v1.Admin/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return ask(question, timeout=20)


def test_grpc_status_explain_tail_and_reload(stack: Stack) -> None:
    number = block(stack)
    assert call(stack, "Status", pb.StatusRequest(), pb.StatusResponse).ready
    found = call(stack, "Explain", pb.ExplainRequest(id=number), pb.ExplainResponse)
    assert (found.verdict, found.decided_by) == ("blocked", 1)
    with pytest.raises(grpc.RpcError) as error:
        call(stack, "Explain", pb.ExplainRequest(id="nonsense"), pb.ExplainResponse)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    with grpc.insecure_channel(stack.settings["admin_grpc"]) as channel:
        tail = channel.unary_stream(
            "/envoy_waf.admin.v1.Admin/Tail",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=pb.Event.FromString,
        )
        events = list(tail(pb.TailRequest(recent=5, past_only=True), timeout=20))
        assert events[-1].transaction_id == number
        assert events[-1].rules[0].id == 1
        live = tail(pb.TailRequest(), timeout=20)
        later: list[str] = []
        reader = threading.Thread(target=lambda: later.append(next(live).transaction_id))
        reader.start()
        assert eventually(lambda: bool(later) or (block(stack) is None))
        reader.join()
        live.cancel()
    before = call(stack, "Status", pb.StatusRequest(), pb.StatusResponse).generation
    answer = call(stack, "Reload", pb.ReloadRequest(), pb.ReloadResponse)
    assert (answer.ok, answer.generation) == (True, before + 1)


def test_grpc_reflection_tells_the_contract(stack: Stack) -> None:
    with grpc.insecure_channel(stack.settings["admin_grpc"]) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol="envoy_waf.admin.v1.Admin")
        (answer,) = stub.ServerReflectionInfo(iter([asked]), timeout=20)
    file = FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
    assert [m.name for m in file.service[0].method] == ["Status", "Reload", "Tail", "Explain"]


def test_spans_join_the_trace_of_the_request(stack: Stack, collector: tuple[list[Any], str]) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    block(stack, traceparent=f"00-{trace}-b7ad6b7169203331-01")
    assert eventually(lambda: any(span.trace_id.hex() == trace for span in collector[0]))
    span = next(span for span in collector[0] if span.trace_id.hex() == trace)
    assert span.parent_span_id.hex() == "b7ad6b7169203331"
    values = {item.key: item.value for item in span.attributes}
    assert values["waf.verdict"].string_value == "blocked"
    assert values["waf.rule_id"].int_value == 1


def test_explain_of_an_id_by_the_command(stack: Stack) -> None:
    from click.testing import CliRunner

    from extproc.cli import main

    number = block(stack)
    result = CliRunner().invoke(main, ["explain", "--id", number, "--admin", f"http://127.0.0.1:{stack.admin_port}"])
    assert result.exit_code == 3, result.output
    assert "rule 1  phase 2" in result.output


def test_the_admin_server_is_not_for_other_pages(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.admin_port}"
    assert httpx.post(f"{url}/api/reload", content="{}", headers={"Content-Type": "text/plain"}).status_code == 415
    assert httpx.get(f"{url}/status", headers={"Host": "evil.example"}).status_code == 403
    assert httpx.get(f"{url}/status", headers={"Host": f"localhost:{stack.admin_port}"}).status_code == 200
    policy = httpx.get(f"{url}/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_odd_questions_get_an_answer_in_words(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.admin_port}"
    for limit in ("²", "-1", "1e3", "9" * 5000, ""):
        answer = httpx.get(f"{url}/api/events", params={"limit": limit})
        assert (answer.status_code, answer.json()) == (400, {"error": "limit has to be a number"})
    assert httpx.get(f"{url}/api/nothing").json() == {"error": "Not Found"}
    refused = httpx.post(f"{url}/status", json={})
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET,HEAD")
    assert "default-src 'none'" in refused.headers["content-security-policy"]
    large = httpx.post(f"{url}/api/explain", json={"id": "x" * (9 << 20)})
    assert (large.status_code, large.json()) == (413, {"error": HTTPStatus(413).phrase})  # Python 3.13 has another one
    questions: tuple[Any, ...] = (
        [],
        {},
        {"exchange": 1},
        {"exchange": {"method": 1}},
        {"exchange": {"headers": [["a"]]}},
        {"id": []},
    )
    for question in questions:
        answer = httpx.post(f"{url}/api/explain", json=question)
        assert answer.status_code in (400, 404)
        assert answer.json()["error"]


def test_there_is_a_bound_on_those_who_watch(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.admin_port}/api/events/stream"
    with (
        httpx.Client(limits=httpx.Limits(max_connections=None), timeout=20) as client,
        contextlib.ExitStack() as all_of_them,
    ):
        watching = [all_of_them.enter_context(client.stream("GET", url)) for _ in range(MAX_WATCHERS)]
        assert {answer.status_code for answer in watching} == {200}
        refused = eventually(lambda: httpx.get(url).text)
        assert refused == f'event: refused\ndata: {{"error": "more than {MAX_WATCHERS} watch already"}}\n\n'


@pytest.mark.parametrize("token", [None, "open-sesame"])
def test_on_other_addresses_a_token_is_needed(token: str | None) -> None:
    port = free_port()
    settings: dict[str, Any] = {"rules": ["@recommended"], "admin": f"0.0.0.0:{port}"}
    if token:
        settings["admin_token"] = token
    stack = Stack("buffered", settings=settings)
    stack.admin_port = port
    with stack:
        url = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.get(f"{url}/metrics").status_code == 200
        assert httpx.get(f"{url}/status").status_code == (401 if token else 403)
        wrong = httpx.get(f"{url}/status", headers={"Authorization": "Bearer wrong"})
        assert wrong.status_code == (401 if token else 403)
        if token:
            right = httpx.get(f"{url}/status", headers={"Authorization": f"Bearer {token}"})
            assert right.status_code == 200


def test_what_is_hidden_changes_with_a_reload() -> None:
    rule = 'SecRule ARGS:pin "@rx ." "id:1,phase:2,pass,log,msg:\'it is %{MATCHED_VAR}\'"'
    with Stack("buffered", settings={"rules": ["@recommended"], "directives": rule}) as stack:
        httpx.get(f"{stack.url}/hello?pin=12345", headers=BROWSER)
        assert eventually(lambda: "12345" in stack.sidecar.text())
        settings = stack.folder / "settings.yaml"
        settings.write_text(settings.read_text() + "redact_arguments: [pin]\n")
        assert eventually(lambda: "rules reloaded" in stack.sidecar.text())
        httpx.get(f"{stack.url}/hello?pin=67890", headers=BROWSER)
        assert eventually(lambda: stack.sidecar.text().count("rules matched") == 2)
        assert "67890" not in stack.sidecar.text()


@pytest.mark.parametrize("audited", [True, False])
def test_what_comes_after_the_response_knows_its_status(tmp_path: Path, audited: bool) -> None:
    """No rule of phases 3 and 4 asks for the response: a rule of phase 5 does, and an audit log."""
    counts = 'SecRule RESPONSE_STATUS "@streq 503" "id:9,phase:5,pass,log,noauditlog"'
    directives = "SecAuditLogParts ABFHZ\n" + ("" if audited else counts)
    settings = {"rules": ["@recommended"], "directives": directives, "mode": "On"}
    audit = tmp_path / "audit.json"
    with Stack("buffered", settings=settings | ({"audit_log": str(audit)} if audited else {})) as stack:
        for path in ("/hello", "/status/503"):
            httpx.get(stack.url + path)
        if audited:
            (line,) = eventually(lambda: audit.read_text().splitlines() if audit.exists() else [])
            assert json.loads(line)["transaction"]["response"]["http_code"] == 503
        else:
            (line,) = eventually(lambda: [line for line in stack.sidecar.text().splitlines() if '"id":9' in line])
            assert "/status/503" in line


def test_a_config_map_swap_is_seen(tmp_path: Path) -> None:
    """Kubernetes writes a new folder and swaps the link `..data`; the files' names stay as they are."""

    def publish(name: str, word: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.conf").write_text(f'SecRule ARGS "@streq {word}" "id:1,phase:2,deny"\n')
        (tmp_path / "..new").symlink_to(name)
        os.replace(tmp_path / "..new", tmp_path / "..data")

    publish("..1", "one")
    (tmp_path / "own.conf").symlink_to("..data/own.conf")
    with Stack("buffered", settings={"rules": ["@recommended", str(tmp_path / "own.conf")]}) as stack:

        def status(word: str) -> int:
            return httpx.get(f"{stack.url}/hello?a={word}", headers=BROWSER).status_code

        assert (status("one"), status("two")) == (403, 200)
        publish("..2", "two")
        assert eventually(lambda: (status("one"), status("two")) == (200, 403))
