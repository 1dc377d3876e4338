"""extproc: the sidecar that answers Envoy's external processing protocol with waf_core."""

import gc
import os
from importlib.metadata import version

STARTING_OBJECTS = 500_000
"""New objects before the collector looks at them (Python's own value: 700).  Importing and compiling make half a
million that stay, and looking for garbage among them took a fifth of the time until ready."""

gc.set_threshold(STARTING_OBJECTS, 20, 20)

# gRPC's fork handlers only warn when the supervisor starts a worker, which executes a new program.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

__version__ = version("envoy-waf")
