"""extproc: the sidecar that answers Envoy's external processing protocol with waf_core."""

import os
from importlib.metadata import version

# gRPC's fork handlers only warn when the supervisor starts a worker, which executes a new program.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

__version__ = version("envoy-waf")
