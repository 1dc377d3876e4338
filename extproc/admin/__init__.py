"""The admin servers: HTTP (health, metrics, status, dashboard) and gRPC (protos/envoy_waf/admin/v1)."""
