"""The admin gRPC server on an address that others can reach: token, mTLS, or not at all."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from demo.stack import PROJECT, Process, free_port
from extproc.admin.pb import admin_pb2 as pb


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        self.certificate = self._sign(self.name, self.key.public_key(), authority=True)
        (folder / "ca.pem").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, name: x509.Name, key: Any, *, authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, who: str) -> tuple[Path, Path]:
        """Files of (certificate, key)."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)])
        certificate = self._sign(name, key.public_key(), authority=False)
        paths = self.folder / f"{who}.pem", self.folder / f"{who}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


def start(folder: Path, **settings: Any) -> tuple[Process, int]:
    port, admin = free_port(), free_port()
    path = folder / "settings.yaml"
    base = {"listen": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{admin}", "rules": ["@recommended"]}
    path.write_text(yaml.safe_dump({**base, "admin_grpc": f"0.0.0.0:{port}", **settings}))
    process = Process("sidecar", [sys.executable, "-m", "extproc.cli", "serve", "-c", str(path)], folder)
    process.wait_for(f"http://127.0.0.1:{admin}/readyz")
    return process, port


def status(channel: grpc.Channel, metadata: Any = None) -> Any:
    ask = channel.unary_unary(
        "/envoy_waf.admin.v1.Admin/Status",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=pb.StatusResponse.FromString,
    )
    return ask(pb.StatusRequest(), metadata=metadata, timeout=10)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_mutual_tls(tmp_path: Path, authority: Authority) -> None:
    server, client = authority.issue("server"), authority.issue("client")
    process, port = start(
        tmp_path,
        admin_tls_cert=str(server[0]),
        admin_tls_key=str(server[1]),
        admin_tls_client_ca=str(tmp_path / "ca.pem"),
    )
    try:
        root = (tmp_path / "ca.pem").read_bytes()
        good = grpc.ssl_channel_credentials(root, client[1].read_bytes(), client[0].read_bytes())
        with grpc.secure_channel(f"localhost:{port}", good) as channel:
            assert status(channel).ready
        with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(root)) as channel:
            with pytest.raises(grpc.RpcError) as error:
                status(channel)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        process.stop()


def test_token(tmp_path: Path) -> None:
    process, port = start(tmp_path, admin_token="open-sesame")
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert status(channel, [("authorization", "Bearer open-sesame")]).ready
            for metadata in (None, [("authorization", "Bearer wrong")]):
                with pytest.raises(grpc.RpcError) as error:
                    status(channel, metadata)
                assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    finally:
        process.stop()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["ENVOY_WAF_ADMIN_GRPC=0.0.0.0:{port}"], "can be reached from other machines; set admin_token"),
        (["ENVOY_WAF_ADMIN_TLS_CERT=/x"], "admin_tls_cert and admin_tls_key belong together"),
        (["ENVOY_WAF_WORKERS=2", "ENVOY_WAF_ADMIN=127.0.0.1:9012"], "is the address of a worker, too"),
        (["ENVOY_WAF_AUDIT_LOG=relative/path"], "write stdout, an absolute path, or an http"),
        (["ENVOY_WAF_AUDIT_LOG=/proc/nothing/audit.json"], "cannot write the audit log"),
    ],
)
def test_what_cannot_be_served_is_said(settings: list[str], message: str) -> None:
    environment = dict(item.format(port=free_port()).split("=", 1) for item in settings)
    environment.setdefault("ENVOY_WAF_ADMIN", f"127.0.0.1:{free_port()}")
    listen = {} if "ENVOY_WAF_WORKERS" in environment else {"ENVOY_WAF_LISTEN": f"127.0.0.1:{free_port()}"}

    found = subprocess.run(
        [sys.executable, "-m", "extproc.cli", "serve", "-r", "@recommended"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=PROJECT,
        env={**os.environ, **listen, **environment},
    )
    assert found.returncode == 1
    assert message in found.stderr
