"""Directives to syntax tree, and `Include`."""

from __future__ import annotations

import glob
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from waf_core.errors import Position, SecLangError
from waf_core.reading import DISK, Reader, within
from waf_core.seclang.lexer import LogicalLine, Word, end_of, logical_lines, words
from waf_core.seclang.tree import ActionNode, DirectiveNode, Node, OperatorNode, RuleNode, TargetNode

MAX_INCLUDE_DEPTH = 64
"""Deeper nesting of Include is taken for a loop."""

MAX_RULE_FILE_BYTES = 64 << 20
"""A larger rule file is refused."""

_QUOTED = re.compile(r"[^'\\]*(?:\\'?[^'\\]*)*")
"""What stands in quotes, up to the closing one or the end of the text; it may be nothing."""

_ACTION = re.compile(r"[ \t,]*([^:,]*)(:[ \t]*)?")
"""The name of an action, and whether a value follows."""

_VALUE = re.compile(r"[^,']*(?:(?<!=)'[^,']*)*")
"""Of an action, not quoted.  Only a comma ends it (setvar:tx.x=%{a},...), except that a quoted part may stand after
`name=` (ctl:x='a,b', setvar:tx.x='a,b')."""

_TARGET = re.compile(r"([!& \t]*)([^:|,]*)")
"""What stands before a variable, and its name."""

Resolver = Callable[[str], Sequence[str] | None]
"""Maps an Include argument such as `@crs/*.conf` to paths and patterns; None: not mine."""


@dataclass(slots=True)
class RuleSource:
    """How rule text is found: the folder of relative paths, named rule sets, and what reads files."""

    root: str = "."
    resolver: Resolver | None = None
    reader: Reader = DISK
    files: list[str] = field(default_factory=list)
    """Every file read, in order: what a reloader has to watch."""
    sought: list[str] = field(default_factory=list)
    """Patterns and optional files of Include, with or without such files: a new one means a reload, too."""


def parse_text(text: str, source: RuleSource | None = None, *, file: str = "<directives>") -> list[Node]:
    """Parse SecLang text.  Raises SecLangError at the first mistake."""
    nodes: list[Node] = []
    _parse(text, file, source or RuleSource(), 0, nodes)
    return nodes


def parse_files(paths: Sequence[str], source: RuleSource | None = None) -> list[Node]:
    """Parse files in order, as if each had been included."""
    source = source or RuleSource()
    nodes: list[Node] = []
    for path in paths:
        _include_file(path, Position(path, 1), source, 0, nodes)
    return nodes


def _parse(text: str, file: str, source: RuleSource, depth: int, nodes: list[Node]) -> None:
    for line in logical_lines(text, file):
        items = words(line)
        if not items:
            continue
        name = items[0].text.lower()
        if name == "secrule":
            nodes.append(_rule(line, items))
        elif name == "secaction":
            nodes.append(_action_only(line, items))
        elif name in ("include", "includeoptional"):
            _include(line, items, source, depth, nodes, optional=name == "includeoptional")
        elif items[0].text.startswith("<"):
            raise SecLangError(
                "Apache sections have no meaning here",
                line.position(items[0].offset),
                line.text,
                "take the rules out of the section, or use policies to choose rules by host and path",
            )
        else:
            position = line.position(items[0].offset)
            nodes.append(DirectiveNode(items[0].text, tuple(w.text for w in items[1:]), position))


def _include(
    line: LogicalLine, items: list[Word], source: RuleSource, depth: int, nodes: list[Node], *, optional: bool
) -> None:
    position = line.position(items[0].offset)
    if len(items) != 2:
        raise SecLangError("Include takes one path", position, line.text, "put the path in quotes")
    if depth >= MAX_INCLUDE_DEPTH:
        raise SecLangError("files include each other without end", position, line.text)
    argument = items[1].text
    named = source.resolver(argument) if source.resolver else None
    if named is None:
        if argument.startswith("@"):
            raise SecLangError(
                "unknown named rule set",
                position,
                argument,
                "known are @baseline, @recommended, @crs-setup and @crs/*.conf",
            )
        named = [_full(argument, line.file, source)]
    paths = [path for wanted in named for path in _fitting(wanted, source, position, optional=optional)]
    if not paths and not optional:
        # As in Apache and ModSecurity v3: rules that are not there would let everything pass.
        raise SecLangError("no file fits the pattern", position, argument, "write IncludeOptional if that is meant")
    for path in paths:
        _include_file(path, position, source, depth + 1, nodes)


def _full(argument: str, file: str, source: RuleSource) -> str:
    """An argument of Include in `file`, as a path or pattern."""
    if os.path.isabs(argument):
        return argument
    root = within(source.root, argument)
    if not source.reader.is_file(file):
        return root
    beside = within(os.path.dirname(file), argument)
    return beside if source.reader.fitting(beside) else root


def _fitting(wanted: str, source: RuleSource, position: Position, *, optional: bool) -> list[str]:
    """Files of one path or pattern of Include; a path has to exist, unless it is optional."""
    is_pattern = glob.has_magic(wanted)
    if optional or is_pattern:
        source.sought.append(wanted)
    if is_pattern:
        return source.reader.fitting(wanted)
    if source.reader.is_file(wanted):
        return [wanted]
    if optional:
        return []
    raise SecLangError(
        "the included file does not exist",
        position,
        wanted,
        f"paths are relative to the including file, then to {source.root}",
    )


def _include_file(path: str, position: Position, source: RuleSource, depth: int, nodes: list[Node]) -> None:
    try:
        content = source.reader.read(path, MAX_RULE_FILE_BYTES)
    except OSError as error:
        raise SecLangError("cannot read the rule file", position, f"{path}: {error.strerror}") from error
    source.files.append(path)
    # Line ends of all systems become one, and a byte order mark is none of the rules.
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", "surrogateescape").read()
    _parse(text, path, source, depth, nodes)


def _rule(line: LogicalLine, items: list[Word]) -> RuleNode:
    position = line.position(items[0].offset)
    if len(items) not in (3, 4):
        raise SecLangError(
            f"SecRule takes variables, an operator and optional actions; found {len(items) - 1} words",
            position,
            line.text,
            "put the operator and the actions in double quotes",
        )
    targets = _targets(line, items[1])
    operator = _operator(line, items[2])
    actions = _actions(line, items[3]) if len(items) == 4 else ()
    return RuleNode(targets, operator, actions, position, line.text)


def _action_only(line: LogicalLine, items: list[Word]) -> RuleNode:
    position = line.position(items[0].offset)
    if len(items) != 2:
        raise SecLangError("SecAction takes one list of actions", position, line.text, "put it in double quotes")
    return RuleNode((), None, _actions(line, items[1]), position, line.text)


def _targets(line: LogicalLine, word: Word) -> tuple[TargetNode, ...]:
    return parse_targets(word.text, lambda offset: line.position(word.offset + offset))


def parse_targets(text: str, where: Callable[[int], Position]) -> tuple[TargetNode, ...]:
    """Parse a variable list such as `ARGS|!ARGS:/^x|y/|&TX:'a b'`."""
    out: list[TargetNode] = []
    i, end = 0, len(text)
    while i < end:
        found = _TARGET.match(text, i)
        assert found is not None
        start, i = i, found.end()
        marks, name = found[1], found[2].strip()
        if not name:
            raise SecLangError("a variable name is missing", where(start), text[start:], "write NAME or NAME:key")
        selector: str | None = None
        is_regex = False
        if i < end and text[i] == ":":
            selector, is_regex, i = _selector(text, i + 1, where)
        out.append(TargetNode(name.upper(), selector, is_regex, "!" in marks, "&" in marks, where(start)))
        if i < end:
            if text[i] not in "|,":
                raise SecLangError("variables are separated by |", where(i), text[i:])
            i += 1
    if not out:
        raise SecLangError("the variable list is empty", where(0), text)
    return tuple(out)


def _selector(text: str, i: int, where: Callable[[int], Position]) -> tuple[str, bool, int]:
    """Read a selector: `/regex/`, `'/regex/'`, `'text'` or text up to the next `|`."""
    start, end = i, len(text)
    if text.startswith(("/", "'/"), start):
        quoted = text[start] == "'"
        i = start + (2 if quoted else 1)
        terminator = "/'" if quoted else "/"
        content: list[str] = []
        while i < end and not text.startswith(terminator, i):
            if text[i] == "\\" and i + 1 < end:
                # `\/` is a slash inside the expression; every other escape is the regex's own.
                content.append("/" if text[i + 1] == "/" else text[i : i + 2])
                i += 2
            else:
                content.append(text[i])
                i += 1
        if i < end:
            after = i + len(terminator)
            if after >= end or text[after] in "|, \t":
                return "".join(content), True, after
        # No closing slash before the separator: XML:/* and XML://@* are XPath.
    if text.startswith("'", start):
        close = text.find("'", start + 1)
        if close == -1:
            raise SecLangError("a ' is opened and never closed", where(start), text[start:])
        return text[start + 1 : close], False, close + 1
    bar = text.find("|", start)
    i = end if bar == -1 else bar
    return text[start:i].strip(), False, i


def _operator(line: LogicalLine, word: Word) -> OperatorNode:
    return parse_operator(word.text, line.position(word.offset))


def parse_operator(text: str, position: Position) -> OperatorNode:
    """Parse `!@name argument`; without `@` the text is an `@rx` pattern."""
    body = text.lstrip(" \t")
    negated = body.startswith("!")
    if negated:
        body = body[1:].lstrip(" \t")
    if not body.startswith("@"):
        return OperatorNode("rx", body, negated, position)
    name, _, argument = body[1:].partition(" ")
    if not name:
        raise SecLangError("the operator has no name", position, text, "write @rx, @pm, @eq, ...")
    return OperatorNode(name.lower(), argument.strip(" \t"), negated, position)


def _actions(line: LogicalLine, word: Word) -> tuple[ActionNode, ...]:
    return parse_actions(word.text, lambda offset: line.position(word.offset + offset))


def parse_actions(text: str, where: Callable[[int], Position]) -> tuple[ActionNode, ...]:
    r"""Parse `name,name:value,name:'a, b'`; `\'` inside quotes is a quote."""
    out: list[ActionNode] = []
    i, end = 0, len(text)
    while i < end:
        found = _ACTION.match(text, i)
        assert found is not None
        start, i = found.start(1), found.end()
        if start == end:
            break
        value: str | None = None
        if found[2]:
            if text.startswith("'", i):
                value, i = _quoted(text, i, where)
            else:
                begin, i = i, end_of(_VALUE, text, i)
                if text.startswith("'", i):
                    _, i = _quoted(text, i, where)
                value = text[begin:i].strip()
        name = found[1].strip().lower()
        if not name:
            raise SecLangError("an action has no name", where(start), text[start:])
        out.append(ActionNode(name, value, where(start)))
    return tuple(out)


def _quoted(text: str, i: int, where: Callable[[int], Position]) -> tuple[str, int]:
    start, i = i, end_of(_QUOTED, text, i + 1)
    content = text[start + 1 : i].replace("\\'", "'")
    if i >= len(text):
        raise SecLangError("a ' is opened and never closed", where(start), text[start:])
    i += 1
    while i < len(text) and text[i] in " \t":
        i += 1
    if i < len(text) and text[i] != ",":
        raise SecLangError("text follows a quoted value", where(i), text[i:], "separate actions with commas")
    return content, i
