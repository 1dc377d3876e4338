"""What Kubernetes' Envoys do with large bodies, by the filters of chart and examples and with the buffers that they have
unless told otherwise: the real Envoy has them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import yaml

from demo.stack import PROJECT, Stack, waf_filter
from extproc.envoy_config.gateway import BUFFER_BYTES, as_filter
from extproc.envoy_config.parts import Configuration
from tests.crs import crs_or_skip
from tests.deploy.test_files import render
from tests.envoy.conftest import BROWSER
from tests.envoy.test_verdicts import multipart
from tests.sidecar.test_envoy_config import policy

Config = dict[str, Any]

_LIMIT = "per_connection_buffer_limit_bytes"


def chart_with_istio(*values: str) -> tuple[Config, Config]:
    """The filter, and what is put into listeners."""
    found = render("istio.enabled=true", *values)["EnvoyFilter", "waf-envoy-waf"]["spec"]["configPatches"]
    own, *others = [patch["patch"]["value"] for patch in found]
    return own["typed_config"], others[0] if others else {}


def beside_a_service() -> tuple[Config, Config]:
    _, envoy_filter = yaml.safe_load_all((PROJECT / "deploy" / "istio" / "sidecar.yaml").read_text())
    _, own, listener = [patch["patch"]["value"] for patch in envoy_filter["spec"]["configPatches"]]
    return own["typed_config"], listener


def of_policy(given: Config) -> tuple[Config, Config]:
    processor = Configuration([given]).all[0].part("spec").parts("ext_proc")[0]
    return as_filter(processor), {_LIMIT: BUFFER_BYTES}


def chart_with_envoy_gateway() -> tuple[Config, Config]:
    return of_policy(render("envoyGateway.enabled=true")["EnvoyExtensionPolicy", "waf-envoy-waf"])


def example_for_envoy_gateway() -> tuple[Config, Config]:
    return of_policy(policy())


@pytest.mark.parametrize(
    "given",
    [
        chart_with_istio,
        lambda: chart_with_istio("istio.bodyMode=FULL_DUPLEX_STREAMED"),
        beside_a_service,
        chart_with_envoy_gateway,
        example_for_envoy_gateway,
    ],
    ids=["istio", "istio, full duplex", "beside a service", "Envoy Gateway", "example for Envoy Gateway"],
)
def test_large_bodies_arrive_and_are_judged(given: Callable[[], tuple[Config, Config]]) -> None:
    root = crs_or_skip()
    own, listener = given()

    def edit(config: Config, stack: Stack) -> None:
        found = config["static_resources"]["listeners"][0]
        del found[_LIMIT]
        found |= listener
        says = waf_filter(config)
        for name in (
            "processing_mode",
            "failure_mode_allow",
            "request_attributes",
            "metadata_options",
            "allow_mode_override",
        ):
            says[name] = own[name]

    with (
        Stack("buffered", crs=root, settings={"mode": "On"}, edit=edit) as stack,
        httpx.Client(headers=BROWSER, timeout=60) as browser,
    ):
        body, headers = multipart("file", "video.bin", os.urandom(3 << 20))
        answer = browser.post(stack.url + "/upload", content=body, headers=headers)
        assert (answer.status_code, answer.json()["sha256"]) == (200, hashlib.sha256(body).hexdigest())
        attack = body.replace(b"\r\n\r\nhello\r\n", b"\r\n\r\n1' or '1'='1' -- \r\n")
        assert browser.post(stack.url + "/upload", content=attack, headers=headers).status_code == 403
        page = browser.get(stack.url + "/large/2400000")
        assert (page.status_code, len(page.content)) == (200, 2_400_000)
