"""Where audit records go: collectors, files, standard output; and what becomes of those that nobody takes."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from demo.stack import free_port
from extproc.audit_log import HTTP_ATTEMPTS, AuditLog
from extproc.loading import load_settings
from tests.waiting import eventually


class _Collector(BaseHTTPRequestHandler):
    bodies: list[str]
    statuses: list[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.bodies.append(body)
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def http_collector() -> Iterator[tuple[str, type[_Collector]]]:
    handler = type("Handler", (_Collector,), {"bodies": [], "statuses": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/audit", handler
    server.shutdown()


def test_an_http_collector_gets_the_records_also_after_an_error(
    http_collector: tuple[str, type[_Collector]], make_log: Callable[..., tuple[Any, list[int]]]
) -> None:
    url, handler = http_collector
    handler.statuses[:] = [503]
    log, dropped = make_log(audit_log=url)
    for number in range(5):
        log.put(f'{{"n":{number}}}')
    log.close()
    assert [line for body in handler.bodies for line in body.splitlines()] == [f'{{"n":{n}}}' for n in range(5)]
    assert dropped == []


def test_what_no_collector_takes_is_counted(make_log: Callable[..., tuple[Any, list[int]]]) -> None:
    log, dropped = make_log(audit_log=f"http://127.0.0.1:{free_port()}/", audit_queue=2)
    for number in range(50):
        log.put(str(number))
    log.close()
    assert eventually(lambda: sum(dropped) == 50)


def test_whatever_a_collector_answers_records_go_on(
    make_log: Callable[..., tuple[Any, list[int]]], capsys: pytest.CaptureFixture[str]
) -> None:
    """One that speaks no HTTP, then one that does."""
    answers = [b"what?\r\n"] * HTTP_ATTEMPTS + [b"HTTP/1.1 204 No Content\r\n\r\n"]
    taken: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                peer, _ = listener.accept()
                with peer:
                    received = b""
                    while b"record" not in received:
                        received += peer.recv(65536)
                    taken.append(received)
                    peer.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        log, dropped = make_log(audit_log=f"http://127.0.0.1:{listener.getsockname()[1]}/")
        log.put("record 1")
        assert eventually(lambda: dropped == [1])
        log.put("record 2 \udc80")
        log.close()
    assert taken[-1].endswith(b"record 2 ?\n")
    assert dropped == [1]
    assert capsys.readouterr().out.count("audit records are lost") == 1


def test_a_full_disk_loses_nothing_in_silence(
    tmp_path: Path, make_log: Callable[..., tuple[Any, list[int]]], capsys: pytest.CaptureFixture[str]
) -> None:
    log, dropped = make_log(audit_log=str(tmp_path / "audit.json"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        log.put("x" * 2000)
        assert eventually(lambda: sum(dropped) == 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "audit records are lost" in capsys.readouterr().out
    log.put("y")
    log.close()
    assert (tmp_path / "audit.json").read_text().endswith("y\n")


def test_standard_output_takes_any_text(make_log: Callable[..., tuple[Any, list[int]]], capfdbinary: Any) -> None:
    for name in ("stdout", "/dev/stdout"):
        log, dropped = make_log(audit_log=name)
        log.put("\udc80 \u20ac")
        log.close()
        assert capfdbinary.readouterr().out == "? \u20ac\n".encode()
        assert dropped == []


def test_what_is_no_file_is_no_audit_log(make_log: Callable[..., tuple[Any, list[int]]]) -> None:
    with pytest.raises(OSError, match="it is no file; write a file's path, or stdout"):
        make_log(audit_log="/dev/full")


def test_files_are_rotated(tmp_path: Path, make_log: Callable[..., tuple[Any, list[int]]]) -> None:
    path = tmp_path / "audit.json"
    log, _ = make_log(audit_log=str(path), audit_file_bytes=4096, audit_files=2)
    for number in range(300):
        log.put(f"{number:060}")
    log.close()
    assert {p.name for p in tmp_path.iterdir()} == {"audit.json", "audit.json.1", "audit.json.2"}
    assert all(p.stat().st_size <= 4096 for p in tmp_path.iterdir())


@pytest.fixture
def make_log() -> Callable[..., tuple[Any, list[int]]]:
    def make(**settings: Any) -> tuple[Any, list[int]]:
        dropped: list[int] = []
        return AuditLog(load_settings(**settings), 0, dropped.append), dropped

    return make
