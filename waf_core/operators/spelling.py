r"""What PCRE's words mean, spelled so that RE2, Hyperscan, `regex` and PCRE2 read them alike.

Rules are written for PCRE.  There `\s` has the vertical tab (which MySQL takes for a blank), `\v` is all that moves a
line down, `\h` all that moves along it (pcre2pattern(3), "Generic character types").  RE2's `\s` lacks the vertical
tab, its `\v` is nothing else, Hyperscan has PCRE's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_BLANK: Final = rb"\t-\r\x20"
_DOWN: Final = rb"\n-\r\x85"
_ALONG: Final = rb"\t\x20\xa0"

_MEANING: Final = {
    rb"\s": (b"[" + _BLANK + b"]", _BLANK),
    rb"\S": (b"[^" + _BLANK + b"]", rb"\x00-\x08\x0e-\x1f\x21-\xff"),
    rb"\v": (b"[" + _DOWN + b"]", _DOWN),
    rb"\V": (b"[^" + _DOWN + b"]", rb"\x00-\t\x0e-\x84\x86-\xff"),
    rb"\h": (b"[" + _ALONG + b"]", _ALONG),
    rb"\H": (b"[^" + _ALONG + b"]", rb"\x00-\x08\n-\x1f\x21-\x9f\xa1-\xff"),
    rb"\R": (rb"(?:\r\n|" + b"[" + _DOWN + b"])", rb"\R"),
    rb"\N": (rb"[^\n]", rb"\N"),
    rb"\C": (rb"[\x00-\xff]", rb"\C"),
    rb"\e": (rb"\x1b", rb"\x1b"),
    rb"\E": (b"", b""),
}
"""By itself, and among the members of a class."""

_A_WORD: Final = re.compile(rb"\\[sSvVhHRNCeEcx]")
ESCAPE: Final = rb"\\Q.*?(?:\\E|\Z)|\\x(?:\{[^}]*\}|[0-9a-fA-F]{0,2})|\\c.|\\."
_MEMBER: Final = ESCAPE + rb"|\[:\^?[a-z]+:\]|[^\]]"
_MEMBERS: Final = re.compile(_MEMBER, re.DOTALL)
_OPENING_AND_MEMBERS: Final = rb"(\[\^?\]?)((?:" + _MEMBER + rb")*)"
CLASS: Final = rb"\[\^?\]?(?:" + _MEMBER + rb")*\]?"
"""The last one of an expression may be left open."""
_WORDS: Final = re.compile(ESCAPE + b"|" + _OPENING_AND_MEMBERS, re.DOTALL)
_PIECES: Final = re.compile(_WORDS.pattern + b"|.", re.DOTALL)
_ENDS: Final = {rb"\z": rb"\Z", rb"\Z": rb"(?=\n?\Z)"}
_SET_OPERATORS: Final = frozenset((b"[", b"&", b"~", b"|"))
MULTILINE: Final = re.compile(rb"\(\?[a-zA-Z]*m")
_FLAGS: Final = frozenset((b"(?i)", b"(?s)"))
_ANCHORS: Final = {b"^": (rb"\A", rb"(?<![^\n])"), b"$": (rb"\z", rb"(?![^\n])")}
"""Of the whole, and of lines."""
_APART: Final = re.compile(rb"\\(?:[1-9pPZQ]|x\{|x[cdeCDE].|x[fF][^fF]).*|[\xc0-\xfe]", re.DOTALL)
r"""Words that RE2 and PCRE2 may read otherwise.  `\xff` alone has no other case in Latin-1."""
_MAYBE_APART: Final = re.compile(rb"\\(?:[1-9pPZQ]|x[c-fC-F{])|[\xc0-\xfe]")
"""Any class that has one has this; most have not."""
_ALIKE: Final = re.compile(
    rb"[^\\\[({^$\xc0-\xfe]+|[\^$]|\{[0-9]+(?:,[0-9]*)?\}|\((?:\?:|(?=[^?*]))|"
    + ESCAPE
    + b"|"
    + _OPENING_AND_MEMBERS
    + b"|(.)",
    re.DOTALL,
)
"""What they read alike, but for some escapes and members of a class; the third group has what is something else."""


def tokens(pattern: bytes) -> Iterator[tuple[bytes, bool]]:
    r"""The pieces of an expression, and whether each is a member of a class.  `\Q...\E` is one, what opens a class
    (with a bracket that is its first member) and what closes it are ones outside."""
    for piece in _PIECES.finditer(pattern):
        opening = piece[1]
        if opening is None:
            yield piece[0], False
        else:
            yield opening, False
            for member in _MEMBERS.findall(piece[2]):
                yield member, True


def for_re2(pattern: bytes) -> bytes:
    """With the words above written out.  A hyphen beside one in a class stands for itself, as in Perl."""
    return _WORDS.sub(_written_out, pattern) if _A_WORD.search(pattern) else pattern


def _written_out(found: re.Match[bytes]) -> bytes:
    """Of an escape, or a class."""
    opening, members = found[1], found[2]
    if opening is None:
        token = found[0]
        return _MEANING[token][False] if token in _MEANING else _byte(token)
    return opening + _members_written_out(members) if _A_WORD.search(members) else found[0]


def _members_written_out(members: bytes) -> bytes:
    out: list[bytes] = []
    a_word = False
    for token in _MEMBERS.findall(members):
        before, a_word = a_word, token in _MEANING
        if a_word:
            if out[-1:] == [b"-"]:
                out[-1] = rb"\-"
            out.append(_MEANING[token][True])
        elif before and token == b"-":
            out.append(rb"\-")
        else:
            out.append(_byte(token))
    return b"".join(out)


def _byte(token: bytes) -> bytes:
    r"""A byte by its number or by a control key, in two digits: RE2 wants both in `\x0a`."""
    if token[:2] == rb"\c" and len(token) == 3:
        return rb"\x%02x" % (token.upper()[2] ^ 0x40)
    if token[:2] != rb"\x":
        return token
    return rb"\x" + token[2:].strip(b"{}").rjust(2, b"0") if len(token) < 7 else token


def for_regex(pattern: bytes) -> bytes:
    r"""For Python's `regex`, version 1, besides: `\z` is its `\Z`, `$` the very end (PCRE_DOLLAR_ENDONLY), `{,2}` is
    text, and there are no sets in sets."""
    out: list[bytes] = []
    end = b"$" if MULTILINE.search(pattern) else rb"\Z"
    for token, inside in tokens(for_re2(pattern)):
        if token[:2] == rb"\Q":
            out.append(re.escape(token[2:].removesuffix(rb"\E")))
        elif inside:
            out.append(b"\\" + token if token in _SET_OPERATORS else token)
        elif token == b"," and out[-1:] == [b"{"]:
            out[-1:] = [rb"\{", token]
        else:
            if token == b"]" and out[-2:-1] == [b"[^"]:
                out.append(out[-1])  # `[^a]|[^b]` matches nothing but other bytes there, `[^aa]|[^bb]` any
            elif token == b"]" and out[-1:] == [b"[^]"]:
                out.append(rb"\]")
            out.append(end if token == b"$" else _ENDS.get(token, token))
    return b"".join(out)


def as_re2(pattern: bytes, *, lines: bool) -> bytes | None:
    r"""An expression that RE2 takes, for PCRE2; None where the two may not agree.  `lines`: `^` and `$` hold at
    newlines, as if it were `(?m:...)`.

    In any case RE2 knows letters of Latin-1 that PCRE2 does not, so there may be none of them.
    """
    flags = pattern[:4] if pattern[:4] in _FLAGS else b""
    out = [flags]
    for part in _ALIKE.finditer(pattern, len(flags)):
        token, members, unlike = part.group(0, 2, 3)
        if unlike is not None or (token[:1] == b"\\" and _APART.fullmatch(token)):
            return None
        if members and _MAYBE_APART.search(members) and any(map(_APART.fullmatch, _MEMBERS.findall(members))):
            return None
        out.append(_ANCHORS[token][lines] if token in _ANCHORS else token)
    return b"".join(out)
