"""One SecRule or SecAction of the tree to a Link, and its metadata to a draft of a Unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from waf_core import actions
from waf_core.errors import Position, SecLangError
from waf_core.macros import Macro
from waf_core.operators import REFUSED as REFUSED_OPERATORS
from waf_core.operators import REGISTRY as OPERATORS
from waf_core.operators import Operator, OperatorEnv, OperatorError
from waf_core.rule import Effect, Link, RuleInfo
from waf_core.seclang.tree import ActionNode, OperatorNode, RuleNode
from waf_core.transformations import REGISTRY as TRANSFORMATIONS
from waf_core.transformations import Transformation

PHASE_NAMES = {"request": 2, "response": 4, "logging": 5}
SEVERITIES = ("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")

REFUSED_ACTIONS = {
    "exec": "envoy-waf runs no programs; read its JSON events instead",
    "append": "envoy-waf never changes bodies; use an Envoy filter",
    "prepend": "envoy-waf never changes bodies; use an Envoy filter",
    "proxy": "route by an Envoy rule, or answer with redirect",
    "pause": "a paused request costs you more than the attacker; use a rate limit",
}


@dataclass(slots=True)
class Draft:
    """What the actions of a chain's first rule say, before defaults are applied."""

    id: int | None = None
    phase: int = 2
    message: str | None = None
    data: str | None = None
    tags: list[str] = field(default_factory=list)
    severity: int | None = None
    version: str = ""
    revision: str = ""
    maturity: str = ""
    accuracy: str = ""
    disruption: str | None = None
    redirect: str | None = None
    status: int | None = None
    log: bool | None = None
    audit_log: bool | None = None
    skip: int = 0
    skip_after: str | None = None
    chained: bool = False
    capture: bool = False
    multi_match: bool = False
    sanitise_matched: bool = False
    transformations: list[str] = field(default_factory=list)
    resets_transformations: bool = False
    effects: list[Effect] = field(default_factory=list)
    namespaces: dict[str, str] = field(default_factory=dict)
    """By their prefixes, for XPath."""
    pending: list[tuple[str, str, Position]] = field(default_factory=list)
    """ctl options that select rules: (option, value, position), resolved at the end."""

    def info(self, position: Position, text: str) -> RuleInfo:
        return RuleInfo(
            self.id or 0,
            self.phase,
            self.message or "",
            tuple(self.tags),
            self.severity,
            self.version,
            self.revision,
            self.maturity,
            self.accuracy,
            position,
            text,
        )


def _raw(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def read_actions(nodes: tuple[ActionNode, ...]) -> Draft:
    """Fold a list of actions into a Draft.  Raises SecLangError."""
    draft = Draft()
    for node in nodes:
        if node.name in REFUSED_ACTIONS:
            raise SecLangError(
                f"the action {node.name} is refused", node.position, node.name, REFUSED_ACTIONS[node.name]
            )
        handler = _HANDLERS.get(node.name)
        if handler is None:
            raise SecLangError("unknown action", node.position, node.name, "see docs/actions.md")
        if node.name in _NEED_VALUE and not node.value:
            raise SecLangError(f"the action {node.name} needs a value", node.position, node.name)
        try:
            handler(draft, node.value or "", node)
        except actions.ActionError as error:
            raise SecLangError(str(error), node.position, node.value or node.name, error.hint) from error
    return draft


def _set(attribute: str, convert: Callable[[str], object] = str) -> Callable[[Draft, str, ActionNode], None]:
    def handle(draft: Draft, value: str, node: ActionNode) -> None:
        setattr(draft, attribute, convert(value))

    return handle


def _id(draft: Draft, value: str, node: ActionNode) -> None:
    if not value.strip().isdigit() or not 0 < int(value) < 1 << 53:
        raise actions.ActionError("an id is a positive number", "for example id:100001")
    draft.id = int(value)


def _phase(draft: Draft, value: str, node: ActionNode) -> None:
    phase = PHASE_NAMES.get(value.strip().lower())
    if phase is None:
        if value.strip() not in ("1", "2", "3", "4", "5"):
            raise actions.ActionError("a phase is a number from 1 to 5, or request, response, logging")
        phase = int(value)
    draft.phase = phase


def _severity(draft: Draft, value: str, node: ActionNode) -> None:
    text = value.strip().upper()
    if text.isdigit() and int(text) <= 7:
        draft.severity = int(text)
    elif text in SEVERITIES:
        draft.severity = SEVERITIES.index(text)
    else:
        raise actions.ActionError("unknown severity", f"known are 0-7 and {', '.join(SEVERITIES)}")


def _status(draft: Draft, value: str, node: ActionNode) -> None:
    if not value.strip().isdigit() or not 200 <= int(value) <= 599:
        raise actions.ActionError("a status is a number from 200 to 599")
    draft.status = int(value)


def _transformation(draft: Draft, value: str, node: ActionNode) -> None:
    name = value.strip().lower()
    if name == "none":
        draft.transformations.clear()
        draft.resets_transformations = True
        return
    if name not in TRANSFORMATIONS:
        close = [known for known in TRANSFORMATIONS if known[:4] == name[:4]]
        raise actions.ActionError(
            "unknown transformation", f"did you mean {', '.join(close)}?" if close else "see docs/transformations.md"
        )
    draft.transformations.append(name)


def _disruption(name: str) -> Callable[[Draft, str, ActionNode], None]:
    def handle(draft: Draft, value: str, node: ActionNode) -> None:
        draft.disruption = name
        if name == "redirect":
            draft.redirect = value
        if name == "allow" and value:
            scope = value.strip().lower()
            if scope not in ("phase", "request"):
                raise actions.ActionError("allow takes phase or request, or nothing")
            draft.disruption = f"allow:{scope}"

    return handle


def _log(draft: Draft, value: str, node: ActionNode) -> None:
    draft.log = True


def _nolog(draft: Draft, value: str, node: ActionNode) -> None:
    draft.log = False
    draft.audit_log = False


def _skip(draft: Draft, value: str, node: ActionNode) -> None:
    if not value.strip().isdigit():
        raise actions.ActionError("skip takes the number of rules to pass over")
    draft.skip = int(value)


def _effect(make: Callable[[str], Effect]) -> Callable[[Draft, str, ActionNode], None]:
    def handle(draft: Draft, value: str, node: ActionNode) -> None:
        draft.effects.append(make(value))

    return handle


def _namespace(draft: Draft, value: str, node: ActionNode) -> None:
    prefix, _, namespace = value.partition("=")
    if not prefix.strip() or not namespace.strip():
        raise actions.ActionError("xmlns takes prefix=namespace", "for example xmlns:soap=http://example.com/")
    draft.namespaces[prefix.strip()] = namespace.strip()


def _ctl(draft: Draft, value: str, node: ActionNode) -> None:
    option, equals, argument = value.partition("=")
    name = option.strip().lower()
    if not equals:
        raise actions.ActionError("ctl takes option=value")
    if name in actions.CTL_REFUSED:
        raise actions.ActionError(f"ctl:{option} is refused", actions.CTL_REFUSED[name])
    if name in actions.CTL_WITHOUT_EFFECT:
        return
    if name in actions.CTL:
        draft.effects.append(actions.CTL[name](argument))
    elif name.startswith("ruleremove"):
        draft.pending.append((name, argument.strip(), node.position))
    else:
        raise actions.ActionError(f"unknown ctl option {option!r}", "see docs/actions.md")


def _sanitise(kind: str) -> Callable[[Draft, str, ActionNode], None]:
    def handle(draft: Draft, value: str, node: ActionNode) -> None:
        if kind == "matched":
            draft.sanitise_matched = True
        else:
            draft.effects.append(actions.Sanitise(kind, value))

    return handle


def _tag(draft: Draft, value: str, node: ActionNode) -> None:
    draft.tags.append(value)


def _ignore(draft: Draft, value: str, node: ActionNode) -> None:
    """Kept for what it tells a reader."""


_HANDLERS: dict[str, Callable[[Draft, str, ActionNode], None]] = {
    "id": _id,
    "phase": _phase,
    "msg": _set("message"),
    "logdata": _set("data"),
    "tag": _tag,
    "severity": _severity,
    "ver": _set("version"),
    "rev": _set("revision"),
    "maturity": _set("maturity"),
    "accuracy": _set("accuracy"),
    "t": _transformation,
    "chain": _set("chained", lambda value: True),
    "capture": _set("capture", lambda value: True),
    "multimatch": _set("multi_match", lambda value: True),
    "log": _log,
    "nolog": _nolog,
    "auditlog": _set("audit_log", lambda value: True),
    "noauditlog": _set("audit_log", lambda value: False),
    "status": _status,
    "skip": _skip,
    "skipafter": _set("skip_after", lambda value: value.strip()),
    "deny": _disruption("deny"),
    "drop": _disruption("drop"),
    "block": _disruption("block"),
    "pass": _disruption("pass"),
    "allow": _disruption("allow"),
    "redirect": _disruption("redirect"),
    "setvar": _effect(actions.SetVar),
    "setenv": _effect(actions.SetEnv),
    "initcol": _effect(actions.InitCol),
    "setsid": _effect(lambda value: actions.SetIdentity("SESSION", value)),
    "setuid": _effect(lambda value: actions.SetIdentity("USER", value)),
    "setrsc": _effect(lambda value: actions.SetIdentity("RESOURCE", value)),
    "expirevar": _effect(actions.ExpireVar),
    "deprecatevar": _effect(actions.DeprecateVar),
    "ctl": _ctl,
    "xmlns": _namespace,
    "sanitisearg": _sanitise("arg"),
    "sanitizearg": _sanitise("arg"),
    "sanitiserequestheader": _sanitise("request_header"),
    "sanitizerequestheader": _sanitise("request_header"),
    "sanitiseresponseheader": _sanitise("response_header"),
    "sanitizeresponseheader": _sanitise("response_header"),
    "sanitisematched": _sanitise("matched"),
    "sanitizematched": _sanitise("matched"),
    "sanitisematchedbytes": _sanitise("matched"),
    "sanitizematchedbytes": _sanitise("matched"),
}

_NEED_VALUE = frozenset({
    "id", "phase", "t", "tag", "severity", "status", "skip", "skipafter",
    "setvar", "ctl", "redirect", "initcol", "xmlns",
})  # fmt: skip


def build_operator(node: OperatorNode, env: OperatorEnv) -> Operator:
    """Make the operator of a rule.  Raises SecLangError."""
    factory = OPERATORS.get(node.name)
    if factory is None:
        if node.name in REFUSED_OPERATORS:
            raise SecLangError(
                f"the operator @{node.name} is refused", node.position, f"@{node.name}", REFUSED_OPERATORS[node.name]
            )
        close = [known for known in OPERATORS if known[:3] == node.name[:3]]
        raise SecLangError(
            "unknown operator",
            node.position,
            f"@{node.name}",
            f"did you mean @{', @'.join(close)}?" if close else "see docs/operators.md",
        )
    before = len(env.notes)
    try:
        operator = factory(_raw(node.argument), env)
    except OperatorError as error:
        raise SecLangError(str(error), node.position, f"@{node.name} {node.argument}", error.hint) from error
    for i in range(before, len(env.notes)):
        env.notes[i] = f"{node.position}: {env.notes[i]}"
    return operator


def build_link(
    node: RuleNode,
    draft: Draft,
    defaults: list[str],
    env: OperatorEnv,
    replaced: Mapping[str, Transformation],
) -> Link:
    """The executable part of one rule.  `replaced` are transformations that settings change."""
    from waf_core.compiler.targets import apply_nodes

    names = [*([] if draft.resets_transformations else defaults), *draft.transformations]
    chain: tuple[Transformation, ...] = tuple(replaced.get(name) or TRANSFORMATIONS[name] for name in names)
    operator = build_operator(node.operator, env) if node.operator is not None else None
    return Link(
        targets=apply_nodes([], node.targets, draft.namespaces),
        operator=operator,
        operator_name=node.operator.name if node.operator else "",
        operator_argument=_raw(node.operator.argument) if node.operator else b"",
        negated=node.operator.negated if node.operator else False,
        chain=chain,
        chain_names=tuple(names),
        multi_match=draft.multi_match,
        capture=draft.capture,
        effects=draft.effects,
        position=node.position,
        namespaces=draft.namespaces,
    )


def macro(text: str | None) -> Macro | None:
    return Macro(_raw(text)) if text else None


def read_tags(tags: Sequence[str]) -> tuple[Macro, ...]:
    """Tags with macros; none when there are no macros in any."""
    macros = tuple([Macro(_raw(tag)) for tag in tags])
    return () if all(tag.constant is not None for tag in macros) else macros
