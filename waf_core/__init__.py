"""waf_core: a ModSecurity-compatible rule engine, sans I/O.

    waf = WAF.from_files(["rules.conf"])
    tx = waf.new_transaction()

See waf_core/transaction.py for the life of a transaction.  The engine is loaded by who asks for it: a supervisor does
not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from waf_core.errors import Position, SecLangError, UsageError, WafError

if TYPE_CHECKING:
    from waf_core.rule import MatchedRule, RuleInfo
    from waf_core.transaction import Interruption, Transaction
    from waf_core.waf import WAF

__all__ = [
    "WAF",
    "Interruption",
    "MatchedRule",
    "Position",
    "RuleInfo",
    "SecLangError",
    "Transaction",
    "UsageError",
    "WafError",
]

_HOMES = {
    "Interruption": "waf_core.transaction",
    "MatchedRule": "waf_core.rule",
    "RuleInfo": "waf_core.rule",
    "Transaction": "waf_core.transaction",
    "WAF": "waf_core.waf",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
