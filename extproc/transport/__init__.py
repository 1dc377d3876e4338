"""gRPC over HTTP/2 for one method and few peers: what Envoy and health probes speak with a worker.

grpc.aio spends more on a stream than the engine does: 0.57 ms of CPU for one of three messages, most of it in
handing events from thread to thread, and some 25 ms of the event loop to receive a message of 10 MB.  The same
stream takes 0.13 ms here (0.33 ms with the h2 library).  So the part of HTTP/2 (RFC 9113) that gRPC needs is
spoken here; header compression is the hpack library's.

    frames.py      the layout of frames
    messages.py    length-prefixed messages out of pieces of data
    flight.py      how much of large messages is on its way
    connection.py  one connection: bytes in; calls, messages and bytes out; no I/O
    server.py      sockets, turns, draining
    health.py      grpc.health.v1
"""
