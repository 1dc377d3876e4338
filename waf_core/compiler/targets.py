"""Variable lists of the tree to Targets."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import re2

from waf_core.bodies.xpath import XPath, XPathError
from waf_core.errors import SecLangError
from waf_core.operators.regex import re2_options
from waf_core.operators.spelling import for_re2
from waf_core.rule import Target
from waf_core.seclang.tree import TargetNode
from waf_core.selection import covers
from waf_core.variables import REFUSED, REGISTRY, Variable


def _variable(node: TargetNode) -> Variable:
    variable = REGISTRY.get(node.name)
    if variable is not None:
        return variable
    if node.name in REFUSED:
        raise SecLangError(f"the variable {node.name} is not supported", node.position, node.name, REFUSED[node.name])
    name, dot, key = node.name.partition(".")
    close = [f"{name}:{key.lower()}"] if dot and name in REGISTRY else get_close_matches(node.name, REGISTRY, 4)
    hint = f"did you mean {', '.join(close)}?" if close else "see docs/variables.md"
    raise SecLangError("unknown variable", node.position, node.name, hint)


def _pattern(node: TargetNode) -> re2._Regexp:
    options = re2_options()
    options.case_sensitive = False
    try:
        return re2.compile(for_re2((node.selector or "").encode("utf-8", "surrogateescape")), options)
    except re2.error as error:
        raise SecLangError(
            f"the key expression cannot be compiled: {error}", node.position, node.selector or ""
        ) from error


def build_target(node: TargetNode, namespaces: dict[str, str] | None = None) -> Target:
    """One entry of a list, exclusion or not; `namespaces` by their prefixes."""
    variable = _variable(node)
    target = Target(variable, count=node.counted)
    if node.selector is None:
        return target
    if variable.select is not None:
        target.xpath = XPath(node.selector, namespaces)
    elif not variable.collection:
        raise SecLangError(
            f"{node.name} is a single value and takes no key", node.position, f"{node.name}:{node.selector}"
        )
    elif node.is_regex:
        target.pattern = _pattern(node)
    else:
        target.key = node.selector.lower().encode("utf-8", "surrogateescape")
    return target


def apply_nodes(
    targets: list[Target], nodes: Sequence[TargetNode], namespaces: dict[str, str] | None = None
) -> list[Target]:
    """Add the entries of a list to `targets`; exclusions narrow what is there.  A new list."""
    out = [_copy(target) for target in targets]
    for node in nodes:
        if not node.negated:
            out.append(target := build_target(node, namespaces))
            if target.xpath is not None:
                _check(target.xpath, node)
    for node in nodes:
        if node.negated:
            out = exclude(out, build_target(node))
    return out


def _check(xpath: XPath, node: TargetNode) -> None:
    try:
        xpath.check()
    except XPathError as error:
        raise SecLangError(str(error), node.position, xpath.text, error.hint) from error


def exclude(targets: list[Target], exclusion: Target) -> list[Target]:
    """Take what `exclusion` means away from every target of the same variable."""
    out: list[Target] = []
    for target in targets:
        if covers(exclusion, target):
            continue
        if target.variable.name == exclusion.variable.name:
            if exclusion.key is not None:
                target.excluded_keys = target.excluded_keys | {exclusion.key}
            elif exclusion.pattern is not None:
                target.excluded_patterns = (*target.excluded_patterns, exclusion.pattern)
        out.append(target)
    return out


def _copy(target: Target) -> Target:
    return Target(
        target.variable,
        target.key,
        target.pattern,
        target.xpath,
        target.count,
        target.excluded_keys,
        target.excluded_patterns,
    )
