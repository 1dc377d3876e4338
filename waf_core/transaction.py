"""One request's life: what is known of it, and the phases that judge it.

The order of calls is that of the field (ModSecurity, Coraza):

    tx.process_connection(client_ip, client_port, server_ip, server_port)
    tx.process_uri(uri, method, http_version)
    tx.add_request_header(name, value)          # for each
    tx.process_request_headers()                # phase 1
    tx.write_request_body(chunk)                # any number of times
    tx.process_request_body()                   # phase 2
    tx.add_response_header(name, value)
    tx.process_response_headers(status, http_version)   # phase 3
    tx.write_response_body(chunk)
    tx.process_response_body()                  # phase 4
    tx.process_logging()                        # phase 5, whatever happened before

Each `process_...` and `write_...` returns an Interruption as soon as there is one.  Nothing
here does I/O; hostile input never raises, it sets the variables that rules look at.
"""

from __future__ import annotations

import base64
import binascii
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from waf_core import evaluation
from waf_core.actions import amount
from waf_core.bodies.json import parse_json
from waf_core.bodies.multipart import Flags, MultipartParser
from waf_core.bodies.urlencoded import parse_pairs
from waf_core.bodies.xml import XmlDocument
from waf_core.errors import UsageError
from waf_core.octets import PERCENT
from waf_core.operators.numeric import to_int
from waf_core.persistence import Change, Store
from waf_core.request_target import host_of, origin_form
from waf_core.settings import AuditEngine, EngineMode, LimitAction
from waf_core.transformations.url import url_decode
from waf_core.variables import PROCESS_ENVIRONMENT, REGISTRY, Pair

if TYPE_CHECKING:
    from waf_core.program import Hits, Program
    from waf_core.rule import MatchedRule, Target, Unit
    from waf_core.trace import Trace

MAX_REQUEST_HEADERS: Final = 1000
"""More headers than this are refused (Envoy's own default is 100)."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """The verdict "stop".  `action` is deny, drop or redirect; `data` the redirect's URL.

    `rule_id` is 0 when the engine itself decided (a limit); then `reason` says why.
    """

    status: int
    action: str
    rule_id: int
    data: str = ""
    reason: str = ""


@dataclass(slots=True)
class _OpenCollection:
    key: bytes
    values: dict[bytes, bytes]
    changes: list[Change]


_random_bits = random.getrandbits
"""For ids: they have to differ, not to be secret.  Python seeds it anew in each process."""

_OFF: Final = EngineMode.OFF
_NO_MULTIPART: Final = Flags()
"""Of all transactions without a multipart body: nobody changes it."""


def _to_bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")


class Transaction:
    """Made by WAF.new_transaction().  Not safe for use by two threads at once."""

    __slots__ = (
        "_body", "_collections", "_multipart", "_response_body", "_response_xml", "_xml", "allowed", "args", "args_get",
        "args_path", "args_post", "audit_engine", "audit_parts", "basename", "body_error", "body_processor", "clean",
        "client_ip", "client_port", "current_unit", "debug_log_level", "detected", "engine", "env", "file_contents",
        "file_names", "file_sizes", "filename", "files", "force_request_body", "force_response_body", "geo",
        "highest_severity", "hits", "id", "inbound_data_error", "interruption", "limits", "logged", "matched_rules",
        "matched_var", "matched_var_name", "matched_vars", "method", "multipart_flags", "outbound_data_error",
        "parse_xml_into_args", "part_headers", "phase", "phase_ns", "program", "protocol", "query_string",
        "removed_targets", "removed_units", "request_body_access", "request_body_length", "request_body_limit",
        "request_body_variable", "request_cookies", "request_header_names", "request_headers", "response_args",
        "response_body_access", "response_body_length", "response_body_limit", "response_body_processor",
        "response_body_variable", "response_headers", "response_protocol", "response_status", "sanitised", "scanned",
        "server_ip", "server_name", "server_port", "session_id", "started_at", "started_ns", "store", "trace", "tx",
        "uri", "uri_raw", "urlencoded_error", "user_id",
    )  # fmt: skip

    def __init__(self, program: Program, transaction_id: str | None = None, store: Store | None = None) -> None:
        settings = program.settings
        self.program: Program = program
        self.store: Store = store or program.store
        self.id: str = transaction_id or f"{_random_bits(80):020x}"
        self.started_ns: int = time.monotonic_ns()
        self.started_at = time.time()

        self.engine: EngineMode = settings.engine
        self.interruption: Interruption | None = None
        self.detected: Interruption | None = None
        """The first interruption that DetectionOnly held back."""
        self.matched_rules: list[MatchedRule] = []
        self.limits: list[str] = []
        """Names of the limits that this transaction ran into."""
        self.phase: int = 0
        self.phase_ns: list[int] = [0] * 6
        """Nanoseconds that the rules of each phase took."""
        self.allowed = ""
        """"", or how far an `allow` reaches: phase, request or all."""
        self.logged: bool = False
        self.clean: bool = program.has_clean_path
        """Nothing has fired yet, and every phase so far had a known outcome."""

        self.trace: Trace | None = None
        """Set by Trace.attach: takes down what every rule that matches does."""

        self.client_ip: bytes = b""
        self.client_port: int = 0
        self.server_ip: bytes = b""
        self.server_port: int = 0
        self.method: bytes = b""
        self.protocol: bytes = b""
        self.uri: bytes = b""
        self.uri_raw: bytes = b""
        self.filename: bytes = b""
        self.basename: bytes = b""
        self.query_string: bytes = b""
        self.server_name: bytes = b""
        self.request_headers: list[Pair] = []
        self.request_header_names: list[bytes] = []
        """In lower case, in the order of the headers."""
        self.request_cookies: list[Pair] = []
        self.args: list[Pair] = []
        self.args_get: list[Pair] = []
        self.args_post: list[Pair] = []
        self.args_path: list[Pair] = []
        self.urlencoded_error: bool = False

        self.request_body_access = settings.request_body_access
        self.request_body_limit = settings.request_body_limit
        self.force_request_body: bool = False
        self.body_processor: bytes = b""
        self.body_error: str = ""
        self.inbound_data_error: bool = False
        self.request_body_variable: bytes | None = None
        self.request_body_length: int = 0
        self.multipart_flags = _NO_MULTIPART
        self.files: list[Pair] = []
        self.file_names: list[Pair] = []
        self.file_sizes: list[Pair] = []
        self.file_contents: list[Pair] = []
        self.part_headers: list[Pair] = []
        self.parse_xml_into_args = settings.parse_xml_into_args
        self._body: list[bytes] = []
        self._multipart: MultipartParser | None = None
        self._xml: XmlDocument | None = None

        self.response_status: int = 0
        self.response_protocol: bytes = b""
        self.response_headers: list[Pair] = []
        self.response_args: list[Pair] = []
        self.response_body_access = settings.response_body_access
        self.response_body_limit = settings.response_body_limit
        self.response_body_processor: bytes = b""
        self.force_response_body: bool = False
        self.response_body_variable: bytes | None = None
        self.response_body_length: int = 0
        self.outbound_data_error: bool = False
        self._response_body: list[bytes] = []
        self._response_xml: XmlDocument | None = None

        self.tx: dict[bytes, bytes] = dict(program.initial_tx)
        self.env: dict[bytes, bytes] = {}
        self.geo: dict[bytes, bytes] = {}
        self.matched_var: bytes = b""
        self.matched_var_name: bytes = b""
        self.matched_vars: list[Pair] = []
        self.highest_severity: int = 255
        self.session_id: bytes = b""
        self.user_id: bytes = b""
        self.current_unit: Unit | None = None
        self.hits: Hits = {}
        """What the scans have found so far."""
        self.scanned: int = 0
        """The phase up to which values have been judged."""
        self.removed_units: frozenset[int] = frozenset()
        self.removed_targets: list[tuple[frozenset[int], Target]] = []
        self.sanitised: set[tuple[str, bytes]] = set()
        self.audit_engine: AuditEngine = settings.audit_engine
        self.audit_parts = settings.audit_log_parts
        self.debug_log_level = settings.debug_log_level
        self._collections: dict[str, _OpenCollection] = {}

    # -- phase 0: what arrives before any rule ------------------------------------------------

    def process_connection(
        self, client_ip: str | bytes, client_port: int = 0, server_ip: str | bytes = b"", server_port: int = 0
    ) -> None:
        """Who speaks to whom (REMOTE_ADDR, REMOTE_PORT, SERVER_ADDR, SERVER_PORT)."""
        self.client_ip = _to_bytes(client_ip)
        self.client_port = client_port
        self.server_ip = _to_bytes(server_ip)
        self.server_port = server_port

    def process_uri(self, uri: bytes | str, method: bytes | str, http_version: bytes | str) -> None:
        """The request line.  `http_version` is `1.1` or `HTTP/1.1`; `uri` is as the client sent it."""
        self.uri_raw = raw = _to_bytes(uri)
        self.method = _to_bytes(method)
        # A request line without a version is HTTP/0.9 (RFC 1945, section 4.1).
        version = _to_bytes(http_version) or b"0.9"
        self.protocol = version if version[:5].upper() == b"HTTP/" else b"HTTP/" + version
        self.uri = raw = origin_form(raw)
        path, _, query = raw.partition(b"?")
        self.query_string = query
        # In a path a plus is a plus.
        self.filename = url_decode(path.replace(b"+", b"%2B")) if PERCENT in path else path
        self.basename = self.filename[max(self.filename.rfind(b"/"), self.filename.rfind(b"\\")) + 1 :]
        if query:
            settings = self.program.settings
            self.args_get, overflow = parse_pairs(query, settings.argument_separator, settings.arguments_limit)
            self.args = self.args_get
            if overflow:
                self.note_limit("arguments")
            if PERCENT in query and _bad_escape(query):
                self.urlencoded_error = True

    def add_request_header(self, name: bytes | str, value: bytes | str) -> None:
        """One request header; call it again for a name that repeats.  Raises UsageError behind phase 1, which judges
        them for the later phases too."""
        if self.phase:
            raise UsageError("request headers come before phase 1")
        if len(self.request_headers) >= MAX_REQUEST_HEADERS:
            self.note_limit("request_headers")
            return
        name = _to_bytes(name)
        self.request_headers.append((name, _to_bytes(value)))
        self.request_header_names.append(name.lower())

    @property
    def request_line(self) -> bytes:
        return b"%b %b %b" % (self.method, self.uri_raw, self.protocol)

    # -- phase 1 --------------------------------------------------------------------------------

    def process_request_headers(self) -> Interruption | None:
        """Phase 1.  Cookies, the body processor and SERVER_NAME are known from here on."""
        self._expect(0, 1)
        for lowered, (_, value) in zip(self.request_header_names, self.request_headers, strict=True):
            if lowered == b"cookie":
                self._parse_cookies(value)
            elif lowered == b"content-type":
                if not self.body_processor:
                    self._choose_processor(value)
            elif lowered == b"host" and not self.server_name:
                self.server_name = host_of(value.strip())
        if "request_headers" in self.limits or "arguments" in self.limits:
            return self.reject(400, "more headers or arguments than the limit allows")
        return self._run(1)

    def _parse_cookies(self, value: bytes) -> None:
        separator = b"," if self.program.settings.cookie_format == 1 else b";"
        limit = self.program.settings.arguments_limit
        for piece in value.split(separator):
            name, _, content = piece.strip(b" \t").partition(b"=")
            if not name and not content:
                continue
            if len(self.request_cookies) >= limit:
                self.note_limit("arguments")
                return
            self.request_cookies.append((name, content))

    def _choose_processor(self, content_type: bytes) -> None:
        """Forms choose their processor themselves; JSON and XML are chosen by rules."""
        mime = content_type.split(b";", 1)[0].strip(b" \t").lower()
        if mime == b"application/x-www-form-urlencoded":
            self.body_processor = b"URLENCODED"
        elif mime.startswith(b"multipart/form-data"):
            self.body_processor = b"MULTIPART"

    # -- phase 2 --------------------------------------------------------------------------------

    def write_request_body(self, chunk: bytes) -> Interruption | None:
        """The next piece of the body.  Past SecRequestBodyLimit: 413, or the rest is not read
        (SecRequestBodyLimitAction ProcessPartial), and INBOUND_DATA_ERROR is set."""
        if self.interruption or self.engine is _OFF:
            return self.interruption
        if not self.request_body_access or not chunk:
            return None
        room = self.request_body_limit - self.request_body_length
        if len(chunk) > room:
            self.inbound_data_error = True
            self.note_limit("request_body")
            if self.program.settings.request_body_limit_action is LimitAction.REJECT:
                stop = self.reject(413, f"the request body exceeds {self.request_body_limit} bytes")
                if stop:
                    return stop
            chunk = chunk[: max(room, 0)]
        self.request_body_length += len(chunk)
        if self.body_processor == b"MULTIPART":
            if self._multipart is None:
                self._multipart = self._new_multipart()
            self._multipart.feed(chunk)
            if not (self.force_request_body or self.program.keep_raw_multipart):
                return self._check_no_files_limit(self.request_body_length - self._multipart.file_bytes)
        self._body.append(chunk)
        if self._multipart is None:
            return self._check_no_files_limit(self.request_body_length)
        return None

    def weight_of_request_piece(self, chunks: Sequence[bytes]) -> int:
        """Bytes of these that `write_request_body` would take apart.  Most are only kept; what runs into a limit counts
        with all that came before, since that may be judged then."""
        length = sum(map(len, chunks))
        size = self.request_body_length + length
        settings = self.program.settings
        if size > self.request_body_limit:
            return size
        if self.body_processor != b"MULTIPART":
            return size if size > settings.request_body_no_files_limit else 0
        parser = self._multipart
        if parser is None:
            return size
        if all(map(parser.goes_on_with_file, chunks)):
            return 0
        return size if size - parser.file_bytes > settings.request_body_no_files_limit else length

    def _check_no_files_limit(self, size: int) -> Interruption | None:
        limit = self.program.settings.request_body_no_files_limit
        if size <= limit:
            return None
        self.inbound_data_error = True
        self.note_limit("request_body_no_files")
        if self.program.settings.request_body_limit_action is LimitAction.REJECT:
            return self.reject(413, f"the request body without files exceeds {limit} bytes")
        return None

    def _new_multipart(self) -> MultipartParser:
        content_type = next((v for n, v in self.request_headers if n.lower() == b"content-type"), b"")
        settings = self.program.settings
        return MultipartParser(
            content_type,
            fields_limit=max(settings.arguments_limit - len(self.args_get), 0),
            files_limit=settings.upload_file_limit,
            keep_files=self.program.keep_files,
        )

    def process_request_body(self) -> Interruption | None:
        """Phase 2.  Parses the body by REQBODY_PROCESSOR, then asks the rules."""
        self._expect(1, 2)
        if self.interruption or self.engine is _OFF:
            return self.interruption
        if self.request_body_access and self.has_body:
            self._parse_request_body()
            if "arguments" in self.limits:
                stop = self.reject(400, "more arguments than SecArgumentsLimit allows")
                if stop:
                    return stop
        return self._run(2)

    @property
    def has_body(self) -> bool:
        """Is there a request body to parse?"""
        return self.request_body_length > 0 or self._multipart is not None

    def _parse_request_body(self) -> None:
        settings = self.program.settings
        processor = self.body_processor
        room = max(settings.arguments_limit - len(self.args_get), 0)
        body = b"".join(self._body)
        overflow = False
        if self.inbound_data_error and processor in (b"JSON", b"XML"):
            # A cut document never parses; what there is of it is judged as text.
            self.body_error = "the body was cut at the limit"
        elif processor == b"URLENCODED":
            self.args_post, overflow = parse_pairs(body, settings.argument_separator, room)
            self.urlencoded_error |= PERCENT in body and _bad_escape(body)
            self.request_body_variable = body
        elif processor == b"JSON":
            self.args_post, overflow, error = parse_json(body, settings.json_depth_limit, room)
            self.body_error = f"JSON parsing error: {error}" if error else ""
        elif processor == b"XML":
            self._xml = XmlDocument(body)
            self.body_error = self._xml.error or ""
            if self.parse_xml_into_args != "Off":
                pairs = self._xml.arguments()
                overflow = len(pairs) > room
                self.args_post = pairs[:room]
        elif processor == b"MULTIPART" and self._multipart is not None:
            overflow = self._take_multipart(self._multipart)
        if overflow:
            self.note_limit("arguments")
        if self.force_request_body or self.body_error:
            # ModSecurity leaves a body it cannot parse unseen by rules; here they see the text.
            self.request_body_variable = body
        if self.args_post:
            self.args = self.args_get + self.args_post

    def _take_multipart(self, parser: MultipartParser) -> bool:
        parser.close()
        self.multipart_flags = parser.flags
        self.args_post = parser.fields
        self.files = parser.files
        self.file_names = parser.file_names
        self.file_sizes = parser.file_sizes
        self.file_contents = parser.file_contents
        self.part_headers = parser.part_headers
        self.body_error = parser.error or ""
        return parser.fields_overflow

    # -- phases 3 and 4 -------------------------------------------------------------------------

    def add_response_header(self, name: bytes | str, value: bytes | str) -> None:
        """One response header.  Raises UsageError behind phase 3."""
        if self.phase > 2:
            raise UsageError("response headers come before phase 3")
        if len(self.response_headers) >= MAX_REQUEST_HEADERS:
            self.note_limit("response_headers")
            return
        self.response_headers.append((_to_bytes(name), _to_bytes(value)))

    def process_response_headers(self, status: int, http_version: bytes | str) -> Interruption | None:
        """Phase 3."""
        self._expect(2, 3, skipping=True)
        self.response_status = status
        version = _to_bytes(http_version)
        self.response_protocol = version if version[:5].upper() == b"HTTP/" else b"HTTP/" + version
        return self._run(3)

    def response_header(self, name: bytes) -> bytes:
        """The first response header of that (lower-case) name, or b""."""
        return next((v for n, v in self.response_headers if n.lower() == name), b"")

    @property
    def response_content_length(self) -> bytes:
        return self.response_header(b"content-length") or b"%d" % self.response_body_length

    @property
    def wants_response_body(self) -> bool:
        """Will phase 4 look at this response's body?  True only with SecResponseBodyAccess, a
        MIME type of SecResponseBodyMimeType (or forced), and rules in phase 4."""
        if self.interruption or self.engine is _OFF or self.allowed == "all":
            return False
        if not self.response_body_access or not self.program.has_rules(4):
            return False
        if self.force_response_body:
            return True
        mime = self.response_header(b"content-type").split(b";", 1)[0].strip().lower()
        return mime in self.program.settings.response_body_mime_types

    def write_response_body(self, chunk: bytes) -> Interruption | None:
        """The next piece of the response body; limits as for requests (status 500)."""
        if self.interruption or not chunk or not self.wants_response_body:
            return self.interruption
        room = self.response_body_limit - self.response_body_length
        if len(chunk) > room:
            self.outbound_data_error = True
            self.note_limit("response_body")
            if self.program.settings.response_body_limit_action is LimitAction.REJECT:
                stop = self.reject(500, f"the response body exceeds {self.response_body_limit} bytes")
                if stop:
                    return stop
            chunk = chunk[: max(room, 0)]
        self.response_body_length += len(chunk)
        self._response_body.append(chunk)
        return None

    def weight_of_response_piece(self, size: int) -> int:
        """As for requests; a piece is only kept until the limit is reached."""
        size += self.response_body_length
        return size if size > self.response_body_limit else 0

    def process_response_body(self) -> Interruption | None:
        """Phase 4."""
        self._expect(3, 4)
        if self.interruption or self.engine is _OFF:
            return self.interruption
        if self.wants_response_body:
            body = b"".join(self._response_body)
            self.response_body_variable = body
            if self.response_body_processor == b"JSON":
                settings = self.program.settings
                self.response_args, _, _ = parse_json(body, settings.json_depth_limit, settings.arguments_limit)
            elif self.response_body_processor == b"XML":
                self._response_xml = XmlDocument(body)
        return self._run(4)

    # -- phase 5 --------------------------------------------------------------------------------

    def process_logging(self) -> None:
        """Phase 5.  Runs once, whatever happened before; a second call does nothing."""
        if self.logged:
            return
        self.logged = True
        self.phase = 5
        if self.engine is not _OFF:
            evaluation.run_phase(self, 5)
            self._commit_collections()

    # -- internals ------------------------------------------------------------------------------

    def _expect(self, before: int, phase: int, *, skipping: bool = False) -> None:
        if self.logged or self.phase >= phase or (self.phase < before and not skipping):
            raise UsageError(f"phase {phase} cannot follow phase {self.phase}")
        self.phase = phase

    def _run(self, phase: int) -> Interruption | None:
        if self.interruption or self.engine is _OFF:
            return self.interruption
        if self.allowed == "all" or (self.allowed == "request" and phase < 3):
            return None
        self.allowed = ""
        start = time.perf_counter_ns()
        evaluation.run_phase(self, phase)
        self.phase_ns[phase] = time.perf_counter_ns() - start
        if self.allowed == "phase":
            self.allowed = ""
        if self._collections:
            self._commit_collections()
        return self.interruption

    def note_limit(self, name: str) -> None:
        """A limit was reached; each is noted once."""
        if name not in self.limits:
            self.limits.append(name)

    def reject(self, status: int, reason: str) -> Interruption | None:
        """The engine's own verdict: what cannot be inspected whole does not pass.  In detection
        only it is noted in `detected`, and None is returned."""
        stop = Interruption(status, "deny", 0, reason=reason)
        if self.engine is EngineMode.ON:
            self.interruption = stop
            return stop
        self.detected = self.detected or stop
        return None

    def lookup(self, name: str, key: bytes | None) -> bytes:
        """For macros: the first value of a variable, b"" when there is none."""
        variable = REGISTRY.get(name)
        if variable is None:
            return b""
        if variable.read is not None and key is None:
            return variable.read(self)
        for item_key, value in variable.get(self):
            if key is None or item_key.lower() == key:
                return value
        return b""

    @property
    def verdict(self) -> str:
        """blocked; detected (it would be, if the engine were On); pass."""
        return "blocked" if self.interruption else "detected" if self.detected else "pass"

    @property
    def anomaly_score(self) -> int:
        """CRS's blocking anomaly score: inbound until the response phases, then the greater."""
        return max(
            to_int(self.tx.get(b"blocking_inbound_anomaly_score", b"0")),
            to_int(self.tx.get(b"blocking_outbound_anomaly_score", b"0")),
        )

    @property
    def auth_type(self) -> bytes | None:
        value = self.request_header(b"authorization")
        return value.split(b" ", 1)[0] if value else None

    @property
    def remote_user(self) -> bytes | None:
        """The user name of HTTP basic authentication (RFC 7617)."""
        kind, _, credentials = (self.request_header(b"authorization") or b"").partition(b" ")
        if kind.lower() != b"basic":
            return None
        try:
            return base64.b64decode(credentials, validate=True).partition(b":")[0]
        except binascii.Error:
            return None

    def request_header(self, name: bytes) -> bytes | None:
        """The first request header of that (lower-case) name."""
        return next((v for n, v in self.request_headers if n.lower() == name), None)

    @property
    def full_request(self) -> bytes:
        head = b"".join([b"%b: %b\n" % pair for pair in self.request_headers])
        return b"%b\n%b\n%b" % (self.request_line, head, b"".join(self._body))

    @property
    def request_body(self) -> bytes:
        """What was kept of the request body (nothing of multipart bodies)."""
        return b"".join(self._body)

    @property
    def response_body(self) -> bytes:
        return b"".join(self._response_body)

    def xml_values(self, expression: str) -> list[bytes]:
        return _xml(self._xml, expression)

    def response_xml_values(self, expression: str) -> list[bytes]:
        return _xml(self._response_xml, expression)

    def environment(self) -> list[Pair]:
        return list({**PROCESS_ENVIRONMENT, **self.env}.items())

    def set_geo(self, record: dict[bytes, bytes]) -> None:
        self.geo = record

    def current_rule_pairs(self) -> list[Pair]:
        """The RULE collection: id, rev, severity, logdata, msg of the rule that is running."""
        if self.current_unit is None:
            return []
        unit = self.current_unit
        info = unit.info
        return [
            (b"id", b"%d" % info.id),
            (b"rev", info.revision.encode()),
            (b"severity", b"" if info.severity is None else b"%d" % info.severity),
            (b"logdata", unit.data.text if unit.data else b""),
            (b"msg", unit.message.text if unit.message else b""),
        ]

    # -- collections that outlive the request ---------------------------------------------------

    def open_collection(self, collection: str, key: bytes) -> None:
        """initcol: load the record and make it visible."""
        if collection in self._collections or not key:
            return
        values = self.store.load(collection, key, self.program.settings.collection_timeout)
        values[b"key"] = key
        self._collections[collection] = _OpenCollection(key, values, [])

    def expected_records(self) -> list[tuple[str, bytes]]:
        """(collection, key) of the records that rules may open, as far as the request tells.  Ask
        between the last request header and phase 1."""
        expected = ((collection, key.expand(self)) for collection, key in self.program.record_openers)
        return list(dict.fromkeys(item for item in expected if item[1]))

    def merge_record(self, collection: str, record: Mapping[bytes, bytes]) -> None:
        """A record that was opened before its values were there: add them under what rules did."""
        opened = self._collections.get(collection)
        if opened is None:
            return
        merged = dict(record)
        for name, value in opened.values.items():
            merged[name] = b"%d" % (to_int(merged[name]) + to_int(value)) if name in merged else value
        merged[b"key"] = opened.key
        opened.values = merged

    def persistent_pairs(self, collection: str) -> list[Pair]:
        opened = self._collections.get(collection)
        return list(opened.values.items()) if opened else []

    def set_persistent(self, collection: str, name: bytes, kind: str, value: bytes) -> None:
        opened = self._collections.get(collection)
        if opened is None:
            return
        if kind == "delete":
            opened.values.pop(name, None)
            opened.changes.append(Change("delete", name, b""))
        elif kind == "set":
            opened.values[name] = value
            opened.changes.append(Change("set", name, value))
        else:
            number = amount(kind, value)
            opened.values[name] = b"%d" % (to_int(opened.values.get(name, b"0")) + number)
            opened.changes.append(Change("add", name, b"%d" % number))

    def expire_persistent(self, collection: str, name: bytes, seconds: int) -> None:
        opened = self._collections.get(collection)
        if opened is not None:
            opened.changes.append(Change("expire", name, b"%d" % seconds))

    def deprecate_persistent(self, collection: str, name: bytes, amount: int, period: int) -> None:
        opened = self._collections.get(collection)
        if opened is not None:
            opened.changes.append(Change("deprecate", name, b"%d/%d" % (amount, period)))

    def _commit_collections(self) -> None:
        timeout = self.program.settings.collection_timeout
        for collection, opened in self._collections.items():
            if opened.changes:
                self.store.commit(collection, opened.key, opened.changes, timeout)
                opened.changes = []


def _xml(document: XmlDocument | None, expression: str) -> list[bytes]:
    if document is None:
        return []
    if expression == "/*":
        return document.texts()
    if expression == "//@*":
        return document.attributes()
    return document.xpath(expression)


def _bad_escape(text: bytes) -> bool:
    """Is there a `%` without two hexadecimal digits?"""
    return any(len(part) < 2 or part[0] not in _HEX or part[1] not in _HEX for part in text.split(b"%")[1:])


_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
