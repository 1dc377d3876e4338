"""Hyperscan databases: compiled in processes of their own while RE2 serves, then swapped in; and first exchanges."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence

import structlog

from waf_core import WAF
from waf_core.memory import trim
from waf_core.operators.ahead import no_machine_code
from waf_core.scan.hyperscan_set import unusable
from waf_core.scan.patterns import PatternSet
from waf_core.warm import warm


class DatabaseLoader:
    """One task of the worker; `ready` tells whether every pattern set has its database."""

    def __init__(self, wafs: Sequence[WAF]) -> None:
        self._wafs = list({id(waf.program): waf for waf in wafs}.values())
        self._sets = [
            patterns for waf in self._wafs for patterns in waf.program.pattern_sets if patterns.cache is not None
        ]
        self._children: list[subprocess.Popen[bytes]] = []
        self._stopped = False
        self._log = structlog.get_logger("envoy_waf")

    @property
    def ready(self) -> bool:
        return all(patterns.uses_hyperscan for patterns in self._sets)

    def prepare(self) -> None:
        """Before traffic comes: judge first exchanges, so that live ones need not pay for automata and plans.  Blocks
        for some tenths of a second."""
        try:
            warm(*self._wafs)
        except Exception:
            self._log.exception("first exchanges could not be judged")

    async def run(self) -> None:
        """Compile what the cache lacks.  A failure is logged and leaves RE2 in place, which is exact."""
        wanted = any(patterns.wants_hyperscan for waf in self._wafs for patterns in waf.program.pattern_sets)
        if wanted and (reason := unusable()):
            self._log.warning("Hyperscan cannot be used; RE2 serves, slower for hostile input", reason=reason)
        if reason := no_machine_code():
            self._log.warning(
                "PCRE2 cannot make machine code; RE2 serves, two to four times slower for hostile input",
                reason=reason,
                hint="memory may not be made executable: systemd's MemoryDenyWriteExecute, or SELinux without execmem",
            )
        missing = [patterns for patterns in self._sets if not patterns.uses_hyperscan]
        for patterns in missing:
            # Another set with the same patterns may have brought it meanwhile.
            if not patterns.load_hyperscan():
                await self._bring(patterns)
        if missing and not self._stopped:
            await asyncio.to_thread(self.prepare)
        # What RE2 served with meanwhile is not needed any more (60 MB), nor is an old program after a reload.
        await asyncio.to_thread(trim)
        if self._sets and self.ready:
            self._log.info("Hyperscan databases loaded", patterns=sum(len(p.patterns) for p in self._sets))

    async def _bring(self, patterns: PatternSet) -> None:
        cache = patterns.cache
        if cache is None:
            return
        try:
            child = await asyncio.to_thread(cache.start, patterns.patterns)
        except OSError as error:
            self._log.warning("Hyperscan database cannot be compiled; RE2 serves", error=str(error))
            return
        self._children.append(child)
        await asyncio.to_thread(child.wait)
        if self._stopped:
            return
        if child.returncode != 0 or not patterns.load_hyperscan():
            self._log.warning(
                "Hyperscan database cannot be used; RE2 serves",
                folder=str(cache.folder),
                hint="the folder has to be ours and writable by nobody else; set cache_dir",
            )

    def stop(self) -> None:
        """Give up what is not finished."""
        self._stopped = True
        for child in self._children:
            if child.poll() is None:
                child.kill()
                child.wait()
