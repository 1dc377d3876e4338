"""Operators that check the form of a value; they hold when the value is *bad*
(`@validate...`) or when it contains a well-formed number (`@verify...`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from waf_core.limits import Limit
from waf_core.macros import Expander
from waf_core.operators import HIT, Captures, Operator, OperatorEnv, OperatorError, operator
from waf_core.operators.needs import ALL, Needs, of_bytes
from waf_core.operators.regex import compile_pattern
from waf_core.transformations.url import has_bad_escape

MAX_VERIFIED_NUMBERS: Final = 1024
"""Candidates in one value that a @verify operator looks at."""

_DIGITS: Final = frozenset(b"0123456789")


class ValidateByteRange(Operator):
    """Holds when the value has a byte outside the ranges (`10,32-126`)."""

    def __init__(self, argument: bytes) -> None:
        allowed = bytearray()
        for part in argument.replace(b" ", b"").split(b","):
            low, dash, high = part.partition(b"-")
            try:
                first, last = int(low), int(high if dash else low)
            except ValueError:
                raise OperatorError(f"{part.decode('latin-1')!r} is no byte range", "write 32-126,9") from None
            if not 0 <= first <= last <= 255:
                raise OperatorError(f"{part.decode('latin-1')!r} is outside 0-255")
            allowed += bytes(range(first, last + 1))
        self._allowed = bytes(allowed)

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        return HIT if value.translate(None, self._allowed) else None

    def minds_indexes(self) -> bool | Operator:
        return 0 < len(_DIGITS.intersection(self._allowed)) < len(_DIGITS)

    def needs(self) -> Needs:
        return Needs(length=1, clauses=(ALL ^ of_bytes(self._allowed),))


class ValidateUrlEncoding(Operator):
    """Holds when a `%` is not followed by two hexadecimal digits."""

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        return HIT if has_bad_escape(value) else None

    def minds_indexes(self) -> bool | Operator:
        return False

    def needs(self) -> Needs:
        return Needs(length=1, clauses=(of_bytes(b"%"),))


class ValidateUtf8(Operator):
    """Holds when the value is no valid UTF-8 (overlong forms and surrogates included)."""

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        if value.isascii():
            return None
        try:
            value.decode("utf-8")
        except UnicodeDecodeError:
            return HIT
        return None

    def minds_indexes(self) -> bool | Operator:
        return False

    def needs(self) -> Needs:
        return Needs(length=1, clauses=(of_bytes(range(128, 256)),))


class Verify(Operator):
    """A regular expression finds candidates, an arithmetic check confirms them.  Candidates may overlap: of a longer
    number `\\d{13,16}` may find the wrong sixteen digits first."""

    def __init__(
        self, argument: bytes, env: OperatorEnv, check: Callable[[bytes], bool], read: frozenset[int] = _DIGITS
    ) -> None:
        """`read`: bytes of what is found that `check` is asked about."""
        self._pattern = compile_pattern(argument, env)
        self._check = check
        self._read = read

    def get_ready(self) -> None:
        self._pattern.get_ready()

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        start = 0
        for _ in range(MAX_VERIFIED_NUMBERS):
            try:
                first, end = self._pattern.place(value, start)
            except TimeoutError:
                tx.note_limit(Limit.RX_TIME)
                return HIT
            if first == end:
                return None
            found = value[first:end]
            if self._check(bytes([byte for byte in found if byte in self._read])):
                return (found,)
            start = first + 1
        return HIT


def luhn(digits: bytes) -> bool:
    """ISO/IEC 7812-1, annex B."""
    if not 12 <= len(digits) <= 19:
        return False
    total = 0
    for i, byte in enumerate(reversed(digits)):
        number = (byte - 0x30) << (i & 1)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


def ssn(digits: bytes) -> bool:
    """US social security number: area, group and serial as the SSA assigns them."""
    if len(digits) != 9 or digits in (b"123456789", b"078051120"):
        return False
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in (b"000", b"666") and area < b"900" and group != b"00" and serial != b"0000"


def cpf(digits: bytes) -> bool:
    """Brazilian CPF: two check digits modulo 11."""
    if len(digits) != 11 or len(set(digits)) == 1:
        return False
    numbers = [b - 0x30 for b in digits]
    for length in (9, 10):
        total = sum(n * (length + 1 - i) for i, n in enumerate(numbers[:length]))
        if (total * 10 % 11) % 10 != numbers[length]:
            return False
    return True


def rut(number: bytes) -> bool:
    """Chilean RUT: weights 2 to 7 from the right, modulo 11; the check digit may be k."""
    digits, check = number[:-1], number[-1:].lower()
    if not 7 <= len(digits) <= 9 or b"k" in digits.lower():
        return False
    total = sum((byte - 0x30) * (2 + i % 6) for i, byte in enumerate(reversed(digits)))
    return check == (b"0", b"k", *(b"%d" % n for n in range(9, 0, -1)))[total % 11]


def svnr(digits: bytes) -> bool:
    """Austrian social security number: weights 3 7 9 - 5 8 4 2 1 6, modulo 11."""
    if len(digits) != 10 or digits[:1] == b"0":
        return False
    weights = (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)
    total = sum(w * (b - 0x30) for w, b in zip(weights, digits, strict=True))
    return total % 11 == digits[3] - 0x30


@operator("validateByteRange")
def _byte_range(argument: bytes, env: OperatorEnv) -> Operator:
    return ValidateByteRange(argument)


@operator("validateUrlEncoding")
def _url_encoding(argument: bytes, env: OperatorEnv) -> Operator:
    return ValidateUrlEncoding()


@operator("validateUtf8Encoding")
def _utf8_encoding(argument: bytes, env: OperatorEnv) -> Operator:
    return ValidateUtf8()


def _register(name: str, check: Callable[[bytes], bool]) -> None:
    @operator(name)
    def make(argument: bytes, env: OperatorEnv) -> Operator:
        if not argument:
            raise OperatorError(f"@{name} needs a regular expression", r"for example \d{13,16}")
        return Verify(argument, env, check)


@operator("validateNid")
def _nid(argument: bytes, env: OperatorEnv) -> Operator:
    """Coraza's: national identity numbers of Chile (cl) and the United States (us)."""
    country, _, pattern = argument.strip().partition(b" ")
    if country not in (b"cl", b"us") or not pattern.strip():
        raise OperatorError("@validateNid needs cl or us, and a regular expression", r"for example cl \d{7,8}-[\dkK]")
    if country == b"us":
        return Verify(pattern.strip(), env, ssn)
    return Verify(pattern.strip(), env, rut, _DIGITS.union(b"kK"))


for _name, _check in (("verifyCC", luhn), ("verifySSN", ssn), ("verifyCPF", cpf), ("verifySVNR", svnr)):
    _register(_name, _check)
