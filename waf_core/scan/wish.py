"""What a mask of patterns means to the databases of a PatternSet."""

from __future__ import annotations

from typing import Final

from waf_core.scan.forms import FEW_CANDIDATES


class Wish:
    """Which of them are in the main database (and how many), in that of common ones and in none, and whether any are
    too large."""

    __slots__ = ("common", "count", "few_common", "large", "main", "mask", "only_main", "rest")

    def __init__(self, mask: int, main: int, common: int, rest: int, large: bool) -> None:
        self.mask = mask
        self.main = main
        self.count: int = main.bit_count()
        self.common = common
        self.few_common: bool = common.bit_count() <= FEW_CANDIDATES
        self.rest = rest
        self.large = large
        self.only_main: bool = not (common or rest or large)


NOTHING: Final = Wish(0, 0, 0, 0, False)
