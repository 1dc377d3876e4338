"""Both admin servers of one process, as far as the settings ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.admin.http import HttpAdmin
from extproc.control import Control

if TYPE_CHECKING:
    from extproc.admin.grpc import GrpcAdmin


class AdminServers:
    """`start` binds, `stop` ends them."""

    def __init__(self, control: Control) -> None:
        """Raises ConfigError when an address would be open to everybody, or a certificate cannot be read."""
        settings = control.settings
        self._http = HttpAdmin(control, settings.admin) if settings.admin else None
        self._grpc: GrpcAdmin | None = None
        if settings.admin_grpc:
            from extproc.admin.grpc import GrpcAdmin  # grpcio: 15 MB that others need not hold

            self._grpc = GrpcAdmin(control)

    async def start(self) -> None:
        """Raises OSError when an address is taken."""
        if self._http is not None:
            await self._http.start()
        if self._grpc is not None:
            await self._grpc.start()

    async def stop(self) -> None:
        if self._http is not None:
            await self._http.stop()
        if self._grpc is not None:
            await self._grpc.stop()
