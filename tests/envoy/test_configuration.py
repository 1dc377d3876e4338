"""What `envoy-waf check --envoy` says of a configuration is what the real Envoy does with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.stack import Stack, http_manager, waf_filter
from extproc.config import Settings
from extproc.envoy_config.notes import notes_of_files
from extproc.policies import compile_policies
from tests.envoy.conftest import BROWSER
from tests.envoy.test_verdicts import FORM, multipart

IN_URL = "/?q=%27%20or%201%3D1--%20-"
RULES = """
SecRule ARGS "@contains ' or 1=1" "id:1,phase:2,deny"
SecRule REQUEST_HEADERS:X-Note "@contains jndi" "id:2,phase:1,deny"
"""


SETTINGS = {"rules": ["@recommended"], "directives": RULES, "mode": "On"}


def notes(path: Path, given: dict[str, Any] = SETTINGS) -> str:
    settings = Settings.model_validate(given)
    return "\n".join(notes_of_files([path], settings, compile_policies(settings)))


def dump_of(stack: Stack, folder: Path) -> Path:
    """The configuration that Envoy tells."""
    dump = folder / "config_dump.json"
    dump.write_bytes(httpx.get(f"http://127.0.0.1:{stack.envoy_admin_port}/config_dump").content)
    return dump


def statuses(edit: Callable[[dict[str, Any]], None], tmp_path: Path) -> tuple[list[int], str]:
    """Of an attack in the URL, in a form and in a header; and what is noted on the configuration that Envoy tells."""
    with Stack("buffered", settings=SETTINGS, edit=lambda config, _: edit(config)) as stack:
        answers = [
            httpx.get(stack.url + IN_URL, headers=BROWSER),
            httpx.post(stack.url + "/login", content=IN_URL[2:].encode(), headers=BROWSER | FORM),
            httpx.get(stack.url + "/", headers=BROWSER | {"X-Note": "${jndi:ldap://x/a}"}),
        ]
        return [answer.status_code for answer in answers], notes(dump_of(stack, tmp_path))


def test_nothing_is_noted_on_what_blocks_all(tmp_path: Path) -> None:
    assert statuses(lambda config: None, tmp_path) == ([403, 403, 403], "")


@pytest.mark.parametrize(
    ("edit", "expected", "note"),
    [
        ({"disable_immediate_response": True}, [500, 500, 500], "is answered with 500"),
        (
            {"disable_immediate_response": True, "failure_mode_allow": True},
            [200, 200, 200],
            "what should be blocked passes",
        ),
        (
            {"forward_rules": {"disallowed_headers": {"patterns": [{"exact": "x-note"}]}}},
            [403, 403, 200],
            "forward_rules.disallowed_headers",
        ),
        (
            {"processing_mode": {"request_header_mode": "SEND", "request_body_mode": "NONE"}},
            [403, 200, 403],
            "request_body_mode: NONE",
        ),
        (
            {"processing_mode": {"request_header_mode": "SKIP", "request_body_mode": "BUFFERED"}},
            [500, 500, 500],
            "request_header_mode: SKIP",
        ),
    ],
)
def test_settings_of_the_filter(edit: dict[str, Any], expected: list[int], note: str, tmp_path: Path) -> None:
    found, noted = statuses(lambda config: waf_filter(config).update(edit), tmp_path)
    assert found == expected
    assert note in noted


@pytest.mark.parametrize(
    ("says", "expected", "note"),
    [
        ({"disabled": True}, [200, 200, 200], "disabled: these requests pass uninspected"),
        (
            {"overrides": {"grpc_initial_metadata": [{"key": "x-envoy-waf-policy", "value": "none"}]}},
            [500, 500, 500],
            "there is no policy 'none'",
        ),
    ],
)
def test_routes(says: dict[str, Any], expected: list[int], note: str, tmp_path: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        route = http_manager(config)["route_config"]["virtual_hosts"][0]["routes"][0]
        kind = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"
        route["typed_per_filter_config"] = {"envoy.filters.http.ext_proc": {"@type": kind, **says}}

    found, noted = statuses(edit, tmp_path)
    assert found == expected
    assert note in noted


@pytest.mark.parametrize(
    ("mode", "page", "note"),
    [
        ("BUFFERED", 500, "response_body_mode: BUFFERED; pages beyond Envoy's buffer end in 500"),
        ("BUFFERED_PARTIAL", 200, "response_body_mode: BUFFERED_PARTIAL; what does not fit"),
    ],
)
def test_bodies_beyond_the_buffer(mode: str, page: int, note: str, tmp_path: Path) -> None:
    """Pages, too, when rules look at them."""

    def edit(config: dict[str, Any], stack: Stack) -> None:
        config["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = 32768
        waf_filter(config)["processing_mode"]["response_body_mode"] = mode

    settings = SETTINGS | {"rules": ["@recommended", "@baseline"]}
    with Stack("buffered", settings=settings, edit=edit) as stack, httpx.Client(headers=BROWSER, timeout=20) as client:
        text = {"Content-Type": "application/json"}
        sent = [
            client.post(stack.url + "/login", json={"a": "x" * size}, headers=text).status_code
            for size in (9000, 40_000)
        ]
        pages = [client.get(f"{stack.url}/large/{size}").status_code for size in (24_000, 48_000)]
        noted = notes(dump_of(stack, tmp_path), settings)
    assert (sent, pages) == ([200, 413], [200, page])
    assert "per_connection_buffer_limit_bytes: 32768; with bodies BUFFERED" in noted
    assert note in noted


def test_what_failure_mode_allow_lets_pass_in_full_duplex(tmp_path: Path) -> None:
    def edit(config: dict[str, Any], stack: Stack) -> None:
        waf_filter(config)["failure_mode_allow"] = True

    with Stack("full-duplex", edit=edit, sidecar=False) as stack, httpx.Client(headers=BROWSER, timeout=20) as client:
        body, headers = multipart("file", "video.bin", bytes(300_000))
        page = client.get(stack.url + "/").status_code
        uploads = {client.post(stack.url + "/upload", content=body, headers=headers).status_code for _ in range(20)}
        dump = dump_of(stack, tmp_path)
    assert page == 200
    assert 500 in uploads
    assert "passes, but bodies may end in 500" in notes(dump)
