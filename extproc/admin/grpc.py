"""The admin gRPC server: protos/envoy_waf/admin/v1/admin.proto, with reflection.

The code of the messages is built with the package (setup.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from grpc_reflection.v1alpha import reflection

from extproc.admin.access import is_local, token_fits
from extproc.admin.pb import admin_pb2 as pb
from extproc.config import ConfigError, Settings
from extproc.control import Control, ControlError, UnavailableError, WatchersError
from extproc.listening import listening
from waf_core.exchange import Exchange

SERVICE = "envoy_waf.admin.v1.Admin"
MAX_RECENT = 500


class GrpcAdmin:
    """Serves one Control on `settings.admin_grpc`: TLS or mTLS if the settings name certificates."""

    def __init__(self, control: Control) -> None:
        self._control = control
        settings = control.settings
        self._open = is_local(settings.admin_grpc) or settings.admin_tls_client_ca is not None
        if not self._open and settings.admin_token is None:
            raise ConfigError(
                f"admin_grpc: {settings.admin_grpc} can be reached from other machines; set admin_token, or"
                " admin_tls_cert, admin_tls_key and admin_tls_client_ca"
            )
        self._server = grpc.aio.server()
        unary, streaming = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        serialize: Callable[[Any], bytes] = lambda message: bytes(message.SerializeToString())  # noqa: E731
        handlers = {
            "Status": unary(self._status, pb.StatusRequest.FromString, serialize),
            "Reload": unary(self._reload, pb.ReloadRequest.FromString, serialize),
            "Tail": streaming(self._tail, pb.TailRequest.FromString, serialize),
            "Explain": unary(self._explain, pb.ExplainRequest.FromString, serialize),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), self._server)
        credentials = _credentials(settings)
        with listening("admin_grpc", settings.admin_grpc):
            if credentials is None:
                self._server.add_insecure_port(settings.admin_grpc)
            else:
                self._server.add_secure_port(settings.admin_grpc, credentials)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0.5)

    async def _admit(self, context: Any) -> None:
        settings = self._control.settings
        if self._open and settings.admin_token is None:
            return
        sent = next((str(v) for k, v in context.invocation_metadata() or () if k == "authorization"), "")
        if not token_fits(settings, sent):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "send the metadata `authorization: Bearer TOKEN`")

    async def _status(self, request: Any, context: Any) -> Any:
        await self._admit(context)
        status = await self._control.status()
        return pb.StatusResponse(
            version=status["version"], ready=status["ready"], generation=status["generation"], detail=_struct(status)
        )

    async def _reload(self, request: Any, context: Any) -> Any:
        await self._admit(context)
        return pb.ReloadResponse(**await self._control.reload())

    async def _tail(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._admit(context)
        try:
            recent = await self._control.recent(min(request.recent, MAX_RECENT))
        except UnavailableError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        for event in reversed(recent):
            yield _event(event)
        if request.past_only:
            return
        try:
            async for event in self._control.watch():
                yield _event(event)
        except WatchersError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

    async def _explain(self, request: Any, context: Any) -> Any:
        await self._admit(context)
        question: dict[str, Any] = {"policy": request.policy}
        if request.WhichOneof("question") == "id":
            question["id"] = request.id
        else:
            sent = request.exchange
            question["exchange"] = Exchange(
                method=sent.method or b"GET",
                uri=sent.uri or b"/",
                headers=[(header.name, header.value) for header in sent.headers],
                body=sent.body,
                client_ip=sent.client_ip or "127.0.0.1",
            )
        try:
            found = await self._control.explain(question)
        except UnavailableError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except ControlError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        return pb.ExplainResponse(
            verdict=found["verdict"], score=found["score"], decided_by=found["decided_by"], detail=_struct(found)
        )


def _credentials(settings: Settings) -> Any:
    """TLS when a certificate is named; client certificates are demanded when a CA for them is."""
    if settings.admin_tls_cert is None or settings.admin_tls_key is None:
        return None
    try:
        pair = (settings.admin_tls_key.read_bytes(), settings.admin_tls_cert.read_bytes())
        authority = settings.admin_tls_client_ca.read_bytes() if settings.admin_tls_client_ca else None
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename}: {error.strerror}") from error
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)


def _struct(data: dict[str, Any]) -> Struct:
    struct = Struct()
    ParseDict(data, struct)
    return struct


def _event(event: dict[str, Any]) -> Any:
    return pb.Event(
        transaction_id=event["transaction_id"],
        time=event["time"],
        action=event["action"],
        status=event["status"],
        score=event["score"],
        policy=event["policy"],
        client=event["client"],
        method=event["method"],
        host=event["host"],
        path=event["path"],
        rules=[
            pb.MatchedRule(id=rule["id"], message=rule["msg"], variable=rule["on"], value=rule["value"])
            for rule in event["rules"]
        ],
    )
