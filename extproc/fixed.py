"""Settings that a running process cannot change: addresses, files, connections, and what is read once."""

from __future__ import annotations

from typing import Any

from extproc.config import Settings

FIXED_SETTINGS = (
    "listen", "admin", "admin_grpc", "admin_tls_cert", "admin_tls_key", "admin_tls_client_ca", "workers", "watch",
    "redis_url", "audit_log", "audit_queue", "audit_file_bytes", "audit_files", "otlp_endpoint", "log_level",
    "log_format", "data_dir", "cache_dir", "runtime_dir", "max_streams",
    "max_body_memory",
)  # fmt: skip


def kept(settings: Settings, running: Settings, log: Any) -> Settings:
    """New settings with what has to stay as it was; the log (structlog) says what that is."""
    changed = [name for name in FIXED_SETTINGS if getattr(settings, name) != getattr(running, name)]
    if changed:
        log.warning("settings that need a restart have changed; they stay as they are", settings=changed)
    return settings.model_copy(update={name: getattr(running, name) for name in FIXED_SETTINGS})
