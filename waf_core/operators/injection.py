r"""`@detectSQLi` and `@detectXSS`: libinjection.

The binding takes `str` and encodes it as UTF-8.  libinjection takes 0xA0 for white space
and every other high byte for a word character; Latin-1 decoding would turn 0xA0 into C2 A0
and `1\xa0or\xa01=1` would pass, so 0xA0 becomes a space first (checked against the C
function on bytes).  NUL needs no care: the binding passes the length along.
"""

from __future__ import annotations

import libinjection

from waf_core.macros import Expander
from waf_core.operators import Captures, Operator, OperatorEnv, operator
from waf_core.operators.needs import ALL, Needs, of_bytes

_ALPHANUMERIC = of_bytes(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NOT_A_WORD = Needs(length=1, clauses=(ALL ^ _ALPHANUMERIC,))
"""One word or number is one token, and no attack's fingerprint has only one."""

_MARKUP = Needs(length=2, clauses=(of_bytes(b"<="),))
"""A tag opens with `<`; inside one, where libinjection also begins, an attribute needs its `=`.  (Checked
against the library with 1.5 million strings of attack fragments without both.)"""

_NBSP_TO_SPACE = bytes(0x20 if b == 0xA0 else b for b in range(256))


class DetectSqli(Operator):
    """Captures the fingerprint, as ModSecurity does."""

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        if value.isalnum():
            return None
        found = libinjection.is_sql_injection(value.translate(_NBSP_TO_SPACE).decode("latin-1"))
        if not found["is_sqli"]:
            return None
        return (str(found["fingerprint"]).encode("latin-1", "replace"),)

    def needs(self) -> Needs:
        return _NOT_A_WORD


class DetectXss(Operator):
    """libinjection's HTML5 tokenizer; captures the whole value."""

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        found = libinjection.is_xss(value.decode("latin-1"))
        return (value,) if found["is_xss"] else None

    def needs(self) -> Needs:
        return _MARKUP


@operator("detectSQLi")
def _sqli(argument: bytes, env: OperatorEnv) -> Operator:
    return DetectSqli()


@operator("detectXSS")
def _xss(argument: bytes, env: OperatorEnv) -> Operator:
    return DetectXss()
