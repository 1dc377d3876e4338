"""The admin HTTP server (aiohttp): /healthz, /readyz, /metrics, /status, the dashboard and its API."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from extproc.admin.access import LOCAL_NAMES, is_local, token_fits
from extproc.config import parse_address
from extproc.control import Control, ControlError, UnavailableError
from extproc.listening import listening

MAX_QUESTION_BYTES = 8 << 20
MAX_RECENT = 500
PING_SECONDS = 15.0
_COUNT = re.compile("[0-9]{1,9}")

OPEN_PATHS = frozenset(("/healthz", "/readyz", "/metrics"))
PAGE_FILES = {"": "index.html", "app.js": "app.js", "style.css": "style.css"}
CONTENT_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class HttpAdmin:
    """Serves one Control.  `address` is HOST:PORT or unix:/PATH."""

    def __init__(self, control: Control, address: str) -> None:
        self._control = control
        self._address = address
        self._local = is_local(address)
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_QUESTION_BYTES)
        get = app.router.add_get
        get("/healthz", self._healthz)
        get("/readyz", self._readyz)
        get("/metrics", self._metrics)
        get("/status", self._status)
        get("/api/summary", self._summary)
        get("/api/events", self._events)
        get("/api/events/stream", self._stream)
        app.router.add_post("/api/reload", self._reload)
        app.router.add_post("/api/explain", self._explain)
        for path in PAGE_FILES:
            get(f"/{path}", self._page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self) -> None:
        """Bind.  Raises OSError when the address is taken."""
        await self._runner.setup()
        address = parse_address(self._address)
        site: web.BaseSite
        with listening("admin", self._address):
            if isinstance(address, str):
                site = web.UnixSite(self._runner, address)
            else:
                site = web.TCPSite(self._runner, *address)
            await site.start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        answer: web.StreamResponse
        try:
            refusal = self._refusal(request)
            answer = refusal if refusal is not None else await handler(request)
        except UnavailableError as error:
            answer = _error(503, f"{error}; try again")
        except ControlError as error:
            answer = _error(404, str(error))
        except web.HTTPException as error:
            answer = _error(error.status, error.reason)
            if isinstance(error, web.HTTPMethodNotAllowed):
                answer.headers["Allow"] = error.headers["Allow"]
        if not answer.prepared:
            answer.headers.update(SECURITY_HEADERS)
        return answer

    def _refusal(self, request: web.Request) -> web.Response | None:
        if request.path in OPEN_PATHS:
            return None
        if request.method == "POST" and request.content_type != "application/json":
            # A page of another site cannot send this type without asking first (Fetch, CORS-safelisted).
            return _error(415, "send application/json")
        if self._local:
            host = request.host.rpartition(":")[0] if not request.host.endswith("]") else request.host
            if not self._address.startswith("unix:") and (host or request.host).strip("[]") not in LOCAL_NAMES:
                # A name of an attacker's may point to this address (DNS rebinding).
                return _error(403, f"the admin server is not known as {request.host!r}; use localhost")
            if self._control.settings.admin_token is None:
                return None
        authorization = request.headers.get("Authorization", "")
        if token_fits(self._control.settings, authorization):
            return None
        if request.path.lstrip("/") in PAGE_FILES:
            return None  # the page itself has no secrets, and asks for the token
        if self._control.settings.admin_token is None:
            return _error(403, "set admin_token to use this from other machines, or bind admin to 127.0.0.1")
        return _error(401, "send the header `Authorization: Bearer TOKEN` with admin_token")

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        if self._control.ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not ready\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=await self._control.metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(await self._control.status())

    async def _summary(self, request: web.Request) -> web.Response:
        return web.json_response(await self._control.summary())

    async def _events(self, request: web.Request) -> web.Response:
        text = request.query.get("limit", "50")
        if not _COUNT.fullmatch(text):
            return _error(400, "limit has to be a number")
        return web.json_response({"events": await self._control.recent(min(int(text), MAX_RECENT))})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events (HTML standard, section 9.2)."""
        answer = web.StreamResponse(headers={**SECURITY_HEADERS, "Content-Type": "text/event-stream"})
        await answer.prepare(request)
        events = self._control.watch().__aiter__()
        waiting: asyncio.Task[dict[str, object]] | None = None
        try:
            while True:
                waiting = waiting or asyncio.ensure_future(_next(events))
                done, _ = await asyncio.wait({waiting}, timeout=PING_SECONDS)
                if not done:
                    await answer.write(b": still here\n\n")
                    continue
                await answer.write(f"data: {json.dumps(waiting.result())}\n\n".encode())
                waiting = None
        except ControlError as error:
            await answer.write(f"event: refused\ndata: {json.dumps({'error': str(error)})}\n\n".encode())
            return answer
        except (ConnectionResetError, RuntimeError, StopAsyncIteration):
            return answer
        finally:
            if waiting is not None:
                waiting.cancel()

    async def _reload(self, request: web.Request) -> web.Response:
        outcome = await self._control.reload()
        return web.json_response(outcome, status=200 if outcome["ok"] else 422)

    async def _explain(self, request: web.Request) -> web.Response:
        try:
            question = await request.json()
        except ValueError:
            return _error(400, "the body is no JSON")
        if not isinstance(question, dict):
            return _error(400, "the body has to be an object")
        return web.json_response(await self._control.explain(question))

    async def _page(self, request: web.Request) -> web.Response:
        name = PAGE_FILES[request.path.lstrip("/")]
        body = resources.files("extproc.admin").joinpath("static", name).read_bytes()
        return web.Response(body=body, content_type=CONTENT_TYPES[Path(name).suffix], charset="utf-8")


async def _next(events: object) -> dict[str, object]:
    return await events.__anext__()  # type: ignore[attr-defined,no-any-return]


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
