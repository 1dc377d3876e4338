"""`envoy-waf crs`: the OWASP Core Rule Set."""

from __future__ import annotations

from pathlib import Path

import click

from extproc import crs
from extproc.commands.common import fail, progress_bar
from extproc.config import default_data_dir
from extproc.rulesets import installed_versions


@click.group("crs")
def crs_command() -> None:
    """The OWASP Core Rule Set: install and show it."""


@crs_command.command("install")
@click.argument("version", default=crs.DEFAULT_VERSION)
@click.option("--from", "source", type=click.Path(path_type=Path), help="An archive or folder that is already here.")
@click.option("--sha256", help="Trust the archive with this hash instead of its signature.")
@click.option(
    "--key", type=click.Path(path_type=Path, exists=True), help="The CRS project's public key, if gpg lacks it."
)
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="ENVOY_WAF_DATA_DIR", help="Where to install.")
def crs_install(version: str, source: Path | None, sha256: str | None, key: Path | None, data_dir: Path | None) -> None:
    """Download (or take) the Core Rule Set, check it, and install it into the data folder."""
    try:
        with progress_bar("Core Rule Set", length=crs.MAX_ARCHIVE_BYTES, show=source is None) as bar:

            def progress(done: int, total: int) -> None:
                bar.length = total or bar.length
                bar.update(done - bar.pos)

            installed = crs.install(
                data_dir or default_data_dir(), version, source=source, sha256=sha256, key=key, progress=progress
            )
    except crs.CrsError as error:
        fail(str(error))
    print(f"installed {installed.folder}")
    if installed.kept and installed.before is not None:
        print(f"kept from {installed.before.name}: {', '.join(installed.kept)}")
    print("a sidecar that runs takes it with a reload: kill -HUP, or POST /api/reload")


@crs_command.command("show")
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="ENVOY_WAF_DATA_DIR", help="Where to look.")
def crs_show(data_dir: Path | None) -> None:
    """List the installed versions; the last one serves."""
    folder = data_dir or default_data_dir()
    found = installed_versions(folder)
    for path in found:
        print(path)
    if not found:
        print(f"none installed in {folder / 'crs'}; run `envoy-waf crs install`")
