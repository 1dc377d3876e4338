"""Where audit records go: standard output, a rotating file, or an HTTP collector.

A verdict never waits for it.  Records go into a bounded queue, a thread of its own writes them; what does
not fit is dropped and counted, and so is what a collector does not take.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Protocol

import structlog

from extproc.config import Settings
from extproc.line_queue import LineQueue

HTTP_SECONDS = 5.0
"""Time that a collector gets for one batch."""

HTTP_ATTEMPTS = 3

MAX_QUEUED_CHARACTERS = 64 << 20
"""Of records that wait, however many `audit_queue` lets: a record may have a body in it."""

CLOSE_SECONDS = 5.0
"""How long closing waits for the queue to be written."""

STDOUT = ("stdout", "/dev/stdout")


class AuditTargetError(OSError):
    """The audit log cannot be written there."""


class AuditLossError(Exception):
    """`count` of the records were not taken; the message says why."""

    def __init__(self, count: int, why: Exception) -> None:
        self.count = count
        super().__init__(f"{type(why).__name__}: {why}")


class _Target(Protocol):
    def write(self, lines: list[str]) -> None:
        """Raises AuditLossError, or what else goes wrong with all of them."""
        ...

    def reopen(self) -> None: ...


class _Stdout:
    def write(self, lines: list[str]) -> None:
        text = "".join(line + "\n" for line in lines)
        sys.stdout.buffer.write(text.encode("utf-8", "replace"))
        sys.stdout.flush()

    def reopen(self) -> None:
        pass


class _File:
    """Rotated by size (FILE.1 is the newest of the old ones); reopened when told, for logrotate."""

    def __init__(self, path: Path, size: int, files: int) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():
                raise OSError(errno.EINVAL, "it is no file; write a file's path, or stdout")
            self._handler = RotatingFileHandler(
                path, maxBytes=size, backupCount=files, encoding="utf-8", errors="replace"
            )
            path.chmod(0o640)
        except OSError as error:
            raise AuditTargetError(f"cannot write the audit log {path}: {error.strerror}") from error
        self._size = size
        self._lock = threading.Lock()

    def write(self, lines: list[str]) -> None:
        lost = 0
        why: Exception | None = None
        with self._lock:
            for line in lines:
                try:
                    handler = self._handler
                    if handler.stream is None:
                        handler.stream = handler._open()
                    if self._size and handler.stream.tell() + len(line) > self._size:
                        handler.doRollover()
                    handler.stream.write(line + "\n")
                    handler.flush()
                except (OSError, ValueError) as error:
                    lost += 1
                    why = error
        if why is not None:
            raise AuditLossError(lost, why)

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

    def write(self, lines: list[str]) -> None:
        body = ("\n".join(lines) + "\n").encode("utf-8", "replace")
        for attempt in range(1, HTTP_ATTEMPTS + 1):
            request = urllib.request.Request(self._url, data=body, headers=self._headers, method="POST")  # noqa: S310  (checked: http or https)
            try:
                with urllib.request.urlopen(request, timeout=HTTP_SECONDS):  # noqa: S310
                    return
            except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
                if attempt == HTTP_ATTEMPTS:
                    raise
                time.sleep(0.1 * 2**attempt)

    def reopen(self) -> None:
        pass


class AuditLog:
    """`put` records; `dropped` is called with how many were lost."""

    def __init__(self, settings: Settings, worker: int, dropped: Callable[[int], None]) -> None:
        """Raises AuditTargetError when the file cannot be written."""
        self._dropped = dropped
        self._log = structlog.get_logger("envoy_waf")
        self._losing = False
        target = settings.audit_log
        self._target: _Target
        if target in STDOUT:
            self._target = _Stdout()
        elif target.startswith("/"):
            # Processes must not rotate each other's files.
            path = Path(f"{target}.{worker}" if settings.workers > 1 else target)
            self._target = _File(path, settings.audit_file_bytes, settings.audit_files)
        else:
            native = settings.audit_format == "Native"
            self._target = _Http(target, "text/plain; charset=utf-8" if native else "application/x-ndjson")
        self._queue = LineQueue(
            "audit-log", settings.audit_queue, MAX_QUEUED_CHARACTERS, self._write, lambda why: self._lose(1, why)
        )

    def put(self, line: str) -> None:
        """Queue one record."""
        self._queue.put(line)

    def _lose(self, count: int, why: str) -> None:
        """Count them; the log says it once, until records are taken again."""
        self._dropped(count)
        if not self._losing:
            self._losing = True
            self._log.error("audit records are lost", error=why)

    def reopen(self) -> None:
        """The file has been moved away: open it anew."""
        self._target.reopen()

    def close(self) -> None:
        """Write what waits, for a bounded time."""
        left = self._queue.close(CLOSE_SECONDS)
        if left:
            self._lose(left, f"they could not be written within {CLOSE_SECONDS:.0f} seconds of stopping")

    def _write(self, lines: list[str]) -> None:
        try:
            self._target.write(lines)
        except AuditLossError as error:
            self._lose(error.count, str(error))
        except Exception as error:  # the thread goes on, whatever a record or a target has in store
            self._lose(len(lines), f"{type(error).__name__}: {error}")
        else:
            self._losing = False
