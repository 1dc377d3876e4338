"""The admin HTTP server: /healthz, /readyz, /metrics, /status (aiohttp)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from extproc import __version__
from extproc.config import parse_address

if TYPE_CHECKING:
    from extproc.worker import Worker


class AdminServer:
    """Loopback by default; it shows configuration and counts, never traffic's content."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/status", self._status)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Bind, if an address is set.  Raises OSError when it is taken."""
        if not self._worker.settings.admin:
            return
        await self._runner.setup()
        address = parse_address(self._worker.settings.admin)
        site: web.BaseSite
        if isinstance(address, str):
            site = web.UnixSite(self._runner, address)
        else:
            site = web.TCPSite(self._runner, *address)
        await site.start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        if self._worker.ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not ready\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._worker.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _status(self, request: web.Request) -> web.Response:
        worker = self._worker
        program = worker.waf.program
        return web.json_response(
            {
                "version": __version__,
                "ready": worker.ready,
                "uptime_seconds": round(time.time() - worker.started_at, 1),
                "ruleset": {"name": worker.info.name, "version": worker.info.version, "text": worker.info.sentence},
                "generation": worker.generation,
                "rules": len(program.units),
                "paranoia_level": program.paranoia_level,
                "hyperscan": [patterns.uses_hyperscan for patterns in program.pattern_sets],
                "mode": program.settings.engine.value,
                "listen": worker.settings.listen,
                "notes": program.notes[:100],
            }
        )
