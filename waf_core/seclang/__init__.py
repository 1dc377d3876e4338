"""SecLang: text to a syntax tree.  Nothing here knows what a rule means."""

from waf_core.seclang.parser import RuleSource, parse_files, parse_text
from waf_core.seclang.tree import ActionNode, DirectiveNode, Node, OperatorNode, RuleNode, TargetNode

__all__ = [
    "ActionNode",
    "DirectiveNode",
    "Node",
    "OperatorNode",
    "RuleNode",
    "RuleSource",
    "TargetNode",
    "parse_files",
    "parse_text",
]
