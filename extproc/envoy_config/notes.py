"""What in an Envoy configuration undoes verdicts, hides things from the rules, or will fail.

Envoy takes such a configuration without a word, and the sidecar sees only what comes.  (What each setting does:
envoy.extensions.filters.http.ext_proc.v3; tried with the real Envoy in tests/envoy/test_configuration.py.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from envoy.extensions.filters.http.ext_proc.v3.ext_proc_pb2 import ExternalProcessor
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode

from extproc.answers import METADATA_NAMESPACE
from extproc.config import ConfigError, Settings
from extproc.envoy_config.cluster import cluster_notes, retry_notes
from extproc.envoy_config.filters import Envoy, Filter, OfRoute
from extproc.envoy_config.parts import Configuration, Part
from extproc.modes import BUFFERED, BUFFERED_PARTIAL, FULL_DUPLEX, NONE, SKIP, STREAMED
from extproc.policies import ADDRESS_ATTRIBUTE, METADATA_KEY, ROUTE_ATTRIBUTE, PolicySet
from waf_core.settings import EngineMode

SHORT_MS: Final = 1000
"""A message_timeout that large bodies may outlast."""

MESSAGE_MS: Final = 200
"""Envoy's own message_timeout."""

MAX_NAMES: Final = 5

_ATTRIBUTES: Final = {
    ADDRESS_ATTRIBUTE: "rules and logs do not know the client's address",
    ROUTE_ATTRIBUTE: "matches of policies by `routes` never fit",
    "request.protocol": "rules take every request for HTTP/1.1",
    "destination.address": "SERVER_ADDR and SERVER_PORT are not known",
}

_TRANSFORMERS: Final = {
    ".decompressor.v3.Decompressor": "what it decompresses was judged compressed",
    ".grpc_json_transcoder.v3.GrpcJsonTranscoder": "the upstream gets other messages than those that were judged",
}


@dataclass(frozen=True, slots=True)
class Needs:
    """What the policies ask of Envoy.  `body_limit` and `page_limit`: bytes, the largest
    SecRequestBodyLimit and SecResponseBodyLimit."""

    judges: bool
    blocks: bool
    request_bodies: bool
    responses: bool
    response_bodies: bool
    body_limit: int
    page_limit: int
    attributes: tuple[str, ...]
    policies: frozenset[str]
    streams: int
    workers: int

    @classmethod
    def of(cls, settings: Settings, policies: PolicySet) -> Needs:
        """All of them together."""
        programs = [policy.waf.program for policy in policies.policies]
        live = [program for program in programs if program.settings.engine is not EngineMode.OFF]
        limits = [program.settings.request_body_limit for program in live if program.settings.request_body_access]
        return cls(
            judges=bool(live),
            blocks=any(program.settings.engine is EngineMode.ON for program in live),
            request_bodies=bool(limits),
            responses=any(program.response_phase >= 3 for program in live),
            response_bodies=any(program.response_phase >= 4 for program in live),
            body_limit=max(limits, default=0),
            page_limit=max([program.settings.response_body_limit for program in live], default=0),
            attributes=policies.attributes,
            policies=frozenset(policies.by_name),
            streams=settings.max_streams * settings.workers,
            workers=settings.workers,
        )


def notes_of_files(paths: Sequence[Path], settings: Settings, policies: PolicySet) -> list[str]:
    """On each file, with its name.  Raises ConfigError for one that cannot be read, or asks nobody."""
    needs = Needs.of(settings, policies)
    notes: list[str] = []
    for path in paths:
        configuration = Configuration.read(path)
        try:
            notes += [f"{path}: {note}" for note in envoy_notes(Envoy(configuration), needs)]
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
    return notes


def envoy_notes(envoy: Envoy, needs: Needs) -> list[str]:
    """Each with its place in the configuration."""
    if not needs.judges:
        return []
    notes: list[str] = []
    for found in envoy.filters:
        notes += [f"{found.where}: {found.called(note)}" for note in _of_filter(found, needs, envoy)]
        notes += _of_buffer(found, needs)
    for route in envoy.of_routes:
        notes += [f"{route.where}: {note}" for note in _of_route(route, needs)]
    notes += _of_managers(envoy)
    for found in envoy.filters:
        notes += cluster_notes(found, envoy, needs.streams, needs.workers)
    return list(dict.fromkeys(notes))


def _of_filter(found: Filter, needs: Needs, envoy: Envoy) -> Iterator[str]:
    says = found.says
    if "http_service" in found.fields:
        yield "http_service: the sidecar speaks gRPC; use grpc_service"
    if found.entry.get("disabled") is True and all(route.disabled for route in envoy.of_routes):
        yield "disabled: nothing is judged"
    if says.failure_mode_allow:
        duplex = FULL_DUPLEX in (says.processing_mode.request_body_mode, says.processing_mode.response_body_mode)
        but = ", but bodies may end in 500 (FULL_DUPLEX_STREAMED)" if duplex else ""
        yield f"failure_mode_allow: what the sidecar cannot judge (it is down, too busy or too slow) passes{but}"
    if needs.blocks and says.observability_mode:
        yield "observability_mode: Envoy heeds no verdict, nothing is blocked"
    if needs.blocks and says.disable_immediate_response:
        ends = "passes" if says.failure_mode_allow else "is answered with 500"
        yield f"disable_immediate_response: Envoy takes verdicts for mistakes, and what should be blocked {ends}"
    buffered = found.buffer[1]
    yield from _of_mode(says.processing_mode, needs, "processing_mode.", buffered, observed=says.observability_mode)
    yield from _of_headers(says)
    yield from _of_attributes(says, needs)
    if METADATA_NAMESPACE not in says.metadata_options.receiving_namespaces.untyped:
        yield f"metadata_options: {METADATA_NAMESPACE} may not be written; access logs do not know verdicts"
    timeout = says.message_timeout.ToMilliseconds() if says.HasField("message_timeout") else MESSAGE_MS
    if 0 < timeout < SHORT_MS and not says.observability_mode:
        yield f"message_timeout: {timeout} ms; a large body may take longer, and is then answered with 504"
    yield from retry_notes(found)
    yield from _behind(found)


def _of_mode(mode: ProcessingMode, needs: Needs, prefix: str, buffered: int, *, observed: bool) -> Iterator[str]:
    """`buffered`: bytes that Envoy keeps of a body."""
    if mode.request_header_mode == SKIP:
        yield f"{prefix}request_header_mode: SKIP; without headers nothing can be judged, every request ends in 500"
    sides = (("request", mode.request_body_mode, needs.request_bodies),
             ("response", mode.response_body_mode, needs.response_bodies))  # fmt: skip
    for side, how, needed in sides:
        name = f"{prefix}{side}_body_mode"
        if side == "response" and mode.response_header_mode == SKIP:
            if needs.responses:
                yield f"{prefix}response_header_mode: SKIP; responses are not judged"
        elif not needed:
            continue
        elif how == NONE:
            yield f"{name}: NONE; bodies of {side}s pass uninspected"
        elif how == STREAMED and needs.blocks and not observed:
            yield f"{name}: STREAMED; bodies go on while they are judged, and a verdict comes too late to stop them"
        elif how == BUFFERED_PARTIAL and (side == "request" or buffered < needs.page_limit):
            yield f"{name}: BUFFERED_PARTIAL; what does not fit Envoy's buffer passes uninspected"
        elif how == BUFFERED and side == "response":
            yield f"{name}: BUFFERED; pages beyond Envoy's buffer end in 500; BUFFERED_PARTIAL shows their beginning"
        elif how not in (STREAMED, BUFFERED, BUFFERED_PARTIAL, FULL_DUPLEX):
            yield f"{name}: {ProcessingMode.BodySendMode.Name(how)}; the sidecar does not know it"


def _of_headers(says: ExternalProcessor) -> Iterator[str]:
    rules = says.forward_rules
    if rules.HasField("allowed_headers"):
        yield "forward_rules.allowed_headers: rules see no other headers; attacks in those pass"
    if rules.HasField("disallowed_headers"):
        yield "forward_rules.disallowed_headers: rules do not see these headers; attacks in them pass"


def _of_attributes(says: ExternalProcessor, needs: Needs) -> Iterator[str]:
    for name, meaning in _ATTRIBUTES.items():
        needed = name in needs.attributes or name != ROUTE_ATTRIBUTE
        if needed and name not in says.request_attributes:
            yield f"request_attributes: there is no {name}; {meaning}"


def _of_buffer(found: Filter, needs: Needs) -> Iterator[str]:
    """Bodies that Envoy refuses, though the rules would take them."""
    where, limit = found.buffer
    if found.says.processing_mode.request_body_mode == BUFFERED and limit < needs.body_limit:
        yield (
            f"{where}: {limit}; with bodies BUFFERED, Envoy answers longer ones with 413"
            f" (SecRequestBodyLimit: {needs.body_limit})"
        )


def _behind(found: Filter) -> Iterator[str]:
    """Filters that change what was judged."""
    manager = found.entry.parent or Part("", "", None)
    entries = manager.parts("http_filters")
    place = next((n for n, entry in enumerate(entries) if entry is found.entry), len(entries))
    for entry in entries[place + 1 :]:
        for kind, meaning in _TRANSFORMERS.items():
            config = entry.part("typed_config")
            if config.kind.endswith(kind) and not _leaves_requests(config.fields):
                yield f"{entry.get('name', kind)} is behind it: {meaning}; put it ahead"


def _leaves_requests(decompressor: Part) -> bool:
    """Does it decompress responses only, which come to it first?"""
    return decompressor.part("request_direction_config", "common_config", "enabled").get("default_value") is False


def _of_route(route: OfRoute, needs: Needs) -> Iterator[str]:
    if route.disabled:
        yield "disabled: these requests pass uninspected"
    if route.overrides.failure_mode_allow.value:
        yield "overrides.failure_mode_allow: what the sidecar cannot judge passes"
    if route.overrides.HasField("processing_mode"):
        yield from _of_mode(route.overrides.processing_mode, needs, "overrides.processing_mode.", 0, observed=False)
    for pair in route.overrides.grpc_initial_metadata:
        if pair.key.lower() == METADATA_KEY and pair.value not in needs.policies:
            yield f"{METADATA_KEY}: there is no policy {pair.value!r}; these requests end in 500"


def _of_managers(envoy: Envoy) -> Iterator[str]:
    own = [found.entry.parent for found in envoy.filters]
    without = [manager for manager in envoy.managers if not any(manager.fields is part for part in own)]
    if 0 < len(without) < len(envoy.managers):
        names = [str(manager.fields.get("stat_prefix", manager.where)) for manager in without]
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        yield f"connection managers without the filter: {', '.join(names[:MAX_NAMES])}{more}"
    for manager in envoy.managers:
        for upgrade in manager.fields.parts("upgrade_configs"):
            filters = upgrade.parts("filters")
            if filters and not any(found.entry is entry for found in envoy.filters for entry in filters):
                yield f"{upgrade.where}.filters: the filter is not among them; these upgrades pass uninspected"
