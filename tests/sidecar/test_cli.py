"""The command line as a user types it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from extproc import crs
from tests.crs import crs_or_skip


def envoy_waf(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    import os

    command = [sys.executable, "-m", "extproc.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False, timeout=60
    )


def test_serve_says_what_is_no_redis_url() -> None:
    result = envoy_waf("serve", "-r", "@recommended", "--redis-url", "redis://h:port/0")
    assert result.returncode == 1
    assert "error: redis_url: Port could not be cast" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_teaches_the_first_steps() -> None:
    out = envoy_waf("--help").stdout
    assert "envoy-waf crs install" in out
    assert "envoy-waf check" in out


def test_version() -> None:
    assert envoy_waf("version").stdout.startswith("envoy-waf 0.")


def test_check_tells_what_would_be_served(tmp_path: Path) -> None:
    result = envoy_waf("check", "--data-dir", str(tmp_path), "--json")
    report = json.loads(result.stdout)
    assert result.returncode == 0
    assert report["ok"]
    assert report["rules"] > 50
    assert "baseline" in report["ruleset"]


def test_check_shows_the_mistake_and_fails(tmp_path: Path) -> None:
    rules = tmp_path / "bad.conf"
    rules.write_text('SecRuleEngine On\nSecRule ARGS "@rx a" "id:1,denyy"\n')
    result = envoy_waf("check", "-r", str(rules))
    assert result.returncode == 1
    assert f"error: {rules}:2:28: unknown action: 'denyy'" in result.stderr


def test_check_may_be_strict_in_ci(tmp_path: Path) -> None:
    rules = tmp_path / "own.conf"
    rules.write_text('SecRuleEngine On\nSecRule ARGS_GET "@rx a" "id:1,phase:2,block"\n')
    arguments = ["check", "-r", str(rules)]
    assert envoy_waf(*arguments).stdout.endswith("is only logged\nok, with 1 note\n")
    strict = envoy_waf(*arguments, "--strict")
    assert (strict.returncode, strict.stdout.splitlines()[-1]) == (3, "not ok, with 1 note")
    told = envoy_waf(*arguments, "--strict", "--json")
    report = json.loads(told.stdout)
    assert (told.returncode, report["ok"], len(report["notes"])) == (3, False, 1)
    rules.write_text('SecRuleEngine On\nSecRule ARGS_GET "@rx a" "id:1,phase:2,deny"\n')
    fine = envoy_waf(*arguments, "--strict")
    assert (fine.returncode, fine.stdout.splitlines()[-1]) == (0, "ok")


@pytest.mark.parametrize("setting", ["listen", "admin"])
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("taken", "another process is using it; stop that one, or choose another address"),
        ("192.0.2.1:9002", "this machine has no such address"),
        ("unix:/no/such/folder/waf.sock", "its folder does not exist"),
        ("no-such-host.invalid:9002", "no such host"),
        ("file", "a file is there that is no socket; move it away, or choose another path"),
    ],
)
def test_serve_says_why_it_cannot_listen(tmp_path: Path, setting: str, address: str, reason: str) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        if address == "taken":
            address = f"127.0.0.1:{taken.getsockname()[1]}"
        if address == "file":
            (tmp_path / "precious").write_text("x")
            address = f"unix:{tmp_path}/precious"
        addresses = {"listen": f"unix:{tmp_path}/waf.sock", "admin": "", setting: address}
        result = envoy_waf(
            "serve", "--listen", addresses["listen"], "--admin", addresses["admin"], "--data-dir", str(tmp_path),
            "-r", "@baseline",
        )  # fmt: skip
    assert result.returncode == 1
    assert f"error: cannot listen on {address} ({setting}): {reason}" in result.stderr
    if address.endswith("precious"):
        assert (tmp_path / "precious").read_text() == "x"


def test_several_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    """Whose admin address is taken: that is all there is to read."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = envoy_waf(
            "serve", "--listen", f"unix:{tmp_path}/waf.sock", "--admin", address, "--data-dir", str(tmp_path),
            "-r", "@baseline", "--workers", "2", "--runtime-dir", str(tmp_path / "run"),
        )  # fmt: skip
    assert result.returncode == 1
    reason = "another process is using it; stop that one, or choose another address"
    assert result.stderr == f"error: cannot listen on {address} (admin): {reason}\n"
    left = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if str(tmp_path).encode() in environment.read_bytes():
                left.append(environment)
    assert left == []


# -- crs install -----------------------------------------------------------------------------


def make_archive(path: Path, members: dict[str, bytes], link: str | None = None) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("coreruleset-9.9.9/link")
            info.type = tarfile.SYMTYPE
            info.linkname = link
            tar.addfile(info)
    return hashlib.sha256(path.read_bytes()).hexdigest()


RULES = {
    "coreruleset-9.9.9/rules/REQUEST-901-INITIALIZATION.conf": b'SecComponentSignature "OWASP_CRS/9.9.9"\n',
    "coreruleset-9.9.9/crs-setup.conf.example": b"SecAction id:900990,phase:1,pass,nolog,setvar:tx.crs_setup_version=999\n",
}


def test_archive_with_the_right_hash_is_installed_and_served(tmp_path: Path) -> None:
    archive = tmp_path / "crs.tar.gz"
    digest = make_archive(archive, RULES)
    data = tmp_path / "data"
    result = envoy_waf("crs", "install", "--from", str(archive), "--sha256", digest, "--data-dir", str(data))
    assert result.returncode == 0, result.stderr
    assert (data / "crs" / "coreruleset-9.9.9" / "rules").is_dir()
    report = json.loads(envoy_waf("check", "--data-dir", str(data), "--json").stdout)
    assert report["ruleset"] == "OWASP Core Rule Set 9.9.9"
    assert "coreruleset-9.9.9" in envoy_waf("crs", "show", "--data-dir", str(data)).stdout


def test_wrong_hash_or_no_signature_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "crs.tar.gz"
    make_archive(archive, RULES)
    with pytest.raises(crs.CrsError, match="has the SHA-256"):
        crs.install(tmp_path / "data", source=archive, sha256="0" * 64)
    with pytest.raises(crs.CrsError, match="give its --sha256"):
        crs.install(tmp_path / "data", source=archive)
    assert not list((tmp_path / "data" / "crs").glob("coreruleset-*"))


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil"])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "crs.tar.gz"
    digest = make_archive(archive, {**RULES, name: b"x"})
    with pytest.raises(crs.CrsError, match="leaves the folder"):
        crs.install(tmp_path / "data", source=archive, sha256=digest)


def test_links_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "crs.tar.gz"
    digest = make_archive(archive, RULES, link="/etc/passwd")
    with pytest.raises(crs.CrsError, match="is a link or device"):
        crs.install(tmp_path / "data", source=archive, sha256=digest)


def test_what_is_no_rule_set_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "crs.tar.gz"
    archive.write_bytes(b"no archive")
    with pytest.raises(crs.CrsError, match=r"no usable \.tar\.gz"):
        crs.install(tmp_path / "data", source=archive, sha256=hashlib.sha256(b"no archive").hexdigest())
    (tmp_path / "empty").mkdir()
    with pytest.raises(crs.CrsError, match="holds no Core Rule Set"):
        crs.install(tmp_path / "data", source=tmp_path / "empty")


def test_signature_of_another_key_is_refused(tmp_path: Path) -> None:
    """A real gpg, a real key, a good signature: but not the CRS project's."""
    gpg = shutil.which("gpg")
    if gpg is None:
        pytest.skip("gpg is not installed: `make setup` installs it where it can")
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    archive = tmp_path / "crs.tar.gz"
    make_archive(archive, RULES)
    base = [gpg, "--homedir", str(home), "--batch", "--passphrase", ""]
    subprocess.run([*base, "--quick-gen-key", "me@example.com"], check=True, capture_output=True)
    subprocess.run([*base, "--armor", "--detach-sign", str(archive)], check=True, capture_output=True)
    key = tmp_path / "key.asc"
    key.write_bytes(subprocess.run([*base, "--armor", "--export"], check=True, capture_output=True).stdout)
    with pytest.raises(crs.CrsError, match="could not be confirmed with the CRS key"):
        crs.install(tmp_path / "data", source=archive, key=key)


def test_folder_is_installed_as_it_is(tmp_path: Path) -> None:
    root = crs_or_skip()
    target = crs.install(tmp_path, source=root).folder
    assert target.name == f"coreruleset-{crs.detect_version(root)}"
    again = crs.install(tmp_path, source=root)
    assert again.folder == again.before == target
    report = json.loads(envoy_waf("check", "--data-dir", str(tmp_path), "--json").stdout)
    assert report["rules"] > 600
    assert report["paranoia_level"] == 1


def test_what_the_user_has_put_into_a_version_is_kept(tmp_path: Path) -> None:
    """When it is installed again, and when a newer one comes (10 is newer than 9)."""
    data = tmp_path / "data"

    def install(version: str) -> str:
        archive = tmp_path / "crs.tar.gz"
        members = {
            name.replace("9.9.9", version): text.replace(b"9.9.9", version.encode()) for name, text in RULES.items()
        }
        members[f"coreruleset-{version}/plugins/empty-after.conf"] = version.encode()
        digest = make_archive(archive, members)
        result = envoy_waf("crs", "install", "--from", str(archive), "--sha256", digest, "--data-dir", str(data))
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert "kept" not in install("9.9.9")
    old = data / "crs" / "coreruleset-9.9.9"
    (old / "crs-setup.conf").write_text("# mine\n")
    (old / "plugins" / "my-config.conf").write_text("# my plugin\n")
    for version in ("9.9.9", "10.0.0"):
        assert "kept from coreruleset-9.9.9: crs-setup.conf, plugins/my-config.conf" in install(version)
        folder = data / "crs" / f"coreruleset-{version}"
        assert (folder / "crs-setup.conf").read_text() == "# mine\n"
        assert (folder / "plugins" / "my-config.conf").read_text() == "# my plugin\n"
        assert (folder / "plugins" / "empty-after.conf").read_text() == version
    assert envoy_waf("crs", "show", "--data-dir", str(data)).stdout.splitlines()[-1].endswith("coreruleset-10.0.0")


def test_without_network_the_error_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crs, "RELEASES", "http://127.0.0.1:9/none")
    with pytest.raises(crs.CrsError, match=r"crs install --from coreruleset-4\.28\.0-minimal\.tar\.gz"):
        crs.install(tmp_path)
