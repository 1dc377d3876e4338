"""Turns of threads.

Large bodies are judged on threads while the event loop goes on.  Only interpreted code looks whether another thread
waits for the interpreter (at each call, and at each turn of a loop); what mypyc has compiled keeps it until it calls
something that does.  So loops over what comes with a request call `give_way`, and this module is not compiled.
"""

from __future__ import annotations

LONG_BYTES = 4096
"""Work on values of this length is worth a look between its steps."""


def give_way() -> None:
    """Another thread that has waited for the interpreter (sys.getswitchinterval) gets it.  Takes 50 ns if none does."""
