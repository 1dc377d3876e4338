"""Directives other than rules: supported, accepted without effect, or refused.

Sources: ModSecurity v3 reference manual and Coraza's directive list.  Each entry is a handler
that changes the settings, or a text that says why the directive has no effect or no place.
docs/directives.md is made from these tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from waf_core.reading import Reader
from waf_core.settings import AUDIT_ENGINES, AUDIT_PARTS, ENGINE_MODES, XML_INTO_ARGS, EngineSettings, LimitAction


class DirectiveError(ValueError):
    """The argument cannot be used; the compiler adds the position."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


Handler = Callable[[EngineSettings, tuple[str, ...]], None]
FileHandler = Callable[[EngineSettings, tuple[str, ...], str, Reader], None]
"""Of a directive whose first argument is a file: (settings, arguments, its path, what reads it)."""

MAX_LIMIT = 1 << 40
MAX_MAP_BYTES = 8 << 20


def _one(arguments: tuple[str, ...]) -> str:
    if len(arguments) != 1:
        raise DirectiveError(f"takes one argument, found {len(arguments)}", "put it in quotes if it has spaces")
    return arguments[0]


def _flag(attribute: str) -> Handler:
    def handle(settings: EngineSettings, arguments: tuple[str, ...]) -> None:
        value = _one(arguments).lower()
        if value not in ("on", "off"):
            raise DirectiveError("takes On or Off", f"found {arguments[0]!r}")
        setattr(settings, attribute, value == "on")

    return handle


def _integer(attribute: str, low: int = 0, high: int = MAX_LIMIT) -> Handler:
    def handle(settings: EngineSettings, arguments: tuple[str, ...]) -> None:
        value = _one(arguments)
        if not value.isdigit() or not low <= int(value) <= high:
            raise DirectiveError(f"takes a number from {low} to {high}", f"found {value!r}")
        setattr(settings, attribute, int(value))

    return handle


def _text(attribute: str) -> Handler:
    def handle(settings: EngineSettings, arguments: tuple[str, ...]) -> None:
        setattr(settings, attribute, _one(arguments))

    return handle


def _choice(attribute: str, choices: Mapping[str, object]) -> Handler:
    def handle(settings: EngineSettings, arguments: tuple[str, ...]) -> None:
        value = _one(arguments).lower()
        if value not in choices:
            raise DirectiveError(f"takes one of {', '.join(choices)}", f"found {arguments[0]!r}")
        setattr(settings, attribute, choices[value])

    return handle


def _mime_types(settings: EngineSettings, arguments: tuple[str, ...]) -> None:
    names = {name.lower().encode() for argument in arguments for name in argument.split()}
    settings.response_body_mime_types |= names


def _mime_types_clear(settings: EngineSettings, arguments: tuple[str, ...]) -> None:
    settings.response_body_mime_types = frozenset()


def _separator(attribute: str) -> Handler:
    def handle(settings: EngineSettings, arguments: tuple[str, ...]) -> None:
        value = _one(arguments)
        if len(value) != 1 or not value.isascii():
            raise DirectiveError("takes a single character", f"found {value!r}")
        setattr(settings, attribute, value.encode())

    return handle


def _status(settings: EngineSettings, arguments: tuple[str, ...]) -> None:
    """An expression that statuses are searched with; it is written by whoever writes rules."""
    try:
        re.compile(_one(arguments))
    except re.error as error:
        raise DirectiveError(f"takes a regular expression: {error}", f"found {arguments[0]!r}") from error
    settings.audit_log_relevant_status = arguments[0]


def _component(settings: EngineSettings, arguments: tuple[str, ...]) -> None:
    settings.component_signatures.append(" ".join(arguments))


def _audit_parts(settings: EngineSettings, arguments: tuple[str, ...]) -> None:
    value = _one(arguments)
    if not AUDIT_PARTS.fullmatch(value):
        raise DirectiveError("takes letters from A to K, and Z", f"found {value!r}")
    settings.audit_log_parts = value


def _geo(settings: EngineSettings, arguments: tuple[str, ...], path: str, reader: Reader) -> None:
    _one(arguments)
    if not reader.is_file(path):
        raise DirectiveError("the database does not exist", path)
    settings.geo_database = path


def _unicode_map(settings: EngineSettings, arguments: tuple[str, ...], path: str, reader: Reader) -> None:
    """`SecUnicodeMapFile FILE CODEPAGE`: lines `CODEPAGE` then `hex:hex hex:hex ...`."""
    page = arguments[1] if len(arguments) > 1 else "20127"
    try:
        lines = reader.read(path, MAX_MAP_BYTES).decode("latin-1").splitlines()
    except OSError as error:
        raise DirectiveError("cannot read the map", f"{path}: {error.strerror}") from error
    inside = False
    for line in lines:
        if line.startswith("#"):
            continue
        if re.match(r"\d+", line) and ":" not in line:
            inside = line.split()[0] == page
        elif inside:
            for item in line.split():
                left, _, right = item.partition(":")
                settings.unicode_map[int(left, 16)] = int(right, 16)
    if not settings.unicode_map:
        raise DirectiveError(f"the map has no code page {page}", path)


_LIMIT: dict[str, object] = {action.value.lower(): action for action in LimitAction}

SUPPORTED: dict[str, Handler] = {
    "SecRuleEngine": _choice("engine", ENGINE_MODES),
    "SecRequestBodyAccess": _flag("request_body_access"),
    "SecRequestBodyLimit": _integer("request_body_limit"),
    "SecRequestBodyNoFilesLimit": _integer("request_body_no_files_limit"),
    "SecRequestBodyLimitAction": _choice("request_body_limit_action", _LIMIT),
    "SecRequestBodyJsonDepthLimit": _integer("json_depth_limit", 1),
    "SecResponseBodyAccess": _flag("response_body_access"),
    "SecResponseBodyLimit": _integer("response_body_limit"),
    "SecResponseBodyLimitAction": _choice("response_body_limit_action", _LIMIT),
    "SecResponseBodyMimeType": _mime_types,
    "SecResponseBodyMimeTypesClear": _mime_types_clear,
    "SecArgumentsLimit": _integer("arguments_limit", 1, 1_000_000),
    "SecUploadFileLimit": _integer("upload_file_limit", 1, 100_000),
    "SecArgumentSeparator": _separator("argument_separator"),
    "SecCookieFormat": _integer("cookie_format", 0, 1),
    "SecCookieV0Separator": _separator("cookie_separator"),
    "SecCollectionTimeout": _integer("collection_timeout", 1),
    "SecAuditEngine": _choice("audit_engine", AUDIT_ENGINES),
    "SecAuditLogParts": _audit_parts,
    "SecAuditLogRelevantStatus": _status,
    "SecAuditLogFormat": _choice("audit_log_format", {"json": "JSON", "native": "Native", "ocsf": "OCSF"}),
    "SecParseXmlIntoArgs": _choice("parse_xml_into_args", XML_INTO_ARGS),
    "SecComponentSignature": _component,
    "SecWebAppId": _text("web_app_id"),
    "SecSensorId": _text("sensor_id"),
    "SecHttpBlKey": _text("http_bl_key"),
}

WITH_FILE: dict[str, FileHandler] = {"SecGeoLookupDb": _geo, "SecUnicodeMapFile": _unicode_map}

_MEMORY = "bodies stay in memory, bounded by the body limits; nothing is written to disk"
_SIDECAR = "the sidecar's own settings decide where logs go (envoy-waf serve --help)"

WITHOUT_EFFECT: dict[str, str] = {
    "SecRequestBodyInMemoryLimit": _MEMORY,
    "SecTmpDir": _MEMORY,
    "SecDataDir": "collections live in the sidecar or in Redis, not in files",
    "SecUploadDir": _MEMORY,
    "SecUploadFileMode": _MEMORY,
    "SecUploadKeepFiles": _MEMORY,
    "SecTmpSaveUploadedFiles": _MEMORY,
    "SecAuditLog": _SIDECAR,
    "SecAuditLog2": _SIDECAR,
    "SecAuditLogDir": _SIDECAR,
    "SecAuditLogType": _SIDECAR,
    "SecAuditLogStorageDir": _SIDECAR,
    "SecAuditLogDirMode": _SIDECAR,
    "SecAuditLogFileMode": _SIDECAR,
    "SecAuditLogPrefix": _SIDECAR,
    "SecDebugLog": _SIDECAR,
    "SecDebugLogLevel": "`envoy-waf explain` and POST /api/explain tell what each rule did",
    "SecServerSignature": "Envoy writes the Server header: set `server_name` there",
    "SecStatusEngine": "no usage data is ever sent anywhere",
    "SecPcreMatchLimit": "RE2 matches in linear time; the fallback engine has a time bound of its own",
    "SecPcreMatchLimitRecursion": "RE2 matches in linear time; the fallback engine has a time bound of its own",
    "SecRulePerfTime": "metrics tell what rules cost",
    "SecXmlExternalEntity": "external entities are never loaded",
    "SecRxPreFilter": "patterns are always filtered, all at once",
    "SecInterceptOnError": "an error in the engine always fails closed",
    "SecCacheTransformations": "transformed values are always shared within a scan",
    "SecRuleInheritance": "there are no nested contexts; policies take their place",
    "SecUnicodeCodePage": "SecUnicodeMapFile takes the code page, too",
    "SecConnEngine": "Envoy limits connections",
    "SecConnReadStateLimit": "Envoy limits connections",
    "SecConnWriteStateLimit": "Envoy limits connections",
    "SecReadStateLimit": "Envoy limits connections",
    "SecWriteStateLimit": "Envoy limits connections",
    "SecDisableBackendCompression": "rules see compressed responses decompressed (setting decompress_responses)",
    "SecIgnoreRuleCompilationErrors": "a rule that cannot be compiled is always an error",
    "SecStreamInBodyInspection": "bodies are inspected as the sidecar receives them",
    "SecStreamOutBodyInspection": "bodies are inspected as the sidecar receives them",
}

_HASH = "response rewriting (ModSecurity v2 hash engine) is not offered; use signed links in the application"

REFUSED: dict[str, str] = {
    "SecRuleScript": "Lua rules run code; write the check as SecRule, or in the application",
    "SecRemoteRules": "rules are not loaded over the network while starting; use `envoy-waf crs install` or a file",
    "SecRemoteRulesFailAction": "rules are not loaded over the network; remove the directive",
    "SecContentInjection": "envoy-waf never changes bodies; use an Envoy filter",
    "SecStreamInBodyRewrite": "envoy-waf never changes bodies; use an Envoy filter",
    "SecChrootDir": "run the container without privileges instead",
    "SecGuardianLog": "read the JSON events instead",
    "SecGsbLookupDb": "Google Safe Browsing v1 data is no longer published; use @pmFromFile",
    "SecHashEngine": _HASH,
    "SecHashKey": _HASH,
    "SecHashParam": _HASH,
    "SecHashMethodRx": _HASH,
    "SecHashMethodPm": _HASH,
    "SecEncryptionEngine": _HASH,
}

BY_LOWER_NAME = {name.lower(): name for name in (*SUPPORTED, *WITH_FILE, *WITHOUT_EFFECT, *REFUSED)}
