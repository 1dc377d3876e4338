r"""`@detectSQLi` and `@detectXSS`: libinjection.

The C functions are called as they are (`libinjection_sqli`, `libinjection_xss` in libinjection.h; the package's
library exports them), on bytes: the package's own functions take text and make a dictionary of every
token, which costs more than the analysis.

Neither looks at the digits of an index: none of its keywords, tags and attributes has a dot, and to what reads
numbers all digits are alike.
"""

from __future__ import annotations

import ctypes
from typing import Final

import libinjection

from waf_core.bodies.json import ROOT
from waf_core.macros import Expander
from waf_core.octets import ALPHANUMERIC, span, table_of
from waf_core.operators import Captures, Operator, OperatorEnv, operator
from waf_core.operators.needs import ALL, Needs, of_bytes

_NOT_A_WORD: Final = Needs(length=1, clauses=(ALL ^ of_bytes(ALPHANUMERIC),))
"""One word or number is one token, and no attack's fingerprint has only one."""

_MARKUP: Final = Needs(length=2, clauses=(of_bytes(b"<="),))
"""A tag opens with `<`; inside one, where libinjection also begins, an attribute needs its `=`.  (Checked
against the library with 1.5 million strings of attack fragments without both.)"""

RELEASE_BYTES: Final = 4096
"""Other threads may run while a value longer than this is looked at."""

_JSON_NAME: Final = ROOT.encode() + b"."

_IN_A_WORD: Final = table_of(ALPHANUMERIC + b"._")
"""A word goes on with these."""

FINGERPRINT_BYTES: Final = 8
"""What libinjection_sqli writes at most, with the NUL at its end."""


def _functions(library: ctypes.CDLL) -> tuple[ctypes._NamedFuncPointer, ctypes._NamedFuncPointer]:
    """They are always called with bytes, c_size_t and an array of char, which ctypes passes as they are: with
    `argtypes` it would ask a converter about each (0.35 us a call)."""
    return library.libinjection_sqli, library.libinjection_xss


_sqli, _xss = _functions(ctypes.PyDLL(libinjection.__file__))
_sqli_released, _xss_released = _functions(ctypes.CDLL(libinjection.__file__))
_Fingerprint = ctypes.c_char * FINGERPRINT_BYTES
_unread = _Fingerprint()
_SIZES: Final = [ctypes.c_size_t(size) for size in range(128)]


def _c_size(size: int) -> ctypes.c_size_t:
    return _SIZES[size] if size < len(_SIZES) else ctypes.c_size_t(size)


def _is_sqli(value: bytes, fingerprint: ctypes.Array[ctypes.c_char]) -> bool:
    """Writes the fingerprint, if it is."""
    size = len(value)
    return bool((_sqli_released if size > RELEASE_BYTES else _sqli)(value, _c_size(size), fingerprint))


def _is_one_token(value: bytes) -> bool:
    """Is it a word, a number or a name from a JSON document, which to libinjection is one token?  (A word goes on over
    dots unless what stands before one is a keyword, and none of those begins with `json`.)  Of long values that is not
    told."""
    size = len(value)
    if size > RELEASE_BYTES:
        return False
    return value.isalnum() or (value.startswith(_JSON_NAME) and span(value, _IN_A_WORD, len(_JSON_NAME)) == size)


class DetectSqli(Operator):
    """Captures the fingerprint, as ModSecurity does."""

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        if _is_one_token(value):
            return None
        fingerprint = _Fingerprint()
        return (fingerprint.value,) if _is_sqli(value, fingerprint) else None

    def holds(self, value: bytes, tx: Expander) -> bool:
        return not _is_one_token(value) and _is_sqli(value, _unread)

    def minds_indexes(self) -> bool | Operator:
        return False

    def needs(self) -> Needs:
        return _NOT_A_WORD


class DetectXss(Operator):
    """libinjection's HTML5 tokenizer; captures the whole value."""

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        return (value,) if self.holds(value, tx) else None

    def holds(self, value: bytes, tx: Expander) -> bool:
        size = len(value)
        return bool((_xss_released if size > RELEASE_BYTES else _xss)(value, _c_size(size)))

    def minds_indexes(self) -> bool | Operator:
        return False

    def needs(self) -> Needs:
        return _MARKUP


@operator("detectSQLi")
def _make_sqli(argument: bytes, env: OperatorEnv) -> Operator:
    return DetectSqli()


@operator("detectXSS")
def _make_xss(argument: bytes, env: OperatorEnv) -> Operator:
    return DetectXss()
