"""`envoy-waf crs install`: bring the Core Rule Set, checked, into the data folder.

The archive is the signed minimal release of the CRS project.  It is used only when its PGP
signature is good (key 3600 6F0E 0BA1 6783 2158 8211 38EE ACA1 AB8A 6E72, checked with gpg) or
when its SHA-256 is the one given.  Unpacking takes regular files and folders only and never
leaves the folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from extproc.rulesets import newest_version

DEFAULT_VERSION = "4.28.0"
RELEASES = "https://github.com/coreruleset/coreruleset/releases/download"
KEY_FINGERPRINT = "36006F0E0BA167832158821138EEACA1AB8A6E72"

MAX_ARCHIVE_BYTES = 64 << 20
MAX_UNPACKED_BYTES = 256 << 20
MAX_MEMBERS = 20_000

Progress = Callable[[int, int], None]
"""(bytes so far, bytes in all or 0)"""


class CrsError(Exception):
    """The rule set cannot be installed; the message says why and what to do."""


class Installed(NamedTuple):
    """`kept`: files of the user's that came along from the folder `before`."""

    folder: Path
    before: Path | None
    kept: list[str]


def _safe_name(name: str) -> str:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise CrsError(f"the archive holds the path {name!r}, which leaves the folder: not installed")
    return name


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack into `folder`; returns the one folder that holds `rules`.  Raises CrsError."""
    total = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for count, member in enumerate(tar):
                name = _safe_name(member.name)
                if count >= MAX_MEMBERS:
                    raise CrsError(f"the archive has more than {MAX_MEMBERS} members")
                target = folder / name
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                if not member.isfile():
                    raise CrsError(f"{name!r} in the archive is a link or device: not installed")
                total += member.size
                if total > MAX_UNPACKED_BYTES:
                    raise CrsError(f"the archive unpacks to more than {MAX_UNPACKED_BYTES} bytes")
                source = tar.extractfile(member)
                assert source is not None
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, target.open("wb") as out:
                    shutil.copyfileobj(source, out)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CrsError(f"{archive} is no usable .tar.gz archive: {error}") from error
    return find_root(folder)


def find_root(folder: Path) -> Path:
    """The folder that is a Core Rule Set: itself or one below."""
    for candidate in (folder, *sorted(folder.iterdir())):
        if (candidate / "rules").is_dir() and list((candidate / "rules").glob("*.conf")):
            return candidate
    raise CrsError(f"{folder} holds no Core Rule Set: there is no rules/*.conf in it")


def detect_version(root: Path) -> str:
    """The version that the rules themselves declare (SecComponentSignature)."""
    for path in sorted((root / "rules").glob("*901*.conf")):
        found = re.search(r'SecComponentSignature\s+"OWASP_CRS/([0-9][0-9A-Za-z.-]*)"', path.read_text("utf-8"))
        if found:
            return found.group(1)
    raise CrsError(f"{root} does not say which version it is (no SecComponentSignature in rules/)")


def download(version: str, folder: Path, progress: Progress) -> tuple[Path, Path]:
    """The release archive and its signature.  Raises CrsError."""
    if not re.fullmatch(r"[0-9]+(?:\.[0-9]+){1,3}", version):
        raise CrsError(f"{version!r} is no version number; write for example {DEFAULT_VERSION}")
    name = f"coreruleset-{version}-minimal.tar.gz"
    paths = []
    for file in (name, f"{name}.asc"):
        url = f"{RELEASES}/v{version}/{file}"
        target = folder / file
        try:
            with urllib.request.urlopen(url, timeout=30) as response, target.open("wb") as out:  # noqa: S310  (https)
                total = int(response.headers.get("Content-Length") or 0)
                done = 0
                while chunk := response.read(1 << 16):
                    done += len(chunk)
                    if done > MAX_ARCHIVE_BYTES:
                        raise CrsError(f"{url} is larger than {MAX_ARCHIVE_BYTES} bytes")
                    out.write(chunk)
                    progress(done, total)
        except (urllib.error.URLError, OSError) as error:
            raise CrsError(
                f"cannot fetch {url}: {error}\n"
                "Without network: bring the archive yourself and run"
                f" `envoy-waf crs install --from coreruleset-{version}-minimal.tar.gz --sha256 HASH`."
            ) from error
        paths.append(target)
    return paths[0], paths[1]


def check_sha256(archive: Path, expected: str) -> None:
    """Raises CrsError when the archive's hash is another one."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != expected.strip().lower():
        raise CrsError(f"{archive.name} has the SHA-256 {digest}, not {expected}: not installed")


def check_signature(archive: Path, signature: Path, key: Path | None) -> None:
    """gpg has to know the CRS key (or is given it) and find the signature good."""
    gpg = shutil.which("gpg")
    if gpg is None:
        raise CrsError("gpg is needed to check the signature: install it (apt-get install gnupg), or give --sha256")
    with tempfile.TemporaryDirectory() as home:
        base = [gpg, "--batch", "--no-tty", "--status-fd", "1"]
        if key is not None:
            base += ["--homedir", home]
            subprocess.run([*base, "--import", str(key)], capture_output=True, check=False)  # noqa: S603
        result = subprocess.run(  # noqa: S603
            [*base, "--verify", str(signature), str(archive)], capture_output=True, text=True, check=False
        )
    valid = re.findall(r"^\[GNUPG:\] VALIDSIG .*?([0-9A-F]{40})$", result.stdout, re.MULTILINE)
    if result.returncode != 0 or KEY_FINGERPRINT not in valid:
        raise CrsError(
            f"the signature of {archive.name} could not be confirmed with the CRS key {KEY_FINGERPRINT}."
            " Import that key into gpg (`gpg --recv-keys`), pass it with --key FILE, or give --sha256."
        )


def install(
    data_dir: Path,
    version: str = DEFAULT_VERSION,
    *,
    source: Path | None = None,
    sha256: str | None = None,
    key: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Installed:
    """Install a release, or what `source` (an archive or folder) holds.

    A folder is copied as it is: who gives it vouches for it.  An archive needs `sha256` or a
    signature beside it (`.asc`).  What the user has put into the version that served before (crs-setup.conf, plugins)
    is kept.
    """
    target_base = data_dir / "crs"
    try:
        target_base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CrsError(
            f"cannot write to {target_base}: {error.strerror}; choose another folder with --data-dir"
        ) from error
    with tempfile.TemporaryDirectory(dir=target_base) as work_name:
        work = Path(work_name)
        if source is not None and source.is_dir():
            root = find_root(source)
            staged = work / "staged"
            for part in ("rules", "plugins"):
                if (root / part).is_dir():
                    shutil.copytree(root / part, staged / part, symlinks=False)
            for file in ("crs-setup.conf.example", "crs-setup.conf", "LICENSE"):
                if (root / file).is_file():
                    shutil.copyfile(root / file, staged / file)
        else:
            if source is None:
                archive, signature = download(version, work, progress)
            else:
                archive, signature = source, source.with_name(source.name + ".asc")
                if not archive.is_file():
                    raise CrsError(f"{archive} does not exist")
            if sha256:
                check_sha256(archive, sha256)
            elif signature.is_file():
                check_signature(archive, signature, key)
            else:
                raise CrsError(f"{archive} comes with no {signature.name}: give its --sha256")
            unpacked = work / "unpacked"
            unpacked.mkdir()
            staged = unpack(archive, unpacked)
        found = detect_version(staged)
        target = target_base / f"coreruleset-{found}"
        before = target if target.exists() else newest_version(data_dir)
        kept = _keep(before, staged) if before is not None else []
        _swap(staged, target, work / "old")
    return Installed(target, before, kept)


def _keep(before: Path, staged: Path) -> list[str]:
    """Copy what the new folder lacks; the names."""
    own = [before / "crs-setup.conf", *sorted((before / "plugins").glob("*"))]
    kept = []
    for path in own:
        name = path.relative_to(before)
        if path.is_file() and not (staged / name).exists():
            (staged / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, staged / name)
            kept.append(str(name))
    return kept


def _swap(staged: Path, target: Path, old: Path) -> None:
    """Put the new folder in the place of the old one, which stays if that cannot be."""
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(staged, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise
