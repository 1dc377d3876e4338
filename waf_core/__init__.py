"""waf_core: a ModSecurity-compatible rule engine, sans I/O.

    waf = WAF.from_files(["rules.conf"])
    tx = waf.new_transaction()

See waf_core/transaction.py for the life of a transaction.
"""

from waf_core.errors import Position, SecLangError, UsageError, WafError
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
