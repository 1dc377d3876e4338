"""What holds for the whole process of the program.  The modules that it starts with (`cli`, `worker_process`) import
this one before the rest of the package; whoever uses a part of the package in a program of his own keeps his own
collector and environment."""

import gc
import os

STARTING_OBJECTS = 500_000
"""New objects before the collector looks at them (Python's own value: 700).  Importing and compiling make half a
million that stay, and looking for garbage among them took a fifth of the time until ready."""

gc.set_threshold(STARTING_OBJECTS, 20, 20)

# gRPC's fork handlers only warn when the supervisor starts a worker, which executes a new program.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
