"""The garbage collector and a program that stays.

A compiled program is some hundred thousand objects that live until the next reload.  Python's collector
would walk over them again and again (measured: a third of the time of a request with many arguments),
and transactions make no cycles that it could find.
"""

from __future__ import annotations

import ctypes
import gc

YOUNG_OBJECTS = 50_000
"""New objects after which the collector looks at what is young (Python's own value: 700)."""


def keep() -> None:
    """What is there now stays: the collector need not look at it.  Call it when all is compiled."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


def settle() -> None:
    """Another program has taken the place of one that was kept: let go of the old one, and keep what is there now."""
    gc.unfreeze()
    gc.collect()
    keep()


def release() -> None:
    """A program is not needed any more: give its memory back to the system, as far as that goes."""
    gc.unfreeze()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
