"""Actions that change a transaction: setvar, ctl, initcol and their kin.

Each is a small callable made when rules are compiled.  Actions that only describe a rule, or
decide its flow, are read by waf_core/compiler/rules.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from waf_core.limits import Limit
from waf_core.macros import Macro
from waf_core.operators.numeric import plus, text_of, to_int
from waf_core.settings import AUDIT_ENGINES, AUDIT_PARTS, ENGINE_MODES, XML_INTO_ARGS

if TYPE_CHECKING:
    from waf_core.rule import Target
    from waf_core.transaction import Transaction

PERSISTENT: Final = ("GLOBAL", "IP", "RESOURCE", "SESSION", "USER")
WRITABLE: Final = ("TX", *PERSISTENT)

MAX_COLLECTION_KEYS: Final = 4096
"""Variables that one transaction may create in one collection (names come from traffic)."""

MAX_EXACT: Final = 10**12
"""Numbers up to this one, added up MAX_EXACT_TIMES, keep the 18 digits that `to_int` reads."""

MAX_EXACT_TIMES: Final = 10**5


class ActionError(ValueError):
    """The action's value cannot be used; the compiler adds the position."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def amount(kind: str, value: bytes) -> int:
    """What a setvar that counts ("add" or "subtract") adds."""
    return to_int(value) if kind == "add" else -to_int(value)


class SetVar:
    """`setvar:collection.name=value`, `=+n`, `=-n`, `!collection.name`."""

    __slots__ = ("_amount", "_key", "_text", "collection", "kind", "name", "value")

    def __init__(self, text: str) -> None:
        self._text = text
        text = text.strip()
        self.kind = "set"
        if text.startswith("!"):
            self.kind = "delete"
            text = text[1:]
        target, equals, value = text.partition("=")
        collection, dot, name = target.strip().partition(".")
        if not dot:
            collection, dot, name = target.strip().partition(":")
        self.collection = collection.strip().upper()
        if not dot or not name or self.collection not in WRITABLE:
            raise ActionError(
                f"setvar cannot set {target.strip()!r}",
                "write tx.name, or global., ip., resource., session. or user. after initcol",
            )
        if self.kind == "set" and equals and value[:1] in ("+", "-"):
            self.kind = "add" if value[0] == "+" else "subtract"
            value = value[1:]
        self.name = Macro(name.strip().encode("utf-8", "surrogateescape").lower())
        self._use(Macro((value if equals else "1").encode("utf-8", "surrogateescape")))

    def _use(self, value: Macro) -> None:
        self.value = value
        self._key: bytes | None = None
        """The name of a TX variable to which `_amount` is always added."""
        self._amount = 0
        if self.collection == "TX" and self.kind in ("add", "subtract") and value.constant is not None:
            self._key = self.name.constant
            self._amount = amount(self.kind, value.constant)

    def with_value(self, value: bytes) -> SetVar:
        """The same with a value whose macros are expanded (what looks like one is left as it is)."""
        other = SetVar(self._text)
        other._use(Macro.of_text(value))
        return other

    @property
    def counts(self) -> bool:
        """Does it add the same number to the same TX variable each time?"""
        return self._key is not None

    def repeat(self, tx: Transaction, times: int) -> None:
        """Do it so many times."""
        self(tx)
        more = times - 1
        if more and self._key is not None and self._key in tx.tx:
            count, step = to_int(tx.tx[self._key]), self._amount
            if max(abs(count), abs(step)) <= MAX_EXACT and more <= MAX_EXACT_TIMES:
                tx.tx[self._key] = text_of(count + step * more)
                return
        for _ in range(more):
            self(tx)

    def __call__(self, tx: Transaction) -> None:
        if self._key is not None:
            old = tx.tx.get(self._key)
            if old is not None:
                tx.tx[self._key] = plus(old, self._amount)
                return
        name = self.name.constant
        if name is None:
            name = self.name.expand(tx).lower()
        value = self.value.constant
        if value is None:
            value = self.value.expand(tx)
        if self.collection != "TX":
            if self.kind == "delete":
                tx.records.delete(self.collection, name)
            elif self.kind == "set":
                tx.records.set(self.collection, name, value)
            else:
                tx.records.add(self.collection, name, amount(self.kind, value))
            return
        store = tx.tx
        if self.kind == "delete":
            store.pop(name, None)
            return
        if name not in store and len(store) >= MAX_COLLECTION_KEYS:
            tx.note_limit(Limit.TX_VARIABLES)
            return
        if self.kind == "set":
            store[name] = value
        else:
            store[name] = plus(store.get(name, b"0"), amount(self.kind, value))


class SetEnv:
    """`setenv:NAME=value`: visible as ENV:NAME in this transaction."""

    def __init__(self, text: str) -> None:
        name, equals, value = text.strip().partition("=")
        self.delete = name.startswith("!")
        self.name = name.lstrip("!").strip().lower().encode()
        if not self.name:
            raise ActionError("setenv has no name", "write setenv:NAME=value")
        self.value = Macro((value if equals else "1").encode("utf-8", "surrogateescape"))

    def __call__(self, tx: Transaction) -> None:
        if self.delete:
            tx.env.pop(self.name, None)
        else:
            tx.env[self.name] = self.value.expand(tx)


class InitCol:
    """`initcol:ip=%{REMOTE_ADDR}`: open a collection that outlives the request."""

    def __init__(self, text: str) -> None:
        name, equals, key = text.strip().partition("=")
        self.collection = name.strip().upper()
        if not equals or self.collection not in PERSISTENT:
            raise ActionError(
                f"initcol cannot open {name.strip()!r}", "known are global, ip, resource, session and user"
            )
        self.key = Macro(key.strip().encode("utf-8", "surrogateescape"))

    def __call__(self, tx: Transaction) -> None:
        tx.records.open(self.collection, self.key.expand(tx))


class SetIdentity:
    """`setsid`, `setuid` and `setrsc`: open SESSION, USER or RESOURCE under a key."""

    def __init__(self, collection: str, text: str) -> None:
        self.collection = collection
        self.key = Macro(text.strip().encode("utf-8", "surrogateescape"))

    def __call__(self, tx: Transaction) -> None:
        key = self.key.expand(tx)
        if self.collection == "SESSION":
            tx.session_id = key
        elif self.collection == "USER":
            tx.user_id = key
        tx.records.open(self.collection, key)


class ExpireVar:
    """`expirevar:ip.blocked=60`: seconds from now."""

    def __init__(self, text: str) -> None:
        target, _, seconds = text.strip().partition("=")
        collection, dot, name = target.partition(".")
        self.collection = collection.strip().upper()
        if not dot or not seconds.strip() or self.collection not in WRITABLE:
            raise ActionError(f"expirevar cannot expire {text.strip()!r}", "write expirevar:ip.name=seconds")
        self.name = Macro(name.strip().lower().encode("utf-8", "surrogateescape"))
        self.seconds = Macro(seconds.strip().encode())

    def __call__(self, tx: Transaction) -> None:
        if self.collection != "TX":
            tx.records.expire(self.collection, self.name.expand(tx), to_int(self.seconds.expand(tx)))


class DeprecateVar:
    """`deprecatevar:session.score=60/300`: take 60 away every 300 seconds."""

    def __init__(self, text: str) -> None:
        target, _, rate = text.strip().partition("=")
        collection, dot, name = target.partition(".")
        amount, slash, period = rate.partition("/")
        self.collection = collection.strip().upper()
        if not dot or not slash or self.collection not in PERSISTENT or not amount.isdigit() or not period.isdigit():
            raise ActionError(f"deprecatevar cannot use {text!r}", "write deprecatevar:session.name=60/300")
        self.name = name.strip().lower().encode("utf-8", "surrogateescape")
        self.amount, self.period = int(amount), max(int(period), 1)

    def __call__(self, tx: Transaction) -> None:
        tx.records.deprecate(self.collection, self.name, self.amount, self.period)


class Sanitise:
    """`sanitiseArg:password`: the audit log shows asterisks instead of the value."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind, self.name = kind, text.strip().lower().encode("utf-8", "surrogateescape")

    def __call__(self, tx: Transaction) -> None:
        tx.sanitised.add((self.kind, self.name))


# -- ctl -----------------------------------------------------------------------------------


class RemoveRules:
    """`ctl:ruleRemoveBy...`: units that this transaction no longer evaluates."""

    def __init__(self, units: frozenset[int]) -> None:
        self.units = units

    def __call__(self, tx: Transaction) -> None:
        tx.removed_units |= self.units


class RemoveTarget:
    """`ctl:ruleRemoveTargetBy...`: units that no longer look at one target."""

    def __init__(self, units: frozenset[int], target: Target) -> None:
        self.units, self.target = units, target

    def __call__(self, tx: Transaction) -> None:
        if len(tx.removed_targets) < MAX_COLLECTION_KEYS:
            tx.removed_targets.append((self.units, self.target))


class SetAttribute:
    """A ctl option that sets one thing of the transaction, or of its `request_body` or `response_body`."""

    def __init__(self, name: str, value: object) -> None:
        self.owner, _, self.attribute = name.rpartition(".")
        self.value = value

    def __call__(self, tx: Transaction) -> None:
        setattr(getattr(tx, self.owner) if self.owner else tx, self.attribute, self.value)


def _on_off(name: str, text: str) -> bool:
    lowered = text.strip().lower()
    if lowered not in ("on", "off"):
        raise ActionError(f"ctl:{name} takes On or Off, not {text!r}")
    return lowered == "on"


def _number(name: str, text: str) -> int:
    if not text.strip().isdigit():
        raise ActionError(f"ctl:{name} takes a number, not {text!r}")
    return int(text.strip())


def _choice(name: str, choices: Mapping[str, object], words: str, text: str) -> object:
    found = choices.get(text.strip().lower())
    if found is None:
        raise ActionError(f"ctl:{name} takes {words}, not {text!r}")
    return found


def _audit_parts(text: str) -> Callable[[Transaction], None]:
    text = text.strip().upper()
    sign, parts = (text[0], text[1:]) if text[:1] in ("+", "-") else ("=", text)
    if not AUDIT_PARTS.fullmatch(parts):
        raise ActionError(f"ctl:auditLogParts takes letters from A to K, and Z, not {text!r}", "for example +E")

    def run(tx: Transaction) -> None:
        current = tx.audit_parts
        if sign == "+":
            tx.audit_parts = current + "".join(p for p in parts if p not in current)
        elif sign == "-":
            tx.audit_parts = "".join(p for p in current if p not in parts)
        else:
            tx.audit_parts = parts

    return run


PROCESSORS: Final = ("URLENCODED", "MULTIPART", "XML", "JSON", "RAW")


def _processor(text: str) -> bytes:
    if text.strip().upper() not in PROCESSORS:
        raise ActionError(f"unknown body processor {text!r}", f"known are {', '.join(PROCESSORS)}")
    return text.strip().upper().encode()


CTL: Final[dict[str, Callable[[str], Callable[[Transaction], None]]]] = {
    "ruleengine": lambda v: SetAttribute("engine", _choice("ruleEngine", ENGINE_MODES, "On, Off or DetectionOnly", v)),
    "auditengine": lambda v: SetAttribute(
        "audit_engine", _choice("auditEngine", AUDIT_ENGINES, "On, Off or RelevantOnly", v)
    ),
    "auditlogparts": _audit_parts,
    "forcerequestbodyvariable": lambda v: SetAttribute("request_body.forced", _on_off("forceRequestBodyVariable", v)),
    "forceresponsebodyvariable": lambda v: SetAttribute(
        "response_body.forced", _on_off("forceResponseBodyVariable", v)
    ),
    "requestbodyaccess": lambda v: SetAttribute("request_body.access", _on_off("requestBodyAccess", v)),
    "requestbodylimit": lambda v: SetAttribute("request_body.limit", _number("requestBodyLimit", v)),
    "requestbodyprocessor": lambda v: SetAttribute("request_body.processor", _processor(v)),
    "responsebodyaccess": lambda v: SetAttribute("response_body.access", _on_off("responseBodyAccess", v)),
    "responsebodylimit": lambda v: SetAttribute("response_body.limit", _number("responseBodyLimit", v)),
    "responsebodyprocessor": lambda v: SetAttribute("response_body.processor", _processor(v)),
    "parsexmlintoargs": lambda v: SetAttribute(
        "request_body.xml_into_args", _choice("parseXmlIntoArgs", XML_INTO_ARGS, "On, Off, OnlyArgs", v)
    ),
}
"""Lower-cased name of a ctl option that needs no rules -> its maker."""

CTL_WITHOUT_EFFECT: Final = ("debugloglevel",)
"""`envoy-waf explain` tells what a debug log would."""

CTL_REFUSED: Final = {
    "hashengine": "response rewriting (SecHashEngine) is not offered; remove the option",
    "hashenforcement": "response rewriting (SecHashEngine) is not offered; remove the option",
}
