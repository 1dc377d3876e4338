"""Sets of classes and of patterns, as numbers: against the plain reading of what they mean."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tests.core.transactions import ids, make, run
from waf_core.scan import masks
from waf_core.scan.classes import (
    _PLAIN_CLASSES,
    ALL_CLASSES,
    EXACT_BYTES,
    MAX_SPECIAL,
    MEMBERS,
    TABLE,
    WORD_CLASSES,
    are_many,
    classes_of,
)


@given(st.binary(max_size=3 * EXACT_BYTES))
@example(bytes(range(256)))
@example(b"")
@example(b"a" * EXACT_BYTES)
@example(b"a" * (EXACT_BYTES + 1))
def test_the_classes_of_a_value_are_those_of_its_bytes(value: bytes) -> None:
    expected = sum(1 << number for number in {TABLE[byte] for byte in value})
    if len(value) > EXACT_BYTES:
        expected |= WORD_CLASSES
    assert classes_of(value) == expected
    assert all(MEMBERS[TABLE[byte]] >> byte & 1 for byte in value)


@given(st.integers(0, ALL_CLASSES))
@example(ALL_CLASSES)
@example(WORD_CLASSES)
def test_values_of_many_classes_are_told(value: int) -> None:
    assert are_many(value) == ((value & ~_PLAIN_CLASSES).bit_count() > MAX_SPECIAL)


@given(st.sets(st.integers(0, 300)))
def test_masks_and_numbers_are_the_same_sets(numbers: set[int]) -> None:
    assert masks.numbers_of(masks.mask_of(numbers)) == tuple(sorted(numbers))


def test_numbers_are_remembered_within_a_bound() -> None:
    for number in range(masks.MAX_KNOWN + 10):
        masks.numbers_of(number)
    assert len(masks._known) <= masks.MAX_KNOWN


def test_a_key_with_rules_of_its_own_is_found_in_any_case_and_others_of_its_length_are_not() -> None:
    waf = make('SecRule ARGS:Token "@rx ^x" "id:1,phase:2,deny"\nSecRule ARGS|!ARGS:quiet "@rx ^y" "id:2,phase:2,deny"')
    assert ids(run(waf, "/?tOKEN=x")) == [1]
    assert ids(run(waf, "/?other=x")) == []
    assert ids(run(waf, "/?QUIET=y")) == []
    assert ids(run(waf, "/?loud1=y")) == [2]
