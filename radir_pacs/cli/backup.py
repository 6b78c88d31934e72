"""``radir backup``: add a snapshot to a backup while everything runs; list, check and thin out what is there."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radir_pacs import config
from radir_pacs.backup.checking import check
from radir_pacs.backup.making import back_up
from radir_pacs.backup.places import place_of
from radir_pacs.backup.repository import Repository
from radir_pacs.backup.sealing import make_key, read_key
from radir_pacs.catalogue import Catalogue, stop_embedded
from radir_pacs.cli.output import bars, counted, out, print_json
from radir_pacs.cli.state import is_held, only_one
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, NotReady
from radir_pacs.storage import open_blobs

_SHOWN = 20  # of a list of damaged files, outside --json


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("backup", help="add a snapshot to a backup while everything runs; check a backup")
    parser.add_argument(
        "target", nargs="?", help="folder of the backup, which the first snapshot makes, or s3://bucket/prefix"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="read a snapshot as a restore would; exit code 1 for damage")
    what.add_argument("--list", action="store_true", help="list the snapshots")
    what.add_argument("--make-key", metavar="FILE", help="make the key file that backup_key names, and nothing else")
    parser.add_argument("--snapshot", help="with --check: which one; by default the newest")
    parser.add_argument(
        "--mend", action="store_true", help="with --check: the next backup copies again what is damaged"
    )
    parser.add_argument("--keep", type=int, metavar="N", help="then remove all but the N newest snapshots")
    parser.add_argument("--without-tokens", action="store_true", help="leave out image tokens, which pixels give again")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 0; 1 when a file is damaged or missing, in the archive or in the backup."""
    if args.make_key:
        if not make_key(Path(args.make_key)):
            raise BadInput(f"{args.make_key} is there already")
        out.print("made; without this file no backup written with it can be read: keep a copy elsewhere")
        return 0
    if not args.target:
        raise BadInput("name the folder of the backup: radir backup FOLDER")
    if args.keep is not None and args.keep < 1:
        raise BadInput("--keep: at least one snapshot stays")
    repository = open_repository(args.target, settings, make=not (args.check or args.list))
    if args.list:
        return _list(repository, args.json)
    if args.check:
        return check_snapshot(repository, args.snapshot, mend=args.mend, as_json=args.json)
    return _back_up(args, settings, repository)


def open_repository(written: str, settings: Settings, *, make: bool = False) -> Repository:
    """Raises as `Repository.open`."""
    key = read_key(Path(settings.backup_key).expanduser()) if settings.backup_key else None
    return Repository.open(place_of(written, settings), key, make=make)


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Catalogue]:
    """The catalogue of an installation, whether it runs or not; an embedded Postgres that did not run stops again."""
    with contextlib.ExitStack() as stack:
        if not settings.database_url and not is_held(settings):
            if not (settings.home / "postgres" / "PG_VERSION").exists():
                raise NotReady(f"there is no installation in {settings.home}")
            stack.enter_context(only_one(settings))
            stack.callback(stop_embedded, settings.home)
        yield stack.enter_context(Catalogue.open(settings))


def _back_up(args: argparse.Namespace, settings: Settings, repository: Repository) -> int:
    began = time.monotonic()
    with opened(settings) as catalogue, bars() as start_bar:
        manifest, copied = back_up(
            catalogue,
            open_blobs(settings),
            settings.home,
            repository,
            without_tokens=args.without_tokens,
            keep=args.keep,
            start_bar=start_bar,
        )
    told: dict[str, Any] = {
        "snapshot": manifest.name,
        "files": manifest.blob_count,
        "files_bytes": manifest.blob_bytes,
        "copied": copied.blobs,
        "copied_bytes": copied.bytes,
        "database_bytes": manifest.database.size_bytes,
        "studies": manifest.tables.get("study", 0),
        "damaged": copied.damaged,
        "snapshots_removed": copied.snapshots_removed,
        "objects_removed": copied.objects_removed,
        "seconds": round(time.monotonic() - began, 1),
    }
    if args.json:
        print_json(told)
    else:
        out.print(
            f"{manifest.name}: {counted(told['studies'], 'study', 'studies')}, {counted(manifest.blob_count, 'file')},"
            f" {copied.blobs} of them copied ({copied.bytes / 1e6:.1f} MB),"
            f" database {manifest.database.size_bytes / 1e6:.1f} MB, {told['seconds']} s",
            soft_wrap=True,
        )
        if not settings.backup_key:
            out.print(
                "not encrypted: who reads the backup reads patients and tokens; set backup_key before the first one"
            )
        if args.keep:
            gone = counted(copied.snapshots_removed, "snapshot"), counted(copied.objects_removed, "object")
            out.print(f"{gone[0]} and {gone[1]} removed")
        _name("damaged in the archive, and not in the backup (radir problems)", copied.damaged)
    return 1 if copied.damaged else 0


def _list(repository: Repository, as_json: bool) -> int:
    found = [repository.manifest(name) for name in repository.snapshots()]
    rows: list[dict[str, Any]] = [
        {
            "snapshot": m.name,
            "made_at": m.made_at,
            "version": m.version,
            "studies": m.tables.get("study", 0),
            "files": m.blob_count,
            "files_bytes": m.blob_bytes,
            "database_bytes": m.database.size_bytes,
            "damaged": len(m.damaged),
        }
        for m in found
    ]
    if as_json:
        print_json(rows)
        return 0
    for row in rows:
        out.print(
            f"{row['snapshot']}  {counted(row['studies'], 'study', 'studies')}, {counted(row['files'], 'file')},"
            f" radir {row['version']}",
            markup=False,
        )
    if not rows:
        out.print("no whole snapshot")
    return 0


def check_snapshot(repository: Repository, snapshot: str | None, *, mend: bool = False, as_json: bool) -> int:
    """Exit code 1 when it is not whole."""
    manifest = repository.manifest(snapshot)
    with bars() as start_bar:
        found = check(repository, manifest, start_bar, mend=mend)
    tables = {name: {"expected": expected, "found": rows} for name, (expected, rows) in found.tables.items()}
    if as_json:
        print_json(
            {
                "snapshot": manifest.name,
                "whole": found.is_whole,
                "files": found.files,
                "damaged": sorted(found.damaged),
                "missing": sorted(found.missing),
                "tables": tables,
            }
        )
    else:
        out.print(f"{manifest.name}: {counted(found.files, 'file')} read; {'whole' if found.is_whole else 'NOT whole'}")
        _name("damaged", found.damaged)
        _name("missing", found.missing)
        for name, rows in tables.items():
            out.print(f"table {name}: {counted(rows['found'], 'row')} instead of {rows['expected']}")
    return 0 if found.is_whole else 1


def _name(what: str, names: list[str]) -> None:
    for name in sorted(names)[:_SHOWN]:
        out.print(f"{what}: {name}", soft_wrap=True, markup=False)
    if len(names) > _SHOWN:
        out.print(f"{what}: {len(names) - _SHOWN} more (--json names all)")
