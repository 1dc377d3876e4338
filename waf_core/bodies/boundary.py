"""The boundary of multipart/form-data, as Content-Type gives it (RFC 2046, section 5.1.1).

Servers read it in different ways.  One that finds another boundary than the rules do gets other arguments out of the
same body; so what two of them could take for different boundaries is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_BOUNDARY: Final = 256

_WORD: Final = b"boundary"
_BAD_BYTE: Final = re.compile(rb"[^A-Za-z0-9!#$%&'*+./:=?^_`{|}~-]")
"""Here one ends a boundary and another goes on: blanks, commas (PHP, Commons FileUpload), brackets (comments of RFC
822), backslashes."""
_NAME_END: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`{|}~-]\Z")


@dataclass(slots=True)
class Boundary:
    """`error` is "" or why there is none; the rest are the MULTIPART_* flags about it."""

    text: bytes = b""
    error: str = ""
    quoted: bool = False
    whitespace: bool = False
    missing_semicolon: bool = False
    invalid_quoting: bool = False


def read_boundary(content_type: bytes) -> Boundary:
    """The boundary, with what is odd about it."""
    out = Boundary()
    # PHP takes the word where it stands first, in whatever, and what is behind the next `=`.
    start = content_type.lower().find(_WORD)
    before, name, rest = content_type[:start], content_type[start:][: len(_WORD)], content_type[start + len(_WORD) :]
    value = rest.lstrip(b" \t")
    if start == -1 or not value.startswith(b"="):
        out.error = "boundary missing in Content-Type"
        return out
    if _NAME_END.search(before):
        out.error = "boundary is the end of another word in Content-Type"
        return out
    out.missing_semicolon = not before.rstrip(b" \t").endswith((b";", b","))
    out.whitespace = not rest.startswith(b"=") or value[1:2] in (b" ", b"\t")
    value = value[1:].strip(b" \t")
    if value.startswith(b'"'):
        out.quoted = True
        text, closed, trailer = value[1:].partition(b'"')
        trailer = trailer.lstrip(b" \t")
        if not closed:
            out.invalid_quoting = True
            out.error = "boundary quoted and never closed"
        elif trailer and not trailer.startswith(b";"):
            out.error = "text after the quoted boundary"
    else:
        text, _, trailer = value.partition(b";")
        out.invalid_quoting = b'"' in text
        out.whitespace = out.whitespace or text != text.rstrip(b" \t")
        text = text.rstrip(b" \t")
    if out.error:
        pass
    elif not text or len(text) > MAX_BOUNDARY:
        out.error = "boundary empty or too long"
    elif _BAD_BYTE.search(text):
        out.error = "invalid byte in the boundary"
    elif _WORD in trailer.lower() or (name != _WORD and _WORD in text):
        out.error = "several boundaries in Content-Type"
    out.text = text
    return out
