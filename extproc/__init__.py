"""extproc: the sidecar that answers Envoy's external processing protocol with waf_core."""

from importlib.metadata import version

__version__ = version("envoy-waf")
