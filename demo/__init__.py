"""A running stack for the demo, the tests and the benches: upstream, sidecar, real Envoy."""
