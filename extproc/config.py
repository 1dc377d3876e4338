"""Every setting of the sidecar, typed, in one place.  (extproc/loading.py reads them.)"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from extproc.match import Fit, MatchSettings, fits
from waf_core.auditing.redaction import DEFAULT_ARGUMENTS, DEFAULT_HEADERS
from waf_core.settings import ENGINE_MODES

PREFIX = "ENVOY_WAF_"

ENVOYS_OWN = ("x-forwarded-proto", "x-request-id", "x-envoy-external-address", "x-envoy-internal")
"""Headers that Envoy adds, or takes over from a client that it trusts."""


class ConfigError(ValueError):
    """A setting that cannot be used; the message names it, its source and what it may be."""


def default_data_dir() -> Path:
    """Where installed rule sets live: /var/lib/envoy-waf for root, the XDG folder otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/envoy-waf")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "envoy-waf"


def _switch(value: Any) -> Any:
    """In any case, as SecRuleEngine has it; YAML takes On and Off for true and false."""
    if isinstance(value, bool):
        return "On" if value else "Off"
    return ENGINE_MODES[value.lower()].value if isinstance(value, str) and value.lower() in ENGINE_MODES else value


def _listed(value: Any) -> Any:
    """A text is a list in JSON, or what stands between commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _json(value)
    return [item.strip() for item in value.split(",") if item.strip()]


def _json(value: Any) -> Any:
    """A text, as the environment has it, is JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from error


EngineModeName = Annotated[Literal["On", "DetectionOnly", "Off"], BeforeValidator(_switch)]
Names = Annotated[list[str], NoDecode, BeforeValidator(_listed)]


class PolicySettings(BaseModel):
    """A named policy; what it does not set is as at the top of the file."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    match: list[MatchSettings] = Field(default_factory=list)
    rules: Annotated[list[str] | None, BeforeValidator(_listed)] = None
    directives: str | None = None
    mode: EngineModeName | None = None
    paranoia_level: int | None = Field(None, ge=1, le=4)
    anomaly_threshold: int | None = Field(None, ge=1, le=10000)
    multiphase: bool | None = None
    untyped_files_as_fields: bool | None = None
    decompress_responses: bool | None = None
    blocking_percent: float | None = Field(None, ge=0, le=100)
    shadow: str | None = None


def _refuse_doubles(policies: Sequence[PolicySettings]) -> None:
    """Raises ValueError when two policies are for the same requests: one of them would judge none."""
    owners: dict[Fit, str] = {}
    for policy in policies:
        for fit in (fit for match in policy.match for fit in fits(match)):
            owner = owners.setdefault(fit, policy.name)
            if owner != policy.name:
                raise ValueError(f"the policies {owner!r} and {policy.name!r} are both for the same requests: {fit}")


class Settings(BaseSettings):
    """Names are those of the YAML file; the environment has them in upper case with the prefix."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", validate_default=True)

    listen: str = Field("127.0.0.1:9002", description="gRPC address for Envoy: HOST:PORT or unix:/PATH")
    admin: str = Field("127.0.0.1:9003", description="HTTP address of /healthz, /readyz, /metrics; empty: none")
    rules: Names = Field(
        default_factory=list,
        description="SecLang files, globs and named sets, in order; empty: @recommended, then the installed"
        " Core Rule Set, else @baseline",
    )
    directives: str = Field("", description="SecLang text after the rules: your own exclusions and settings")
    mode: EngineModeName | None = Field(None, description="overrides SecRuleEngine")
    paranoia_level: int | None = Field(None, ge=1, le=4, description="blocking paranoia level, 1 to 4")
    anomaly_threshold: int | None = Field(None, ge=1, le=10000, description="inbound anomaly score that blocks")
    blocking_percent: float = Field(
        100,
        ge=0,
        le=100,
        description="canary: clients (by address) for whom `mode: On` blocks; for the rest it detects",
    )
    shadow: str | None = Field(None, description="a policy that judges the same requests aside; only counted")
    policies: Annotated[list[PolicySettings], NoDecode, BeforeValidator(_json)] = Field(
        default_factory=list,
        description="further policies, by authority, path or route; the top of the file is `default`",
    )

    workers: int = Field(1, ge=1, le=64, description="processes; each listens on an address of its own")
    runtime_dir: Path | None = Field(
        None, description="folder of what workers share (sockets, rules); default: a new one"
    )
    watch: bool = Field(True, description="reload when a rule file or the settings file changes")

    data_dir: Path = Field(default_factory=default_data_dir, description="where installed rule sets live")
    crs_root: Path | None = Field(None, description="a Core Rule Set folder to use instead of the installed one")

    hyperscan: bool = Field(
        True, description="match patterns with Hyperscan, whose cost is bounded for any input; false: RE2 alone"
    )
    cache_dir: Path | None = Field(
        None, description="where Hyperscan's databases are kept, a folder only we may write; default: DATA_DIR/cache"
    )

    trusted_hops: int = Field(0, ge=0, le=32, description="proxies in front of Envoy whose X-Forwarded-For is believed")
    hidden_request_headers: Names = Field(
        default_factory=lambda: list(ENVOYS_OWN),
        description="headers that Envoy adds: rules do not see them (of these four, only what Envoy itself may write)",
    )
    deny_body: str = Field("Forbidden. Reference: {id}\n", description="body of a 403; {id} is the transaction id")
    deny_content_type: str = Field("text/plain; charset=utf-8", description="content type of that body")

    multiphase: bool = Field(
        False, description="rules of phase 2 judge headers, cookies and the query in phase 1 already"
    )
    untyped_files_as_fields: bool = Field(
        False,
        description="judge uploaded files without a Content-Type of their own as form fields, too: formidable "
        "(Node.js) takes them for nothing else, and python-requests sends its files so",
    )
    decompress_responses: bool = Field(
        True,
        description="rules see bodies of responses as clients do (gzip, deflate, br, zstd), and no Content-Encoding:"
        " the Core Rule Set leaves out what has one",
    )
    dns: bool = Field(False, description="ask the DNS for @rbl (aside: the first request of an address passes)")
    redis_url: str | None = Field(
        None, description="redis://HOST:PORT/0: collections (IP, SESSION, ...) shared by all workers and replicas"
    )
    redis_on_failure: Literal["open", "closed"] = Field(
        "open", description="open: judge without records while Redis is down; closed: refuse with 503"
    )

    audit_log: str = Field(
        "", description="where audit records go: `stdout`, /a/file, http(s)://collector; empty: nowhere"
    )
    audit_format: Literal["JSON", "Native", "OCSF"] | None = Field(None, description="overrides SecAuditLogFormat")
    audit_queue: int = Field(10000, ge=1, le=1_000_000, description="records that wait; more are dropped and counted")
    audit_file_bytes: int = Field(100 << 20, ge=4096, description="size at which an audit file is rotated")
    audit_files: int = Field(5, ge=0, le=1000, description="rotated audit files that are kept")
    redact_headers: Names = Field(
        default_factory=lambda: list(DEFAULT_HEADERS), description="headers whose values no audit record shows"
    )
    redact_arguments: Names = Field(
        default_factory=lambda: list(DEFAULT_ARGUMENTS), description="arguments whose values no audit record shows"
    )
    admin_token: SecretStr | None = Field(
        None, description="needed for everything but health and metrics where `admin` is not a loopback address"
    )
    admin_grpc: str = Field("", description="gRPC address of the admin service; empty: none")
    admin_tls_cert: Path | None = Field(None, description="certificate (PEM) of the admin gRPC server")
    admin_tls_key: Path | None = Field(None, description="its key")
    admin_tls_client_ca: Path | None = Field(None, description="CA of client certificates: mTLS")
    otlp_endpoint: str | None = Field(None, description="OTLP/gRPC collector for spans and metrics (extra `otel`)")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is logged, and above")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal")
    logged_rules: int = Field(20, ge=0, le=4096, description="matched rules that one log line shows")
    drain_seconds: float = Field(10.0, ge=0, le=3600, description="how long SIGTERM waits for running streams")
    max_streams: int = Field(10000, ge=1, description="streams at once; then slow ones make way, or new ones fail")
    max_body_memory: int = Field(
        256 << 20,
        ge=1 << 20,
        description="bytes of bodies that a process holds at once; more are refused (503)",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        names = [policy.name for policy in self.policies]
        for name in names:
            if name == "default" or names.count(name) > 1:
                raise ValueError(f"there are two policies named {name!r} (`default` is the top of the file)")
        for owner, shadow in (("default", self.shadow), *((p.name, p.shadow) for p in self.policies)):
            if shadow is not None and (shadow not in names or shadow == owner):
                raise ValueError(f"policy {owner!r} has the shadow {shadow!r}, which is no other policy")
        _refuse_doubles(self.policies)
        addresses = [worker_address(self.listen, index) for index in range(self.workers)]
        for name in ("admin", "admin_grpc"):
            if getattr(self, name) and getattr(self, name) in addresses:
                raise ValueError(f"{name} {getattr(self, name)} is the address of a worker, too: choose another")
        if bool(self.admin_tls_cert) != bool(self.admin_tls_key):
            raise ValueError("admin_tls_cert and admin_tls_key belong together")
        if self.admin_tls_client_ca and not self.admin_tls_cert:
            raise ValueError("admin_tls_client_ca needs admin_tls_cert and admin_tls_key")
        if self.admin_tls_cert and not self.admin_grpc:
            raise ValueError("admin_tls_cert is for admin_grpc, which is not set; `admin` speaks plain HTTP")
        return self

    def by_policy(self) -> dict[str, Settings]:
        """Those of all policies, by name; the first is `default`."""
        return {"default": self, **{policy.name: self.for_policy(policy) for policy in self.policies}}

    def for_policy(self, policy: PolicySettings) -> Settings:
        """The settings of a policy: its own over those at the top."""
        own = policy.model_dump(exclude={"name", "match", "shadow"})
        changed = {name: value for name, value in own.items() if value is not None}
        return self.model_copy(update={**changed, "shadow": policy.shadow})

    @field_validator(
        "admin_token", "redis_url", "otlp_endpoint", "shadow", "crs_root", "cache_dir", "runtime_dir", "admin_tls_cert",
        "admin_tls_key", "admin_tls_client_ca", mode="before",
    )  # fmt: skip
    @classmethod
    def _none_if_empty(cls, value: Any) -> Any:
        """An empty variable (`ENVOY_WAF_ADMIN_TOKEN=`) is none: no token that everybody has, no folder `.`."""
        return None if value == "" else value

    @field_validator("data_dir", mode="before")
    @classmethod
    def _some_folder(cls, value: Any) -> Any:
        if value == "":
            raise ValueError("write a folder")
        return value

    @field_validator("audit_log")
    @classmethod
    def _audit_target(cls, value: str) -> str:
        if value and value != "stdout" and not value.startswith(("/", "http://", "https://")):
            raise ValueError("write stdout, an absolute path, or an http(s) URL")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("write redis://HOST:PORT/0, rediss:// for TLS, or unix:///PATH")
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _collector(cls, value: str | None) -> str | None:
        if value is not None and "://" in value and not value.startswith(("http://", "https://")):
            raise ValueError("write HOST:PORT, http://HOST:PORT, or https:// for TLS")
        return value

    @field_validator("listen", "admin", "admin_grpc")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            parse_address(value)
        return value

    @field_validator("deny_body")
    @classmethod
    def _template(cls, value: str) -> str:
        if len(value) > 65536:
            raise ValueError("at most 65536 characters")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings)


def parse_address(text: str) -> tuple[str, int] | str:
    """`HOST:PORT` to a pair, `unix:/PATH` to the path.  Raises ValueError."""
    if text.startswith("unix:"):
        path = text[5:]
        if not path.startswith("/"):
            raise ValueError(f"{text!r}: a Unix socket needs an absolute path, unix:/run/envoy-waf.sock")
        return path
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is no address: write HOST:PORT or unix:/PATH")
    return host.strip("[]"), int(port)


PORT_STEP = 10
"""Ports between two workers: `admin`, one above `listen`, is not in the way."""


def worker_address(listen: str, index: int) -> str:
    """Where a worker listens.  Raises ValueError when there are no more ports."""
    address = parse_address(listen)
    if index == 0:
        return listen
    if isinstance(address, str):
        return f"unix:{address}.{index}"
    host, port = address
    port += index * PORT_STEP
    if port > 65535:
        raise ValueError(f"{listen}: there is no port {port} for worker {index}")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
