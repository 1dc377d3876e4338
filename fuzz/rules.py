"""Rules and expressions as a user, or a neighbour's ConfigMap, may write them."""

from __future__ import annotations

from fuzz.pieces import Pieces
from waf_core import WAF
from waf_core.errors import WafError
from waf_core.exchange import Exchange, run
from waf_core.operators import OperatorError
from waf_core.operators.needs import of_bytes
from waf_core.operators.regex import Rx
from waf_core.transaction import Transaction

_FORM = b"application/x-www-form-urlencoded"
_EXCHANGE = Exchange(
    method=b"POST", uri=b"/a?b=c&d=%27", headers=[(b"Host", b"a"), (b"Content-Type", _FORM)], body=b"e=f",
    status=200, response_headers=[(b"Content-Type", b"text/html")], response_body=b"<p>",
)  # fmt: skip
_TX: Transaction = WAF.from_directives("SecRuleEngine On").new_transaction()


def seclang(data: bytes) -> None:
    """Rules compile and judge, or there is a WafError with a place."""
    text = data.decode("utf-8", "replace")
    if "@rbl" in text.lower() or "include" in text.lower() or "file" in text.lower():
        return  # these look at the machine
    try:
        waf = WAF.from_directives(text)
    except WafError:
        return
    run(waf, _EXCHANGE)


def expressions(data: bytes) -> None:
    """What an expression needs is in every value that it matches, and what it captures begins with the match."""
    pieces = Pieces(data)
    pattern, value = pieces.text(), pieces.rest()
    try:
        operator = Rx(pattern)
    except OperatorError:
        return
    captures = operator.match(value, _TX)
    assert (captures is not None) == operator.holds(value, _TX)
    if captures is None:
        return
    needs = operator.needs()
    members = of_bytes(value)
    assert len(value) >= needs.length
    assert all(members & clause for clause in needs.clauses)
    assert captures[0] is not None
    assert captures[0] in value
