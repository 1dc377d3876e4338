"""What applications read of a request, rules see too: by the parsers of Python's servers.

A field that an application reads must not be a file, or part of another field, to the rules.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any

import multipart
import pytest
from django.conf import settings as django_settings
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http import QueryDict
from django.http.cookie import parse_cookie
from django.http.multipartparser import MultiPartParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from python_multipart import create_form_parser
from werkzeug.formparser import parse_form_data
from werkzeug.wrappers import Request

from waf_core.bodies.multipart import MultipartParser
from waf_core.bodies.urlencoded import parse_pairs
from waf_core.cookies import parse_cookies

if not django_settings.configured:
    django_settings.configure()

Fields = list[bytes]
"""The values of what is no file."""


def _environ(content_type: str, body: bytes) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST", "CONTENT_TYPE": content_type, "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body),
        "SERVER_NAME": "a", "SERVER_PORT": "80", "wsgi.url_scheme": "http",
    }  # fmt: skip


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _werkzeug(content_type: str, body: bytes) -> Fields:
    _, form, _ = parse_form_data(_environ(content_type, body), silent=False)
    return [_bytes(value) for _, value in form.items(multi=True)]


def _django(content_type: str, body: bytes) -> Fields:
    meta = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": len(body)}
    form, _ = MultiPartParser(meta, io.BytesIO(body), [MemoryFileUploadHandler()]).parse()
    return [_bytes(value) for _, values in form.lists() for value in values]


def _multipart(content_type: str, body: bytes) -> Fields:
    form, _ = multipart.parse_form_data(_environ(content_type, body))
    return [_bytes(value) for _, value in form.iterallitems()]


def _python_multipart(content_type: str, body: bytes) -> Fields:
    fields: Fields = []
    headers = {"Content-Type": content_type.encode("latin-1")}
    parser = create_form_parser(headers, lambda field: fields.append(field.value or b""), lambda _: None)
    parser.write(body)
    parser.finalize()
    return fields


READERS: dict[str, Callable[[str, bytes], Fields]] = {
    "werkzeug": _werkzeug, "django": _django, "multipart": _multipart, "python-multipart": _python_multipart,
}  # fmt: skip

NAMES = [
    'name="a"',
    "name=a",
    'NAME="a"',
    'name ="a"',
    'name= "a"',
    'name="a\\"b"',
    'name="a',
    "name*=utf-8''a",
    'name=""',
]
FILES = [
    "", 'filename="f"', "filename=f", 'filename=""', 'FILENAME="f"', 'filename ="f"', 'filename= "f"', "filename*=utf-8''f",
    'x=";filename=f"', 'filename="f\\"', 'filename="a;b"', "filename", "filename='f'", 'x="\\"; filename=f; y="', "filename*0=f",
]  # fmt: skip
SEPARATORS = ["; ", "; ", ";", " ;", ";\t", "; ;", ",", ";\r\n "]
DISPOSITION = st.builds(
    lambda head, kind, separator, name, file, end: (
        f"{head}{kind}{separator}{name}" + (f"{separator}{file}" if file else "") + end
    ),
    st.sampled_from(["Content-Disposition: ", "content-disposition:", "Content-Disposition : ", "Content_Disposition: "]),
    st.sampled_from(["form-data", "form-data", "Form-Data", "attachment", ""]),
    st.sampled_from(SEPARATORS), st.sampled_from(NAMES), st.sampled_from(FILES), st.sampled_from(["", "", ";", " ", "; x=y"]),
)  # fmt: skip
PART = st.builds(
    lambda delimiter, headers, value: delimiter + "".join(f"{header}\r\n" for header in headers) + "\r\n" + value,
    st.sampled_from(["--b0u\r\n", "--b0u\r\n", "--b0u\r\n", "--b0u \r\n", "--b0u\n", "\r--b0u\r\n"]),
    st.lists(DISPOSITION | st.sampled_from(["Content-Type: text/plain", "X", "X: y"]), min_size=1, max_size=2),
    st.sampled_from(["SLY", "x\r\nSLY", "SLY\r\n", "\r\n--SLY", "x--b0u\r\nContent-Disposition: form-data; name=a\r\n\r\nSLY"]),
)  # fmt: skip
FORM = st.builds(
    lambda before, parts, end: before + "\r\n".join(parts) + end,
    st.sampled_from(["", "", "", "\r\n", "x\r\n"]), st.lists(PART, min_size=1, max_size=2),
    st.sampled_from(["\r\n--b0u--\r\n", "\r\n--b0u--\r\n", "\r\n--b0u--", "\n--b0u--\n", "\r\n--b0u-- "]),
)  # fmt: skip
BODY = st.builds(
    lambda form, place, odd: (form[:place] + odd + form[place:]).encode("latin-1"),
    FORM, st.integers(0, 200), st.sampled_from(["", "", "", "\r\n", "\n", "\r", " ", "\t", '"', "\\", ";", ":", "=", "\x00", "--b0u", "-"]),
)  # fmt: skip
TYPES = [
    "multipart/form-data; boundary=b0u", "multipart/form-data; boundary=b0u", "multipart/form-data;boundary=b0u",
    'multipart/form-data; boundary="b0u"', "multipart/form-data; boundary=b0u; charset=utf-8", "Multipart/Form-Data; BOUNDARY=b0u",
]  # fmt: skip


def _rules_refuse(parser: MultipartParser) -> bool:
    """As @recommended does."""
    return parser.error is not None or parser.flags.strict_error or parser.flags.unmatched_boundary == 1


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=500, deadline=None)
@given(st.sampled_from(TYPES), BODY)
@example(TYPES[0], b'--b0u\r\nContent-Disposition: form-data; name=a; filename ="f"\r\n\r\nSLY\r\n--b0u--\r\n')
@example(TYPES[0], b'--b0u\r\nContent-Disposition: form-data;\tname=a;\tfilename="f"\r\n\r\nSLY\r\n--b0u--\r\n')
@example(TYPES[0], b'--b0u\r\nContent-Disposition: form-data; name= "a"; x=";filename=f";\r\n\r\nSLY\r\n--b0u--\r\n')
def test_fields_of_a_form_are_fields_to_the_rules(reader: str, content_type: str, body: bytes) -> None:
    parser = MultipartParser(content_type.encode(), fields_limit=20, files_limit=20)
    parser.feed(body)
    parser.close()
    if _rules_refuse(parser):
        return
    try:
        fields = READERS[reader](content_type, body)
    except Exception:  # whatever the parsers raise: the application reads nothing
        return
    for value in fields:
        assert b"SLY" not in value or any(b"SLY" in seen for _, seen in parser.fields), value


WORDS = [
    "a",
    "b=",
    "SLY",
    "%53LY",
    "\\123LY",
    "S\\LY",
    '"',
    "\\",
    ";",
    "; ",
    "&",
    "=",
    "+",
    "%",
    "%00",
    "%26",
    "[",
    ",",
    " ",
    "%ff",
]
TEXT = st.lists(st.sampled_from(WORDS), max_size=6).map("".join)


def _of_python(text: str) -> list[str]:
    """What http.cookies reads; nothing if it finds a character that it does not like."""
    try:
        return [morsel.value for morsel in SimpleCookie(text).values()]
    except CookieError:
        return []


@settings(max_examples=500, deadline=None)
@given(TEXT.map("a={}".format) | TEXT | TEXT.map('a="{}"'.format))
def test_arguments_and_cookies_are_what_applications_read(text: str) -> None:
    raw = text.encode("latin-1")
    pairs, _ = parse_pairs(raw, b"&", 100)
    environ = {**_environ("application/x-www-form-urlencoded", raw), "QUERY_STRING": text, "HTTP_COOKIE": text}
    request = Request(environ)
    read = [*request.args.values(), *request.form.values(), *(v for v in QueryDict(raw).values() if isinstance(v, str))]
    for value in read:
        assert "SLY" not in value or any(b"SLY" in seen for pair in pairs for seen in pair), value
    cookies, _ = parse_cookies(raw, b";", 100)
    for value in (*request.cookies.values(), *parse_cookie(text).values(), *_of_python(text)):
        assert "SLY" not in value or any(b"SLY" in seen for pair in cookies for seen in pair), value
