"""What `envoy-waf check --envoy` reads: Envoy's side of the matter."""
