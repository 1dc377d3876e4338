"""multipart/form-data (RFC 7578), streamed and strict.

The parser is fed pieces of any size and keeps only fields, never the content of files
(unless asked to), so an upload of any size costs a few kilobytes.  It accepts what lenient
applications accept and *says* what was odd about it: the flags are those of ModSecurity's
MULTIPART_* variables, and rules decide.

States: PREAMBLE -> (HEADERS -> DATA)* -> EPILOGUE.  A boundary is looked for as a line that
starts with `--boundary`; everything between two of them is searched as one block (bytes.find),
line by line only inside headers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final
from urllib.parse import unquote_to_bytes

from waf_core.bodies import Pair
from waf_core.bodies.boundary import read_boundary
from waf_core.bodies.flags import Flags
from waf_core.turns import give_way

MAX_HEADER_LINE: Final = 8192
MAX_HEADERS_PER_PART: Final = 64
NAMES_OF_A_FILE: Final = 4
"""`filename`, `filename*` and how servers read them: on the average a file may have so many."""

STEP_BYTES: Final = 16384
"""Of a piece, what is looked through at once: every line that is taken copies the rest of it."""

_NAMED: Final = re.compile(rb"[^:\s][^:]*(?<![ \t]):")
"""A header's name and its colon."""
_TYPED: Final = re.compile(rb"content-type: ?[^\s;]", re.IGNORECASE)
# Only these two are escapes: browsers of old send whole Windows paths.
_UNQUOTE: Final = re.compile(rb"\\([\"\\])")
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
"""To some servers (Werkzeug) all are."""
_PARAMETER: Final = re.compile(
    rb"""[ \t]*;[ \t]*([^=;"\s]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;"'][^;"]*|))(?=[ \t]*(?:;|$))""",
    re.DOTALL,
)
_VALUE: Final = rb'(?:"[^"\\]*"|[\w!#$%&+.^`|~-]+)'
_EXTENDED: Final = re.compile(rb"(?:utf-8|iso-8859-1)'[a-z0-9-]*'([^\s;\"',\\]*)", re.IGNORECASE)
"""RFC 8187: the character set, the language, and the text."""
_FILE: Final = re.compile(
    rb"form-data; ?name=%b; ?filename=%b(?:; ?filename\*=[^;\s]+)?" % (_VALUE, _VALUE), re.IGNORECASE
)
"""How browsers and libraries announce a file.  Written otherwise (`filename ="f"`, tabs, another order) it is a file to
some servers and a field to others (PHP, Werkzeug, formidable, multipart)."""


class _State(Enum):
    PREAMBLE = auto()
    HEADERS = auto()
    DATA = auto()
    EPILOGUE = auto()
    FAILED = auto()


@dataclass(slots=True)
class _Part:
    headers: list[bytes] = field(default_factory=list)
    name: bytes | None = None
    filename: bytes | None = None
    other_filenames: list[bytes] = field(default_factory=list)
    """What some servers read instead."""
    certain: bool = False
    """Is it a file to all servers, if it is one?"""
    size: int = 0
    data: list[bytes] = field(default_factory=list)

    @property
    def only_a_file(self) -> bool:
        """To Go's servers a file without a name is a field."""
        return self.certain and bool(self.filename)


class MultipartParser:
    """Feed it with `feed`, end with `close`, then read its lists and flags.

    `fields` are (name, value), `files` (name, file name), `file_sizes` (name, size),
    `part_headers` (part name, header line).  `error` is None or why parsing stopped.
    """

    def __init__(
        self,
        content_type: bytes,
        *,
        fields_limit: int,
        files_limit: int,
        keep_files: bool = False,
        untyped_files_as_fields: bool = False,
    ) -> None:
        self.flags = Flags()
        self.error: str | None = None
        self.fields: list[Pair] = []
        self.files: list[Pair] = []
        self.file_names: list[Pair] = []
        self.file_sizes: list[Pair] = []
        self.file_contents: list[Pair] = []
        self.part_headers: list[Pair] = []
        self.fields_overflow = False
        self.file_bytes = 0
        self._fields_limit = fields_limit
        self._files_limit = files_limit
        self._keep_files = keep_files
        self._untyped_as_fields = untyped_files_as_fields
        self._buffer = b""
        self._state = _State.PREAMBLE
        self._part = _Part()
        self._crlf_seen = False
        self._stray_dashes = False
        self._final_seen = False
        self._at_line_start = True
        self._tail = b""
        """The last bytes of the part's data so far: pieces may be cut within what is looked for."""
        boundary, error = read_boundary(content_type, self.flags)
        self._delimiter = b"--" + boundary
        if error:
            self._fail(error)

    def _fail(self, message: str) -> None:
        if self.error is None:
            self.error = f"Multipart: {message}"
        self._state = _State.FAILED
        self._buffer = b""

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the body."""
        for start in range(0, len(chunk), STEP_BYTES):
            if self._state is _State.FAILED:
                return
            self._buffer += chunk[start : start + STEP_BYTES]
            self._run(final=False)
            give_way()

    def goes_on_with_file(self, chunk: bytes) -> bool:
        """Is a file open, and nothing in this piece to take apart but the end of a boundary that began before?"""
        return self._state is _State.DATA and self._part.only_a_file and self._delimiter not in chunk

    def close(self) -> None:
        """The body has ended."""
        self._run(final=True)
        if self._state is _State.FAILED:
            pass
        elif not self._final_seen:
            self.flags.unmatched_boundary = 1
            self._fail("the final boundary is missing")
        if self._stray_dashes and not self.flags.unmatched_boundary:
            self.flags.unmatched_boundary = 1 if not self._final_seen else 2

    def _run(self, *, final: bool) -> None:
        progress = True
        while progress:
            if self._state is _State.PREAMBLE:
                progress = self._preamble(final)
            elif self._state is _State.HEADERS:
                progress = self._header_line(final)
            elif self._state is _State.DATA:
                progress = self._data(final)
            else:
                if self._state is _State.EPILOGUE and self._buffer.strip(b"\r\n"):
                    self.flags.data_after = True
                self._buffer = self._buffer[:0]
                progress = False

    # -- lines --------------------------------------------------------------------------

    def _take_line(self, final: bool) -> bytes | None:
        end = self._buffer.find(b"\n")
        if (len(self._buffer) if end == -1 else end) > MAX_HEADER_LINE:
            self._fail("a line is too long")
            return None
        if end == -1:
            if not final or not self._buffer:
                return None
            line, self._buffer = self._buffer, b""
            return line
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        self._note_line_end(line)
        return line[:-1] if line.endswith(b"\r") else line

    def _note_line_end(self, line: bytes) -> None:
        if line.endswith(b"\r"):
            self._crlf_seen = True
        else:
            self.flags.lf_line = True
        if self.flags.lf_line and self._crlf_seen:
            self.flags.crlf_lf_lines = True

    def _preamble(self, final: bool) -> bool:
        line = self._take_line(final)
        if line is None:
            return False
        if line.startswith(self._delimiter):
            self._boundary(line[len(self._delimiter) :])
        elif line.startswith(b"--"):
            self._stray_dashes = True
            self.flags.data_before = True
        elif line:
            self.flags.data_before = True
        return True

    def _boundary(self, suffix: bytes) -> None:
        """What follows `--boundary` on its line decides whether parts go on."""
        stripped = suffix.rstrip(b" \t")
        if stripped != suffix:
            self._misplaced()
        if stripped == b"--":
            self._final_seen = True
            self._state = _State.EPILOGUE
        elif stripped == b"":
            self._part = _Part()
            self._state = _State.HEADERS
        else:
            self._stray_dashes = True
            self.flags.invalid_part = True
            self._fail("text after a boundary")

    def _header_line(self, final: bool) -> bool:
        line = self._take_line(final)
        if line is None:
            return False
        part = self._part
        if self._delimiter in line:
            self._misplaced()
        if line == b"":
            self._start_data()
        elif line[:1] in (b" ", b"\t"):
            if not part.headers:
                self.flags.invalid_header_folding = True
                self._fail("a folded line without a header")
            else:
                self.flags.header_folding = True
                part.headers[-1] += b" " + line.strip(b" \t")
        elif not _NAMED.match(line):
            self.flags.invalid_part = True
            part.headers.append(line)
        else:
            part.headers.append(line)
        if len(part.headers) > MAX_HEADERS_PER_PART:
            self._fail("a part has too many headers")
        return self._state is not _State.FAILED

    def _start_data(self) -> None:
        part = self._part
        dispositions = [h for h in part.headers if h[:19].lower() == b"content-disposition"]
        if len(dispositions) != 1:
            self.flags.invalid_part = True
        if dispositions:
            self._disposition(dispositions[0].partition(b":")[2])
        if self._untyped_as_fields and not any(map(_TYPED.match, part.headers)):
            part.certain = False
        name = part.name if part.name is not None else b""
        if part.name is None:
            self.flags.invalid_part = True
        self.part_headers.extend((name, header) for header in part.headers)
        too_many = len(self.file_sizes) >= self._files_limit or len(self.files) >= NAMES_OF_A_FILE * self._files_limit
        if part.filename is not None and too_many:
            self.flags.file_limit_exceeded = True
            self._fail("too many files")
            return
        self._at_line_start = True
        self._tail = b"\n"
        self._state = _State.DATA

    def _disposition(self, value: bytes) -> None:
        """Content-Disposition, RFC 6266 and RFC 7578 section 4.2."""
        value = value.strip(b" \t")
        self._part.certain = _FILE.fullmatch(value) is not None
        kind, semicolon, _ = value.partition(b";")
        if kind.strip(b" \t").lower() != b"form-data":
            self.flags.invalid_part = True
        rest = value[len(kind) :] if semicolon else b""
        position = 0
        seen: set[bytes] = set()
        while (match := _PARAMETER.match(rest, position)) is not None:
            position = match.end()
            key = match.group(1).lower()
            quoted, plain = match.group(2), match.group(3)
            content = _UNQUOTE.sub(rb"\1", quoted) if quoted is not None else (plain or b"").strip(b" \t")
            if quoted is None and content.startswith(b"'"):
                self.flags.invalid_quoting = True
            if key in seen:
                self.flags.invalid_part = True
            seen.add(key)
            if key == b"name":
                self._part.name = content
            elif key == b"filename":
                self._part.filename = content
                if b"\\" in content:
                    self._part.other_filenames.append(_ESCAPE.sub(rb"\1", content))
            elif key == b"filename*":
                self._extended(content)
            elif b"*" in key:
                # RFC 2231 (`name*`, `filename*0`): some servers read it, and judge by it.
                self.flags.invalid_part = True
        broken = rest[position:].strip(b" \t;") != b""
        if broken:
            self.flags.invalid_quoting = True
        if broken or self._part.name is None:
            self._lenient_disposition(rest)

    def _extended(self, content: bytes) -> None:
        """`filename*`, which RFC 7578 (section 4.2) forbids and .NET's clients send beside `filename`: some servers
        take the one, some the other, and without the other it is no file to those."""
        text = _EXTENDED.fullmatch(content)
        name = unquote_to_bytes(text[1] if text else content.rpartition(b"'")[2])
        self._part.other_filenames.append(name)
        if text is None or self._part.filename is None:
            self.flags.invalid_part = True
            self._part.filename = name

    def _lenient_disposition(self, rest: bytes) -> None:
        """Quoting is broken: take what a forgiving parser would take, up to the next `;`."""
        for piece in rest.split(b";"):
            key, equals, content = piece.partition(b"=")
            key = key.strip(b" \t").lower()
            content = content.strip(b" \t\"'")
            if equals and key == b"name" and self._part.name is None:
                self._part.name = content
            elif equals and key == b"filename" and self._part.filename is None:
                self._part.filename = content

    def _data(self, final: bool) -> bool:
        buffer = self._buffer
        # Where a line may begin as boundaries do: mostly nowhere, and one search tells.
        dashes = buffer.find(b"\n--")
        if self._at_line_start and buffer.startswith(self._delimiter):
            start, begin = 0, 0
        else:
            if self._at_line_start and len(buffer) < len(self._delimiter) and not final:
                return False
            found = buffer.find(b"\n" + self._delimiter, dashes) if dashes != -1 else -1
            if buffer.find(self._delimiter, 0, found if found != -1 else len(buffer)) != -1:
                self._misplaced()
            if found == -1:
                self._consume_data(final, dashes)
                return False
            start = found + 1
            begin = found - 1 if found and buffer[found - 1] == 0x0D else found
        end = buffer.find(b"\n", start)
        if (len(buffer) if end == -1 else end) - start > MAX_HEADER_LINE:
            self._fail("a line is too long")
            return False
        if end == -1:
            if not final:
                return False
            end = len(buffer)
        if start:
            self._note_line_end(buffer[begin : start - 1])
        self._keep(buffer[:begin], dashes)
        self._finish_part()
        if end < len(buffer):
            self._note_line_end(buffer[start:end])
        line = buffer[start:end]
        self._buffer = buffer[end + 1 :]
        if self._state is not _State.FAILED:
            self._boundary(line[len(self._delimiter) :].rstrip(b"\r"))
        return self._state is not _State.FAILED

    def _misplaced(self) -> None:
        """What looks like a boundary and begins no line, or has blanks behind it: some servers take it for one (Django,
        Werkzeug behind a mere CR), others do not (formidable)."""
        self.flags.unmatched_boundary = 1

    def _consume_data(self, final: bool, dashes: int) -> None:
        """Move all that cannot be the start of a boundary out of the buffer."""
        keep = 0 if final else len(self._delimiter) + 2
        if len(self._buffer) > keep:
            cut = len(self._buffer) - keep
            self._keep(self._buffer[:cut], dashes)
            self._buffer = self._buffer[cut:]

    def _keep(self, data: bytes, dashes: int) -> None:
        """Data of the part.  `dashes`: where the first line in it, or behind it, begins with `--`; -1: none."""
        part = self._part
        if not data:
            return
        if 0 <= dashes <= len(data) - 3 or (self._tail + data[:2]).find(b"\n--") >= 0:
            self._stray_dashes = True
        self._tail = (self._tail + data[-2:])[-2:]
        self._at_line_start = False
        part.size += len(data)
        if part.only_a_file:
            self.file_bytes += len(data)
            if not self._keep_files:
                return
        part.data.append(data)

    def _finish_part(self) -> None:
        part = self._part
        name = part.name if part.name is not None else b""
        if part.filename is not None:
            self.files.append((name, part.filename))
            self.files += [(name, other) for other in part.other_filenames if other != part.filename]
            self.file_names.append((name, name))
            self.file_sizes.append((name, b"%d" % part.size))
            if self._keep_files:
                self.file_contents.append((name, b"".join(part.data)))
        if part.only_a_file or (part.filename is not None and not part.size):
            return
        if len(self.fields) >= self._fields_limit:
            self.fields_overflow = True
        else:
            self.fields.append((name, b"".join(part.data)))
