"""SecRuleRemoveBy..., SecRuleUpdate...By..., and `ctl:ruleRemove...`: rules chosen by id, tag,
message.

Directives apply to the rules above them, as in ModSecurity v2 and Coraza (a rule may be removed and written anew); if
none fits, to those below, as in ModSecurity v3.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import re2

from waf_core.actions import RemoveRules, RemoveTarget
from waf_core.compiler.notes import note_removal
from waf_core.compiler.rules import read_actions
from waf_core.compiler.targets import apply_nodes, build_target
from waf_core.errors import Position, SecLangError
from waf_core.operators.regex import re2_options
from waf_core.operators.spelling import for_re2
from waf_core.rule import Effect, Target, Unit
from waf_core.seclang.parser import parse_actions, parse_targets
from waf_core.seclang.tree import ActionNode, DirectiveNode

Selector = Callable[[Unit], bool]
Handler = Callable[[list[Unit], DirectiveNode], bool]
"""Changes the units; did any fit?"""


def by_id(text: str, position: Position) -> Selector:
    """`942100`, `942100-942199`, several separated by spaces or commas."""
    ranges: list[tuple[int, int]] = []
    for part in re.split(r"[\s,]+", text.strip()):
        low, dash, high = part.partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise SecLangError("rules are chosen by id or range", position, text, "for example 942100-942199")
        if dash and int(low) > int(high):
            raise SecLangError("the range ends before it begins", position, part, f"write {high}-{low}")
        ranges.append((int(low), int(high) if dash else int(low)))
    return lambda unit: any(low <= unit.info.id <= high for low, high in ranges)


def _expression(text: str, position: Position) -> Callable[[str], bool]:
    try:
        search = re2.compile(for_re2(text.encode()), re2_options()).search
    except re2.error as error:
        raise SecLangError(f"the expression cannot be compiled: {error}", position, text) from error
    return cache(lambda value: search(value.encode()) is not None)  # rules share their tags


def by_tag(text: str, position: Position) -> Selector:
    """A regular expression that some tag of the rule matches."""
    matches = _expression(text, position)
    return lambda unit: any(matches(tag) for tag in unit.info.tags)


def by_message(text: str, position: Position) -> Selector:
    matches = _expression(text, position)
    return lambda unit: matches(unit.info.message)


def _remove(make: Callable[[str, Position], Selector]) -> Handler:
    def handle(units: list[Unit], node: DirectiveNode) -> bool:
        if not node.arguments:
            raise SecLangError(f"{node.name} says no rules", node.position, node.name)
        selects = make(" ".join(node.arguments), node.position)
        before = len(units)
        units[:] = [unit for unit in units if not selects(unit)]
        return len(units) < before

    return handle


def _with_offset(text: str) -> tuple[str, int]:
    """`942100:1` is the first chained rule of 942100."""
    which, colon, number = text.partition(":")
    return (which, int(number)) if colon and number.isdigit() else (text, 0)


def _check_offset(unit: Unit, offset: int, node: DirectiveNode) -> None:
    if offset >= len(unit.links):
        raise SecLangError(f"rule {unit.info.id} has {len(unit.links)} links", node.position, node.arguments[0])


def _update_target(make: Callable[[str, Position], Selector]) -> Handler:
    def handle(units: list[Unit], node: DirectiveNode) -> bool:
        if len(node.arguments) not in (2, 3):
            raise SecLangError(
                f"{node.name} takes rules and variables",
                node.position,
                " ".join(node.arguments),
                'for example "!ARGS:x"',
            )
        which, offset = _with_offset(node.arguments[0]) if make is by_id else (node.arguments[0], 0)
        targets = parse_targets(node.arguments[1], lambda _: node.position)
        replaced = parse_targets(node.arguments[2], lambda _: node.position) if len(node.arguments) == 3 else ()
        selects = make(which, node.position)
        chosen = [unit for unit in units if selects(unit)]
        for unit in chosen:
            _check_offset(unit, offset, node)
            link = unit.links[offset]
            for old in replaced:
                link.targets = exclude_whole(link.targets, old.name)
            link.targets = apply_nodes(link.targets, targets, link.namespaces)
        return bool(chosen)

    return handle


def exclude_whole(targets: list[Target], name: str) -> list[Target]:
    return [target for target in targets if target.variable.name != name]


_FIXED = ("id", "phase", "chain", "xmlns")
"""Actions that SecRuleUpdateActionById cannot change: other rules and the order of rules depend on them."""


def updated_actions(units: list[Unit], node: DirectiveNode) -> list[tuple[Unit, int, tuple[ActionNode, ...]]]:
    """SecRuleUpdateActionById: the units that it chooses, the number of the link, and the actions that are added to its
    own (where there can only be one, the last one holds).  Raises SecLangError."""
    if len(node.arguments) != 2:
        raise SecLangError(f"{node.name} takes an id and actions", node.position, " ".join(node.arguments))
    actions = parse_actions(node.arguments[1], lambda _: node.position)
    fixed = [action.name for action in actions if action.name in _FIXED]
    if fixed:
        raise SecLangError(f"{fixed[0]} cannot be changed", node.position, node.arguments[1])
    draft = read_actions(actions)
    if draft.log and draft.audit_log is None:
        # A rule with `nolog`, which says no to both, is to be logged everywhere again.
        actions = (*actions, ActionNode("auditlog", None, node.position))
    which, offset = _with_offset(node.arguments[0])
    selects = by_id(which, node.position)
    chosen = [unit for unit in units if selects(unit)]
    for unit in chosen:
        _check_offset(unit, offset, node)
    return [(unit, offset, actions) for unit in chosen]


DIRECTIVES: dict[str, Handler] = {
    "secruleremovebyid": _remove(by_id),
    "secruleremovebytag": _remove(by_tag),
    "secruleremovebymsg": _remove(by_message),
    "secruleupdatetargetbyid": _update_target(by_id),
    "secruleupdatetargetbytag": _update_target(by_tag),
    "secruleupdatetargetbymsg": _update_target(by_message),
}

_RUNTIME = {"byid": by_id, "bytag": by_tag, "bymsg": by_message}


def runtime_removal(
    units: list[Unit], unit: Unit, option: str, value: str, position: Position, notes: list[str]
) -> Effect:
    """`ctl:ruleRemoveById=...`, `ctl:ruleRemoveTargetByTag=tag;ARGS:x` and their kin, of `unit`."""
    by_target = option.startswith("ruleremovetarget")
    kind = option[len("ruleremovetarget" if by_target else "ruleremove") :]
    if kind not in _RUNTIME:
        raise SecLangError("unknown ctl option", position, option, "see docs/actions.md")
    which, semicolon, what = value.partition(";")
    selects = _RUNTIME[kind](which.strip(), position)
    fitting = [other for other in units if selects(other)]
    notes += note_removal(unit, fitting, f"{position}: ctl:{option}={value}")
    chosen = frozenset(other.index for other in fitting)
    if not by_target:
        return RemoveRules(chosen)
    if not semicolon:
        raise SecLangError("say which target", position, value, "write RULES;VARIABLE:key")
    nodes = parse_targets(what.strip().lstrip("!"), lambda _: position)
    return RemoveTarget(chosen, build_target(nodes[0]))
