"""A sample upstream: echo, reflect, leaks, WebSocket, server-sent events, gRPC.

python -m demo.upstream HTTP_PORT GRPC_PORT
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys

import grpc
from aiohttp import WSMsgType, web

MAX_BODY = 64 << 20


async def echo(request: web.Request) -> web.Response:
    """What arrived: method, path, headers, and the body's length and hash."""
    body = await request.read()
    return web.json_response(
        {
            "method": request.method,
            "path": request.raw_path,
            "headers": [[name, value] for name, value in request.headers.items()],
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
    )


async def health(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="<html><body><h1>Hello from the upstream</h1></body></html>", content_type="text/html")


async def picture(request: web.Request) -> web.Response:
    return web.Response(body=b"\x89PNG\r\n\x1a\n" + bytes(5000), content_type="image/png")


async def leak(request: web.Request) -> web.Response:
    """A page that shows a database error; `?compressed`: as the client accepts it."""
    text = "<html>You have an error in your SQL syntax; check the manual for your MySQL server version</html>"
    response = web.Response(text=text, content_type="text/html")
    if "compressed" in request.query:
        response.enable_compression()
    return response


async def reflect(request: web.Request) -> web.Response:
    """CRS's test backend: answer what the JSON body describes."""
    try:
        wanted = json.loads(await request.read())
    except ValueError:
        return web.Response(status=400)
    body = wanted.get("body", "").encode()
    if wanted.get("encodedBody"):
        body = base64.b64decode(wanted["encodedBody"])
    headers = {"Content-Type": "text/plain; charset=utf-8", **(wanted.get("headers") or {})}
    return web.Response(status=int(wanted.get("status", 200)), body=body, headers=headers)


async def login(request: web.Request) -> web.Response:
    """Echoes, or refuses the login when the query says `fail`."""
    if "fail" in request.query:
        return web.Response(status=401, text="wrong password")
    return await echo(request)


async def status(request: web.Request) -> web.Response:
    return web.Response(status=int(request.match_info["code"]))


async def large(request: web.Request) -> web.Response:
    size = min(int(request.match_info["size"]), MAX_BODY)
    return web.Response(text="a harmless line of text\n" * (size // 24), content_type="text/html")


async def events(request: web.Request) -> web.StreamResponse:
    """Three server-sent events, a third of a second apart."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    for number in range(3):
        await response.write(f"data: {number}\n\n".encode())
        await asyncio.sleep(0.33)
    return response


async def websocket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(f"echo: {message.data}")
    return socket


async def _grpc_echo(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    return request


async def _grpc_chat(requests: object, context: grpc.aio.ServicerContext) -> object:
    async for message in requests:  # type: ignore[attr-defined]
        yield message


async def serve(http_port: int, grpc_port: int) -> None:
    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_get("/health", health)
    app.router.add_get("/hello", hello)
    app.router.add_get("/picture", picture)
    app.router.add_get("/leak", leak)
    app.router.add_get("/events", events)
    app.router.add_get("/ws", websocket)
    app.router.add_get("/large/{size}", large)
    app.router.add_route("*", "/status/{code}", status)
    app.router.add_post("/login", login)
    app.router.add_route("*", "/reflect", reflect)
    app.router.add_route("*", "/{tail:.*}", echo)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", http_port).start()
    server = grpc.aio.server()
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(_grpc_echo),
        "Chat": grpc.stream_stream_rpc_method_handler(_grpc_chat),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.Echo", handlers),))
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
