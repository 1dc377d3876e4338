"""CRS 3.3 loads and works; Debian's package modsecurity-crs brings it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.transactions import ids, run
from waf_core import WAF
from waf_core.baseline import resolve

ROOT = Path("/usr/share/modsecurity-crs")
SETUP = Path("/etc/modsecurity/crs/crs-setup.conf")


@pytest.fixture(scope="module")
def crs3() -> WAF:
    if not (ROOT / "rules").is_dir() or not SETUP.is_file():
        pytest.skip("CRS 3.3 is not installed: `apt-get install modsecurity-crs`")
    text = f"Include @recommended\nInclude {SETUP}\nInclude {ROOT}/rules/*.conf"
    return WAF.from_directives(text, resolver=resolve)


def test_it_loads_and_names_the_patterns_on_the_slow_engine(crs3: WAF) -> None:
    slow = [note for note in crs3.program.notes if "backtracking" in note]
    assert len(crs3.program.units) > 500
    assert 0 < len(slow) < 10
    assert all("at offset" in note for note in slow)


BROWSER = {"User-Agent": "Mozilla/5.0 Firefox/140.0", "Accept": "text/html"}


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("1' or '1'='1", 942100),
        ("<script>alert(1)</script>", 941100),
        ("../../etc/passwd", 930120),
        (";cat /etc/passwd", 932160),
    ],
)
def test_attacks_are_blocked(crs3: WAF, query: str, rule: int) -> None:
    from urllib.parse import quote

    tx = run(crs3, f"/?q={quote(query)}", headers=BROWSER)
    assert tx.interruption is not None
    assert rule in ids(tx)


def test_ordinary_requests_pass(crs3: WAF) -> None:
    tx = run(crs3, "/shop?item=42&name=Ada+Lovelace", headers=BROWSER)
    assert tx.interruption is None
    assert ids(tx) == []
