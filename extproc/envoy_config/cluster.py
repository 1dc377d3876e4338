"""What in a filter's cluster, and in how it asks anew, fails requests that could be judged.

(envoy.config.cluster.v3.Cluster; tried with the real Envoy in tests/envoy/test_failover.py.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from extproc.envoy_config.filters import Envoy, Filter
from extproc.envoy_config.parts import Part
from extproc.modes import FULL_DUPLEX

REQUESTS: Final = 1024
"""How many a cluster may have at a time where `circuit_breakers` do not say."""

RETRIES: Final = 3
"""How many of them may have been asked for again."""

_UNHEARD: Final = frozenset(("connect-failure", "refused-stream"))
"""Reasons to ask another worker although the first has not seen the request."""


def retry_notes(found: Filter) -> Iterator[str]:
    """On the filter's `retry_policy`."""
    policy = found.fields.part("grpc_service", "retry_policy")
    if not policy:
        return
    if found.says.processing_mode.request_body_mode == FULL_DUPLEX:
        yield (
            "grpc_service.retry_policy: with bodies FULL_DUPLEX_STREAMED, Envoy 1.36 loses parts of those beyond 64 kB"
            " when it asks again; take it away"
        )
    reasons = [reason.strip() for reason in str(policy.get("retry_on", "")).split(",")]
    seen = [reason for reason in reasons if reason and reason not in _UNHEARD]
    if seen:
        yield (
            f"grpc_service.retry_policy.retry_on: {', '.join(seen)}; a request that ends one worker is then given to"
            " the others, too"
        )


def cluster_notes(found: Filter, envoy: Envoy, streams: int, workers: int) -> Iterator[str]:
    """On the cluster that a filter asks.  `streams`: how many the sidecar takes at a time."""
    name = found.cluster
    cluster = envoy.clusters.get(name)
    if cluster is None:
        if envoy.is_whole and name:
            yield f"there is no cluster {name}, which the filter asks"
        return
    protocols = [cluster, *cluster.part("typed_extension_protocol_options").values()]
    if not any(isinstance(part, Part) and _has_http2(part) for part in protocols):
        yield f"{cluster.where}: the cluster {name} has no http2_protocol_options, and gRPC needs HTTP/2"
    allowed = _allowed(cluster, "max_requests", REQUESTS)
    if allowed < streams:
        note = found.called(
            f"circuit_breakers: {allowed} requests at a time, and each is one while a client sends its body: the next"
            f" are answered with 500, as if the sidecar failed (it takes {streams})"
        )
        yield f"{cluster.where}.{note}"
    yield from _of_workers(found, cluster, streams, workers)


def _of_workers(found: Filter, cluster: Part, streams: int, workers: int) -> Iterator[str]:
    """While one of several is down, the others can serve."""
    asks_again = bool(found.fields.part("grpc_service", "retry_policy"))
    retries = _allowed(cluster, "max_retries", RETRIES)
    if asks_again and retries < streams:
        note = found.called(
            f"circuit_breakers.max_retries: {retries} requests at a time may be given to another worker; the next are"
            " answered with 500"
        )
        yield f"{cluster.where}.{note}"
    endpoints = _endpoints(cluster)
    if 0 < endpoints < workers:
        yield f"{cluster.where}.load_assignment: {endpoints} of {workers} workers; the others get no requests"
    elif endpoints > 1 and not (asks_again or cluster.get("health_checks") or "outlier_detection" in cluster):
        yield (
            f"{cluster.where}: while one of {endpoints} endpoints is down, its share of the requests ends in 500; there"
            " are neither health_checks nor a retry_policy in the filter's grpc_service"
        )


def _endpoints(cluster: Part) -> int:
    """How many there are; 0: only Envoy knows."""
    if cluster.get("type", "STATIC") not in ("STATIC", 0):
        return 0
    return sum(len(group.parts("lb_endpoints")) for group in cluster.part("load_assignment").parts("endpoints"))


def _allowed(cluster: Part, name: str, default: int) -> int:
    limits = [each for each in cluster.part("circuit_breakers").parts("thresholds") if _is_usual(each)]
    return min([each.number(name, default) for each in limits], default=default)


def _has_http2(part: Part) -> bool:
    explicit = part.part("explicit_http_config")
    return any("http2_protocol_options" in each for each in (part, explicit)) or "auto_config" in part


def _is_usual(threshold: Part) -> bool:
    return threshold.get("priority", "DEFAULT") in ("DEFAULT", 0)
