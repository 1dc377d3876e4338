"""Start and stop the parts: a sample upstream, `envoy-waf serve`, the real Envoy binary.

Ports are free ones; the Envoy configuration is one of deploy/envoy/, with its addresses put in
place, so that what the tests run is what a user copies.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from extproc.config import PORT_STEP, parse_address, worker_address

PROJECT = Path(__file__).parent.parent
START_SECONDS = 30.0


class StackError(Exception):
    """A part did not come up; the message has the end of its output."""


def free_port(workers: int = 1) -> int:
    """A TCP port that nothing listens on now, below the range of outgoing connections (so that
    none of those takes it before its server does); for several workers, one whose other ports are free too.
    It is this process's own until it ends: other stacks may look for ports before its server listens."""
    choose = random.SystemRandom().randrange  # tests seed the other one, each process alike
    for _ in range(1000):
        port = choose(15000, 31000)
        ports = [port + index * PORT_STEP for index in range(workers)]
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for number in ports:
                probes.enter_context(socket.socket()).bind(("127.0.0.1", number))
            _reserve(ports)
            return port
    raise StackError("no free TCP port between 15000 and 31000")


def _reserve(ports: list[int]) -> None:
    """Until this process ends.  Raises OSError when another one has reserved one of them."""
    folder = Path(tempfile.gettempdir()) / f"envoy-waf-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for port in ports:
        descriptor = os.open(folder / str(port), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise


def find_envoy() -> str:
    """The Envoy binary: ENVOY_BIN, the project's own environment, or PATH."""
    named = os.environ.get("ENVOY_BIN")
    for candidate in (named, str(PROJECT / ".envoy" / "bin" / "envoy"), shutil.which("envoy")):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise StackError("there is no Envoy: run `make setup`, or set ENVOY_BIN")


def find_crs(*, with_tests: bool = False) -> Path | None:
    """CRS_ROOT, an installed Core Rule Set, or the copy beside the project; `with_tests`: one that has its
    regression tests."""
    if "CRS_ROOT" in os.environ:
        root = Path(os.environ["CRS_ROOT"])
        return root if (root / "rules").is_dir() else None
    from extproc.config import default_data_dir

    for folder in (default_data_dir() / "crs", PROJECT.parent / "shared" / "crs"):
        needed = "tests/regression" if with_tests else "rules"
        found = sorted(path for path in folder.glob("coreruleset-*") if (path / needed).is_dir())
        if found:
            return found[-1]
    return None


class Process:
    """A child whose output goes to a file, and which is ended with its group."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.output = folder / f"{name}.log"
        with self.output.open("wb") as out:
            self.child = subprocess.Popen(
                list(command),
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                cwd=PROJECT,
            )

    def wait_for(self, url: str) -> None:
        """Until the URL answers 200.  Raises StackError when the child ends or time is up."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                raise StackError(f"{self.name} ended with {self.child.returncode}:\n{self.tail()}")
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.05)
        raise StackError(f"{self.name} is not ready after {START_SECONDS:.0f} s:\n{self.tail()}")

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.text().splitlines()[-lines:])

    def text(self) -> str:
        return self.output.read_text("utf-8", "replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, number)
            try:
                self.child.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.child.pid, signal.SIGKILL)
                self.child.wait()
        return self.child.returncode


class Stack:
    """Upstream, sidecar and Envoy.  A context manager; attributes are the ports."""

    def __init__(
        self,
        bootstrap: str = "buffered",
        *,
        crs: Path | None = None,
        settings: Mapping[str, Any] | None = None,
        edit: Any = None,
        sidecar: bool = True,
    ) -> None:
        self.bootstrap = bootstrap
        self.crs = crs
        self.settings = dict(settings or {})
        self.edit = edit
        self.with_sidecar = sidecar
        self.folder = Path(tempfile.mkdtemp(prefix="envoy-waf-"))
        self.port = free_port()
        self.upstream_port = free_port()
        self.grpc_port = free_port()
        self.admin_port = free_port()
        self.envoy_admin_port = free_port()
        self.processes: list[Process] = []
        if "socket" in bootstrap:
            self.listen = f"unix:{self.folder / 'extproc.sock'}"
        else:
            self.listen = f"127.0.0.1:{free_port(self.settings.get('workers', 1))}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Stack:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.upstream = self._start(
            "upstream", [sys.executable, "-m", "demo.upstream", str(self.upstream_port), str(self.grpc_port)]
        )
        if self.with_sidecar:
            self.start_sidecar()
        config = self.folder / "envoy.yaml"
        config.write_text(yaml.safe_dump(self._envoy_config()))
        self.envoy = self._start(
            "envoy",
            [find_envoy(), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"],
        )
        self.upstream.wait_for(f"http://127.0.0.1:{self.upstream_port}/health")
        if self.with_sidecar:
            self.sidecar.wait_for(f"http://127.0.0.1:{self.admin_port}/readyz")
        self.envoy.wait_for(f"http://127.0.0.1:{self.envoy_admin_port}/ready")

    def start_sidecar(self) -> None:
        settings: dict[str, Any] = {
            "listen": self.listen,
            "admin": f"127.0.0.1:{self.admin_port}",
            "log_format": "json",
            "data_dir": str(self.folder / "data"),
            "cache_dir": str(PROJECT / ".tools" / "hyperscan"),
            **({"crs_root": str(self.crs)} if self.crs else {}),
            **self.settings,
        }
        path = self.folder / "settings.yaml"
        path.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "extproc.cli", "serve", "--config", str(path)]
        self.sidecar = self._start("sidecar", command)

    def _start(self, name: str, command: Sequence[str]) -> Process:
        process = Process(name, command, self.folder)
        self.processes.append(process)
        return process

    def _envoy_config(self) -> dict[str, Any]:
        """The bootstrap a user copies, with this stack's addresses."""
        text = (PROJECT / "deploy" / "envoy" / f"{self.bootstrap}.yaml").read_text("utf-8")
        config: dict[str, Any] = yaml.safe_load(text)
        config["admin"]["address"]["socket_address"]["port_value"] = self.envoy_admin_port
        listener = config["static_resources"]["listeners"][0]
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": self.port}
        upstream, waf = config["static_resources"]["clusters"]
        endpoint(upstream)["socket_address"]["port_value"] = self.upstream_port
        endpoints = waf["load_assignment"]["endpoints"][0]["lb_endpoints"]
        endpoints += [copy.deepcopy(endpoints[0]) for _ in range(1, self.settings.get("workers", 1))]
        for index, each in enumerate(endpoints):
            listens = parse_address(worker_address(self.listen, index))
            if isinstance(listens, str):
                each["endpoint"]["address"]["pipe"]["path"] = listens
            else:
                each["endpoint"]["address"]["socket_address"]["port_value"] = listens[1]
        if self.edit is not None:
            self.edit(config, self)
        return config

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def endpoint(cluster: dict[str, Any]) -> dict[str, Any]:
    """The address of a cluster's only endpoint."""
    address: dict[str, Any] = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    return address


def http_manager(config: dict[str, Any]) -> dict[str, Any]:
    """The HTTP connection manager of a bootstrap."""
    manager: dict[str, Any] = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0][
        "typed_config"
    ]
    return manager


def waf_filter(config: dict[str, Any]) -> dict[str, Any]:
    """What a bootstrap says of the filter that asks the sidecar."""
    found: dict[str, Any] = http_manager(config)["http_filters"][0]["typed_config"]
    return found
