"""Rules made at random over all that a request has: what the scan finds is what each rule finds by itself."""

from __future__ import annotations

import json
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.transactions import PLAIN, make, run
from waf_core import WAF, Transaction

SETTINGS = (
    'SecRule REQUEST_HEADERS:Content-Type "@contains json" "id:9001,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"\n'
    'SecRule REQUEST_HEADERS:Content-Type "@contains xml" "id:9002,phase:1,pass,nolog,ctl:requestBodyProcessor=XML"\n'
)
TARGETS = st.lists(
    st.sampled_from([
        "ARGS", "ARGS:a", "ARGS:/^[ab]/", "ARGS|!ARGS:a", "ARGS|!ARGS:/^b/", "&ARGS", "&ARGS:a", "ARGS_NAMES", "ARGS_GET",
        "ARGS_POST:a", "ARGS_POST_NAMES", "ARGS_COMBINED_SIZE", "REQUEST_HEADERS", "REQUEST_HEADERS:X-A",
        "REQUEST_HEADERS|!REQUEST_HEADERS:Host", "REQUEST_HEADERS_NAMES", "&REQUEST_HEADERS:X-A", "REQUEST_COOKIES",
        "REQUEST_COOKIES:a", "REQUEST_COOKIES_NAMES", "REQUEST_URI", "REQUEST_FILENAME", "REQUEST_BASENAME", "QUERY_STRING",
        "REQUEST_LINE", "REQUEST_METHOD", "REQUEST_BODY", "REQUEST_BODY_LENGTH", "REQBODY_PROCESSOR", "REQBODY_ERROR",
        "XML:/*", "XML://@*", "FILES", "FILES_NAMES", "RESPONSE_BODY", "RESPONSE_HEADERS", "RESPONSE_STATUS", "TX:n",
    ]),
    min_size=1, max_size=3,
).map("|".join)  # fmt: skip
OPERATORS = st.sampled_from([
    "@rx a", "@rx ^a", "@rx a$", "@rx ^[0-9]+$", "@rx (?i)AB", "@rx ^$", "@rx (a)(b)?", "@rx [<>'\\x22;]", "!@rx ^[a-z]*$",
    "@rx a.b", "@rx \\bor\\b", "@rx ^(?:GET|POST)$", "@pm a b or", "@pm union select", "!@pm a", "@contains ab", "@streq a",
    "!@streq a", "@beginsWith a", "@endsWith b", "@within a ab abc", "@eq 1", "@gt 0", "@lt 2", "!@eq 0", "@detectSQLi",
    "@detectXSS", "@validateByteRange 32-126", "@validateUrlEncoding", "@validateUtf8Encoding", "@containsWord a",
    "@within %{tx.n}", "@contains %{request_method}",
])  # fmt: skip
CHAINS = st.lists(
    st.sampled_from([
        "lowercase", "urlDecode", "urlDecodeUni", "htmlEntityDecode", "removeWhitespace", "compressWhitespace", "trim", "length",
        "removeNulls", "cmdLine", "normalizePath", "jsDecode", "cssDecode", "hexDecode", "base64Decode", "replaceComments",
        "sha1", "hexEncode", "none", "utf8toUnicode", "escapeSeqDecode",
    ]),
    max_size=3,
).map(lambda names: "".join(f",t:{name}" for name in names))  # fmt: skip
EXTRAS = st.sampled_from(["", "", "", ",multiMatch", ",capture", ",capture,setvar:tx.n=%{TX.0}", ",setvar:tx.n=+1"])


@st.composite
def rules(draw: st.DrawFn) -> str:
    lines = []
    for number in range(1, draw(st.integers(4, 16)) + 1):
        phase = draw(st.sampled_from([1, 2, 2, 2, 4]))
        head = f"id:{number},phase:{phase},pass,log,logdata:'%{{MATCHED_VAR_NAME}}=%{{MATCHED_VAR}}',t:none"
        links = draw(st.sampled_from([1, 1, 1, 2]))
        for link in range(links):
            more = draw(CHAINS) + draw(EXTRAS) + (",chain" if link < links - 1 else "")
            lines.append(f'SecRule {draw(TARGETS)} "{draw(OPERATORS)}" "{head}{more}"')
            head = "t:none"
    return "\n".join(lines)


TEXTS = st.one_of(
    st.text("abAB01 '<>;%/+=&.\"\\\n", max_size=12),
    st.sampled_from(
        ["a", "ab", "1", "", "or", "' or 1=1--", "<script>alert(1)</script>", "union select", "a\nb", "é", "\0", "%61"]
    ),
)
PAIRS = st.lists(st.tuples(st.sampled_from(["a", "b", "A", "ab", "c"]), TEXTS), max_size=6)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, object]:
    def encoded(pairs: list[tuple[str, str]]) -> str:
        return "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs)

    headers = {"X-A": draw(TEXTS).replace("\n", " "), "Cookie": "; ".join("=".join(pair) for pair in draw(PAIRS))}
    request: dict[str, object] = {"uri": f"/{quote(draw(TEXTS))}?{encoded(draw(PAIRS))}", "headers": headers}
    kind = draw(st.sampled_from(["", "", "form", "json", "array", "xml", "multipart"]))
    if kind:
        request["method"] = "POST"
        pairs = draw(PAIRS)
        if kind == "form":
            headers["Content-Type"], body = "application/x-www-form-urlencoded", encoded(pairs)
        elif kind == "json":
            headers["Content-Type"], body = "application/json", json.dumps([dict([pair]) for pair in pairs])
        elif kind == "array":
            arrays = {text: list(range(draw(st.integers(1, 24)))) for _, text in pairs}
            headers["Content-Type"], body = "application/json", json.dumps(arrays)
        elif kind == "xml":
            texts = "".join(f'<i v="{n}">{quote(v)}</i>' for n, v in pairs)
            headers["Content-Type"], body = "text/xml", f"<r>{texts}</r>"
        else:
            headers["Content-Type"] = "multipart/form-data; boundary=b"
            parts = [f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in pairs]
            body = "".join(parts) + "--b--\r\n"
        request["body"] = body.encode()
    request["response"] = draw(TEXTS).encode()
    return request


def outcome(waf: WAF, request: dict[str, object]) -> tuple[object, ...]:
    tx: Transaction = run(waf, **request)  # type: ignore[arg-type]
    matches = [(m.rule.id, m.variable, m.value, m.data) for m in tx.matched_rules]
    return matches, {n: v for n, v in tx.tx.items() if not n.isdigit()}, tx.highest_severity


@settings(max_examples=150, deadline=None)
@given(rules(), st.lists(requests(), min_size=1, max_size=3))
def test_the_scan_finds_what_each_rule_finds(text: str, wanted: list[dict[str, object]]) -> None:
    """The requests repeat, so that what was remembered is used."""
    planned, plain = make(SETTINGS + text), make(SETTINGS + text, PLAIN)
    for request in wanted * 2:
        assert outcome(planned, request) == outcome(plain, request), request
