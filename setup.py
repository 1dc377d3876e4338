"""Builds the Python code of our gRPC contract (protos/) when the package is built; all else is in pyproject.toml."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
TARGET = ROOT / "extproc" / "admin" / "pb"


class BuildProtos(build_py):
    """protoc, then what setuptools does anyway."""

    def run(self) -> None:
        from grpc_tools import protoc  # type: ignore[import-untyped,unused-ignore]

        TARGET.mkdir(parents=True, exist_ok=True)
        (TARGET / "__init__.py").write_text("")
        include = Path(protoc.__file__).parent / "_proto"
        source = ROOT / "protos" / "envoy_waf" / "admin" / "v1"
        arguments = ["protoc", f"-I{include}", f"-I{source}", f"--python_out={TARGET}", f"--pyi_out={TARGET}"]
        if protoc.main([*arguments, str(source / "admin.proto")]) != 0:
            raise SystemExit("protoc failed")
        super().run()


setup(cmdclass={"build_py": BuildProtos})
