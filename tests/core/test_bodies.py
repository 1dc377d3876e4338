"""Body processors, their flags and limits, and what rules see of them."""

from __future__ import annotations

import json
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.core.transactions import ids, make, run
from waf_core.bodies.json import parse_json
from waf_core.bodies.multipart import MultipartParser
from waf_core.bodies.paths import TOO_MUCH, allowance
from waf_core.bodies.urlencoded import parse_pairs
from waf_core.bodies.xml import MAX_MIXED, MAX_NODES, XmlDocument
from waf_core.bodies.xpath import XPath
from waf_core.compiler import CompileOptions

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
XML = {"Content-Type": "text/xml"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b0undary"}
PROCESSORS = (
    'SecRule REQUEST_HEADERS:Content-Type "@contains json" "id:90,phase:1,nolog,pass,ctl:requestBodyProcessor=JSON"\n'
    'SecRule REQUEST_HEADERS:Content-Type "@contains xml" "id:91,phase:1,nolog,pass,ctl:requestBodyProcessor=XML"\n'
)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        (b"a=1&b=2", [(b"a", b"1"), (b"b", b"2")]),
        (b"a", [(b"a", b"")]),
        (b"=v", [(b"", b"v")]),
        (b"&&a=1&", [(b"a", b"1")]),
        (b"a=1=2", [(b"a", b"1=2")]),
        (b"a%3d=%26+x", [(b"a=", b"& x")]),
        (b"a=%zz%", [(b"a", b"%zz%")]),
        (b"a=\x00\xff", [(b"a", b"\x00\xff")]),
        (b"", []),
    ],
)
def test_urlencoded(text: bytes, pairs: list[tuple[bytes, bytes]]) -> None:
    assert parse_pairs(text, b"&", 100) == (pairs, False)


@pytest.mark.parametrize("end", ["", "; charset=utf-8", ", x", " x", "x", "\t"])
def test_what_the_type_of_a_form_begins_with_decides(end: str) -> None:
    """PHP cuts the type at `;`, `,` and blanks, ModSecurity compares its beginning."""
    for kind in ("application/x-www-form-urlencoded", "  Application/X-WWW-Form-Urlencoded"):
        rule = 'SecRule ARGS:a "@streq evil" "id:1,phase:2,deny"'
        assert run(rule, method="POST", headers={"Content-Type": kind + end}, body=b"a=evil").interruption


def test_urlencoded_limit_ignores_empty_pieces() -> None:
    assert parse_pairs(b"a&&&b", b"&", 2) == ([(b"a", b""), (b"b", b"")], False)
    assert parse_pairs(b"a&b&c", b"&", 2) == ([(b"a", b""), (b"b", b"")], True)


@given(st.lists(st.sampled_from([*b"&;=%+236dDbB x"]), max_size=30).map(bytes), st.sampled_from([b"&", b";"]))
def test_pairs_are_split_before_they_are_decoded(text: bytes, separator: bytes) -> None:
    def decoded(piece: bytes) -> bytes:
        return unquote_to_bytes(piece.replace(b"+", b" "))

    cut = [piece.partition(b"=") for piece in text.split(separator) if piece]
    assert parse_pairs(text, separator, 100) == ([(decoded(name), decoded(value)) for name, _, value in cut], False)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        (b'{"a": "x"}', [(b"json.a", b"x")]),
        (b'{"a": [1, {"b": 2.50}]}', [(b"json.a", b"2"), (b"json.a.0", b"1"), (b"json.a.1.b", b"2.50")]),
        (b'{"a": "x", "a": "y"}', [(b"json.a", b"x"), (b"json.a", b"y")]),
        (b"[true, false, null]", [(b"json.0", b"true"), (b"json.1", b"false"), (b"json.2", b"")]),
        (b'"x"', [(b"json", b"x")]),
        (b'{"a": {}, "b": []}', [(b"json.a", b""), (b"json.b", b"0")]),
        (b'\xef\xbb\xbf{"a": 1}', [(b"json.a", b"1")]),
        (b'{"a": "\\u00e4\\ud83d\\ude00"}', [(b"json.a", "ä😀".encode())]),
        (b'{"a": "\xff"}', [(b"json.a", b"\xff")]),
        (
            b'{"k": 1, "\xff": "\\ud800", "b": "\xc3\xa4"}',
            [(b"json.k", b"1"), (b"json.\xff", b"\xed\xa0\x80"), (b"json.b", "ä".encode())],
        ),
        (b'{"a": "line\nbreak"}', [(b"json.a", b"line\nbreak")]),
        (b'{"a": 1e400}', [(b"json.a", b"1e400")]),
        (b"  ", []),
    ],
)
def test_json(text: bytes, pairs: list[tuple[bytes, bytes]]) -> None:
    assert parse_json(text, 100, 100) == (pairs, False, None)


@pytest.mark.parametrize(
    "text", [b"{", b'{"a" 1}', b"{} x", b"NaN", b"[Infinity]", b"{'a': 1}", b"\xff\xfe{\x00}\x00", b"[" * 5000, b"\x00"]
)
def test_json_errors_are_told(text: bytes) -> None:
    assert parse_json(text, 100, 100)[2]


def test_json_depth_limit() -> None:
    assert parse_json(b"[" * 20 + b"]" * 20, 20, 100)[2] is None
    assert "nested deeper" in str(parse_json(b"[" * 21 + b"]" * 21, 20, 100)[2])


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7])
def test_json_yields_no_more_than_the_limit_and_says_so(limit: int) -> None:
    text = b'[[1, 2], {"a": {}}, [], "x"]'
    everything = [
        (b"json.0", b"2"), (b"json.0.0", b"1"), (b"json.0.1", b"2"), (b"json.1.a", b""), (b"json.2", b"0"),
        (b"json.3", b"x"),
    ]  # fmt: skip
    assert parse_json(text, 100, 100) == (everything, False, None)
    assert parse_json(text, 100, limit) == (everything[:limit], limit < len(everything), None)


def test_json_lone_surrogate_is_kept_visible() -> None:
    ((_, value),) = parse_json(b'["\\ud800<script>"]', 10, 10)[0]
    assert value.endswith(b"<script>")


@pytest.mark.parametrize(
    "document",
    [
        {"k" * 5000: [1]},
        {"k" * 3000: list(range(900))},
        {"it's (odd)" * 10: list(range(900))},
        {"{odd}" * 5: list(range(900))},
        {"a": {"k" * 2000: {"b" * 2100: {"c": 1}}}},
        {"<script>": list(range(500))},
    ],
)
def test_json_names_are_bounded_by_the_size_of_the_document(document: dict[str, object]) -> None:
    """One key in the names of a thousand arguments: 100 kB of body were 100 MB of names."""
    body = json.dumps(document).encode()
    pairs, overflow, error = parse_json(body, 100, 1000)
    assert not overflow
    assert error == TOO_MUCH
    assert sum(len(name) for name, _ in pairs) <= allowance(len(body)) + len(body)


@pytest.mark.parametrize(
    "document",
    [
        {"k" * 60_000: 1},
        {"data": {"items": {"values": list(range(900))}}},
        {"type": "F", "features": [{"geometry": {"coordinates": [[[i % 9, i % 7] for i in range(200)]]}}]},
        {f"It's the message no. {i} (with %s)": {"translation": "x" * 20, "context": "menu"} for i in range(300)},
        {f"http://schema.org/name{i}": [{"@value": "a", "@language": "en"}] for i in range(200)},
        [{"id": i, "name": "Ada", "tags": ["a", "b"]} for i in range(150)],
        {"O'Brien": {"a": 1, "b": 2, "c": 3}},
        {"data": [{"Temperature (\u00b0C)": [20 + i % 7 / 10 for i in range(300)], "Growth (%)": [None] * 300}]},
        {"<b>": [None] * 20},
    ],
)
def test_json_as_applications_send_it_is_within_the_bounds(document: object) -> None:
    pairs, overflow, error = parse_json(json.dumps(document).encode(), 100, 1000)
    assert (overflow, error) == (False, None)
    assert pairs


def test_xml_names_are_bounded_too() -> None:
    for name, error in (("k" * 3000, True), ("name", False)):
        document = XmlDocument(f"<a><{name}>{'<b>1</b>' * 900}</{name}></a>".encode())
        pairs = document.arguments()
        assert (document.error is not None) is error
        assert error or len(pairs) == 900


def test_xml_arguments_are_bounded_in_number() -> None:
    assert len(XmlDocument(b"<a>" + b"<b/>" * (MAX_NODES + 1) + b"</a>").arguments()) == MAX_NODES


def test_xml_that_mixes_text_and_elements_is_bounded() -> None:
    """An element's whole text counts, and that of the element around it, and so on."""
    body = b"<a>x" * 200 + b"y" * 100_000 + b"</a>" * 200
    document = XmlDocument(body)
    assert document.error == "XML mixes text and elements on too many levels"
    assert sum(map(len, document.texts)) <= (MAX_MIXED + 2) * len(body)
    assert XmlDocument(b"<p>one <b>two <i>three</i> four</b> five</p>").error is None


def test_xml_with_too_many_nodes_is_an_error() -> None:
    """What is beyond the limit is not judged, so rules have to know."""
    assert XmlDocument(b"<a>" + b"<b>x</b>" * 100_001 + b"</a>").error == "XML has more than 100000 text nodes"
    attributes = b"".join(b"<b c='1'/>" for _ in range(100_001))
    assert XmlDocument(b"<a>" + attributes + b"</a>").error == "XML has more than 100000 attributes"


def test_xml_texts_and_attributes() -> None:
    document = XmlDocument(b"<a x='1'>one<b y='2'>two</b>three<!--c--></a>")
    assert document.error is None
    assert {b"one", b"two", b"three", b"onetwothree"} <= set(document.texts)
    assert document.attributes == [b"1", b"2"]
    assert document.find(XPath("//b/text()")) == ([b"two"], True)
    assert document.find(XPath("count(//b)")) == ([b"1.0"], True)
    assert document.find(XPath("//b[nonsense()]")) == ([], False)


@pytest.mark.parametrize(
    "text",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b"<a>",
        b"",
        b"\x00",
        b"<a>" * 400 + b"</a>" * 400,
    ],
)
def test_xml_that_is_refused(text: bytes) -> None:
    assert XmlDocument(text).error


def test_xml_entities_are_never_loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("x") / "secret"
    secret.write_text("TOP-SECRET")
    document = XmlDocument(f'<!DOCTYPE a [<!ENTITY b SYSTEM "file://{secret}">]><a>&b;</a>'.encode())
    assert b"TOP-SECRET" not in b"".join(document.texts)


def part(name: str, value: str, filename: str | None = None, end: str = "\r\n") -> str:
    file = f'; filename="{filename}"' if filename is not None else ""
    return f'--b0undary{end}Content-Disposition: form-data; name="{name}"{file}{end}{end}{value}{end}'


def parse(body: str | bytes, content_type: str = MULTIPART["Content-Type"], step: int = 10**6) -> MultipartParser:
    data = body if isinstance(body, bytes) else body.encode()
    parser = MultipartParser(content_type.encode(), fields_limit=10, files_limit=2, keep_files=True)
    for start in range(0, len(data), step):
        parser.feed(data[start : start + step])
    parser.close()
    return parser


GOOD = part("a", "1") + part("f", "content\r\nof file", "x.txt") + part("b", "") + "--b0undary--\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50, 10**6])
def test_multipart_in_pieces_of_any_size(step: int) -> None:
    parser = parse(GOOD, step=step)
    assert parser.error is None
    assert not parser.flags.strict_error
    assert parser.flags.unmatched_boundary == 0
    assert parser.fields == [(b"a", b"1"), (b"b", b"")]
    assert parser.files == [(b"f", b"x.txt")]
    assert parser.file_contents == [(b"f", b"content\r\nof file")]
    assert parser.file_sizes == [(b"f", b"16")]


@pytest.mark.parametrize(
    ("body", "flag"),
    [
        ("junk\r\n" + GOOD, "data_before"),
        (GOOD + "junk", "data_after"),
        (GOOD.replace("\r\n", "\n"), "lf_line"),
        (GOOD.replace("; name=", ";\r\n name="), "header_folding"),
        (part("a", "1").replace("form-data", "attachment") + "--b0undary--\r\n", "invalid_part"),
        (part("a", "1").replace('name="a"', "name='a'") + "--b0undary--\r\n", "invalid_quoting"),
        (part("a", "1").replace('name="a"', 'name="a') + "--b0undary--\r\n", "invalid_quoting"),
        (part("f", "1", "a") + part("f", "1", "b") + part("f", "1", "c") + "--b0undary--\r\n", "file_limit_exceeded"),
        ("--b0undary\r\n\r\nx\r\n--b0undary--\r\n", "invalid_part"),
        (part("a", "1").replace("name=", "name=x; name=") + "--b0undary--\r\n", "invalid_part"),
        (part("a", "1").replace("Disposition:", "Disposition :") + "--b0undary--\r\n", "invalid_part"),
        (part("a", "1").replace("name=", "name*=utf-8''x; name=") + "--b0undary--\r\n", "invalid_part"),
        (part("a", "1").replace("name=", "filename*0=x; filename*1=.php; name=") + "--b0undary--\r\n", "invalid_part"),
        (part("a", "1").replace("name=", "filename*=utf-8''x; name=") + "--b0undary--\r\n", "invalid_part"),
        (part("a", "1", "x").replace('"x"', "x; filename*=utf-16''x") + "--b0undary--\r\n", "invalid_part"),
    ],
)
def test_multipart_oddities_set_flags(body: str, flag: str) -> None:
    parser = parse(body)
    assert getattr(parser.flags, flag)
    assert parser.flags.strict_error


@pytest.mark.parametrize(
    ("disposition", "certain"),
    [
        ('form-data; name="f"; filename="x"', True),
        ("form-data; name=f; filename=x.txt", True),
        ('form-data;name="f";filename="x;y \'z\'"', True),
        ("form-data; name=f; filename=x; filename*=utf-8''x%20y", True),
        # PHP and Werkzeug read no file name where a blank is beside the `=`, multipart none behind a tab.
        ('form-data; name="f"; filename ="x"', False),
        ('form-data; name="f"; filename= "x"', False),
        ('form-data; name="f";\tfilename="x"', False),
        ('form-data; filename="x";name="f"', False),
        ('form-data; name="f"; filename="x";', False),
        ('form-data; name="f"; filename="x\\""', False),
        ('form-data; name="f"; filename="x"; y=z', False),
        ('form-data; name="f"; y=";filename=x";', None),
        ('form-data; name="f"; y=";filename=x"', None),
    ],
)
def test_what_may_be_a_field_to_some_servers_is_judged_as_one(disposition: str, certain: bool | None) -> None:
    """None: it is a field to all."""
    body = f"--b0undary\r\nContent-Disposition: {disposition}\r\n\r\nevil\r\n--b0undary--\r\n"
    parser = parse(body)
    assert not parser.flags.strict_error
    assert parser.fields == ([] if certain else [(b"f", b"evil")])
    assert len(parser.files) == (0 if certain is None else 2 if "*" in disposition else 1)
    assert parser.file_bytes == (4 if certain else 0)


def test_all_names_of_a_file_are_judged() -> None:
    escaped = part("f", "x", "shell.ph\\p") + "--b0undary--\r\n"
    assert parse(escaped).files == [(b"f", b"shell.ph\\p"), (b"f", b"shell.php")]  # Werkzeug's
    extended = part("f", "x", "a.txt").replace('"a.txt"', "\"a.txt\"; filename*=UTF-8'en'%65.php") + "--b0undary--\r\n"
    assert parse(extended).files == [(b"f", b"a.txt"), (b"f", b"e.php")]


@pytest.mark.parametrize("header", ["", "Content-Type:\r\n", "Content-Type: text/plain\r\n", "X: y\r\n"])
def test_files_without_a_type_may_be_fields(header: str) -> None:
    """formidable (Node.js) goes by nothing else."""
    rules = 'SecRule ARGS:f "@streq evil" "id:1,phase:2,deny"\n'
    body = part("f", "evil", "x").replace('"x"\r\n', f'"x"\r\n{header}') + "--b0undary--\r\n"
    for wanted in (False, True):
        waf = make(rules, CompileOptions(untyped_files_as_fields=wanted))
        stopped = run(waf, method="POST", headers=MULTIPART, body=body.encode()).interruption is not None
        assert stopped == (wanted and "text" not in header)


@pytest.mark.parametrize("step", [1, 5, 10**6])
@pytest.mark.parametrize(
    "odd",
    [
        part("f", "x--b0undary\r\nContent-Disposition: form-data; name=a\r\n\r\nevil", "x"),
        part("f", "x\r--b0undary\r\nContent-Disposition: form-data; name=a\r\n\r\nevil", "x"),
        part("f", "x", "x--b0undary"),
        part("a", "x--b0undary"),
        part("a", "x").replace("y\r\n", "y \r\n"),
    ],
)
def test_a_boundary_within_a_line_is_no_boundary_to_all(odd: str, step: int) -> None:
    """Django takes it for one, and what comes behind it for another part."""
    assert parse(odd + "--b0undary--\r\n", step=step).flags.unmatched_boundary == 1


@pytest.mark.parametrize(
    ("content_type", "flag", "error"),
    [
        ('multipart/form-data; boundary="b0undary"', "boundary_quoted", False),
        ("multipart/form-data; boundary= b0undary", "boundary_whitespace", False),
        ("multipart/form-data boundary=b0undary", "missing_semicolon", False),
        ('multipart/form-data; boundary="b0undary', "invalid_quoting", True),
        ("multipart/form-data", "", True),
        ("multipart/form-data; boundary=a; boundary=b0undary", "", True),
        ("multipart/form-data; boundary=", "", True),
        ("multipart/form-data; boundary=b\xe9", "", True),
        # PHP ends a boundary at a comma, and begins with the first word that has "boundary" in it.
        ("multipart/form-data; boundary=b0undary,x", "", True),
        ("multipart/form-data; xboundary=evil; boundary=b0undary", "", True),
        ("multipart/form-data; type=xboundary=evil; boundary=b0undary", "", True),
        ("multipart/form-data; boundaryx; y=evil; boundary=b0undary", "", True),
        ("multipart/form-data; boundary*=evil; boundary=b0undary", "", True),
        ("multipart/form-data; boundary=b0undary; xboundary=evil", "", True),
        ("multipart/form-data; Boundary=a-boundary; x=evil", "", True),
        ("multipart/form-data; boundary=b0undary; charset=utf-8", "", False),
        # Others take what is in brackets for a comment, or a backslash for an escape.
        ("multipart/form-data; boundary=b0undary(x)", "", True),
        ('multipart/form-data; boundary="b0und\\ary"', "", True),
    ],
)
def test_multipart_boundaries(content_type: str, flag: str, error: bool) -> None:
    parser = parse(GOOD, content_type)
    assert bool(parser.error) is error
    assert not flag or getattr(parser.flags, flag)


@pytest.mark.parametrize(
    "boundary",
    [
        "----WebKitFormBoundaryABCdef0123456789", "---------------------------41184676334", "------------------------1f",
        "----=_Part_0_1234.5678", "b9580d4d-a2ff-4e2d-8a2c-4a8b6d5a1f3c", "===============0123456789==",
        "----geckoformboundary1f2e", "----formdata-undici-012345678901", "axios-1.7.2-boundary-x_Y",
    ],
)  # fmt: skip
def test_multipart_boundaries_of_clients_in_use(boundary: str) -> None:
    parser = parse(GOOD.replace("b0undary", boundary), f"multipart/form-data; boundary={boundary}")
    assert parser.error is None
    assert not parser.flags.strict_error


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (GOOD, 0),
        (part("f", "--x\r\n-----BEGIN CERTIFICATE-----", "a.pem") + "--b0undary--\r\n", 2),
        (part("a", "1"), 1),
        (part("a", "1") + "--other--\r\n", 1),
    ],
)
def test_multipart_unmatched_boundary(body: str, expected: int) -> None:
    assert parse(body).flags.unmatched_boundary == expected


def test_multipart_file_without_a_name_is_a_field_too() -> None:
    """To Go's mime/multipart it is nothing else; a browser sends an empty one where no file was chosen."""
    parser = parse(part("a", "1", "x.txt") + part("b", "evil", "") + "--b0undary--\r\n")
    assert parser.files == [(b"a", b"x.txt"), (b"b", b"")]
    assert parser.fields == [(b"b", b"evil")]
    assert parser.file_bytes == 1
    assert parse(part("b", "", "") + "--b0undary--\r\n").fields == []


def test_multipart_keeps_windows_paths_and_unquotes() -> None:
    parser = parse(part("f", "x", 'C:\\\\tmp\\a\\".php') + "--b0undary--\r\n")
    assert parser.files[0] == (b"f", b'C:\\tmp\\a".php')


@given(st.binary(max_size=400), st.integers(1, 50))
def test_multipart_never_raises(data: bytes, step: int) -> None:
    parse(data, step=step)
    parse(b"--b0undary\r\n" + data + b"\r\n--b0undary--", step=step)


_PIECES = [
    "\r\n",
    "\n",
    "--",
    "-",
    "--b0undary",
    "--b0undary--",
    "Content-Disposition: form-data; name=a",
    ": x",
    "y" * 60,
]


@given(st.lists(st.sampled_from([*_PIECES, part("a", "1"), part("f", "x", "g")]), max_size=12), st.integers(1, 40))
@example([part("f", "z" * 37 + "\r\n--x", "g"), "--b0undary--"], 3)
def test_multipart_is_the_same_wherever_it_is_cut(pieces: list[str], step: int) -> None:
    body = "".join(pieces)
    whole, cut = parse(body), parse(body, step=step)
    assert (cut.flags, cut.error, cut.fields, cut.file_contents) == (
        whole.flags, whole.error, whole.fields, whole.file_contents
    )  # fmt: skip


@pytest.mark.parametrize("step", [100, 10**6])
def test_multipart_lines_have_a_limit(step: int) -> None:
    for body in ("x" * 8193 + "\r\n" + GOOD, GOOD.replace("; name=", ";" + " " * 8192 + "name=", 1)):
        assert parse(body, step=step).error == "Multipart: a line is too long"


@given(st.binary(max_size=300))
def test_other_processors_never_raise(data: bytes) -> None:
    parse_json(data, 50, 50)
    parse_pairs(data, b"&", 50)
    XmlDocument(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_every_json_string_is_some_argument(value: object) -> None:
    pairs, overflow, error = parse_json(json.dumps(value).encode(), 100, 10_000)
    assume(error != TOO_MUCH)
    assert error is None
    assert not overflow

    def leaves(item: object) -> list[str]:
        if isinstance(item, dict):
            return [leaf for member in item.values() for leaf in leaves(member)]
        if isinstance(item, list):
            return [leaf for member in item for leaf in leaves(member)]
        return [item] if isinstance(item, str) else []

    values = {v.decode("utf-8", "surrogatepass") for _, v in pairs}
    assert set(leaves(value)) <= values


# -- through rules ---------------------------------------------------------------------------

MATCH = 'SecRule ARGS|REQUEST_BODY|XML:/*|XML://@*|FILES "@contains evil" "id:1,phase:2,deny"\n'


@pytest.mark.parametrize(
    ("headers", "body", "variable"),
    [
        (FORM, b"a=evil", "ARGS:a"),
        (JSON, b'{"a": ["evil"]}', "ARGS:json.a.0"),
        (XML, b"<a>evil</a>", "XML"),
        (XML, b"<a b='evil'/>", "XML"),
        (MULTIPART, part("f", "x", "evil.php").encode() + b"--b0undary--\r\n", "FILES:f"),
        (JSON, b'{"a": evil', "REQUEST_BODY"),
    ],
)
def test_rules_see_bodies(headers: dict[str, str], body: bytes, variable: str) -> None:
    tx = run(PROCESSORS + MATCH, method="POST", headers=headers, body=body)
    (matched,) = tx.matched_rules
    assert variable in [name.decode() for name, _ in matched.matches]


def test_forced_request_body() -> None:
    text = {"Content-Type": "text/plain"}
    assert ids(run(MATCH, method="POST", headers=text, body=b"evil")) == []
    for ctl in ("forceRequestBodyVariable=On", "requestBodyProcessor=RAW"):
        force = f'SecAction "id:9,phase:1,nolog,pass,ctl:{ctl}"\n'
        assert ids(run(force + MATCH, method="POST", headers=text, body=b"evil")) == [1]


@pytest.mark.parametrize(
    ("setting", "matched"),
    [
        ("", []),
        ("SecParseXmlIntoArgs On", [1]),
        ("SecParseXmlIntoArgs onlyArgs", [1]),
        ('SecAction "id:2,phase:1,pass,nolog,ctl:parseXmlIntoArgs=on"', [1]),
        ('SecParseXmlIntoArgs On\nSecAction "id:2,phase:1,pass,nolog,ctl:parseXmlIntoArgs=Off"', []),
    ],
)
def test_xml_becomes_arguments_where_it_is_wanted(setting: str, matched: list[int]) -> None:
    rules = f'{PROCESSORS}{setting}\nSecRule ARGS:xml.a.b "@streq evil" "id:1,phase:2,pass,log"'
    assert ids(run(rules, method="POST", headers=XML, body=b"<a><b>evil</b></a>")) == matched


def test_request_body_limit_rejects_with_413() -> None:
    stop = run("SecRequestBodyLimit 10", method="POST", headers=FORM, body=b"a=" + b"x" * 20).interruption
    assert stop is not None
    assert (stop.status, stop.rule_id) == (413, 0)
    assert "exceeds 10 bytes" in stop.reason


def test_request_body_limit_can_judge_the_beginning() -> None:
    rules = (
        "SecRequestBodyLimit 10\nSecRequestBodyLimitAction ProcessPartial\n"
        'SecRule INBOUND_DATA_ERROR "@eq 1" "id:2,phase:2,pass,log"\n'
    )
    tx = run(rules + MATCH, method="POST", headers=FORM, body=b"a=evil&b=xxxxxxxxxxx")
    assert ids(tx) == [2, 1]


def test_the_limit_of_files_counts_files_and_bounds_their_names() -> None:
    start, end = '--b0undary\r\nContent-Disposition: form-data; name="f"; ', "--b0undary--\r\n"
    two_names = start + "filename=\"a\"; filename*=utf-8''b\r\n\r\n1\r\n"
    parser = parse(two_names * 2 + end)
    assert parser.error is None
    assert parser.files == [(b"f", b"a"), (b"f", b"b")] * 2
    assert parse(two_names * 3 + end).flags.file_limit_exceeded
    many_names = start + "; ".join(f'filename="{i}\\x"' for i in range(9)) + "\r\n\r\n1\r\n"
    parser = parse(many_names + end)
    assert (len(parser.files), len(parser.file_sizes)) == (10, 1)
    assert parse(many_names * 2 + end).flags.file_limit_exceeded


@pytest.mark.parametrize("rule", ["", 'SecRule FULL_REQUEST "@contains never" "id:2,phase:2,pass"'])
def test_no_files_limit_counts_only_fields(rule: str) -> None:
    """Also where a rule needs the raw body of uploads."""
    rules = f"SecRequestBodyNoFilesLimit 300\n{rule}"
    file = part("f", "x" * 5000, "x.bin").encode() + b"--b0undary--\r\n"
    assert run(rules, method="POST", headers=MULTIPART, body=file).interruption is None
    field = part("f", "x" * 5000).encode() + b"--b0undary--\r\n"
    stop = run(rules, method="POST", headers=MULTIPART, body=field).interruption
    assert stop is not None
    assert stop.status == 413


def test_more_arguments_than_the_limit_never_pass_unseen() -> None:
    rules = "SecArgumentsLimit 3\n"
    assert run(rules, "/?a&b&c").interruption is None
    for tx in (
        run(rules, "/?a&b&c&d"),
        run(rules, "/?a&b", method="POST", headers=FORM, body=b"c&d"),
        run(rules + PROCESSORS, method="POST", headers=JSON, body=b"[1,2,3,4]"),
    ):
        assert tx.interruption is not None
        assert tx.interruption.status == 400
        assert tx.limits == ["arguments"]


@pytest.mark.parametrize(("engine", "matched", "told"), [("DetectionOnly", [1, 2], True), ("Off", [], False)])
def test_a_request_past_a_limit_is_judged_where_it_is_not_refused(engine: str, matched: list[int], told: bool) -> None:
    rules = f"SecRuleEngine {engine}\nSecArgumentsLimit 3\n"
    rules += "".join(f'SecRule ARGS:b "@streq 2" "id:{n},phase:{n},pass,log"\n' for n in (1, 2))
    tx = run(rules, "/?a&b=2&c&d")
    assert ids(tx) == matched
    assert (tx.detected is not None) == told
    assert tx.interruption is None
    assert tx.limits == ["arguments"]


@pytest.mark.parametrize(
    ("processor", "body", "error"),
    [
        ("JSON", b'{"a": 1}', ""),
        ("JSON", b'{"a": ', "JSON parsing error: "),
        ("JSON", b'{"a": "%b"}' % (b"x" * 200), "the body was cut at the limit"),
        ("XML", b"<a/>", ""),
        ("XML", b"<a>", "XML parsing failed: "),
    ],
)
def test_responses_that_cannot_be_parsed_say_so(processor: str, body: bytes, error: str) -> None:
    rules = (
        "SecResponseBodyMimeType text/x\nSecResponseBodyLimit 100\nSecResponseBodyLimitAction ProcessPartial\n"
        f'SecAction "id:1,phase:3,pass,nolog,ctl:responseBodyProcessor={processor}"\n'
        'SecRule RES_BODY_ERROR "@eq 1" "id:2,phase:4,pass,log,msg:\'%{RES_BODY_PROCESSOR} %{RES_BODY_ERROR_MSG}\'"'
    )
    tx = run(rules, response=body, response_headers={"Content-Type": "text/x"})
    messages = [matched.message for matched in tx.matched_rules]
    assert len(messages) == bool(error)
    assert all(message.startswith(f"{processor} {error}") for message in messages)


def test_arguments_of_responses_beyond_the_limit_are_noted() -> None:
    rules = (
        'SecArgumentsLimit 2\nSecAction "id:1,phase:3,pass,nolog,ctl:responseBodyProcessor=JSON"\n'
        'SecRule RESPONSE_ARGS "@streq x" "id:2,phase:4,pass,log"\nSecRule RESPONSE_BODY "@contains x" "id:3,phase:4,log"'
    )
    tx = run(rules, response=b'["a", "b", "x"]', response_headers={"Content-Type": "text/html"})
    assert (ids(tx), tx.limits) == ([3], ["arguments"])


def test_response_body_limit() -> None:
    rules = 'SecResponseBodyLimit 8\nSecRule RESPONSE_BODY "@contains evil" "id:1,phase:4,deny"'
    stop = run(rules, response=b"x" * 20).interruption
    assert stop is not None
    assert stop.status == 500
    partial = f"SecResponseBodyLimitAction ProcessPartial\n{rules}"
    assert ids(run(partial, response=b"evil" + b"x" * 20)) == [1]
    assert ids(run(partial, response=b"x" * 20 + b"evil")) == []


def test_file_contents_on_request() -> None:
    rules = 'SecRule FILES_TMP_CONTENT "@contains evil" "id:1,phase:2,deny"'
    waf = make(rules)
    body = part("f", "so evil", "x.bin").encode() + b"--b0undary--\r\n"
    assert ids(run(waf, method="POST", headers=MULTIPART, body=body)) == [1]
