"""Why an address cannot be listened on, in words."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

_HINTS = {
    errno.EADDRINUSE: "another process is using it; stop that one, or choose another address",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "not permitted (ports below 1024 need root, a Unix socket a folder that can be written)",
    errno.ENOENT: "its folder does not exist",
}


@contextlib.contextmanager
def listening(setting: str, address: str) -> Iterator[None]:
    """Around what binds.  Raises OSError, with the name of the setting and what to do."""
    try:
        yield
    except socket.gaierror as error:
        raise OSError(f"cannot listen on {address} ({setting}): no such host") from error
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, str(error))
        if error.errno == errno.EADDRINUSE and address.startswith("unix:"):
            hint = "a file is there that is no socket; move it away, or choose another path"
        raise OSError(f"cannot listen on {address} ({setting}): {hint}") from error
    except RuntimeError as error:
        # grpcio does not say why.
        raise OSError(f"cannot listen on {address} ({setting}): {_HINTS[errno.EADDRINUSE]}") from error
