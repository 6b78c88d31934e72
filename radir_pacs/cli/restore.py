"""``radir restore``: an installation from a backup, onto an empty machine."""

from __future__ import annotations

import argparse
import shutil
import time

from radir_pacs import config
from radir_pacs.backup.restoring import SETTINGS_BEFORE, restore
from radir_pacs.catalogue import stop_embedded
from radir_pacs.cli.backup import check_snapshot, open_repository, opened
from radir_pacs.cli.output import bars, counted, out, print_json
from radir_pacs.cli.state import holders, only_one
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, Conflict
from radir_pacs.process_heartbeat import INTERVAL_S

_RUNS = "radir is running: stop it before the database is taken back, and settle before it starts"
_ALIVE_S = 5 * INTERVAL_S  # since a heartbeat; those that stopped in order have left no trace


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("restore", help="an installation from a backup, into an empty home folder")
    parser.add_argument("source", nargs="?", help="folder of the backup, or s3://bucket/prefix")
    parser.add_argument("--snapshot", help="which one; by default the newest")
    parser.add_argument(
        "--check",
        action="store_true",
        help="restore nothing: read the snapshot as a restore would, as radir backup --check",
    )
    parser.add_argument(
        "--settle",
        action="store_true",
        help="no backup: the database itself was taken back to an earlier moment; nothing of a later one is believed",
    )
    parser.add_argument(
        "--same-bucket",
        action="store_true",
        help="take over the bucket of blob_store with what is in it, from an installation that never runs again",
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 0; 1 when files are damaged, or the audit trail's chain is broken."""
    if args.settle:
        return _settle(settings)
    if not args.source:
        raise BadInput("name the folder of the backup: radir restore FOLDER")
    repository = open_repository(args.source, settings)
    if args.check:
        return check_snapshot(repository, args.snapshot, as_json=args.json)
    manifest = repository.manifest(args.snapshot)
    began = time.monotonic()
    with only_one(settings):
        try:
            with bars() as start_bar:
                done = restore(settings, repository, manifest, start_bar, same_bucket=args.same_bucket)
        finally:
            if not settings.database_url:
                stop_embedded(settings.home)
    damaged = sorted({*done.damaged, *manifest.damaged})
    if args.json:
        print_json(
            {
                "snapshot": manifest.name,
                "made_at": manifest.made_at,
                "files": done.blobs,
                "home_files": done.files,
                "studies": done.tables.get("study", 0),
                "tables": done.tables,
                "damaged": damaged,
                "audit_seals": done.audit_seals,
                "audit_broken_at": done.audit_broken_at,
                "seconds": round(time.monotonic() - began, 1),
            }
        )
    else:
        out.print(
            f"{manifest.name}: {counted(done.tables.get('study', 0), 'study', 'studies')},"
            f" {counted(done.blobs, 'file')}; the audit trail's {counted(done.audit_seals, 'seal')}"
            f" {'hold' if done.audit_broken_at is None else f'are broken at {done.audit_broken_at}'}",
            soft_wrap=True,
        )
        if damaged:
            out.print(f"{counted(len(damaged), 'file')} damaged or missing: radir problems names the studies")
        if (settings.home / SETTINGS_BEFORE).exists():
            out.print(f"its settings are in {SETTINGS_BEFORE}: rename it to radir.toml where they hold here too")
        out.print(f"tokens that were revoked since {manifest.made_at:%Y-%m-%d %H:%M} UTC hold again: radir tokens list")
        out.print("patients withheld or erased since then are here again: repeat radir withhold add and radir erase")
        out.print(f"start it with: radir up --home {settings.home}", soft_wrap=True)
    return 1 if damaged or done.audit_broken_at is not None else 0


def _settle(settings: Settings) -> int:
    if holders(settings):
        raise Conflict(_RUNS)
    with opened(settings) as catalogue:
        if alive := [process.name for process in catalogue.processes.all() if process.silent_s < _ALIVE_S]:
            raise Conflict(f"{_RUNS} ({alive[0]} was alive a moment ago, on this machine or another)")
        catalogue.backups.settle()
    shutil.rmtree(settings.home / "index", ignore_errors=True)  # made again from the vectors in the database
    out.print("settled; the index is made again when radir starts")
    return 0
