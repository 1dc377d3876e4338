"""Multi-phase evaluation: what a rule of phase 2 can judge in phase 1, it judges there.

A rule such as `SecRule ARGS|REQUEST_COOKIES|XML:/* ...` waits for phase 2 only because of the body.
Its early half looks at the cookies and the query in phase 1, the rule itself keeps the rest (ARGS
becomes ARGS_POST there), so that no value counts twice.  Only single rules with pass are split:
chains and verdicts keep their phase (Coraza: multiphase evaluation).
"""

from __future__ import annotations

from dataclasses import replace

from waf_core.rule import Target, Unit
from waf_core.variables import REGISTRY, Variable


def _halves(name: str) -> tuple[Variable, Variable]:
    """The query's and the body's part of ARGS or ARGS_NAMES; both keep the name, so that logs and
    exclusions read as before."""
    query, body = name.replace("ARGS", "ARGS_GET"), name.replace("ARGS", "ARGS_POST")
    return replace(REGISTRY[query], name=name), replace(REGISTRY[body], name=name)


_SPLIT = {name: _halves(name) for name in ("ARGS", "ARGS_NAMES")}


def early_half(unit: Unit) -> Unit | None:
    """Take the targets that exist in phase 1 out of `unit` and return them as a unit of phase 1;
    None when there is nothing to split."""
    if unit.info.phase != 2 or len(unit.links) != 1 or unit.disruption != "pass" or not unit.log:
        return None
    link = unit.links[0]
    if link.operator is None or any(t.variable.dynamic or t.count for t in link.targets):
        return None
    early: list[Target] = []
    late: list[Target] = []
    for target in link.targets:
        halves = _SPLIT.get(target.variable.name)
        if halves is not None:
            early.append(replace(target, variable=halves[0]))
            late.append(replace(target, variable=halves[1]))
        elif target.variable.phase == 1 and target.variable.name != "ARGS_COMBINED_SIZE":
            early.append(target)
        else:
            late.append(target)
    if not early:
        return None
    link.targets = late
    return replace(
        unit, info=replace(unit.info, phase=1), links=[replace(link, targets=early)], skip=0, skip_after=None
    )
