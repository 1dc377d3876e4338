"""WAF: directives in, an immutable program out, transactions from it."""

from __future__ import annotations

from collections.abc import Sequence

from waf_core.compiler import CompileOptions, compile_nodes
from waf_core.persistence import Store
from waf_core.program import Program
from waf_core.seclang.parser import Resolver, RuleSource, parse_files, parse_text
from waf_core.transaction import Transaction


class WAF:
    """A compiled rule set.  Safe to share; makes any number of transactions."""

    def __init__(self, program: Program) -> None:
        self.program = program

    @classmethod
    def from_directives(
        cls,
        text: str,
        root: str = ".",
        *,
        resolver: Resolver | None = None,
        options: CompileOptions | None = None,
    ) -> WAF:
        """Compile SecLang text.  `root` is the folder of relative paths, `resolver` finds named
        rule sets (`Include @crs/*.conf`).  Raises SecLangError."""
        source = RuleSource(root, resolver)
        return cls(compile_nodes(parse_text(text, source), source, options))

    @classmethod
    def from_files(
        cls,
        paths: Sequence[str],
        root: str = ".",
        *,
        resolver: Resolver | None = None,
        options: CompileOptions | None = None,
    ) -> WAF:
        """Compile files in the given order.  Raises SecLangError."""
        source = RuleSource(root, resolver)
        return cls(compile_nodes(parse_files(paths, source), source, options))

    def new_transaction(self, transaction_id: str | None = None, store: Store | None = None) -> Transaction:
        """Start a transaction; `transaction_id` (UNIQUE_ID) is made up when it is None, `store` is
        the program's own unless one is given."""
        return Transaction(self.program, transaction_id, store)
