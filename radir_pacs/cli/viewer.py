"""``radir viewer install``: fetches OHIF from npm, unmodified, for the web service to serve below /ohif/."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from radir_pacs import config
from radir_pacs.cli.output import out, progress
from radir_pacs.config import Settings
from radir_pacs.errors import RadirError

PACKAGE = "@ohif/app"
VERSION = "3.13.2"  # the one that our extension was shown on
_SHA512 = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
_TIMEOUT_S = 600


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("viewer", help="the OHIF viewer, served with the sidebar in it")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    installing = actions.add_parser("install", help=f"bring OHIF {VERSION} from npm (50 MB)")
    config.add_flags(installing)
    installing.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    new = install(settings)
    out.print(f"OHIF {VERSION} {'is installed' if new else 'was there'}: {settings.ohif_dist}", soft_wrap=True)
    out.print(f"radir up serves it at {settings.public_url}/ohif/", soft_wrap=True)
    return 0


def install(settings: Settings) -> bool:
    """Put OHIF where the web service looks for it; False when it was there already.

    Raises RadirError without npm, when the package cannot be had, or when it is not the one that was published.
    """
    dist = settings.ohif_dist
    mark = dist / "radir-version"
    if mark.is_file() and mark.read_text() == VERSION:
        return False
    npm = shutil.which("npm")
    if npm is None:
        raise RadirError("npm is not installed (Debian: apt-get install npm); without OHIF /sidebar shows the pictures")
    dist.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=dist.parent) as folder, progress() as bar:
        bar.add_task(f"OHIF {VERSION} from npm", total=None)
        archive = _packed(npm, Path(folder))
        _check(archive)
        unpacked = _unpacked(archive, Path(folder))
        (unpacked / mark.name).write_text(VERSION)
        if dist.exists():
            dist.replace(Path(folder) / "before")
        unpacked.replace(dist)
    return True


def _packed(npm: str, folder: Path) -> Path:
    """The package's archive. Only the built viewer is needed, so no dependency is fetched and no script is run."""
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--json", "--ignore-scripts", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
        return folder / Path(json.loads(done.stdout)[0]["filename"]).name
    except subprocess.TimeoutExpired:
        raise RadirError(f"npm did not bring {PACKAGE} {VERSION} within {_TIMEOUT_S} s") from None
    except subprocess.CalledProcessError as error:
        said = next((line for line in error.stderr.splitlines() if "error" in line.lower()), "npm failed")
        raise RadirError(f"npm could not bring {PACKAGE} {VERSION}: {said}") from None
    except (ValueError, LookupError, TypeError):
        raise RadirError("npm's answer was not understood") from None


def _check(archive: Path) -> None:
    with archive.open("rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if found != _SHA512:
        raise RadirError(f"{PACKAGE} {VERSION} is not the package that was published: its SHA-512 differs")


def _unpacked(archive: Path, folder: Path) -> Path:
    """Extract ``dist`` from the archive, with the licence and without source maps."""
    with tarfile.open(archive) as tar:
        wanted = [
            member
            for member in tar.getmembers()
            if member.isfile()
            and not member.name.endswith(".map")
            and (member.name.startswith("package/dist/") or member.name == "package/LICENSE")
        ]
        tar.extractall(folder, members=wanted, filter="data")
    dist = folder / "package" / "dist"
    (folder / "package" / "LICENSE").replace(dist / "LICENSE")
    return dist
