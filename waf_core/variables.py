"""Variables: what rules look at.  Each is a function from a transaction to pairs.

A pair is (key, value); scalars have the key b"".  `dynamic` variables may change while a
phase runs, because rules set them; all others are fixed for the length of a phase, which is
what lets the scan plan judge their values before the first rule is asked.

Names and meanings follow the ModSecurity reference manual, section "Variables"; names that
only Coraza has are marked.
"""

from __future__ import annotations

import base64
import binascii
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from waf_core.bodies import Pair
from waf_core.bodies.body import Body
from waf_core.bodies.xpath import ALL_TEXTS, XPath
from waf_core.limits import Limit

if TYPE_CHECKING:
    from waf_core.transaction import Transaction

Getter = Callable[["Transaction"], Sequence[Pair]]


@dataclass(frozen=True, slots=True)
class Variable:
    """`select`, where present, interprets the text after the colon itself (XPath)."""

    name: str
    get: Getter
    collection: bool
    dynamic: bool = False
    phase: int = 1
    """The first phase in which it has its value."""
    select: Callable[[Transaction, XPath], Sequence[Pair]] | None = None
    settled: int = 0
    """The first phase from which on it no longer changes, where that is not `phase`."""
    read: Callable[[Transaction], bytes] | None = None
    """The value of a scalar that is always there."""
    parts: tuple[str, ...] = ()
    """Variables that together have the same pairs, where one of them is there earlier than the others."""
    of_body: bool = False
    """It has no pairs when the request has no body."""

    @property
    def fixed_from(self) -> int:
        """The first phase from which on it does not change (for variables that are not dynamic)."""
        return self.settled or self.phase


REGISTRY: Final[dict[str, Variable]] = {}

_NO_FILE: Final = "Envoy hides the upstream's file system; there is no file behind a request here"
_NO_TIMING: Final = "timings are metrics here (envoy_waf_processing_seconds), not variables"
REFUSED: Final[dict[str, str]] = {
    **{f"SCRIPT_{n}": _NO_FILE for n in ("BASENAME", "FILENAME", "GID", "GROUPNAME", "MODE", "UID", "USERNAME")},
    **{
        f"PERF_{n}": _NO_TIMING
        for n in ("ALL", "COMBINED", "GC", "LOGGING", "RULES", "SREAD", "SWRITE", *(f"PHASE{i}" for i in range(1, 6)))
    },
}
REFUSED["STREAM_INPUT_BODY"] = "bodies are never rewritten here; use REQUEST_BODY"
REFUSED["STREAM_OUTPUT_BODY"] = "bodies are never rewritten here; use RESPONSE_BODY"
REFUSED["SDBM_DELETE_ERROR"] = "collections are in no files; envoy_waf_store_errors_total counts what Redis refuses"
REFUSED["MULTIPART_BUFFERED"] = "no such variable; use MULTIPART_STRICT_ERROR"


ALWAYS_EMPTY: Final = {
    "FILES_TMPNAMES": "is always empty: uploads are never written to files",
    "WEBSERVER_ERROR_LOG": "is always empty: there is no web server here",
    "REMOTE_HOST": "is the address: names are never looked up",
    "PATH_INFO": "is the whole path: Envoy does not know where a script ends",
}
"""Variables that have no value of their own behind Envoy, and why."""


def _scalar(
    name: str, read: Callable[[Transaction], bytes], *, dynamic: bool = False, phase: int = 1, settled: int = 0
) -> None:
    REGISTRY[name] = Variable(name, lambda tx: ((b"", read(tx)),), False, dynamic, phase, settled=settled, read=read)


def _optional(
    name: str,
    read: Callable[[Transaction], bytes | None],
    *,
    dynamic: bool = False,
    phase: int = 1,
    of_body: bool = False,
) -> None:
    """A scalar that may be absent, so that `&NAME` can be 0."""

    def get(tx: Transaction) -> Sequence[Pair]:
        value = read(tx)
        return () if value is None else ((b"", value),)

    REGISTRY[name] = Variable(name, get, False, dynamic, phase, of_body=of_body)


def _collection(
    name: str, get: Getter, *, dynamic: bool = False, phase: int = 1, settled: int = 0, parts: tuple[str, ...] = ()
) -> None:
    REGISTRY[name] = Variable(name, get, True, dynamic, phase, settled=settled, parts=parts)


def _of_body(name: str, get: Getter) -> None:
    """A collection that is filled when the request's body is parsed."""
    REGISTRY[name] = Variable(name, get, True, False, 2, of_body=True)


def _names(pairs: Sequence[Pair]) -> Sequence[Pair]:
    return [(key, key) for key, _ in pairs]


def _size(pairs: Sequence[Pair]) -> bytes:
    return b"%d" % sum([len(key) + len(value) for key, value in pairs])


def _flag(value: object) -> bytes:
    return b"1" if value else b"0"


# -- the request ---------------------------------------------------------------------------


def _auth_type(tx: Transaction) -> bytes | None:
    value = tx.request_header(b"authorization")
    return value.split(b" ", 1)[0] if value else None


def _remote_user(tx: Transaction) -> bytes | None:
    """The user name of HTTP basic authentication (RFC 7617)."""
    kind, _, credentials = (tx.request_header(b"authorization") or b"").partition(b" ")
    if kind.lower() != b"basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[0]
    except binascii.Error:
        return None


def _full_request(tx: Transaction) -> bytes:
    head = b"".join([b"%b: %b\n" % pair for pair in tx.request_headers])
    return b"%b\n%b\n%b" % (tx.request_line, head, tx.request_body.kept)


_collection("ARGS", lambda tx: tx.args, settled=2, parts=("ARGS_GET", "ARGS_POST"))
_collection("ARGS_GET", lambda tx: tx.args_get)
_of_body("ARGS_POST", lambda tx: tx.args_post)
_collection("ARGS_PATH", lambda tx: tx.args_path, dynamic=True)  # Coraza
_collection("ARGS_NAMES", lambda tx: _names(tx.args), settled=2, parts=("ARGS_GET_NAMES", "ARGS_POST_NAMES"))
_collection("ARGS_GET_NAMES", lambda tx: _names(tx.args_get))
_of_body("ARGS_POST_NAMES", lambda tx: _names(tx.args_post))
_scalar("ARGS_COMBINED_SIZE", lambda tx: _size(tx.args), settled=2)
_collection("REQUEST_HEADERS", lambda tx: tx.request_headers)
_collection("REQUEST_HEADERS_NAMES", lambda tx: _names(tx.request_headers))
_collection("REQUEST_COOKIES", lambda tx: tx.request_cookies)
_collection("REQUEST_COOKIES_NAMES", lambda tx: _names(tx.request_cookies))
_scalar("REQUEST_METHOD", attrgetter("method"))
_scalar("REQUEST_PROTOCOL", attrgetter("protocol"))
_scalar("REQUEST_LINE", attrgetter("request_line"))
_scalar("REQUEST_URI", attrgetter("uri"))
_scalar("REQUEST_URI_RAW", attrgetter("uri_raw"))
_scalar("REQUEST_FILENAME", attrgetter("filename"))
_scalar("REQUEST_BASENAME", attrgetter("basename"))
_scalar("QUERY_STRING", attrgetter("query_string"))
_scalar("PATH_INFO", attrgetter("filename"))
_optional("REQUEST_BODY", lambda tx: tx.request_body.text, phase=2, of_body=True)
_scalar("REQUEST_BODY_LENGTH", lambda tx: b"%d" % tx.request_body.length, phase=2)
_scalar("FULL_REQUEST", _full_request, phase=2)
_scalar("FULL_REQUEST_LENGTH", lambda tx: b"%d" % len(_full_request(tx)), phase=2)
_optional("AUTH_TYPE", _auth_type)
_optional("REMOTE_USER", _remote_user)
_scalar("REQBODY_PROCESSOR", attrgetter("request_body.processor"), settled=2)
for _name in ("REQBODY_ERROR", "REQBODY_PROCESSOR_ERROR"):
    _scalar(_name, lambda tx: _flag(tx.request_body.error), phase=2)
    _scalar(f"{_name}_MSG", lambda tx: tx.request_body.error.encode("utf-8", "replace"), phase=2)
_scalar("INBOUND_DATA_ERROR", lambda tx: _flag(tx.request_body.cut), phase=2)
_scalar("URLENCODED_ERROR", lambda tx: _flag(tx.urlencoded_error), settled=2)
_of_body("FILES", lambda tx: tx.request_body.files)
_of_body("FILES_NAMES", lambda tx: tx.request_body.file_names)
_of_body("FILES_SIZES", lambda tx: tx.request_body.file_sizes)
_of_body("FILES_TMP_CONTENT", lambda tx: tx.request_body.file_contents)
_collection("FILES_TMPNAMES", lambda tx: (), phase=2)
_scalar("FILES_COMBINED_SIZE", lambda tx: b"%d" % sum([int(size) for _, size in tx.request_body.file_sizes]), phase=2)
_of_body("MULTIPART_PART_HEADERS", lambda tx: tx.request_body.part_headers)
_of_body("MULTIPART_FILENAME", lambda tx: tx.request_body.files)
_of_body("MULTIPART_NAME", lambda tx: tx.request_body.file_names)


def _multipart_flag(name: str, attribute: str) -> None:
    _scalar(name, lambda tx: b"%d" % int(getattr(tx.request_body.flags, attribute)), phase=2)


for _name in (
    "boundary_quoted", "boundary_whitespace", "data_before", "data_after", "header_folding", "lf_line",
    "crlf_lf_lines", "missing_semicolon", "invalid_quoting", "invalid_part", "invalid_header_folding",
    "file_limit_exceeded", "unmatched_boundary", "strict_error",
):  # fmt: skip
    _multipart_flag(f"MULTIPART_{_name.upper()}", _name)
_multipart_flag("MULTIPART_SEMICOLON_MISSING", "missing_semicolon")


def _texts(tx: Transaction, body: Body, xpath: XPath) -> Sequence[Pair]:
    values, whole = body.xml_values(xpath)
    if not whole:
        tx.refuse(Limit.XPATH, f"{xpath.text[:200]} finds more than is looked at, or cannot be told")
    return [(b"", text) for text in values]


def _request_texts(tx: Transaction, xpath: XPath) -> Sequence[Pair]:
    return _texts(tx, tx.request_body, xpath)


def _response_texts(tx: Transaction, xpath: XPath) -> Sequence[Pair]:
    return _texts(tx, tx.response_body, xpath)


for _name in ("XML", "REQUEST_XML"):
    REGISTRY[_name] = Variable(
        _name, lambda tx: _request_texts(tx, ALL_TEXTS), True, False, 2, _request_texts, of_body=True
    )
_of_body("JSON", lambda tx: tx.args_post if tx.request_body.processor == b"JSON" else ())

# -- the connection ------------------------------------------------------------------------

_scalar("REMOTE_ADDR", attrgetter("client_ip"))
_scalar("REMOTE_HOST", attrgetter("client_ip"))
_scalar("REMOTE_PORT", lambda tx: b"%d" % tx.client_port)
_scalar("USERAGENT_IP", attrgetter("client_ip"))
_scalar("SERVER_ADDR", attrgetter("server_ip"))
_scalar("SERVER_PORT", lambda tx: b"%d" % tx.server_port)
_scalar("SERVER_NAME", attrgetter("server_name"))
_collection("GEO", lambda tx: list(tx.geo.items()), dynamic=True)

# -- the response --------------------------------------------------------------------------


def _response_length(tx: Transaction) -> bytes:
    return tx.response_header(b"content-length") or b"%d" % tx.response_body.length


_collection("RESPONSE_HEADERS", lambda tx: tx.response_headers, phase=3)
_collection("RESPONSE_HEADERS_NAMES", lambda tx: _names(tx.response_headers), phase=3)
_scalar("RESPONSE_STATUS", lambda tx: b"%d" % tx.response_status, phase=3)
_scalar("RESPONSE_PROTOCOL", attrgetter("response_protocol"), phase=3)
_scalar("STATUS_LINE", lambda tx: b"%b %d" % (tx.response_protocol, tx.response_status), phase=3)
_scalar("RESPONSE_CONTENT_TYPE", lambda tx: tx.response_header(b"content-type"), phase=3)
_scalar("RESPONSE_CONTENT_LENGTH", _response_length, phase=3, settled=4)
_optional("RESPONSE_BODY", lambda tx: tx.response_body.text, phase=4)
_collection("RESPONSE_ARGS", lambda tx: tx.response_body.arguments, phase=4)  # Coraza, as RES_BODY_...
_scalar("RES_BODY_PROCESSOR", attrgetter("response_body.processor"), phase=4)
for _name in ("RES_BODY_ERROR", "RES_BODY_PROCESSOR_ERROR"):
    _scalar(_name, lambda tx: _flag(tx.response_body.error), phase=4)
    _scalar(f"{_name}_MSG", lambda tx: tx.response_body.error.encode("utf-8", "replace"), phase=4)
REGISTRY["RESPONSE_XML"] = Variable(
    "RESPONSE_XML",
    lambda tx: _response_texts(tx, ALL_TEXTS),
    True,
    False,
    4,
    _response_texts,
)
_scalar("OUTBOUND_DATA_ERROR", lambda tx: _flag(tx.response_body.cut), phase=4)

# -- the transaction -----------------------------------------------------------------------


def _current_rule(tx: Transaction) -> Sequence[Pair]:
    """id, rev, severity, logdata and msg of the rule that is running."""
    unit = tx.current_unit
    if unit is None:
        return ()
    info = unit.info
    return (
        (b"id", b"%d" % info.id),
        (b"rev", info.revision.encode()),
        (b"severity", b"" if info.severity is None else b"%d" % info.severity),
        (b"logdata", unit.data.text if unit.data else b""),
        (b"msg", unit.message.text if unit.message else b""),
    )


_collection("TX", lambda tx: list(tx.tx.items()), dynamic=True)
_collection("GLOBAL", lambda tx: tx.records.pairs("GLOBAL"), dynamic=True)
_collection("IP", lambda tx: tx.records.pairs("IP"), dynamic=True)
_collection("RESOURCE", lambda tx: tx.records.pairs("RESOURCE"), dynamic=True)
_collection("SESSION", lambda tx: tx.records.pairs("SESSION"), dynamic=True)
_collection("USER", lambda tx: tx.records.pairs("USER"), dynamic=True)
_collection("ENV", lambda tx: list({**PROCESS_ENVIRONMENT, **tx.env}.items()), dynamic=True)
_collection("RULE", _current_rule, dynamic=True)
_scalar("MATCHED_VAR", attrgetter("matched_var"), dynamic=True)
_scalar("MATCHED_VAR_NAME", attrgetter("matched_var_name"), dynamic=True)
_collection("MATCHED_VARS", lambda tx: tx.matched_vars, dynamic=True)
_collection("MATCHED_VARS_NAMES", lambda tx: [(name, name) for name, _ in tx.matched_vars], dynamic=True)
_optional("HIGHEST_SEVERITY", lambda tx: b"%d" % tx.highest_severity, dynamic=True)
_scalar("UNIQUE_ID", lambda tx: tx.id.encode())
_scalar("MSC_PCRE_LIMITS_EXCEEDED", lambda tx: _flag(Limit.RX_TIME in tx.limits), dynamic=True)
_scalar("MSC_PCRE_ERROR", lambda tx: _flag(Limit.RX_TIME in tx.limits or Limit.RX_INVALID in tx.limits), dynamic=True)
_scalar("SESSIONID", attrgetter("session_id"), dynamic=True)
_scalar("USERID", attrgetter("user_id"), dynamic=True)
_scalar("WEBAPPID", lambda tx: tx.program.settings.web_app_id.encode())
_scalar("WEBSERVER_ERROR_LOG", lambda tx: b"")
_scalar("MODSEC_BUILD", lambda tx: b"030000")
_scalar("DURATION", lambda tx: b"%d" % ((time.monotonic_ns() - tx.started_ns) // 1_000_000), dynamic=True)


def _time(name: str, pattern: str) -> None:
    _scalar(name, lambda tx: time.strftime(pattern, time.localtime()).encode(), dynamic=True)


_time("TIME", "%H:%M:%S")
_time("TIME_DAY", "%d")
_time("TIME_HOUR", "%H")
_time("TIME_MIN", "%M")
_time("TIME_MON", "%m")
_time("TIME_SEC", "%S")
_time("TIME_YEAR", "%Y")
_scalar("TIME_EPOCH", lambda tx: b"%d" % time.time(), dynamic=True)
_scalar("TIME_WDAY", lambda tx: b"%d" % int(time.strftime("%w", time.localtime())), dynamic=True)

PROCESS_ENVIRONMENT: Final[dict[bytes, bytes]] = {key.lower(): value for key, value in os.environb.items()}
"""ENV starts from the sidecar's own environment, as in ModSecurity."""
