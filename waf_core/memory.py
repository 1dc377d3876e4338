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
    """What is there now stays: the collector need not look at it.  Call it when all is compiled, and again after each
    reload.  Programs hold no cycles (tests/core/test_memory.py), so that an old one goes with the last stream that it
    judges; looking for it stopped everything for 120 to 200 ms."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


def collect() -> None:
    """Before a reload: let go of what is in cycles, of all that is younger than what was kept (some milliseconds)."""
    gc.collect()


def trim() -> None:
    """Give what has been freed back to the system.  Other threads that ask for memory wait meanwhile (milliseconds)."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if malloc_trim is not None:
        malloc_trim(0)
