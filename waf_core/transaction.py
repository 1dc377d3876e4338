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

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from waf_core import evaluation
from waf_core.bodies import Pair
from waf_core.bodies.coding import CODINGS
from waf_core.bodies.request import RequestBody
from waf_core.bodies.response import ResponseBody
from waf_core.bodies.urlencoded import parse_pairs
from waf_core.cookies import parse_cookies
from waf_core.errors import UsageError
from waf_core.limits import Limit
from waf_core.octets import PERCENT
from waf_core.operators.numeric import to_int
from waf_core.persistence import Store
from waf_core.persistence.records import Records
from waf_core.request_target import host_of, origin_form
from waf_core.settings import AuditEngine, EngineMode, LimitAction
from waf_core.transformations.url import has_bad_escape, url_decode
from waf_core.variables import REGISTRY

if TYPE_CHECKING:
    from waf_core.places import Places
    from waf_core.program import Hits, Program
    from waf_core.rule import MatchedRule, Target, Unit
    from waf_core.trace import Trace

MAX_KEPT_BYTES: Final = 1 << 21
"""Of long values that the scan has made, and of what it has found in them, until the rules of the phase have run."""

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


_random_bits = random.getrandbits
"""For ids: they have to differ, not to be secret.  Python seeds it anew in each process."""

_OFF: Final = EngineMode.OFF


def _to_bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")


class Transaction:
    """Made by WAF.new_transaction().  Not safe for use by two threads at once."""

    __slots__ = (
        "allowed", "args", "args_get", "args_path", "args_post", "audit_engine", "audit_parts", "basename", "clean",
        "client_ip", "client_port", "current_unit", "detected", "engine", "env", "filename", "geo",
        "hidden_response_headers", "highest_severity", "hits", "id", "interruption", "limits", "logged",
        "matched_rules", "matched_var", "matched_var_name", "matched_vars", "method", "phase", "phase_ns", "places",
        "program", "protocol", "query_string", "records", "removed_targets", "removed_units", "request_body",
        "request_cookies", "request_header_names", "request_headers", "response_body", "response_headers",
        "response_protocol", "response_status", "room", "sanitised", "scanned", "server_ip", "server_name",
        "server_port", "session_id", "started_at", "started_ns", "trace", "tx", "uri", "uri_raw", "urlencoded_error",
        "user_id",
    )  # fmt: skip

    def __init__(self, program: Program, transaction_id: str | None = None, store: Store | None = None) -> None:
        settings = program.settings
        self.program: Program = program
        self.id: str = transaction_id or f"{_random_bits(80):020x}"
        self.started_ns: int = time.monotonic_ns()
        self.started_at = time.time()

        self.engine: EngineMode = settings.engine
        self.interruption: Interruption | None = None
        self.detected: Interruption | None = None
        """The first interruption that DetectionOnly held back."""
        self.matched_rules: list[MatchedRule] = []
        self.limits: list[Limit] = []
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
        self.request_body: RequestBody = RequestBody(
            settings, keep_files=program.keep_files, keep_raw_multipart=program.keep_raw_multipart
        )

        self.response_status: int = 0
        self.response_protocol: bytes = b""
        self.response_headers: list[Pair] = []
        self.hidden_response_headers: Sequence[Pair] = ()
        """Content-Encoding of a body that rules see decoded."""
        self.response_body: ResponseBody = ResponseBody(settings)

        self.tx: dict[bytes, bytes] = dict(program.initial_tx)
        self.records: Records = Records(store or program.store, settings.collection_timeout)
        self.env: dict[bytes, bytes] = {}
        self.geo: dict[bytes, bytes] = {}
        self.matched_var: bytes = b""
        self.matched_var_name: bytes = b""
        self.matched_vars: list[Pair] = []
        self.room: int = MAX_KEPT_BYTES
        self.highest_severity: int = 255
        self.session_id: bytes = b""
        self.user_id: bytes = b""
        self.current_unit: Unit | None = None
        self.hits: Hits = {}
        """What the scans have found so far."""
        self.places: dict[str, Places] = {}
        """Of the values of variables, by name."""
        self.scanned: int = 0
        """The phase up to which values have been judged."""
        self.removed_units: frozenset[int] = frozenset()
        self.removed_targets: list[tuple[frozenset[int], Target]] = []
        self.sanitised: set[tuple[str, bytes]] = set()
        self.audit_engine: AuditEngine = settings.audit_engine
        self.audit_parts = settings.audit_log_parts

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
                self.note_limit(Limit.ARGUMENTS)
            self.urlencoded_error = has_bad_escape(query)

    def add_request_header(self, name: bytes | str, value: bytes | str) -> None:
        """One request header; call it again for a name that repeats.  Raises UsageError behind phase 1, which judges
        them for the later phases too."""
        if self.phase:
            raise UsageError("request headers come before phase 1")
        if len(self.request_headers) >= MAX_REQUEST_HEADERS:
            self.note_limit(Limit.REQUEST_HEADERS)
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
                self.request_body.note_content_type(value)
            elif lowered == b"host" and not self.server_name:
                self.server_name = host_of(value.strip())
        if self.limits and self.engine is not _OFF:
            stop = self.reject(400, "more headers or arguments than the limit allows")
            if stop:
                return stop
        return self._run(1)

    def _parse_cookies(self, value: bytes) -> None:
        settings = self.program.settings
        separator = b"," if settings.cookie_format == 1 else settings.cookie_separator
        cookies, too_many = parse_cookies(value, separator, settings.arguments_limit - len(self.request_cookies))
        self.request_cookies += cookies
        if too_many:
            self.note_limit(Limit.ARGUMENTS)

    # -- phase 2 --------------------------------------------------------------------------------

    def write_request_body(self, chunk: bytes) -> Interruption | None:
        """The next piece of the body.  Past SecRequestBodyLimit: 413, or the rest is not read
        (SecRequestBodyLimitAction ProcessPartial), and INBOUND_DATA_ERROR is set."""
        body = self.request_body
        if self.interruption or self.engine is _OFF:
            return self.interruption
        if not body.access or not chunk:
            return None
        settings = self.program.settings
        action = settings.request_body_limit_action
        if body.overruns(chunk):
            reason = f"the request body exceeds {body.limit} bytes"
            stop = self._overrun(Limit.REQUEST_BODY, action, 413, reason)
            if stop:
                return stop
        if body.write(chunk, self._arguments_left()):
            reason = f"the request body without files exceeds {settings.request_body_no_files_limit} bytes"
            return self._overrun(Limit.REQUEST_BODY_NO_FILES, action, 413, reason)
        return None

    def process_request_body(self) -> Interruption | None:
        """Phase 2.  Parses the body by REQBODY_PROCESSOR, then asks the rules."""
        self._expect(1, 2)
        if self.interruption or self.engine is _OFF:
            return self.interruption
        body = self.request_body
        if body.access and body.present:
            self.args_post, overflow = body.parse(self._arguments_left())
            self.urlencoded_error |= body.bad_escape
            if self.args_post:
                self.args = self.args_get + self.args_post
            if overflow:
                self.note_limit(Limit.ARGUMENTS)
                stop = self.reject(400, "more arguments than SecArgumentsLimit allows")
                if stop:
                    return stop
        return self._run(2)

    def _arguments_left(self) -> int:
        """How many arguments the body may have."""
        return max(self.program.settings.arguments_limit - len(self.args_get), 0)

    # -- phases 3 and 4 -------------------------------------------------------------------------

    def add_response_header(self, name: bytes | str, value: bytes | str) -> None:
        """One response header.  Raises UsageError behind phase 3."""
        if self.phase > 2:
            raise UsageError("response headers come before phase 3")
        if len(self.response_headers) >= MAX_REQUEST_HEADERS:
            self.note_limit(Limit.RESPONSE_HEADERS)
            return
        self.response_headers.append((_to_bytes(name), _to_bytes(value)))

    def process_response_headers(self, status: int, http_version: bytes | str) -> Interruption | None:
        """Phase 3."""
        self._expect(2, 3, skipping=True)
        self.response_status = status
        version = _to_bytes(http_version)
        self.response_protocol = version if version[:5].upper() == b"HTTP/" else b"HTTP/" + version
        if self.program.settings.decompress_responses:
            self._choose_coding()
        return self._run(3)

    def _choose_coding(self) -> None:
        """If rules will look at the body, and it is coded once, they see it decoded: then it has no coding to them."""
        named = [pair for pair in self.response_headers if pair[0].lower() == b"content-encoding"]
        if len(named) == 1 and self.wants_response_body:
            coding = named[0][1].strip().lower()
            if coding in CODINGS:
                self.response_body.coding = coding
                self.response_headers.remove(named[0])
                self.hidden_response_headers = named

    @property
    def sent_response_headers(self) -> list[Pair]:
        """What the upstream sent: also what rules do not see."""
        return [*self.response_headers, *self.hidden_response_headers]

    def response_header(self, name: bytes) -> bytes:
        """The first response header of that (lower-case) name, or b""."""
        return next((v for n, v in self.response_headers if n.lower() == name), b"")

    @property
    def wants_response_body(self) -> bool:
        """Will rules look at this response's body?  True only with SecResponseBodyAccess, a MIME type of
        SecResponseBodyMimeType (or forced), and rules in phase 4, or in phase 5 that read it."""
        if self.interruption or self.engine is _OFF or self.allowed == "all":
            return False
        if not self.response_body.access or self.program.response_phase < 4:
            return False
        if self.response_body.forced:
            return True
        mime = self.response_header(b"content-type").split(b";", 1)[0].strip().lower()
        return mime in self.program.settings.response_body_mime_types

    def write_response_body(self, chunk: bytes) -> Interruption | None:
        """The next piece of the response body; limits as for requests (status 500)."""
        body = self.response_body
        if self.interruption or not chunk or not self.wants_response_body:
            return self.interruption
        if body.overruns(chunk) and (stop := self._overrun_response()):
            return stop
        body.write(chunk)
        return None

    def _overrun_response(self) -> Interruption | None:
        reason = f"the response body exceeds {self.response_body.limit} bytes"
        return self._overrun(Limit.RESPONSE_BODY, self.program.settings.response_body_limit_action, 500, reason)

    def process_response_body(self) -> Interruption | None:
        """Phase 4."""
        self._expect(3, 4)
        if self.interruption or self.engine is _OFF:
            return self.interruption
        if self.wants_response_body:
            body = self.response_body
            if body.decode() and (stop := self._overrun_response()):
                return stop
            if body.parse():
                self.note_limit(Limit.ARGUMENTS)
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
            self.records.commit()

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
        self.records.commit()
        return self.interruption

    def note_limit(self, limit: Limit) -> None:
        """A limit was reached; each is noted once."""
        if limit not in self.limits:
            self.limits.append(limit)

    def keeps(self, size: int) -> bool:
        """Is there room for so many bytes more of what the scan has found?  They are counted then."""
        if size > self.room:
            return False
        self.room -= size
        return True

    def _overrun(self, limit: Limit, action: LimitAction, status: int, reason: str) -> Interruption | None:
        """A body ran into a limit: refuse it, if that is what is to be done then."""
        self.note_limit(limit)
        return self.reject(status, reason) if action is LimitAction.REJECT else None

    def reject(self, status: int, reason: str) -> Interruption | None:
        """The engine's own verdict: what cannot be inspected whole does not pass.  In detection
        only it is noted in `detected`, and None is returned."""
        stop = Interruption(status, "deny", 0, reason=reason)
        if self.engine is EngineMode.ON:
            self.interruption = stop
            return stop
        self.detected = self.detected or stop
        return None

    def refuse(self, limit: Limit, reason: str) -> None:
        """In the midst of a phase: what rules look at cannot be told whole.  Phase 5 can only note it."""
        self.note_limit(limit)
        if self.interruption is None and self.phase < 5:
            self.reject(400 if self.phase < 3 else 500, reason)

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

    def request_header(self, name: bytes) -> bytes | None:
        """The first request header of that (lower-case) name."""
        return next((v for n, v in self.request_headers if n.lower() == name), None)

    def set_geo(self, record: dict[bytes, bytes]) -> None:
        self.geo = record

    def expected_records(self) -> list[tuple[str, bytes]]:
        """(collection, key) of the records that rules may open, as far as the request tells.  Ask
        between the last request header and phase 1."""
        expected = ((collection, key.expand(self)) for collection, key in self.program.record_openers)
        return list(dict.fromkeys(item for item in expected if item[1]))
