"""One stack (upstream, sidecar, real Envoy) for each configuration, started once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from demo.stack import PROJECT, Stack, find_crs, http_manager

BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Host": "shop.example.com",
}
BODY_MODES = ("buffered", "buffered-socket", "buffered-partial", "full-duplex", "full-duplex-socket")


def add_grpc_route(config: dict[str, Any], stack: Stack) -> None:
    """Send /demo.Echo/ to the gRPC upstream."""
    clusters = config["static_resources"]["clusters"]
    waf = clusters[1]
    clusters.append(
        {
            "name": "grpc",
            "connect_timeout": "2s",
            "typed_extension_protocol_options": waf["typed_extension_protocol_options"],
            "load_assignment": {
                "cluster_name": "grpc",
                "endpoints": [
                    {
                        "lb_endpoints": [
                            {
                                "endpoint": {
                                    "address": {
                                        "socket_address": {"address": "127.0.0.1", "port_value": stack.grpc_port}
                                    }
                                }
                            }
                        ]
                    }
                ],
            },
        }
    )
    routes = http_manager(config)["route_config"]["virtual_hosts"][0]["routes"]
    routes.insert(0, {"match": {"prefix": "/demo.Echo/"}, "route": {"cluster": "grpc", "timeout": "0s"}})


@pytest.fixture(scope="session")
def stacks() -> Iterator[Callable[..., Stack]]:
    """`stacks("buffered", mode="DetectionOnly")`: a running stack, shared by equal calls."""
    running: dict[tuple[Any, ...], Stack] = {}

    def get(bootstrap: str, *, baseline: bool = False, **settings: Any) -> Stack:
        key = (bootstrap, baseline, *sorted((k, str(v)) for k, v in settings.items()))
        if key not in running:
            crs = None if baseline else find_crs()
            stack = Stack(bootstrap, crs=crs, settings=settings, edit=add_grpc_route)
            try:
                stack.start()
            except BaseException:
                stack.stop()
                raise
            running[key] = stack
        return running[key]

    yield get
    for stack in running.values():
        stack.stop()


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    """A client with a browser's headers."""
    with httpx.Client(headers=BROWSER, timeout=20) as client:
        yield client


def count_of_envoy(stack: Stack, name: str) -> int:
    """A number that Envoy counts for the cluster that judges; 0: not yet."""
    url = f"http://127.0.0.1:{stack.envoy_admin_port}/stats?filter=cluster.envoy_waf.{name}$"
    return int(httpx.get(url).text.rpartition(" ")[2] or 0)


__all__ = ["BODY_MODES", "BROWSER", "PROJECT"]
