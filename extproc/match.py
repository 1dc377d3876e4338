"""Which requests a policy is for: what the settings say, and what of a request is compared with it.

A client must not choose a weaker policy by spelling: hosts are compared in lower case without port and final dot, paths
decoded and normalized.  What could never fit a request is an error when the settings are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from waf_core.request_target import host_of, origin_form
from waf_core.transformations.path import normalize_path
from waf_core.transformations.url import url_decode

ANY_SUBDOMAIN = "*"
"""What a host begins with that stands for all below it: `*.example.com`."""

_NOT_COMPARED = {"?": "a query", "#": "a fragment", ";": "a parameter"}
"""What is cut off a path before it is compared."""


class MatchSettings(BaseModel):
    """Which requests: all kinds that are given have to fit, any entry of a kind does."""

    model_config = ConfigDict(extra="forbid")

    hosts: list[str] = Field(default_factory=list, description="authorities, exact or `*.example.com`, without port")
    paths: list[str] = Field(default_factory=list, description="prefixes of the normalized path, by whole segments")
    routes: list[str] = Field(default_factory=list, description="names of Envoy's routes (attribute xds.route_name)")

    @model_validator(mode="after")
    def _something(self) -> MatchSettings:
        if not (self.hosts or self.paths or self.routes):
            raise ValueError("a match needs hosts, paths or routes")
        return self

    @field_validator("hosts")
    @classmethod
    def _hosts(cls, hosts: list[str]) -> list[str]:
        return [_checked_host(host) for host in hosts]

    @field_validator("paths")
    @classmethod
    def _paths(cls, paths: list[str]) -> list[str]:
        return [_checked_path(path) for path in paths]

    @field_validator("routes")
    @classmethod
    def _routes(cls, routes: list[str]) -> list[str]:
        if not all(routes):
            raise ValueError("the name of a route is empty; Envoy's routes have names where its configuration says so")
        return routes


class Fit(NamedTuple):
    """One kind of request that a match is for: to this host, a path below this one, by this route (empty: any)."""

    host: str
    path: str
    route: str

    def __str__(self) -> str:
        told = [f"{kind} {value}" for kind, value in zip(self._fields, self, strict=True) if value]
        return ", ".join(told)


def fits(match: MatchSettings) -> Iterator[Fit]:
    """Each by itself."""
    for host in match.hosts or [""]:
        for path in match.paths or [""]:
            for route in match.routes or [""]:
                yield Fit(host, path.rstrip("/") or "/" if path else "", route)


def normal_host(authority: bytes) -> str:
    """The host of an authority, as hosts are compared."""
    return host_of(authority).decode("latin-1").lower().removesuffix(".")


def normal_path(uri: bytes) -> str:
    """The path of a URI as servers understand it: decoded, without `//`, `/./` and `/../`."""
    path = origin_form(uri).partition(b"?")[0].partition(b"#")[0]
    if not path.startswith(b"/"):
        return "/"
    path = url_decode(path.replace(b"+", b"%2B")).partition(b";")[0]
    if path.endswith((b"/.", b"/..")):
        path += b"/"  # RFC 3986, section 5.2.4: the folder, which ModSecurity writes without its slash
    return normalize_path(path).decode("latin-1")


def _checked_host(host: str) -> str:
    """In the form that is compared.  Raises ValueError for what is no host."""
    name = host.removeprefix(f"{ANY_SUBDOMAIN}.")
    if name == ANY_SUBDOMAIN:
        raise ValueError(f"the host {host!r}: leave `hosts` out, and any will do")
    if "/" in name:
        raise ValueError(f"the host {host!r}: write the name alone, without scheme and path")
    if not name.isascii():
        raise ValueError(f"the host {host!r}: clients send such names in ASCII (xn--...): write that")
    if host_of(name.encode()) != name.encode():
        raise ValueError(f"the host {host!r}: ports are not compared: write it without; IPv6 addresses in brackets")
    if not name or ANY_SUBDOMAIN in name or any(c <= " " or c == "\x7f" for c in name):
        raise ValueError(f"the host {host!r} is none: write www.example.com, or *.example.com for all below it")
    return host.lower().removesuffix(".")


def _checked_path(path: str) -> str:
    """In the form that is compared.  Raises ValueError for what no path is or begins with."""
    if not path.startswith("/"):
        raise ValueError(f"the path {path!r} has to begin with /")
    if "*" in path:
        raise ValueError(
            f"the path {path!r}: there are no patterns: /admin is for all below it, too (a star itself: %2A)"
        )
    for character, what in _NOT_COMPARED.items():
        if character in path:
            raise ValueError(f"the path {path!r}: {what} is not compared: write what comes before {character}")
    return normal_path(path.encode("utf-8"))
