"""Values of one phase that no scanner remembers, judged together.

Each call of a matching engine costs some microseconds, whatever it finds, and most requests match
nothing.  So all forms of all values are joined, with a newline between them, and matched once; only
when something is found that anybody wants to know, the forms are looked at by themselves.

An expression finds in the joined text what it finds in a form, since it is compiled so that `^` and `$`
hold at newlines; it may find more, across forms.  RE2 confirms every candidate on the form alone.

Of many short values those with the same plan are taken together (waf_core/scan/asking.py, columns.py).  So that many
have the same, plans are coarse then.  Elements of arrays are judged by one of them (waf_core/scan/elements.py).
Of large values one form is judged after the other (large_values.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from waf_core.scan.asking import Entry, Groups, ask_groups, ask_one, join
from waf_core.scan.columns import Column, match
from waf_core.scan.elements import Judged, Pending, ask_followers, ask_leaders, follow, take_arrays
from waf_core.scan.forms import MANY, TURN_FORMS, TURN_VALUES
from waf_core.scan.large_values import LARGE_BYTES, ask_large
from waf_core.scan.patterns import PatternSet
from waf_core.scan.planner import NOTHING
from waf_core.scan.questions import Told
from waf_core.scan.settle import settle
from waf_core.scan.telling import Keeper
from waf_core.turns import give_way

MANY_OF_CROWD: Final = 2
"""So many values of a crowd with the same plan are taken together: there are many groups of few then."""

CROWD: Final = 16
"""So many values get coarse plans, which are the same for more of them."""

MANY_BYTES: Final = 256
"""Longer ones are judged by themselves."""

HELD_BYTES: Final = 1 << 18
"""Forms of so many bytes of values are held at once (there may be thirty of each); what has been noted of them is
asked then."""


def judge(pending: Pending, patterns: PatternSet, tx: Keeper) -> list[Judged]:
    """The places whose test holds, for each value that has any; all answers are remembered."""
    arrays = take_arrays(pending, patterns)
    if not arrays:
        return _judge(pending, patterns, tx)
    leaders = _judge(pending, patterns, tx)
    may_differ = _judge(ask_leaders(arrays), patterns, tx)
    own = _judge(ask_followers(arrays, may_differ), patterns, tx)
    return [*leaders, *_remember(follow(arrays, leaders, own))]


def _judge(pending: Pending, patterns: PatternSet, tx: Keeper) -> list[Judged]:
    """`judge`, each value by itself."""
    entries: list[Entry] = []
    batches: list[list[Column]] = []
    waiting: list[Judged] = []
    held = 0
    for scanner, values in pending.items():
        planner, crowd = scanner.planner, len(values) >= CROWD
        many = len(values) >= MANY
        groups: Groups = {}
        for turn, value in enumerate(values):
            if turn % TURN_VALUES == 0:
                give_way()
            plan = planner.plan(value, crowd=crowd)
            if plan is NOTHING:
                scanner.remember(value, ())
                continue
            told: list[Told] = []
            waiting.append((scanner, value, told))
            if many and len(value) <= MANY_BYTES:
                join(groups, plan, value, told)
                continue
            size = len(value)
            if size > LARGE_BYTES:
                ask_large(plan, value, told, entries, patterns, tx)
            else:
                ask_one(plan, value, told, entries, tx)
            held += size
            if held > HELD_BYTES:
                settle(entries, patterns, tx)
                held = 0
        if groups:
            ask_groups(groups, entries, batches, tx, many=MANY_OF_CROWD if crowd else MANY)
    for batch in batches:
        match(batch, patterns, tx)
    settle(entries, patterns, tx)
    for _, _, told in waiting:
        if len(told) > 1:
            # A test of several forms tells the same place more than once.
            once = {each[0]: each for each in told}
            if len(once) < len(told):
                told[:] = once.values()
    return _remember(waiting)


def _remember(judged: Iterable[Judged]) -> list[Judged]:
    """Remember the answers; those values for which anything was found."""
    out: list[Judged] = []
    for turn, (scanner, value, told) in enumerate(judged, 1):
        if turn % TURN_FORMS == 0:
            give_way()
        scanner.remember(value, tuple([each[0] for each in told]) if told else ())
        if told:
            out.append((scanner, value, told))
    return out
