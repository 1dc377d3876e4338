"""Values of one phase that no scanner remembers, judged together.

Each call of a matching engine costs some microseconds, whatever it finds, and most requests match
nothing.  So all forms of all values are joined, with a newline between them, and matched once; only
when something is found that anybody wants to know, the forms are looked at by themselves.

An expression finds in the joined text what it finds in a form, since it is compiled so that `^` and `$`
hold at newlines; it may find more, across forms.  RE2 confirms every candidate on the form alone.

Of many short values those with the same plan are taken together, step by step: what Python does for each of
a thousand arguments costs more than what is asked of them.  So that many have the same, plans are coarse then.
Elements of arrays are judged by one of them (waf_core/scan/elements.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from waf_core.macros import Expander
from waf_core.scan.elements import Judged, Pending, ask_followers, ask_leaders, follow, take_arrays
from waf_core.scan.forms import FEW_FORMS, MIN_BEGINNING, TURN_FORMS, TURN_VALUES, Found, shared_beginning
from waf_core.scan.masks import numbers_of
from waf_core.scan.patterns import PatternSet
from waf_core.scan.planner import NOTHING, Plan
from waf_core.scan.questions import Answer, Ask, Place, Slot, Told
from waf_core.scan.wish import Wish
from waf_core.transformations import Transformation
from waf_core.transformations.joined import transform_all
from waf_core.turns import LONG_BYTES, give_way

_Entry = tuple[bytes, Slot, list[Told]]
"""A form, what is asked of it, and where the answer goes."""

_Asked = tuple[int, bytes]
"""A pattern's number, and a form."""

MANY: Final = 4
"""So many values with the same plan are taken together."""

MANY_OF_CROWD: Final = 2
"""Of a crowd: there are many groups of few then."""

CROWD: Final = 16
"""So many values get coarse plans, which are the same for more of them."""

FEW_DIFFERENT: Final = 8
"""So few forms may be looked at twice: to see that they are different costs more."""

MANY_BYTES: Final = 256
"""Longer ones are not."""

MAX_TOLD_BYTES: Final = 32768
"""A form that matched is kept for the rules that ask, unless it is longer: then they make it again."""

_Column = tuple[Sequence[bytes], list[tuple[Slot, Sequence[list[Told]]]]]
"""A form of each of many values; what is asked of all of them, and where the answers for each go."""

_Groups = dict[int, tuple[Plan, list[bytes], list[list[Told]]]]
"""Plans (by id), the values that have them, and where the answers for each go."""


def judge(pending: Pending, patterns: PatternSet, tx: Expander) -> list[Judged]:
    """The places whose test holds, for each value that has any; all answers are remembered."""
    arrays = take_arrays(pending, patterns)
    if not arrays:
        return _judge(pending, patterns, tx)
    leaders = _judge(pending, patterns, tx)
    may_differ = _judge(ask_leaders(arrays), patterns, tx)
    own = _judge(ask_followers(arrays, may_differ), patterns, tx)
    return [*leaders, *_remember(follow(arrays, leaders, own))]


def _judge(pending: Pending, patterns: PatternSet, tx: Expander) -> list[Judged]:
    """`judge`, each value by itself."""
    entries: list[_Entry] = []
    batches: list[list[_Column]] = []
    waiting: list[Judged] = []
    for scanner, values in pending.items():
        planner, crowd = scanner.planner, len(values) >= CROWD
        many = len(values) >= MANY
        groups: _Groups = {}
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
                _join(groups, plan, value, told)
            else:
                _ask(plan, value, told, entries, tx)
        if groups:
            _ask_groups(groups, entries, batches, tx, many=MANY_OF_CROWD if crowd else MANY)
    for batch in batches:
        _match(batch, patterns, tx)
    wanted: dict[bytes, int] = {}
    unwelcome: list[_Entry] = []
    for entry in entries:
        form, slot, _ = entry
        wanted[form] = wanted.get(form, 0) | slot.patterns
        if slot.negated:
            unwelcome.append(entry)
    found_patterns = patterns.find(wanted)
    if found_patterns:
        _confirm(entries, found_patterns, tx, {} if len(wanted) < len(entries) else None)
    for form, slot, told in unwelcome:
        for number, operator, unwanted in slot.negated:
            if not found_patterns.get(form, 0) >> number & 1 or not operator.holds(form, tx):
                told += [(place, None, None) for place in unwanted]
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
    for scanner, value, told in judged:
        scanner.remember(value, tuple([each[0] for each in told]) if told else ())
        if told:
            out.append((scanner, value, told))
    return out


def _ask(plan: Plan, value: bytes, told: list[Told], entries: list[_Entry], tx: Expander) -> None:
    """Make the forms of a value, and note what is asked of each; single questions are answered at once.  A
    plan's branches are no deeper than its longest chain."""
    forms = [value]
    long = len(value) > LONG_BYTES
    for earlier, function in plan.steps:
        forms.append(function(forms[earlier]))
        if long:
            give_way()
    for number, slot, others in plan.slots:
        form = forms[number]
        if slot is not None:
            entries.append((form, slot, told))
        for ask, refused, wanted in others:
            if long:
                give_way()
            answer = ask(form, tx)
            if answer is not refused:
                _tell(told, wanted, form, answer)
    for number, planner in plan.branches:
        form = forms[number]
        deeper = planner.plan(form, crowd=False)
        if deeper is not NOTHING:
            _ask(deeper, form, told, entries, tx)


def _join(groups: _Groups, plan: Plan, value: bytes, told: list[Told]) -> None:
    """To the others with the same plan."""
    group = groups.get(id(plan))
    if group is None:
        group = groups[id(plan)] = (plan, [], [])
    group[1].append(value)
    group[2].append(told)


def _ask_groups(
    groups: _Groups, entries: list[_Entry], batches: list[list[_Column]], tx: Expander, *, many: int
) -> None:
    for plan, values, into in groups.values():
        if len(values) >= many:
            _ask_all(plan, values, into, entries, batches, tx)
        else:
            for value, told in zip(values, into, strict=True):
                _ask(plan, value, told, entries, tx)


def _ask_all(
    plan: Plan,
    values: Sequence[bytes],
    into: Sequence[list[Told]],
    entries: list[_Entry],
    batches: list[list[_Column]],
    tx: Expander,
) -> None:
    """`_ask` for many values.  Different chains often lead to the same forms: an operator is asked once about each."""
    known: dict[Ask, dict[bytes, Answer]] = {}
    forms = [values]
    columns: dict[int, _Column] = {}
    some_unchanged = False
    turn = 0
    for earlier, function in plan.steps:
        source = forms[earlier]
        column = _made(forms, plan, source, function) if some_unchanged else None
        if column is None:
            column = transform_all(function, source)
            some_unchanged |= column is source
            turn += len(column)
            if turn >= TURN_FORMS:
                turn = 0
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
                    turn += 1
                    if turn >= TURN_FORMS:
                        turn = 0
                        give_way()
                    answer = answers[form] = ask(form, tx)
                if answer is not refused:
                    _tell(into[place], wanted, form, answer)
    if columns:
        batches.append(list(columns.values()))
    for number, planner in plan.branches:
        groups: _Groups = {}
        before: bytes | None = None
        deeper = NOTHING
        for turn, (form, told) in enumerate(zip(forms[number], into, strict=True)):
            if turn % TURN_VALUES == 0:
                give_way()
            if form != before:
                before, deeper = form, planner.plan(form, crowd=True)
            if deeper is not NOTHING:
                _join(groups, deeper, form, told)
        _ask_groups(groups, entries, batches, tx, many=MANY)


def _made(
    forms: Sequence[Sequence[bytes]], plan: Plan, source: Sequence[bytes], function: Transformation
) -> Sequence[bytes] | None:
    """A step that has changed nothing has given its column back: what comes next may have been done."""
    for done in range(1, len(forms)):
        earlier, other = plan.steps[done - 1]
        if other is function and forms[earlier] is source:
            return forms[done]
    return None


def _match(batch: Sequence[_Column], patterns: PatternSet, tx: Expander) -> None:
    """Ask about the patterns of the columns that a plan has made.  If these are short all are looked at together: what
    is found in one form of a value would mostly be found in its other forms, too."""
    if len(batch) == 1 or sum([len(forms) for forms, _ in batch]) > FEW_FORMS:
        for forms, asked in batch:
            _tell_all(forms, asked, patterns.find_all(_different(forms), _wish(asked, patterns)), tx)
        return
    wanted: dict[bytes, int] = {}
    for forms, asked in batch:
        mask = _wish(asked, patterns).mask
        for form in forms:
            known = wanted.get(form)
            wanted[form] = mask if known is None else known | mask
    found = patterns.find(wanted)
    for forms, asked in batch:
        _tell_all(forms, asked, {form: found[form] for form in forms if form in found} if found else found, tx)


def _tell_all(
    forms: Sequence[bytes], asked: Sequence[tuple[Slot, Sequence[list[Told]]]], found: Found, tx: Expander
) -> None:
    """Tell all who want to know of the forms of a column in which patterns may be found."""
    for slot, into in asked:
        positive = _confirm_column(slot, found, tx) if found else {}
        for number, operator, unwanted in slot.negated:
            for form in dict.fromkeys(forms):
                if not found.get(form, 0) >> number & 1 or not operator.holds(form, tx):
                    positive.setdefault(form, []).extend([(place, None, None) for place in unwanted])
        if positive:
            for place, form in enumerate(forms):
                answers = positive.get(form)
                if answers:
                    into[place].extend(answers)


def _wish(asked: Sequence[tuple[Slot, Sequence[list[Told]]]], patterns: PatternSet) -> Wish:
    """For the patterns of all slots; mostly there is one."""
    if len(asked) > 1:
        mask = 0
        for slot, _ in asked:
            mask |= slot.patterns
        return patterns.wish(mask)
    slot = asked[0][0]
    if slot.wish is None:
        slot.wish = patterns.wish(slot.patterns)
    return slot.wish


def _different(forms: Sequence[bytes]) -> Sequence[bytes]:
    """Each of them once; of a few more than once, if they are alike."""
    return forms if len(forms) <= FEW_DIFFERENT else list(dict.fromkeys(forms))


def _confirm_column(slot: Slot, found: Mapping[bytes, int], tx: Expander) -> dict[bytes, list[Told]]:
    """Who wants to know of which form.  The names of an array's elements begin alike: what has matched there is not
    asked of each."""
    if len(found) < FEW_FORMS:
        few: dict[bytes, list[Told]] = {}
        for form, mask in found.items():
            mask &= slot.positive
            if mask:
                told: list[Told] = []
                _ask_candidates(slot, mask, form, told, tx)
                if told:
                    few[form] = told
        return few
    forms: list[bytes] = []
    masks: list[int] = []
    answers: list[list[Told]] = []
    for form, mask in found.items():
        mask &= slot.positive
        if mask:
            forms.append(form)
            masks.append(mask)
            answers.append([])
    for start in range(0, len(forms), FEW_FORMS):
        end = min(start + FEW_FORMS, len(forms))
        union = last = 0
        for mask in masks[start:end]:
            if mask != last:
                union |= mask
                last = mask
        beginning = shared_beginning(forms[start:end]) if end - start >= MANY else b""
        if len(beginning) >= MIN_BEGINNING:
            for number in numbers_of(union):
                _, wanted, operator = slot.asker(number)
                if operator.settled_by(beginning):
                    union ^= 1 << number
                    for place in range(start, end):
                        _tell(answers[place], wanted, forms[place], True)
        for place in range(start, end):
            _ask_candidates(slot, masks[place] & union, forms[place], answers[place], tx)
    return dict(zip(forms, answers, strict=True))


def _confirm(
    entries: Iterable[_Entry], patterns: Mapping[bytes, int], tx: Expander, answers: dict[_Asked, Answer] | None
) -> None:
    """Candidates may be false: the operator itself has the last word.  `answers` are kept if forms repeat."""
    for form, slot, told in entries:
        mask = patterns.get(form)
        if mask is not None:
            _ask_candidates(slot, mask & slot.positive, form, told, tx, answers)


def _ask_candidates(
    slot: Slot,
    mask: int,
    form: bytes,
    told: list[Told],
    tx: Expander,
    answers: dict[_Asked, Answer] | None = None,
) -> None:
    """Tell who wants to know of those patterns of `mask` that do match.  What is among `answers` is not asked again."""
    if not mask:
        return
    for number in numbers_of(mask):
        ask, wanted, _ = slot.asker(number)
        if answers is None:
            answer = ask(form, tx)
        else:
            asked = (number, form)
            if asked not in answers:
                answers[asked] = ask(form, tx)
            answer = answers[asked]
        if answer is not None and answer is not False:
            _tell(told, wanted, form, answer)


def _tell(told: list[Told], wanted: Iterable[Place], form: bytes, answer: Answer) -> None:
    """Add those who want to know, and what there is to know; a long form is not kept."""
    captures = None if isinstance(answer, bool) else answer
    if len(form) > MAX_TOLD_BYTES:
        told += [(place, None, None) for place in wanted]
    else:
        told += [(place, form, captures) for place in wanted]
