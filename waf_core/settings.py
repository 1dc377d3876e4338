"""What directives other than rules set: the engine's modes and limits.

Defaults are those of ModSecurity's recommended configuration, except that the engine is
Off until SecRuleEngine says otherwise, as in the reference manual.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final


class EngineMode(Enum):
    """SecRuleEngine."""

    ON = "On"
    DETECTION_ONLY = "DetectionOnly"
    OFF = "Off"


class LimitAction(Enum):
    """SecRequestBodyLimitAction, SecResponseBodyLimitAction."""

    REJECT = "Reject"
    PROCESS_PARTIAL = "ProcessPartial"


AUDIT_PARTS: Final = re.compile("[A-KZ]+")
"""Letters of SecAuditLogParts."""


class AuditEngine(Enum):
    """SecAuditEngine."""

    ON = "On"
    OFF = "Off"
    RELEVANT_ONLY = "RelevantOnly"


ENGINE_MODES: Final = {mode.value.lower(): mode for mode in EngineMode}
"""By what directives and ctl say, in lower case; so are the next two."""

AUDIT_ENGINES: Final = {mode.value.lower(): mode for mode in AuditEngine}

XML_INTO_ARGS: Final = {choice.lower(): choice for choice in ("On", "Off", "OnlyArgs")}
"""SecParseXmlIntoArgs: arguments and XML, XML alone, arguments alone (here rules see XML, too)."""


@dataclass(slots=True)
class EngineSettings:
    """One program's settings; sizes in bytes, times in seconds."""

    engine: EngineMode = EngineMode.OFF
    request_body_access: bool = False
    request_body_limit: int = 134217728
    request_body_no_files_limit: int = 1048576
    request_body_limit_action: LimitAction = LimitAction.REJECT
    response_body_access: bool = False
    response_body_limit: int = 524288
    response_body_limit_action: LimitAction = LimitAction.REJECT
    response_body_mime_types: frozenset[bytes] = frozenset((b"text/plain", b"text/html"))
    json_depth_limit: int = 512
    arguments_limit: int = 1000
    upload_file_limit: int = 100
    untyped_files_as_fields: bool = False
    """Files without a Content-Type of their own are fields, too (CompileOptions)."""
    decompress_responses: bool = False
    """Rules see bodies of responses as clients do, and no Content-Encoding (CompileOptions)."""
    argument_separator: bytes = b"&"
    cookie_format: int = 0
    cookie_separator: bytes = b";"
    """Of cookies in format 0."""
    collection_timeout: int = 3600
    audit_engine: AuditEngine = AuditEngine.OFF
    audit_log_parts: str = "ABIJDEFHZ"
    audit_log_relevant_status: str = ""
    audit_log_format: str = "JSON"
    parse_xml_into_args: str = "Off"
    component_signatures: list[str] = field(default_factory=list)
    web_app_id: str = "default"
    sensor_id: str = ""
    geo_database: str | None = None
    http_bl_key: str = ""
    unicode_map: dict[int, int] = field(default_factory=dict)

    def copy(self) -> EngineSettings:
        return replace(self, component_signatures=list(self.component_signatures))
