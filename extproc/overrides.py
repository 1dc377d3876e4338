"""Settings that rules read as TX variables: the paranoia level and the anomaly threshold.

They are set just ahead of the first rule that reads them, wherever that stands: behind the rule set's own set-up
(crs-setup.conf), whose values they override, and before what it does with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from extproc.config import Settings
from waf_core.seclang import Node, RuleNode, RuleSource, parse_text

RULE_ID: Final = 8199001

_READERS: Final = {
    # CRS 4 has the first two, CRS 3 the others.
    "paranoia_level": (
        "blocking_paranoia_level", "detection_paranoia_level", "paranoia_level", "executing_paranoia_level",
    ),
    "anomaly_threshold": ("inbound_anomaly_score_threshold",),
}  # fmt: skip
"""Setting -> TX variables that it stands for."""

_MACRO: Final = re.compile(r"%\{tx\.([^}]+)\}", re.IGNORECASE)


def override(nodes: Sequence[Node], settings: Settings, source: RuleSource, file: str) -> tuple[list[Node], list[str]]:
    """The rules with what the settings override, and notes on settings that no rule reads.  `file` is named in
    positions."""
    given = {name: value for name in _READERS if (value := getattr(settings, name)) is not None}
    read = [_read(node) for node in nodes] if given else []
    wanted: set[str] = set().union(*read)
    changes: dict[str, int] = {}
    notes: list[str] = []
    for setting, value in given.items():
        variables = _READERS[setting]
        used = {name: value for name in variables if name in wanted}
        changes |= used
        if not used:
            notes.append(f"{file}: {setting} has no effect: no rule reads tx.{variables[0]}")
    if not changes:
        return list(nodes), notes
    place = _before_chain(nodes, next(index for index, names in enumerate(read) if names & changes.keys()))
    actions = ",".join(f"setvar:tx.{name}={value}" for name, value in changes.items())
    text = f'SecAction "id:{RULE_ID},phase:1,pass,nolog,{actions}"'
    return [*nodes[:place], *parse_text(text, source, file=file), *nodes[place:]], notes


def _read(node: Node) -> set[str]:
    """Names of TX variables that a rule reads, in lower case."""
    if not isinstance(node, RuleNode):
        return set()
    names = {target.selector.lower() for target in node.targets if target.name == "TX" and target.selector}
    texts: Iterable[str] = [action.value for action in node.actions if action.value]
    texts = [*texts, node.operator.argument] if node.operator is not None else texts
    return names.union(*(map(str.lower, _MACRO.findall(text)) for text in texts))


def _before_chain(nodes: Sequence[Node], index: int) -> int:
    """The place of the rule, or of the first one of the chain that it belongs to."""
    while index and isinstance(ahead := nodes[index - 1], RuleNode) and any(a.name == "chain" for a in ahead.actions):
        index -= 1
    return index
