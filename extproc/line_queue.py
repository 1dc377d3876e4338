"""Lines that somebody writes whom nobody waits for.

Standard output may be a pipe whose reader has stopped, a file's disk may be full, a collector slow: verdicts must not
wait for any of them.  Lines wait in a queue that is bounded in lines and in bytes, and a thread of its own writes them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import islice

BATCH = 200
"""Lines that are written at once."""


class LineQueue:
    """`write` gets some lines at a time, on the thread; it raises nothing.  `full` is told why a line is not taken."""

    def __init__(
        self, name: str, lines: int, size: int, write: Callable[[list[str]], None], full: Callable[[str], None]
    ) -> None:
        """`lines` and `size` (characters) may wait."""
        self._lines = lines
        self._size = size
        self._write = write
        self._full = full
        self._waiting: deque[str] = deque()
        self._characters = 0
        self._ended = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """To be written soon, or lost."""
        with self._change:
            why = ""
            if len(self._waiting) >= self._lines:
                why = f"{self._lines} lines wait already"
            elif self._characters + len(line) > self._size:
                why = f"{self._size} characters wait already"
            else:
                self._waiting.append(line)
                self._characters += len(line)
                self._change.notify()
        if why:
            self._full(why)

    def close(self, seconds: float) -> int:
        """Write what waits, for a bounded time.  Returns how many lines are left."""
        with self._change:
            self._ended = True
            self._change.notify()
        self._thread.join(seconds)
        with self._change:
            return len(self._waiting) if self._thread.is_alive() else 0

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._waiting and not self._ended:
                    self._change.wait()
                if not self._waiting:
                    return
                # They wait until they are written: what does not come back still counts.
                lines = list(islice(self._waiting, BATCH))
            self._write(lines)
            with self._change:
                for line in lines:
                    self._waiting.popleft()
                    self._characters -= len(line)
