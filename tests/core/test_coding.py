"""Responses that come compressed: rules see them as clients do, and no bytes make more of themselves than the limit."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from tests.core.transactions import make, run
from waf_core import Transaction
from waf_core.bodies.coding import CODINGS, FINE_BYTES, MAX_ZSTD_WINDOW, decode
from waf_core.compiler import CompileOptions


def bare_deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return coder.compress(data) + coder.flush()


ENCODERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress, b"x-gzip": gzip.compress, b"deflate": zlib.compress, b"br": brotli.compress,
    b"zstd": zstandard.compress,
}  # fmt: skip
TEXT = b"".join(b"%d bottles of beer on the wall\n" % number for number in range(5000))
EACH = pytest.mark.parametrize("coding", ENCODERS)


def test_all_codings_are_tried_here() -> None:
    assert ENCODERS.keys() == CODINGS.keys()


@EACH
@pytest.mark.parametrize("text", [b"", b"x", TEXT])
def test_what_is_coded_comes_back(coding: bytes, text: bytes) -> None:
    assert decode(coding, ENCODERS[coding](text), len(TEXT)) == (text, False, "")


@EACH
@pytest.mark.parametrize("limit", [0, 1, 1000, 16384, 100_000])
def test_no_more_comes_out_than_asked_for(coding: bytes, limit: int) -> None:
    assert decode(coding, ENCODERS[coding](TEXT), limit) == (TEXT[:limit], True, "")


@EACH
def test_bombs_do_not_go_off(coding: bytes) -> None:
    """100 MB in 100 kB and less; decoding all of it twenty times would take seconds and gigabytes."""
    bomb = ENCODERS[coding](bytes(100 << 20))
    for _ in range(20):
        assert decode(coding, bomb, 1000) == (bytes(1000), True, "")


@EACH
def test_what_ends_in_the_middle_is_told_as_far_as_it_goes(coding: bytes) -> None:
    text = TEXT + random.Random(1).randbytes(1_000_000)
    coded = ENCODERS[coding](text)
    data, more, error = decode(coding, coded[: len(coded) * 3 // 4], len(text))
    assert text.startswith(data)
    assert len(data) > len(text) // 2
    assert not more
    assert error or coding == b"zstd", "zstd's reader takes what there is for all"


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
def test_what_comes_before_a_mistake_is_told(coding: bytes) -> None:
    """A wrong checksum: clients have shown the page by then."""
    coded = bytearray(ENCODERS[coding](PAGE * 10))
    coded[-6 if coding == b"gzip" else -1] ^= 1
    data, more, error = decode(coding, bytes(coded), 10_000)
    assert (PAGE * 10).startswith(data)
    assert len(data) >= len(PAGE * 10) - FINE_BYTES
    assert not more
    assert "incorrect data check" in error


@EACH
def test_garbage_is_an_error(coding: bytes) -> None:
    data, more, error = decode(coding, b"\xff\xfe no such coding \xff" * 50, 1000)
    assert (data, more) == (b"", False)
    assert error


def test_members_behind_each_other_and_bare_streams() -> None:
    two = gzip.compress(b"one,") + gzip.compress(b"two")
    assert decode(b"gzip", two, 100) == (b"one,two", False, "")
    assert decode(b"gzip", two + b"padding", 100) == (b"one,two", False, "")
    assert decode(b"gzip", two + b"\x1f\x8b no member", 100) == (
        b"one,two",
        False,
        "Error -3 while decompressing data: unknown compression method",
    )
    many = b"".join(gzip.compress(b"%d," % number) for number in range(2000))
    assert decode(b"gzip", many, 10**6).data == b"".join(b"%d," % number for number in range(2000))
    assert decode(b"deflate", bare_deflate(b"one") + bare_deflate(b"two"), 100) == (b"one", False, "")
    assert decode(b"deflate", bare_deflate(TEXT), len(TEXT)) == (TEXT, False, "")
    frames = zstandard.compress(b"one,") + zstandard.compress(b"two")
    assert decode(b"zstd", frames, 100) == (b"one,two", False, "")


def test_a_window_is_bounded() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    coder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    coded = coder.compress(TEXT * 200) + coder.flush()
    assert MAX_ZSTD_WINDOW < 1 << 27
    assert decode(b"zstd", coded, 1000).error


RULES = """
SecResponseBodyAccess On
SecResponseBodyMimeType text/html
SecResponseBodyLimit 2000
SecResponseBodyLimitAction {action}
SecRule RESPONSE_HEADERS:Content-Encoding "@rx ." "id:1,phase:4,pass,log,skipAfter:END"
SecRule RESPONSE_BODY "@contains secret" "id:2,phase:4,deny,status:502"
SecMarker END
"""


def respond(
    body: bytes, coding: str, action: str = "ProcessPartial", *, decompress_responses: bool = False
) -> Transaction:
    waf = make(RULES.format(action=action), CompileOptions(decompress_responses=decompress_responses))
    return run(waf, response=body, response_headers={"Content-Type": "text/html", "Content-Encoding": coding})


PAGE = b"<p>the secret is out</p>"


@pytest.mark.parametrize("coding", ["gzip", "GZIP ", "br"])
def test_rules_see_the_page_and_no_coding(coding: str) -> None:
    coded = ENCODERS[coding.strip().lower().encode()](PAGE)
    tx = respond(coded, coding, decompress_responses=True)
    assert tx.interruption is not None
    assert tx.interruption.rule_id == 2
    assert [name for name, _ in tx.response_headers] == [b"Content-Type"]
    assert [name for name, _ in tx.hidden_response_headers] == [b"Content-Encoding"]
    plain = respond(coded, coding)
    assert plain.interruption is None
    assert [matched.rule.id for matched in plain.matched_rules] == [1]


@pytest.mark.parametrize("coding", ["gzip, br", "compress", "identity"])
def test_other_codings_stay_as_they_are(coding: str) -> None:
    tx = respond(PAGE, coding, decompress_responses=True)
    assert [matched.rule.id for matched in tx.matched_rules] == [1]
    assert not tx.response_body.undecoded


def test_the_limit_is_for_what_rules_see() -> None:
    page = b" " * 1990 + PAGE
    partial = respond(gzip.compress(page), "gzip", decompress_responses=True)
    assert partial.interruption is None
    assert partial.limits == ["response_body"]
    assert (partial.response_body.cut, partial.response_body.length) == (True, 2000)
    rejected = respond(gzip.compress(page), "gzip", "Reject", decompress_responses=True)
    assert rejected.interruption is not None
    assert (rejected.interruption.status, rejected.interruption.rule_id) == (500, 0)


def test_what_cannot_be_decoded_is_told_and_judged_as_far_as_it_goes() -> None:
    tx = respond(gzip.compress(PAGE)[:-8], "gzip", decompress_responses=True)
    assert tx.response_body.undecoded == "it ends in the middle"
    assert tx.interruption is not None
    tx = respond(PAGE, "gzip", decompress_responses=True)
    assert "incorrect header check" in tx.response_body.undecoded
    assert respond(b"", "gzip", decompress_responses=True).response_body.undecoded == ""
