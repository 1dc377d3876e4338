"""Policies of Envoy Gateway (gateway.envoyproxy.io/v1alpha1), as what they become in Envoy's configuration.

EnvoyExtensionPolicy: its `extProc` is an ext_proc filter; headers of requests and responses are sent if there is a
`processingMode.request` and `.response`.  ClientTrafficPolicy: `connection.bufferLimit` is what Envoy keeps of a body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from extproc.config import ConfigError
from extproc.envoy_config.parts import Configuration, Part

NAMES: Final = {
    "failure_mode_allow": "failOpen",
    "message_timeout": "messageTimeout",
    "processing_mode.request_header_mode": "processingMode.request",
    "processing_mode.request_body_mode": "processingMode.request.body",
    "processing_mode.response_header_mode": "processingMode.response",
    "processing_mode.response_body_mode": "processingMode.response.body",
    "request_attributes": "processingMode.request.attributes",
    "metadata_options": "metadata.writableNamespaces",
    "circuit_breakers": "backendSettings.circuitBreaker.maxParallelRequests",
    "circuit_breakers.max_retries": "backendSettings.circuitBreaker.maxParallelRetries",
    "grpc_service.retry_policy": "backendSettings.retry",
    "grpc_service.retry_policy.retry_on": "backendSettings.retry.retryOn.triggers",
}
"""What fields of Envoy are called in an `extProc`."""

RETRIES: Final = 1024
"""How many requests may be asked again at a time where a policy does not say."""

BUFFER_BYTES: Final = 32768
"""What Envoy keeps of a body where no ClientTrafficPolicy says."""

_BODY_MODES: Final = {
    "Streamed": "STREAMED",
    "Buffered": "BUFFERED",
    "BufferedPartial": "BUFFERED_PARTIAL",
    "FullDuplexStreamed": "FULL_DUPLEX_STREAMED",
}
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION: Final = re.compile(r"(?:[0-9]{1,5}(?:h|ms|m|s)){1,4}")
_STEP: Final = re.compile(r"([0-9]+)(h|ms|m|s)")
_QUANTITY: Final = re.compile(r"([1-9][0-9]{0,17})([EPTGMK]i|[EPTGMk])?")
_POWERS: Final = "kMGTPE"


def extensions(configuration: Configuration) -> Iterator[Part]:
    """The `extProc` of all EnvoyExtensionPolicies."""
    for policy in _of_kind(configuration, "EnvoyExtensionPolicy"):
        yield from policy.part("spec").parts("ext_proc")


def as_filter(given: Part) -> dict[str, Any]:
    """An `extProc` as fields of envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor.  Raises ConfigError."""
    mode = given.part("processing_mode")
    fields: dict[str, Any] = {
        "grpc_service": {"envoy_grpc": {"cluster_name": backend(given)}, "retry_policy": _retries(given)},
        "failure_mode_allow": given.get("fail_open") is True,
        "allow_mode_override": mode.get("allow_mode_override") is True,
        "processing_mode": {**_side(mode, "request"), **_side(mode, "response")},
        "request_attributes": mode.part("request").get("attributes") or [],
        "metadata_options": {
            "receiving_namespaces": {"untyped": given.part("metadata").get("writable_namespaces") or []}
        },
    }
    if given.get("message_timeout") is not None:
        fields["message_timeout"] = f"{_seconds(given):.3f}s"
    return fields


def as_cluster(given: Part) -> dict[str, Any]:
    """What an `extProc` says of the cluster that it asks."""
    said = given.part("backend_settings", "circuit_breaker")
    limits = {"max_retries": said.get("max_parallel_retries", RETRIES)}
    if "max_parallel_requests" in said:
        limits["max_requests"] = said["max_parallel_requests"]
    return {"name": backend(given), "circuit_breakers": {"thresholds": [limits]}, "http2_protocol_options": {}}


def _retries(given: Part) -> dict[str, Any]:
    """Of a policy without one, an empty retry_policy."""
    retry = given.part("backend_settings", "retry")
    return {"retry_on": ",".join(map(str, retry.part("retry_on").get("triggers") or ()))} if retry else {}


def backend(given: Part) -> str:
    """Namespace and name of the service that an `extProc` asks, as a name of a cluster."""
    service = next(iter(given.parts("backend_refs")), Part("", "", None))
    return f"{service.get('namespace', '')}/{service.get('name', '')}"


def buffer(configuration: Configuration) -> tuple[str, int]:
    """(where it says so, bytes that Envoy keeps of a body).  Raises ConfigError."""
    limits = [
        (f"{connection.where}.bufferLimit", _bytes(connection))
        for policy in _of_kind(configuration, "ClientTrafficPolicy")
        if "buffer_limit" in (connection := policy.part("spec", "connection"))
    ]
    default = ("connection.bufferLimit (there is no ClientTrafficPolicy)", BUFFER_BYTES)
    return min(limits, key=lambda limit: limit[1], default=default)


def _of_kind(configuration: Configuration, kind: str) -> list[Part]:
    return [
        part
        for part in configuration.all
        if part.get("kind") == kind and str(part.get("api_version", "")).startswith("gateway.envoyproxy.io/")
    ]


def _side(mode: Part, side: str) -> Mapping[str, str]:
    if mode.get(side) is None:
        return {f"{side}_header_mode": "SKIP"}
    body = mode.part(side).get("body")
    how = "NONE" if body is None else _BODY_MODES.get(str(body))
    if how is None:
        raise ConfigError(f"{mode.where}.{side}.body: {body!r} is none of {', '.join(_BODY_MODES)}")
    trailers = "SEND" if how == _BODY_MODES["FullDuplexStreamed"] else "SKIP"
    return {f"{side}_header_mode": "SEND", f"{side}_body_mode": how, f"{side}_trailer_mode": trailers}


def _seconds(given: Part) -> float:
    text = str(given["message_timeout"])
    if not _DURATION.fullmatch(text):
        raise ConfigError(f"{given.where}.messageTimeout: {text!r} is no duration (2s, 500ms)")
    return sum(int(number) * _SECONDS[unit] for number, unit in _STEP.findall(text))


def _bytes(connection: Part) -> int:
    text = str(connection["buffer_limit"])
    found = _QUANTITY.fullmatch(text)
    if not found:
        raise ConfigError(f"{connection.where}.bufferLimit: {text!r} is no quantity (14Mi)")
    number, suffix = found.groups(default="")
    power = _POWERS.lower().index(suffix[0].lower()) + 1 if suffix else 0
    return int(number) * int((1024 if suffix.endswith("i") else 1000) ** power)
