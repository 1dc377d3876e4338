"""What a scan may cost, and how often it did not do with that."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class ScanLimits:
    """Bounds of the scan's memory and time."""

    set_max_mem: int = 96 << 20
    """Bytes the automaton of one RE2 Set may use before it starts over."""
    large_max_mem: int = 24 << 20
    """The same for all patterns that are too large for Hyperscan.  With 96 MB texts made for them took 70 MB of a
    worker, and starting over 100 ms."""
    cache_entries: int = 1536
    """Values remembered by one scanner and generation (there are two, and one that is let go of)."""
    cache_value_bytes: int = 512
    """Longer values are not remembered."""
    re2_ns: int = 8_000_000
    """Nanoseconds of one phase that RE2 may spend on the patterns that are too large for Hyperscan (5 ns a
    byte for text like what it has seen, 1000 for hostile bytes); what is left then goes to their pieces in
    Hyperscan (400 ns a byte, whatever it is), but for long texts that RE2 is quicker with."""
    pcre2_ns: int = 100
    """Nanoseconds that PCRE2 takes for a byte of what RE2 is slow with.  RE2 may take as long for a text before PCRE2
    is asked: both together take no more than twice what the quicker one does."""
    hyperscan_folder: Path | None = None
    """Where Hyperscan databases are kept; None: RE2 alone."""


class ScanStatistics:
    """Counters of one program, read by the metrics.  Large bodies are judged on threads: all of them count here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.scans = 0
        """Values that were not remembered and had to be scanned."""
        self.set_failures = 0
        """RE2 Sets that ran out of memory: those values took the slow, exact path."""
        self._taken = (0, 0)

    def add(self, *, scans: int = 0, set_failures: int = 0) -> None:
        """Count."""
        with self._lock:
            self.scans += scans
            self.set_failures += set_failures

    def take(self) -> tuple[int, int]:
        """(scans, set failures) since the last time."""
        with self._lock:
            now, before = (self.scans, self.set_failures), self._taken
            self._taken = now
        return now[0] - before[0], now[1] - before[1]
