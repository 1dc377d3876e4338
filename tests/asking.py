"""What a running sidecar's admin server answers."""

from __future__ import annotations

import httpx


def is_ready(port: int) -> bool:
    """Does it answer, and say that it serves?"""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def total(port: int, series: str) -> float:
    """The sum of all series that begin so."""
    lines = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))
