"""Hyperscan: respelling, splitting, the cache, and the same answers as RE2."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from extproc.ftw.tests import load_cases
from tests.conformance.engine import make_waf, run_stage
from tests.core.matching import operator_of
from tests.core.test_operators import NoTransaction
from tests.core.transactions import ids, make, make_databases, run
from tests.crs import crs_or_skip
from waf_core.compiler import CompileOptions
from waf_core.operators import REGISTRY, OperatorEnv
from waf_core.operators.needs import of_bytes
from waf_core.operators.regex import Rx
from waf_core.operators.spelling import for_re2
from waf_core.operators.split import groups, halves
from waf_core.scan.databases import MAX_PART_SECONDS, DatabaseCache
from waf_core.scan.hyperscan_set import BASE_FLAGS, Pattern, available, respell
from waf_core.scan.limits import ScanLimits, ScanStatistics
from waf_core.scan.patterns import ALONE_BYTES, SMALL_SET, PatternSet

pytestmark = pytest.mark.skipif(not available(), reason="hyperscan is not installed on this platform")

PATTERNS: list[Pattern] = [
    *(for_re2(pattern) for pattern in (rb"a\Sb", rb"[\s\S]x$", rb"^[^\s]+$", rb"[^\S]y")),
    rb"(?i)union +select", rb"\d{3}-\d{2}", rb"(?:a|b|c)d", rb"\bword\b",
    rb"[[:alpha:]]{4}", rb"[]x]z", rb"\x00", rb".",
    (b"union", b"wor", b"\x00a"), (b"d\nx", b"\xe9\xff", b"$(", b"[x]"), (b"x", b"3-"),
]  # fmt: skip

OPERATORS = [operator_of(pattern) for pattern in PATTERNS]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[PatternSet]:
    """The same patterns in Hyperscan and in RE2 alone, and in Hyperscan with others that make it a large set."""
    limits = ScanLimits(hyperscan_folder=tmp_path_factory.mktemp("hs"))
    others = [b"other%d" % number for number in range(SMALL_SET)]
    out = []
    for scan_limits, chosen in ((limits, PATTERNS), (ScanLimits(), PATTERNS), (limits, [*PATTERNS, *others])):
        patterns = PatternSet(ScanStatistics(), scan_limits)
        for pattern in chosen:
            patterns.add(pattern)
        patterns.compile()
        if patterns.cache is not None:
            patterns.cache.store(patterns.patterns)
            assert patterns.load_hyperscan()
        out.append(patterns)
    assert [patterns.uses_hyperscan for patterns in out] == [True, False, True]
    return out


TEXT = st.text(alphabet="abcdxyz word123-\n\x0b\t\x00]uniosel UNIOSELCT", max_size=40).map(
    lambda t: t.encode("latin-1")
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(TEXT | st.binary(max_size=60), st.booleans(), min_size=1, max_size=5))
def test_candidates_are_all_that_match(sets: list[PatternSet], forms: dict[bytes, bool]) -> None:
    """Whatever stands beside a form in the joined text, before it or behind it; of a large set all or a few of the
    patterns are asked for."""
    for patterns in sets:
        patterns.begin()
        counts = (len(PATTERNS), len(patterns.patterns))
        found = patterns.find({form: (1 << counts[wide]) - 1 for form, wide in forms.items()})
        for form in forms:
            for number, operator in enumerate(OPERATORS):
                if operator.holds(form, NoTransaction()):
                    assert found.get(form, 0) >> number & 1, (form, PATTERNS[number])


@settings(max_examples=200, deadline=None)
@given(TEXT, st.sampled_from([0, 1, 3, 10, 50]), st.integers(1, (1 << len(PATTERNS)) - 1), TEXT)
def test_long_and_short_forms_for_few_patterns_and_many(
    sets: list[PatternSet], text: bytes, repeats: int, mask: int, other: bytes
) -> None:
    """All that match are found, and nothing that is not wanted; few patterns of a long form are told unasked."""
    form = text + b"-" * (repeats * ALONE_BYTES[0] // 4) + text
    assume(form != other)
    for patterns in sets:
        patterns.begin()
        found = patterns.find({form: mask, other: mask >> 1})
        assert not found.get(form, 0) & ~mask
        for number, operator in enumerate(OPERATORS):
            if mask >> number & 1 and operator.holds(form, NoTransaction()):
                assert found.get(form, 0) >> number & 1, PATTERNS[number]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=4), st.binary(max_size=3), st.binary(max_size=3))
def test_what_a_text_needs_is_in_every_value_that_it_is_found_in(text: bytes, before: bytes, behind: bytes) -> None:
    for name in ("streq", "contains", "strmatch", "containsWord", "beginsWith", "endsWith", "within"):
        operator = REGISTRY[name.lower()](text, OperatorEnv())
        needs = operator.needs()
        for value in (text, before + text, text + behind, before + text + behind, before, text[1:]):
            if operator.match(value, NoTransaction()) is not None:
                assert operator.holds(value, NoTransaction())
                assert len(value) >= needs.length, name
                assert all(of_bytes(value) & clause for clause in needs.clauses), name


def test_what_classes_and_escapes_need_is_in_every_value_that_they_match() -> None:
    patterns = [
        rb"[^a]", rb"(?i)[^a-z]", rb"(?i)[^A-M]", rb"(?i)[^ks]", rb"(?i)[^\xe0-\xef]", rb"(?i)[^\xb5\xff]", rb"(?i)[^\W]",
        rb"(?i)[^\s]", rb"(?i)[^\x00-\x7f]", rb"(?i:[^a-z])x", rb"(?i)[\xe9k]", rb"\\x{3}", rb"\x{41}", rb"\\\x{41}\z", rb"x\z",
        rb"(?:x|\z)", rb"\\z",
    ]  # fmt: skip
    values = [
        head + bytes((byte,)) + tail for byte in range(256) for head in (b"", b"\\") for tail in (b"", b"x", b"xx")
    ]
    for operator in map(Rx, patterns):
        needs = operator.needs()
        matching = [value for value in values if operator.holds(value, NoTransaction())]
        assert matching
        for value in matching:
            assert len(value) >= needs.length, (operator.pattern, value)
            assert all(of_bytes(value) & clause for clause in needs.clauses), (operator.pattern, value)


@settings(max_examples=300, deadline=None)
@given(TEXT | st.binary(max_size=60))
def test_what_a_pattern_needs_is_in_every_value_that_it_matches(value: bytes) -> None:
    members = of_bytes(value)
    for pattern, operator in zip(PATTERNS, OPERATORS, strict=True):
        needs = operator.needs()
        if operator.match(value, NoTransaction()) is not None:
            assert len(value) >= needs.length
            assert all(members & clause for clause in needs.clauses), pattern


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (rb"\\s", rb"\\s"),
        (rb"[]a]", rb"[\]a]"),
        (rb"[^]a]", rb"[^\]a]"),
        (rb"[[:space:]x]", rb"[[:space:]x]"),
        (rb"a\z", None),
        (rb"(?i-m:^a)", None),
    ],
)
def test_respell(pattern: bytes, expected: bytes | None) -> None:
    assert respell(pattern) == expected


def test_halves_find_together_what_the_whole_finds() -> None:
    whole = rb"(?i)x(?:ab|c[|)]d|(?:e|f)g)y(z|w)*"
    two = halves(whole)
    assert two == (rb"(?i)x(?:ab|c[|)]d)y(z|w)*", rb"(?i)x(?:(?:e|f)g)y(z|w)*")
    assert len(groups(whole)) == 3


@pytest.mark.parametrize("pattern", [rb"(?:a|b)+", rb"((a|b)c)*", rb"abc", rb"(a", rb"(?=a|b)"])
def test_what_is_repeated_or_unreadable_is_not_split(pattern: bytes) -> None:
    assert halves(pattern) is None


def test_cache_refuses_what_others_could_have_written(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    cache = DatabaseCache(folder)
    assert cache.load(PATTERNS) is None
    cache.store(PATTERNS)
    assert cache.load(PATTERNS) is not None
    assert cache.load([*PATTERNS, b"more"]) is None
    path = cache.path(PATTERNS)
    os.chmod(path, 0o666)
    assert cache.load(PATTERNS) is None
    os.chmod(path, 0o600)
    os.chmod(folder, 0o777)
    assert cache.load(PATTERNS) is None
    os.chmod(folder, 0o700)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert cache.load(PATTERNS) is None


def test_what_patterns_need_is_kept_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start with a warm cache does not tell it once more."""
    rules = "\n".join(f'SecRule ARGS "@rx (?i)w{i}[<;]x" "id:{i},phase:2,pass,log"' for i in range(1, 10))
    rules += '\nSecRule ARGS "@pm <script $(id)" "id:20,phase:2,pass,log"'
    options = CompileOptions(limits=ScanLimits(hyperscan_folder=tmp_path / "cache"))
    for patterns in make(rules, options).program.pattern_sets:
        if patterns.cache is not None:
            patterns.cache.store(patterns.patterns)

    def tell(pattern: object) -> None:
        raise AssertionError(f"{pattern!r} was told again")

    monkeypatch.setattr("waf_core.operators.regex.of_pattern", tell)
    monkeypatch.setattr("waf_core.operators.phrases.of_phrases", tell)
    waf = make(rules, options)
    assert ids(run(waf, "/?a=W3%3bX&b=%3cSCRIPT&c=w4x")) == [3, 20]
    assert ids(run(waf, "/?a=w3x")) == []


def test_what_patterns_need_is_kept_as_it_is_told(tmp_path: Path) -> None:
    cache = DatabaseCache(tmp_path / "cache")
    cache.store(PATTERNS)
    loaded = cache.load(PATTERNS)
    assert loaded is not None
    assert loaded.needs == [operator.needs() for operator in OPERATORS]
    assert len({needs.clauses for needs in loaded.needs}) > 5


def test_databases_of_other_code_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that tells less than a pattern needs would hide values: what it has written must not outlive it."""
    cache = DatabaseCache(tmp_path / "cache")
    cache.store(PATTERNS)
    monkeypatch.setattr("waf_core.scan.databases._versions", lambda: b"other")
    assert cache.load(PATTERNS) is None


def test_the_folder_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were wanted last stay; so does what somebody is writing, but not what somebody has left."""
    cache = DatabaseCache(tmp_path / "cache")
    lists: list[list[Pattern]] = [[f"pattern{i}".encode()] for i in range(4)]
    for age, patterns in enumerate(lists[:3]):
        cache.store(patterns)
        path = cache.path(patterns)
        path.with_suffix(".lock").touch()
        os.utime(path, (1000 - age, path.stat().st_mtime))
    written, left = cache.folder / "a.part", cache.folder / "b.part"
    for part, modified in ((written, time.time()), (left, time.time() - MAX_PART_SECONDS - 60)):
        part.touch()
        os.utime(part, (0, modified))
    assert cache.load(lists[2]) is not None
    monkeypatch.setattr("waf_core.scan.databases.MAX_DATABASES", 3)
    cache.store(lists[3])
    assert [cache.path(patterns).exists() for patterns in lists] == [True, False, True, True]
    assert not cache.path(lists[1]).with_suffix(".lock").exists()
    assert written.exists()
    assert not left.exists()
    monkeypatch.setattr("waf_core.scan.databases.MAX_FOLDER_BYTES", 1)
    cache.store(lists[3])
    assert [cache.path(patterns).exists() for patterns in lists] == [False, False, False, True]


def test_compiling_in_a_process_of_its_own(tmp_path: Path) -> None:
    cache = DatabaseCache(tmp_path / "cache")
    assert cache.start(PATTERNS).wait(60) == 0
    loaded = cache.load(PATTERNS)
    assert loaded is not None
    assert PATTERNS.index(rb"(?i)union +select") in loaded.main.match(b"UNION  SELECT")
    assert BASE_FLAGS


@pytest.mark.xdist_group("databases")
def test_crs_gives_the_same_answers_with_and_without(crs_databases: Path) -> None:
    """Also past the byte budget, where the large patterns run in pieces."""
    root = crs_or_skip()
    plain = make_waf(root)
    fast = make_waf(root, CompileOptions(limits=ScanLimits(hyperscan_folder=crs_databases, re2_ns=0)))
    make_databases(fast)
    assert all(patterns.uses_hyperscan for patterns in fast.program.pattern_sets)
    cases = list(load_cases(root / "tests" / "regression" / "tests"))[::10]
    for case in cases:
        for stage in case.stages:
            answers = []
            for waf in (plain, fast):
                _, tx = run_stage(waf, stage)
                answers.append([(m.rule.id, m.variable, m.value) for m in tx.matched_rules])
            assert answers[0] == answers[1], case.name


def test_rx_is_what_confirms() -> None:
    assert Rx(rb"a$").match(b"a\n", NoTransaction()) is None


def test_what_was_asked_before_there_was_a_database_is_found_afterwards(tmp_path: Path) -> None:
    """As at a first start: plans are made, and carried out, until the databases are ready."""
    count = 12
    rules = "".join(
        f'SecRule ARGS "@rx at{number}ack[0-9]" "id:{number + 1},phase:2,pass,log,capture"\n' for number in range(count)
    )
    waf = make(rules, CompileOptions(limits=ScanLimits(hyperscan_folder=tmp_path)))
    for round_ in range(3):
        for values in (1, 2, 3, 5, 2 * count, 10 * count):
            names = [number % count for number in range(values)]
            query = "&".join(f"a{place}=x-at{number}ack{round_}{values}{place}" for place, number in enumerate(names))
            assert ids(run(waf, f"/?{query}")) == sorted({number + 1 for number in names})
        if round_ == 0:
            make_databases(waf)
