"""Many values at once: the same as each by itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.engine import make_waf
from tests.core.transactions import run
from tests.crs import crs_or_skip
from waf_core import WAF
from waf_core.scan import batch
from waf_core.transformations import TRAITS, Transformation
from waf_core.transformations.joined import FEW, SEPARATOR, transform_all

JOINED = [function for function, traits in TRAITS.items() if traits.joined is not None]
OTHERS = [function for function, traits in TRAITS.items() if traits.joined is None]

_BITS = [
    b"\\", b"%", b"%u", b"%4", b"%01", b"%u0001", b"&", b"&#", b"&#x", b"&#1;", b"&lt", b"\\x01", b"\\1", b"\\u0001",
    b"\\00000", b"1", b"4f", b"u0041", b" ", b"\t", b"\n", b"\0", b"-", b"--", b"<!-", b"->", b"/", b"/*", b"*/", b"#",
    b"^", b"'", b"A", b"z", b";", b"+", b"(", b"\xa0", b"\xc2",
]  # fmt: skip
_values = st.lists(st.sampled_from(_BITS), max_size=5).map(b"".join)
_separated = st.lists(st.sampled_from([*_BITS, SEPARATOR]), max_size=5).map(b"".join)


@pytest.mark.parametrize("function", [*JOINED, *OTHERS], ids=lambda function: function.__name__)
@settings(deadline=None, max_examples=150)
@given(st.lists(_values, min_size=FEW + 1, max_size=20) | st.lists(_separated, max_size=40))
def test_values_are_transformed_alike(function: Transformation, values: list[bytes]) -> None:
    assert list(transform_all(function, values)) == [function(value) for value in values]


def test_joined_values_are_transformed_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def watched(value: bytes) -> bytes:
        calls.append(value)
        return value.lower()

    monkeypatch.setitem(TRAITS, watched, TRAITS[JOINED[0]])
    values = [b"A%d" % i for i in range(100)]
    assert transform_all(watched, values) == [value.lower() for value in values]
    assert len(calls) == 1
    # One value that has the separator makes only its neighbours go alone.
    calls.clear()
    values[40] = SEPARATOR
    assert transform_all(watched, values) == [value.lower() for value in values]
    assert len(calls) < FEW + 20


def test_what_changes_nothing_is_the_same_sequence() -> None:
    values = [b"%d" % i for i in range(20)]
    for function in JOINED:
        assert transform_all(function, values) is values


@pytest.fixture(scope="module")
def waf() -> WAF:
    root = crs_or_skip()
    return make_waf(root)


_HOSTILE = [
    "'", " or ", "1=1", "<script>", "../", "etc/passwd", "%0d%0a", "select ", ";", "$(", "\\x41", "&lt;", "/*", "\x01",
    "${jndi:", "0x41", "a", "9", "%27", "%2527", "é", "\xa0", "--", "x" * 30,
]  # fmt: skip
_words = st.lists(st.sampled_from(_HOSTILE), max_size=4).map("".join)


@settings(max_examples=40, deadline=None)
@given(st.lists(_words, min_size=30, max_size=80, unique=True))
def test_many_arguments_are_judged_alike(waf: WAF, words: list[str]) -> None:
    from urllib.parse import quote

    uri = "/p?" + "&".join(f"{i}={quote(word)}" for i, word in enumerate(words))
    outcomes = []
    for many in (4, 1 << 30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batch, "MANY", many)
            # Values that the scanners remember would not be judged again.
            patch.setattr("waf_core.scan.scanner.Scanner.remember", lambda self, value, found: None)
            tx = run(waf, uri)
            outcomes.append([(m.rule.id, m.matches) for m in tx.matched_rules])
    assert outcomes[0] == outcomes[1]
    assert outcomes[0]
