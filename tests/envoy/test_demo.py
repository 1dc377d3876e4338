"""`make demo-check`, and the health service, as a user and as Kubernetes see them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from demo.stack import PROJECT, Stack


@pytest.mark.parametrize("arguments", [[], ["--baseline"]], ids=["crs", "baseline"])
@pytest.mark.xdist_group("crash")
def test_demo_check_finds_every_verdict_right(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "demo", "--check", *arguments]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, env={**os.environ}, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.rstrip().endswith("5 requests, 0 wrong verdicts")


@pytest.mark.xdist_group("buffered")
def test_grpc_health_service(stacks: Callable[..., Stack]) -> None:
    with grpc.insecure_channel(stacks("buffered").listen) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "envoy.service.ext_proc.v3.ExternalProcessor"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
