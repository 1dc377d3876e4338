"""Which of many forms have what: they are matched joined, and if something is found, in ever smaller parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from waf_core.scan.forms import FEW_CANDIDATES, FEW_FORMS, MIN_BEGINNING, Found, Wanted, note, shared_beginning
from waf_core.scan.masks import mask_of


def narrow(
    match: Callable[[bytes], Iterable[int]], forms: Sequence[bytes], mask: int, wanted: Wanted | None, found: Found
) -> None:
    """Add which of the forms may have which patterns of `mask`, and of what is wanted of them."""
    candidates = mask_of(match(b"\n".join(forms) + b"\n")) & mask
    if not candidates:
        return
    if len(forms) > FEW_FORMS:
        step = max(len(forms) // FEW_FORMS + 1, FEW_FORMS // 4)
        for start in range(0, len(forms), step):
            some = forms[start : start + step]
            # What is in the name of an array is in those of all its elements.
            beginning = shared_beginning(some)
            shared = mask_of(match(beginning)) & candidates if len(beginning) >= MIN_BEGINNING else 0
            if shared:
                for form in some:
                    note(found, form, shared if wanted is None else wanted[form] & shared)
            if shared != candidates:
                narrow(match, some, candidates & ~shared, wanted, found)
    else:
        again = len(forms) > 1 and candidates.bit_count() > FEW_CANDIDATES
        last, common, many = 0, candidates, again
        for form in forms:
            if wanted is not None:
                asked = wanted[form]
                if asked != last:
                    last, common = asked, asked & candidates
                    many = again and common.bit_count() > FEW_CANDIDATES
            note(found, form, common & mask_of(match(form)) if many else common)
