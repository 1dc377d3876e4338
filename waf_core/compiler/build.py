"""Walk the tree in file order and make units; then resolve, fold and plan."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from waf_core.actions import InitCol, SetIdentity
from waf_core.compiler import updates
from waf_core.compiler.clean import find_clean_path
from waf_core.compiler.directives import (
    BY_LOWER_NAME,
    REFUSED,
    SUPPORTED,
    WITH_FILE,
    WITHOUT_EFFECT,
    DirectiveError,
)
from waf_core.compiler.fold import fold
from waf_core.compiler.leftovers import leftovers_read
from waf_core.compiler.memo import find_memos
from waf_core.compiler.multiphase import early_half
from waf_core.compiler.notes import note_exclusions, note_rules, note_unreachable
from waf_core.compiler.plan import Planner
from waf_core.compiler.reads import opens_response_body, response_phase, variables_read
from waf_core.compiler.routine import find_routines
from waf_core.compiler.rules import Draft, build_link, read_actions
from waf_core.compiler.scores import note_blocks, note_scores
from waf_core.compiler.units import Defaults, join_chain, make_unit, read_defaults
from waf_core.errors import Position, SecLangError
from waf_core.macros import Macro
from waf_core.operators import OperatorEnv, Resolver
from waf_core.persistence import MemoryStore, Store
from waf_core.program import PhaseProgram, Program
from waf_core.rule import Link, Unit
from waf_core.scan.limits import ScanLimits, ScanStatistics
from waf_core.scan.patterns import PatternSet
from waf_core.seclang.parser import RuleSource
from waf_core.seclang.tree import ActionNode, DirectiveNode, Node, RuleNode
from waf_core.settings import EngineSettings
from waf_core.transformations import Transformation
from waf_core.transformations.url import url_decode_uni_by_map
from waf_core.variables import REGISTRY as VARIABLES

PHASES = (1, 2, 3, 4, 5)

_PATH_SIGNS = frozenset("@/.\\")
"""Of a file's name, where a directive should be."""


@dataclass(slots=True)
class CompileOptions:
    """How to compile, apart from the rules.

    `scan=False` evaluates every rule by itself, `fold=False` decides nothing beforehand: the
    slow, plain semantics, to compare with and to explain from.
    """

    scan: bool = True
    fold: bool = True
    limits: ScanLimits | None = None
    store: Store | None = None
    resolver: Resolver | None = None
    """Asked by @rbl; without one @rbl is an error."""
    multiphase: bool = False
    """Judge what is known in phase 1 (headers, cookies, the query) in phase 1, also for rules of
    phase 2.  With CRS's early blocking such requests are refused before their body is read."""
    decompress_responses: bool = False
    """Let rules see bodies of responses as clients do, and not that they came compressed: CRS does not look at
    what has a Content-Encoding."""
    untyped_files_as_fields: bool = False
    """Judge uploaded files without a Content-Type of their own as fields, too: to formidable (Node.js) they are
    nothing else."""


@dataclass(slots=True)
class _Marker:
    name: str


@dataclass(slots=True)
class _Written:
    """The rules of a chain, and what SecDefaultAction said when they came."""

    nodes: list[RuleNode]
    defaults: Defaults


class Builder:
    """Collects units and settings; `build` is called once."""

    def __init__(self, source: RuleSource, options: CompileOptions) -> None:
        self.source = source
        self.options = options
        self.settings = EngineSettings()
        self.notes: list[str] = []
        self.units: list[Unit] = []
        self.order: list[Unit | _Marker] = []
        self.defaults = {phase: Defaults() for phase in PHASES}
        self.datasets: dict[str, Sequence[bytes]] = {}
        self.pending: list[tuple[Unit, str, str, Position, int]] = []
        self.replaced: dict[str, Transformation] = {}
        self._written: dict[int, _Written] = {}
        """By id."""
        self._open: tuple[Unit, Draft] | None = None
        self._early: list[DirectiveNode] = []
        """Updates and removals that no rule above them fits: they are for those below."""

    # -- walking ------------------------------------------------------------------------------

    def add(self, node: Node) -> None:
        if isinstance(node, RuleNode):
            self._rule(node)
            return
        if self._open is not None:
            raise SecLangError(
                "a chain is open: the next directive has to be the SecRule that goes on with it",
                node.position,
                node.name,
                "remove `chain` from the rule before, or move this directive",
            )
        name = node.name.lower()
        if name == "secmarker":
            self.order.append(_Marker(" ".join(node.arguments)))
        elif name == "secdefaultaction":
            phase, defaults = read_defaults(node)
            self.defaults[phase] = defaults
        elif name == "secdataset":
            self._dataset(node)
        elif name in updates.DIRECTIVES or name == "secruleupdateactionbyid":
            if not self._update(node):
                self._early.append(node)
        else:
            self._setting(node)

    def _update(self, node: DirectiveNode) -> bool:
        """Remove or change rules that are there.  Did any fit?"""
        name = node.name.lower()
        if name in updates.DIRECTIVES:
            before = len(self.units)
            fits = updates.DIRECTIVES[name](self.units, node)
            if len(self.units) < before:
                self._drop_removed()
            return fits
        found = updates.updated_actions(self.units, node)
        for unit, offset, actions in found:
            self._rewrite(unit, offset, actions)
        return bool(found)

    def _folder(self, node: Node) -> str:
        file = node.position.file
        return os.path.dirname(file) if self.source.reader.is_file(file) else self.source.root

    def _env(self, node: Node) -> OperatorEnv:
        return OperatorEnv(
            folders=(self._folder(node), self.source.root),
            datasets=self.datasets,
            geo_database=self.settings.geo_database,
            resolver=self.options.resolver,
            http_bl_key=self.settings.http_bl_key,
            notes=self.notes,
            files=self.source.files,
            reader=self.source.reader,
        )

    def _link(self, node: RuleNode, draft: Draft, defaults: Defaults) -> Link:
        return build_link(node, draft, list(defaults.transformations), self._env(node), self.replaced)

    def _setting(self, node: DirectiveNode) -> None:
        canonical = BY_LOWER_NAME.get(node.name.lower())
        if canonical is None:
            close = [known for low, known in BY_LOWER_NAME.items() if low[:9] == node.name.lower()[:9]]
            raise SecLangError(
                "unknown directive",
                node.position,
                node.name,
                f"did you mean {', '.join(close[:3])}?" if close else _hint(node.name),
            )
        if canonical in REFUSED:
            raise SecLangError(f"{canonical} is refused", node.position, node.name, REFUSED[canonical])
        if canonical in WITHOUT_EFFECT:
            self.notes.append(f"{node.position}: {canonical} has no effect here: {WITHOUT_EFFECT[canonical]}")
            return
        try:
            if canonical in WITH_FILE:
                self._file(canonical, node)
            else:
                SUPPORTED[canonical](self.settings, node.arguments)
            if canonical == "SecUnicodeMapFile":
                self.replaced["urldecodeuni"] = url_decode_uni_by_map(self.settings.unicode_map)
        except DirectiveError as error:
            raise SecLangError(f"{canonical} {error}", node.position, " ".join(node.arguments), error.hint) from error

    def _file(self, name: str, node: DirectiveNode) -> None:
        if not node.arguments:
            raise DirectiveError("takes the path of a file")
        path = os.path.join(self._folder(node), node.arguments[0])
        WITH_FILE[name](self.settings, node.arguments, path, self.source.reader)
        self.source.files.append(path)

    def _dataset(self, node: DirectiveNode) -> None:
        if len(node.arguments) != 2:
            raise SecLangError("SecDataset takes a name and a block of lines", node.position, node.name)
        name, text = node.arguments
        lines = [line.strip() for line in text.strip("`").replace("\\n", "\n").split("\n")]
        self.datasets[name] = [
            line.encode("utf-8", "surrogateescape") for line in lines if line and not line.startswith("#")
        ]

    def _rule(self, node: RuleNode) -> None:
        draft = read_actions(node.actions)
        if self._open is not None:
            unit, first = self._open
            defaults = self.defaults[unit.info.phase]
            defaults.inherit(draft)
            self.notes += note_exclusions(node.targets, unit.info.id)
            join_chain(unit, node, draft, self.notes)
            unit.links.append(self._link(node, draft, defaults))
            self._written[unit.info.id].nodes.append(node)
            self._note_pending(unit, draft, len(unit.links) - 1)
            if not draft.chained:
                self._open = None
                self._finish(unit, first)
            return
        if draft.id is None:
            raise SecLangError(
                "the rule has no id", node.position, node.text, "add id:NUMBER; 1-99999 are for local use"
            )
        known = self._written.get(draft.id)
        if known is not None:
            raise SecLangError(
                f"the id {draft.id} is already used at {known.nodes[0].position}", node.position, f"id:{draft.id}"
            )
        defaults = self.defaults[draft.phase]
        defaults.inherit(draft)
        self.notes += note_exclusions(node.targets, draft.id)
        unit = make_unit(node, draft, defaults, self._link(node, draft, defaults))
        self._written[draft.id] = _Written([node], defaults)
        self._note_pending(unit, draft, 0)
        if draft.chained:
            self._open = (unit, draft)
        else:
            self._finish(unit, draft)

    def _rewrite(self, unit: Unit, offset: int, actions: tuple[ActionNode, ...]) -> None:
        """Make a rule of a chain again, in its place, as if it had these actions at the end of its own."""
        written = self._written[unit.info.id]
        defaults, node = written.defaults, written.nodes[offset]
        node = written.nodes[offset] = replace(node, actions=(*node.actions, *actions))
        draft = read_actions(node.actions)
        defaults.inherit(draft)
        link = self._link(node, draft, defaults)
        link.targets = unit.links[offset].targets  # SecRuleUpdateTargetBy... may have changed them
        made = unit
        if offset:
            join_chain(unit, node, draft, self.notes)
            unit.links[offset] = link
        else:
            made = make_unit(node, draft, defaults, link)
            made.links += unit.links[1:]
            made.sanitise_matched |= unit.sanitise_matched
        self.units = [made if other is unit else other for other in self.units]
        self.order = [made if other is unit else other for other in self.order]
        kept = [item for item in self.pending if item[0] is not unit or item[4] != offset]
        self.pending = [(made, *item[1:]) if item[0] is unit else item for item in kept]
        self._note_pending(made, draft, offset)

    def _finish(self, unit: Unit, draft: Draft) -> None:
        self.units.append(unit)
        self.order.append(unit)

    def _note_pending(self, unit: Unit, draft: Draft, link: int) -> None:
        for option, value, position in draft.pending:
            self.pending.append((unit, option, value, position, link))

    def _drop_removed(self) -> None:
        alive = {id(unit) for unit in self.units}
        self.order = [item for item in self.order if isinstance(item, _Marker) or id(item) in alive]
        self.pending = [item for item in self.pending if id(item[0]) in alive]
        ids = {unit.info.id for unit in self.units}
        self._written = {number: written for number, written in self._written.items() if number in ids}

    # -- finishing ----------------------------------------------------------------------------

    def build(self) -> Program:
        options = self.options
        if self._open is not None:
            unit = self._open[0]
            raise SecLangError(
                "the rules end inside a chain",
                unit.info.position,
                unit.info.text,
                "add the chained SecRule, or remove `chain`",
            )
        for node in self._early:
            if not self._update(node):
                what = f"{node.name} {' '.join(node.arguments)}"
                self.notes.append(f"{node.position}: {what} changes nothing: no rule fits")
        self.settings.untyped_files_as_fields = options.untyped_files_as_fields
        self.settings.decompress_responses = options.decompress_responses
        if options.multiphase:
            self._split_phases()
        for index, unit in enumerate(self.units):
            unit.index = index
        for unit, option, value, position, link in self.pending:
            unit.links[link].effects.append(
                updates.runtime_removal(self.units, unit, option, value, position, self.notes)
            )
        written = self._written.items()
        saying_block = {number for number, each in written if any(a.name == "block" for a in each.nodes[0].actions)}
        self.notes += [*note_scores(self.units), *note_blocks(self.units, saying_block)]
        phases = {phase: self._phase(phase) for phase in PHASES}
        initial: dict[bytes, bytes] = {}
        leftovers = leftovers_read(self.units)
        if options.fold:
            initial = fold(phases, OperatorEnv(folders=(self.source.root,), notes=[]), leftovers)
        else:
            for program in phases.values():
                program.always = tuple(range(len(program.units)))
                program.kept = frozenset(program.always)
        for unit in _kept(phases):
            for operator in (link.operator for link in unit.links if link.operator is not None):
                operator.get_ready()
        statistics = ScanStatistics()
        pattern_sets: list[PatternSet] = []
        if options.scan:
            planner = Planner(statistics, options.limits or ScanLimits(), leftovers)
            planner.plan(phases)
            pattern_sets = planner.pattern_sets
        reads = [variables_read(unit) for unit in self.units]
        names: set[str] = set().union(*reads)
        self.notes += note_rules(self.units, reads, self.settings)
        compiled = Program(
            settings=self.settings,
            units=self.units,
            phases=phases,
            initial_tx=initial,
            store=options.store or MemoryStore(),
            notes=self.notes,
            files=self.source.files,
            sought=self.source.sought,
            keep_files="FILES_TMP_CONTENT" in names,
            keep_raw_multipart=bool(names & {"FULL_REQUEST", "FULL_REQUEST_LENGTH"}),
            response_phase=response_phase(phases),
            opens_response_body=opens_response_body(phases),
            statistics=statistics,
            has_clean_path=False,
            pattern_sets=pattern_sets,
            record_openers=self._record_openers(phases),
        )
        if options.scan and options.fold:
            if not leftovers.matched:
                find_clean_path(compiled)
            find_memos(compiled)
            find_routines(compiled)
        return compiled

    def _record_openers(self, phases: dict[int, PhaseProgram]) -> list[tuple[str, Macro]]:
        found: list[tuple[str, Macro]] = []
        for unit in _kept(phases):
            for effect in (effect for link in unit.links for effect in link.effects):
                if isinstance(effect, InitCol | SetIdentity):
                    names = [name for name, _ in effect.key.names]
                    if all(name in VARIABLES and not VARIABLES[name].dynamic for name in names):
                        found.append((effect.collection, effect.key))
        return found

    def _split_phases(self) -> None:
        """Give rules of phase 2 a half in phase 1, for the targets that exist there."""
        order: list[Unit | _Marker] = []
        for item in self.order:
            early = early_half(item) if isinstance(item, Unit) else None
            if early is not None:
                order.append(early)
            order.append(item)
        self.order = order
        self.units = [item for item in order if isinstance(item, Unit)]

    def _phase(self, phase: int) -> PhaseProgram:
        """Units of one phase in file order, and where each `skip` leads."""
        units: list[Unit] = []
        waiting: dict[str, list[Unit]] = {}
        """Units that skip to a marker, or behind a rule's id, which has not come yet: the first one counts."""
        for item in self.order:
            if isinstance(item, Unit):
                if item.info.phase != phase:
                    continue
                item.position_in_phase = len(units)
                units.append(item)
            for unit in waiting.pop(item.name if isinstance(item, _Marker) else str(item.info.id), ()):
                unit.skip_to = len(units)
            if isinstance(item, Unit) and item.skip_after is not None:
                waiting.setdefault(item.skip_after, []).append(item)
        for name, skipping in waiting.items():
            for unit in skipping:
                unit.skip_to = len(units)
                self.notes.append(
                    f"{unit.info.position}: rule {unit.info.id} skips to {name!r}, but behind it there is no such"
                    f" marker or rule: the rest of the phase is skipped"
                )
        for unit in units:
            if unit.skip and unit.skip_after is None:
                unit.skip_to = unit.position_in_phase + 1 + unit.skip
        self.notes += note_unreachable(units)
        return PhaseProgram(units=units)


def _kept(phases: dict[int, PhaseProgram]) -> Iterator[Unit]:
    """Units that may run, in order."""
    for program in phases.values():
        for position in sorted(program.kept):
            yield program.units[position]


def compile_nodes(nodes: Sequence[Node], source: RuleSource, options: CompileOptions | None = None) -> Program:
    """Compile a tree.  Raises SecLangError with the position of the mistake."""
    builder = Builder(source, options or CompileOptions())
    for node in nodes:
        builder.add(node)
    return builder.build()


def _hint(word: str) -> str:
    """What may be meant by a word that is no directive."""
    if _PATH_SIGNS.isdisjoint(word):
        return "see docs/directives.md"
    return "this is read as the text of rules; files are named with --rules, `rules:` or Include"
