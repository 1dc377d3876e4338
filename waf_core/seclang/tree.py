"""The syntax tree.  A rule file is a list of nodes: rules and other directives."""

from __future__ import annotations

from dataclasses import dataclass

from waf_core.errors import Position


@dataclass(frozen=True, slots=True)
class TargetNode:
    """One entry of a rule's variable list, `&!NAME:selector`.

    `selector` is None when the whole collection is meant; `is_regex` says that it was
    written between slashes.
    """

    name: str
    selector: str | None
    is_regex: bool
    negated: bool
    counted: bool
    position: Position


@dataclass(frozen=True, slots=True)
class OperatorNode:
    """`!@name argument`; a bare argument means `@rx`."""

    name: str
    argument: str
    negated: bool
    position: Position


@dataclass(frozen=True, slots=True)
class ActionNode:
    """`name` or `name:value`; the name in lower case, the value unquoted or None."""

    name: str
    value: str | None
    position: Position


@dataclass(frozen=True, slots=True)
class RuleNode:
    """SecRule, or SecAction when `targets` is empty."""

    targets: tuple[TargetNode, ...]
    operator: OperatorNode | None
    actions: tuple[ActionNode, ...]
    position: Position
    text: str


@dataclass(frozen=True, slots=True)
class DirectiveNode:
    """Any other directive; `name` as written, `arguments` unquoted."""

    name: str
    arguments: tuple[str, ...]
    position: Position


Node = RuleNode | DirectiveNode
