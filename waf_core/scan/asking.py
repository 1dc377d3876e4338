"""Plans carried out: the forms of values are made, and single questions about them answered.

Of many short values those with the same plan are taken together, step by step: what Python does for each of
a thousand arguments costs more than what is asked of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from waf_core.scan.columns import Column
from waf_core.scan.forms import MANY, TURN_FORMS, TURN_VALUES
from waf_core.scan.planner import NOTHING, Plan
from waf_core.scan.questions import Alone, Answer, Ask, Slot, Told
from waf_core.scan.telling import Keeper, tell
from waf_core.transformations import Transformation
from waf_core.transformations.joined import transform_all
from waf_core.turns import LONG_BYTES, give_way

Entry = tuple[bytes, Slot, list[Told]]
"""A form, what is asked of it, and where the answer goes."""

Groups = dict[int, tuple[Plan, list[bytes], list[list[Told]]]]
"""Plans (by id), the values that have them, and where the answers for each go."""


def ask_one(plan: Plan, value: bytes, told: list[Told], entries: list[Entry], tx: Keeper) -> None:
    """Make the forms of a value, and note what is asked of each; single questions are answered at once.  A
    plan's branches are no deeper than its longest chain."""
    forms = [value]
    long = len(value) > LONG_BYTES
    for earlier, function in plan.steps:
        forms.append(function(forms[earlier]))
        if long:
            give_way()
    for number, slot, others in plan.slots:
        ask_slot(forms[number], slot, others, told, entries, tx)
    for number, planner in plan.branches:
        form = forms[number]
        deeper = planner.plan(form, crowd=False)
        if deeper is not NOTHING:
            ask_one(deeper, form, told, entries, tx)


def ask_slot(form: bytes, slot: Slot | None, others: Alone, told: list[Told], entries: list[Entry], tx: Keeper) -> None:
    """Note what is asked of a form; single questions are answered at once."""
    if slot is not None:
        entries.append((form, slot, told))
    long = len(form) > LONG_BYTES
    for ask, refused, wanted in others:
        if long:
            give_way()
        answer = ask(form, tx)
        if answer is not refused:
            tell(told, wanted, form, answer, tx)


def join(groups: Groups, plan: Plan, value: bytes, told: list[Told]) -> None:
    """To the others with the same plan."""
    group = groups.get(id(plan))
    if group is None:
        group = groups[id(plan)] = (plan, [], [])
    group[1].append(value)
    group[2].append(told)


def ask_groups(groups: Groups, entries: list[Entry], batches: list[list[Column]], tx: Keeper, *, many: int) -> None:
    for plan, values, into in groups.values():
        if len(values) >= many:
            _ask_all(plan, values, into, entries, batches, tx)
        else:
            for value, told in zip(values, into, strict=True):
                ask_one(plan, value, told, entries, tx)


def _ask_all(
    plan: Plan,
    values: Sequence[bytes],
    into: Sequence[list[Told]],
    entries: list[Entry],
    batches: list[list[Column]],
    tx: Keeper,
) -> None:
    """`ask_one` for many values.  Different chains often lead to the same forms: an operator is asked once of each."""
    known: dict[Ask, dict[bytes, Answer]] = {}
    forms = [values]
    columns: dict[int, Column] = {}
    some_unchanged = False
    work = 0
    for earlier, function in plan.steps:
        source = forms[earlier]
        column = _made(forms, plan, source, function) if some_unchanged else None
        if column is None:
            column = transform_all(function, source)
            some_unchanged |= column is source
            work += len(column)
            if work >= TURN_FORMS:
                work = 0
                give_way()
        forms.append(column)
    for number, slot, others in plan.slots:
        column = forms[number]
        if slot is not None:
            asked = columns.get(id(column))
            if asked is None:
                columns[id(column)] = (column, [(slot, into)])
            else:
                asked[1].append((slot, into))
        for ask, refused, wanted in others:
            answers = known.get(ask)
            if answers is None:
                answers = known[ask] = {}
            for place, form in enumerate(column):
                if form in answers:
                    answer = answers[form]
                else:
                    work += 1
                    if work >= TURN_FORMS:
                        work = 0
                        give_way()
                    answer = answers[form] = ask(form, tx)
                if answer is not refused:
                    tell(into[place], wanted, form, answer, tx)
    if columns:
        batches.append(list(columns.values()))
    for number, planner in plan.branches:
        groups: Groups = {}
        before: bytes | None = None
        deeper = NOTHING
        for turn, (form, told) in enumerate(zip(forms[number], into, strict=True)):
            if turn % TURN_VALUES == 0:
                give_way()
            if form != before:
                before, deeper = form, planner.plan(form, crowd=True)
            if deeper is not NOTHING:
                join(groups, deeper, form, told)
        ask_groups(groups, entries, batches, tx, many=MANY)


def _made(
    forms: Sequence[Sequence[bytes]], plan: Plan, source: Sequence[bytes], function: Transformation
) -> Sequence[bytes] | None:
    """A step that has changed nothing has given its column back: what comes next may have been done."""
    for done in range(1, len(forms)):
        earlier, other = plan.steps[done - 1]
        if other is function and forms[earlier] is source:
            return forms[done]
    return None
