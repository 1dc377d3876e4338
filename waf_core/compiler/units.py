"""What the actions of a chain's first rule, and SecDefaultAction where they say nothing, make of the chain; what the
others may say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from waf_core.compiler.rules import Draft, macro, read_actions, read_tags
from waf_core.errors import SecLangError
from waf_core.rule import Link, Unit
from waf_core.seclang.parser import parse_actions
from waf_core.seclang.tree import DirectiveNode, RuleNode

REDIRECTS: Final = (301, 302, 303, 307, 308)
"""With another status a redirect is a 302, as in ModSecurity v2."""


_NOT_BY_DEFAULT: Final = ("block", "chain", "id", "msg", "rev", "skip", "skipafter", "ver", "xmlns")
"""What ModSecurity v2 refuses there, too: each rule has its own."""


_OF_THE_CHAIN: Final = frozenset({
    "accuracy", "allow", "block", "deny", "drop", "id", "logdata", "maturity", "msg", "pass", "phase", "redirect",
    "rev", "severity", "skip", "skipafter", "tag", "ver",
})  # fmt: skip
"""What ModSecurity v2 takes from a chain's first rule only: anywhere else it is an error."""

_WITHOUT_EFFECT: Final = frozenset({"auditlog", "log", "noauditlog", "nolog", "status"})
"""What v2 takes from a chained rule, too, and does not heed."""


@dataclass(slots=True)
class Defaults:
    """SecDefaultAction of one phase."""

    disruption: str = "pass"
    status: int = 403
    redirect: str | None = None
    log: bool = True
    audit_log: bool = True
    transformations: tuple[str, ...] = ()
    draft: Draft = field(default_factory=Draft)
    """What else it says."""

    def inherit(self, draft: Draft) -> None:
        """Add to what a rule says, in place, what it leaves to the defaults."""
        own = self.draft
        draft.tags[:0] = own.tags
        draft.severity = own.severity if draft.severity is None else draft.severity
        draft.data = draft.data or own.data
        draft.maturity = draft.maturity or own.maturity
        draft.accuracy = draft.accuracy or own.accuracy
        draft.capture |= own.capture
        draft.multi_match |= own.multi_match


def read_defaults(node: DirectiveNode) -> tuple[int, Defaults]:
    """A SecDefaultAction: (phase, what it says).  Raises SecLangError."""
    text = " ".join(node.arguments)
    nodes = parse_actions(text, lambda offset: node.position)
    draft = read_actions(nodes)
    own = next((each.name for each in nodes if each.name in _NOT_BY_DEFAULT), None)
    if own is not None:
        why = "it says what block means" if own == "block" else "each rule has its own"
        raise SecLangError(f"SecDefaultAction cannot have {own}: {why}", node.position, text)
    if draft.effects or draft.pending or draft.sanitise_matched:
        raise SecLangError(
            "SecDefaultAction cannot change anything",
            node.position,
            text,
            "put setvar, ctl and the like into a SecAction of that phase",
        )
    return draft.phase, Defaults(
        draft.disruption or "pass",
        draft.status or 403,
        draft.redirect,
        draft.log if draft.log is not None else True,
        draft.audit_log if draft.audit_log is not None else draft.log is not False,
        tuple(draft.transformations),
        draft,
    )


def make_unit(node: RuleNode, draft: Draft, defaults: Defaults, link: Link) -> Unit:
    """The unit of a chain, of which `node` is the first rule and `link` what is made of that."""
    disruption, status, redirect = draft.disruption, draft.status or defaults.status, draft.redirect
    if disruption in (None, "block"):
        disruption = defaults.disruption
        redirect = defaults.redirect
    if disruption == "redirect" and status not in REDIRECTS:
        status = 302
    log = draft.log if draft.log is not None else defaults.log
    audit = draft.audit_log
    if audit is None:
        audit = log if draft.log is not None else defaults.audit_log
    return Unit(
        index=0,
        info=draft.info(node.position, node.text),
        links=[link],
        disruption=disruption or "pass",
        status=status,
        redirect=macro(redirect),
        log=log,
        audit_log=audit,
        message=macro(draft.message),
        data=macro(draft.data),
        tags=read_tags(draft.tags),
        skip=draft.skip,
        skip_after=draft.skip_after,
        sanitise_matched=draft.sanitise_matched,
    )


def join_chain(unit: Unit, node: RuleNode, draft: Draft, notes: list[str]) -> None:
    """A chained rule of a unit.  Raises SecLangError for what only the first rule can say: a `deny` that does nothing
    would be missed."""
    for action in node.actions:
        if action.name in _OF_THE_CHAIN:
            raise SecLangError(
                f"{action.name} in a chained rule",
                action.position,
                node.text,
                f"write it into the first rule of the chain, {unit.info.id}",
            )
        if action.name in _WITHOUT_EFFECT:
            notes.append(f"{action.position}: {action.name} has no effect in a chained rule (of {unit.info.id})")
    unit.sanitise_matched |= draft.sanitise_matched
