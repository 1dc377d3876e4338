"""Body modes of Envoy's filter (envoy.extensions.filters.http.ext_proc.v3.ProcessingMode).

  BUFFERED, BUFFERED_PARTIAL   Envoy holds; one body message comes, one answer goes.
  STREAMED                     every piece is passed on as soon as it is answered, so a verdict
                               of phase 2 can come too late for the upstream: detection only.
  FULL_DUPLEX_STREAMED         the sidecar holds headers and pieces until phase 2 (or 4) has
                               run, and then releases them.

The mode is what Envoy itself announces in the first message (`protocol_config`).  Body modes are
only ever overridden to NONE, and response headers to SKIP: from NONE to FULL_DUPLEX_STREAMED
Envoy loses the first piece (envoy issue 40340).
"""

from __future__ import annotations

from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode

NONE = ProcessingMode.NONE
STREAMED = ProcessingMode.STREAMED
BUFFERED = ProcessingMode.BUFFERED
BUFFERED_PARTIAL = ProcessingMode.BUFFERED_PARTIAL
FULL_DUPLEX = ProcessingMode.FULL_DUPLEX_STREAMED
SEND = ProcessingMode.SEND
SKIP = ProcessingMode.SKIP
