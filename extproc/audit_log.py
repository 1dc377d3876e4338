"""Where audit records go: standard output, a rotating file, or an HTTP collector.

A verdict never waits for it.  Records go into a bounded queue, a thread of its own writes them; what does
not fit is dropped and counted, and so is what a collector does not take.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Protocol

from extproc.config import Settings

HTTP_SECONDS = 5.0
"""Time that a collector gets for one batch."""

HTTP_BATCH = 200
"""Records in one POST."""

HTTP_ATTEMPTS = 3

CLOSE_SECONDS = 5.0
"""How long closing waits for the queue to be written."""


class AuditTargetError(OSError):
    """The audit log cannot be written there."""


class _Target(Protocol):
    def write(self, lines: list[str]) -> int:
        """Write; returns how many were lost."""
        ...

    def reopen(self) -> None: ...


class _Stdout:
    def write(self, lines: list[str]) -> int:
        sys.stdout.write("".join(line + "\n" for line in lines))
        sys.stdout.flush()
        return 0

    def reopen(self) -> None:
        pass


class _File:
    """Rotated by size (FILE.1 is the newest of the old ones); reopened when told, for logrotate."""

    def __init__(self, path: Path, size: int, files: int) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handler = RotatingFileHandler(
                path, maxBytes=size, backupCount=files, encoding="utf-8", errors="replace"
            )
        except OSError as error:
            raise AuditTargetError(f"cannot write the audit log {path}: {error.strerror}") from error
        path.chmod(0o640)
        self._size = size
        self._lock = threading.Lock()

    def write(self, lines: list[str]) -> int:
        lost = 0
        with self._lock:
            for line in lines:
                try:
                    handler = self._handler
                    if handler.stream is None:
                        handler.stream = handler._open()
                    if self._size and handler.stream.tell() + len(line) > self._size:
                        handler.doRollover()
                    handler.stream.write(line + "\n")
                except OSError:
                    lost += 1
            with contextlib.suppress(OSError):
                self._handler.flush()
        return lost

    def reopen(self) -> None:
        with self._lock:
            self._handler.close()
            with contextlib.suppress(OSError):
                self._handler.stream = self._handler._open()


class _Http:
    """POST of newline-separated records; a batch that is not taken in three attempts is lost."""

    def __init__(self, url: str, content_type: str) -> None:
        self._url = url
        self._headers = {"Content-Type": content_type}

    def write(self, lines: list[str]) -> int:
        body = ("\n".join(lines) + "\n").encode()
        for attempt in range(HTTP_ATTEMPTS):
            request = urllib.request.Request(self._url, data=body, headers=self._headers, method="POST")  # noqa: S310  (checked: http or https)
            try:
                with urllib.request.urlopen(request, timeout=HTTP_SECONDS):  # noqa: S310
                    return 0
            except (urllib.error.URLError, OSError, ValueError):
                time.sleep(0.2 * 2**attempt)
        return len(lines)

    def reopen(self) -> None:
        pass


class AuditLog:
    """`put` records; `dropped` is called with how many were lost."""

    def __init__(self, settings: Settings, worker: int, dropped: Callable[[int], None]) -> None:
        """Raises AuditTargetError when the file cannot be written."""
        self._dropped = dropped
        self._queue: queue.Queue[str | None] = queue.Queue(settings.audit_queue)
        target = settings.audit_log
        self._target: _Target
        if target == "stdout":
            self._target = _Stdout()
        elif target.startswith("/"):
            # Processes must not rotate each other's files.
            path = Path(f"{target}.{worker}" if settings.workers > 1 else target)
            self._target = _File(path, settings.audit_file_bytes, settings.audit_files)
        else:
            native = settings.audit_format == "Native"
            self._target = _Http(target, "text/plain; charset=utf-8" if native else "application/x-ndjson")
        self._thread = threading.Thread(target=self._run, name="audit-log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Queue one record."""
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self._dropped(1)

    def reopen(self) -> None:
        """The file has been moved away: open it anew."""
        self._target.reopen()

    def close(self) -> None:
        """Write what waits, for a bounded time."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            lines = [first]
            with contextlib.suppress(queue.Empty):
                while len(lines) < HTTP_BATCH:
                    lines.append(self._queue.get_nowait())
            texts = [line for line in lines if line is not None]
            if texts:
                lost = self._target.write(texts)
                if lost:
                    self._dropped(lost)
            if len(texts) < len(lines):
                return
