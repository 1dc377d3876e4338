"""Envoy's filters that ask the sidecar, and what their routes and clusters say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from envoy.extensions.filters.http.ext_proc.v3.ext_proc_pb2 import ExternalProcessor, ExtProcOverrides
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from google.protobuf.json_format import ParseDict, ParseError

from extproc.answers import METADATA_NAMESPACE
from extproc.config import ConfigError
from extproc.envoy_config import gateway
from extproc.envoy_config.parts import Configuration, Part

_MANAGER: Final = ".HttpConnectionManager"
_FILTER: Final = ".ext_proc.v3.ExternalProcessor"
_OF_ROUTE: Final = ".ext_proc.v3.ExtProcPerRoute"
_SWITCH: Final = ".FilterConfig"
_BUFFER: Final = "per_connection_buffer_limit_bytes"
_OURS: Final = ("waf", "firewall")
"""A filter with one of these in its name, or in that of its cluster, is taken for ours, if there are several."""

_NOT_READ: Final = frozenset(
    (
        "@type",
        "grpc_service",
        "http_service",
        "processing_request_modifier",
        "on_processing_response",
        "filter_metadata",
    )
)
"""What is looked at by itself, or may have messages of any type in it."""

BUFFER_BYTES: Final = 1 << 20
"""What Envoy keeps of a body where `per_connection_buffer_limit_bytes` does not say."""

Message = TypeVar("Message", ExternalProcessor, ExtProcOverrides)


@dataclass(frozen=True, slots=True)
class Filter:
    """One that asks the sidecar: where it stands, and what it says.  `entry` is its place in the list of filters;
    `buffer` where it is said how many bytes Envoy keeps of a body, and how many; `names` what else than in Envoy its
    fields are called."""

    entry: Part
    fields: Part
    says: ExternalProcessor
    buffer: tuple[str, int]
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.entry.get("name", ""))

    @property
    def where(self) -> str:
        return self.entry.where

    @property
    def cluster(self) -> str:
        return str(self.fields.part("grpc_service", "envoy_grpc").get("cluster_name", ""))

    def called(self, note: str) -> str:
        """A note that begins with the name of a field, as that is called here."""
        name, colon, rest = note.partition(": ")
        return f"{self.names.get(name, name)}{colon}{rest}"


@dataclass(frozen=True, slots=True)
class OfRoute:
    """What a route, a virtual host or the like says about the filter of this name."""

    name: str
    where: str
    disabled: bool
    overrides: ExtProcOverrides


class Envoy:
    """Raises ConfigError if nothing asks the sidecar, or what asks it cannot be read."""

    def __init__(self, configuration: Configuration) -> None:
        self.managers = configuration.of_kind(_MANAGER)
        extensions = list(gateway.extensions(configuration))
        found = [_filter(part, configuration) for part in configuration.of_kind(_FILTER)]
        self.filters = _ours(found + [_extension(part, configuration) for part in extensions])
        if not self.filters:
            raise ConfigError(
                "no filter in it is of the type envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor: give"
                " Envoy's configuration, what its admin interface answers to /config_dump, an EnvoyFilter or an"
                " EnvoyExtensionPolicy"
            )
        names = {found.name for found in self.filters}
        self.of_routes = [each for each in _of_routes(configuration) if each.name in names]
        self.clusters = {str(part.get("name")): part for part in configuration.all if _is_cluster(part)}
        self.clusters |= {gateway.backend(part): part.another(gateway.as_cluster(part)) for part in extensions}
        self.is_whole = any(
            "static_resources" in part and "dynamic_resources" not in part for part in configuration.all
        )
        """Does all that Envoy knows stand in it?"""


def _filter(part: Part, configuration: Configuration) -> Filter:
    entry = part.parent if part.parent is not None and part.key in ("typed_config", "typedConfig") else part
    says = _parse(part.fields, ExternalProcessor(), entry.where)
    return Filter(entry, part.fields, says, _buffer(entry, configuration))


def _extension(part: Part, configuration: Configuration) -> Filter:
    fields = part.another(gateway.as_filter(part))
    says = _parse(fields, ExternalProcessor(), part.where)
    return Filter(part, fields, says, gateway.buffer(configuration), gateway.NAMES)


def _buffer(entry: Part, configuration: Configuration) -> tuple[str, int]:
    """That of the listener that it is in; of an EnvoyFilter, what it puts into listeners."""
    around = (part for part in entry.around if "filter_chains" in part)
    patches = (part.part("patch", "value") for part in configuration.all if part.get("apply_to") == "LISTENER")
    saying = (part for part in patches if _BUFFER in part)
    listener = next(around, None) or next(saying, None) or Part("", "", None)
    where = f"{listener.where}.{_BUFFER}" if listener.where else f"{_BUFFER} of the listener"
    return where, listener.number(_BUFFER, BUFFER_BYTES)


def _ours(found: list[Filter]) -> list[Filter]:
    """All of them, if none is called so."""
    return [each for each in found if _is_ours(each)] or found


def _is_ours(found: Filter) -> bool:
    grpc = found.fields.part("grpc_service")
    names = (found.name, found.cluster, str(grpc.part("google_grpc").get("target_uri", "")))
    told = METADATA_NAMESPACE in found.says.metadata_options.receiving_namespaces.untyped
    return told or any(word in name.lower() for name in names for word in _OURS)


def _of_routes(configuration: Configuration) -> Iterator[OfRoute]:
    for part in configuration.of_kind(_OF_ROUTE):
        switch = part.parent if part.parent is not None and part.parent.kind.endswith(_SWITCH) else part
        overrides = _parse(part.fields.part("overrides"), ExtProcOverrides(), part.where)
        yield OfRoute(switch.key, part.where, part.fields.get("disabled") is True, overrides)
    for part in configuration.of_kind(_SWITCH):
        yield OfRoute(part.key, part.where, part.get("disabled") is True, ExtProcOverrides())


def _is_cluster(part: Part) -> bool:
    return "name" in part and any(name in part for name in ("load_assignment", "eds_cluster_config", "connect_timeout"))


def _parse(fields: Part, into: Message, where: str) -> Message:
    known = {name: value for name, value in fields.items() if name not in _NOT_READ}
    for mode in ProcessingMode.DESCRIPTOR.fields:
        value = fields.part("processing_mode").get(mode.name)
        names = [] if mode.enum_type is None else list(mode.enum_type.values_by_name)
        if isinstance(value, str) and value not in names:  # protobuf would leave it out
            raise ConfigError(f"{where}: processing_mode.{mode.name}: {value!r} is none of {', '.join(names)}")
    try:
        return ParseDict(known, into, ignore_unknown_fields=True)
    except ParseError as error:
        raise ConfigError(f"{where}: {error}") from error
