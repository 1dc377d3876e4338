"""What a reload leaves behind."""

from __future__ import annotations

import ctypes
import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.report import resident_mb
from tests.conformance.engine import make_waf
from tests.core.transactions import three_ways
from tests.crs import crs_or_skip
from waf_core import WAF
from waf_core.memory import trim
from waf_core.warm import warm

RULES = r"""
SecRequestBodyAccess On
SecResponseBodyAccess On
SecRule REQUEST_HEADERS:Content-Type "@contains json" "id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQBODY_PROCESSOR "@streq JSON" "id:2,phase:2,pass,nolog,setvar:tx.json=1"
SecRule &REQUEST_HEADERS:Host "@eq 0" "id:3,phase:1,deny"
SecRule &TX:json "@eq 1" "id:4,phase:2,pass,nolog,setvar:tx.score_a=+1"
SecRule TX:/^score_/ "@gt 3" "id:5,phase:2,deny"
SecRule ARGS|!ARGS:/^safe/ "@rx (?i)<script" "id:6,phase:2,deny,t:none,t:urlDecodeUni,t:htmlEntityDecode,capture,chain"
SecRule MATCHED_VARS_NAMES "@unconditionalMatch" "setvar:tx.%{MATCHED_VAR_NAME}=1"
SecRule ARGS_NAMES|REQUEST_COOKIES "@pm select union" "id:7,phase:2,deny,t:lowercase"
SecRule XML://@id "@detectSQLi" "id:8,phase:2,deny"
SecRule RESPONSE_BODY "@rx (?=secret)" "id:9,phase:4,deny"
""" + "".join(f'SecRule ARGS "@rx (?i)word{n}[a-z]+x" "id:{n},phase:2,pass,log"\n' for n in range(20, 30))


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _left_by(make: Callable[[], list[WAF]]) -> int:
    """Objects in cycles when programs are let go of that have judged first exchanges."""
    wafs = make()
    warm(*wafs)
    gc.collect()
    wafs.clear()
    return gc.collect()


@pytest.mark.usefixtures("no_collector")
def test_a_program_goes_without_the_collector(tmp_path: Path) -> None:
    """Workers do not look for cycles after a reload: that would stop all requests for a tenth of a second."""
    assert _left_by(lambda: three_ways(RULES, tmp_path)) == 0


@pytest.mark.usefixtures("no_collector")
def test_the_core_rule_set_goes_without_the_collector() -> None:
    root = crs_or_skip()
    assert _left_by(lambda: [make_waf(root)]) == 0


def test_what_a_large_value_takes_is_bounded() -> None:
    """There are thirty forms of it, and the rules that match see fifteen of them."""
    root = crs_or_skip()
    waf = make_waf(root)
    warm(waf)
    text = "%27 or 1=1 -- <Script>alert(1)</Script> ..%2F../etc/passwd ${jndi:ldap://x} &lt;a href=x&gt; /**/ "
    body = json.dumps({"a": text * (500_000 // len(text))}).encode()
    tx = waf.new_transaction()
    tx.process_uri("/", "POST", "1.1")
    for name, value in {"Host": "a.b", "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
        tx.add_request_header(name, value)
    assert tx.process_request_headers() is None
    tx.write_request_body(body)
    tracemalloc.start()
    try:
        tx.process_request_body()
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(tx.matched_rules) > 10
    assert kept < 3 * len(body)
    assert most < 22 * len(body)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")
def test_what_was_freed_goes_back_to_the_system() -> None:
    kept, freed = [], []
    for _ in range(2_000):
        freed.append(bytearray(20_000))
        kept.append(bytearray(600))
    before = resident_mb()
    del freed
    trim()
    assert resident_mb() < before - 20
    assert len(kept) == 2_000
