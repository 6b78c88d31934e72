"""``radir disk``: who uses how much of the disk, and how near its limits it is."""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from radir_pacs import config
from radir_pacs.cli.backup import opened
from radir_pacs.cli.output import counted, out, print_json
from radir_pacs.config import Settings
from radir_pacs.intake.room import Room
from radir_pacs.storage import open_blobs

_FOLDERS = ("index", "models", "retraining", "logs", "viewer", "postgres")
_TOKENS = "image_tokens"
_TABLES_SHOWN = 5
_MIB = 1 << 20


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("disk", help="who uses how much of the disk, and how near its limits it is")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    found = gather(settings)
    if args.json:
        print_json(found)
    else:
        _show(found, settings)
    return 0


def gather(settings: Settings) -> dict[str, Any]:
    """In bytes. Files are summed by the catalogue, which reads a row an instance; the sweep counts them on the disk."""
    with opened(settings) as catalogue:
        files, file_bytes, parts = catalogue.disk.usage()
        tables = catalogue.disk.by_table()
        modalities = catalogue.disk.by_modality()
        away, last = catalogue.disk.away(), catalogue.retention.last_pass()
        excess = Room(catalogue, open_blobs(settings), settings).excess_bytes()
    disk = shutil.disk_usage(settings.home)
    return {
        "home": str(settings.home),
        "disk": {"total": disk.total, "free": disk.free, "kept_free": settings.min_free_disk_mib * _MIB},
        "budget": settings.disk_budget_mib * _MIB or None,
        "evicts": settings.evict_files,
        "to_evict": excess if settings.evict_files else 0,
        "files": modalities,
        "files_away": {reason.value: count for reason, count in away.items()},
        "retention_pass": None if last is None else asdict(last),
        "files_counted": {"files": files, "bytes": file_bytes, "parts": parts},
        "database": {"bytes": sum(tables.values()), "tables": tables},
        "image_tokens": tables.get(_TOKENS, 0),
        "thumbnails": 0,  # in the memory of the web processes
        "folders": {name: _bytes_of(settings.home / name) for name in _FOLDERS},
    }


def _bytes_of(folder: Path) -> int:
    """What the files of a folder take, sparse and hard-linked ones as they do; 0 where it is not, or not readable."""
    total, seen = 0, set()
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                told = (Path(path) / name).lstat()
            except OSError:
                continue
            if (told.st_dev, told.st_ino) not in seen:
                seen.add((told.st_dev, told.st_ino))
                total += told.st_blocks * 512
    return total


def _show(found: dict[str, Any], settings: Settings) -> None:
    disk = found["disk"]
    free = f"{_mib(disk['free'])} free; nothing is stored below {_mib(disk['kept_free'])} (min_free_disk_mib)"
    out.print(f"disk      {_mib(disk['total'])}, {free}", soft_wrap=True)
    if found["budget"]:
        out.print(f"budget    {_mib(found['budget'])} for DICOM files (disk_budget_mib)")
    if found["evicts"]:
        due = f", {_mib(found['to_evict'])} are due" if found["to_evict"] else ""
        out.print(f"eviction  from {settings.evict_above:.0%} down to {settings.evict_below:.0%}{due}")
    if last := found["retention_pass"]:
        stands = f"ended {last['ended_at']:%Y-%m-%d %H:%M}" if last["ended_at"] else "goes on"
        gone = f"{counted(last['files'], 'file')} of {counted(last['studies'], 'study', 'studies')}"
        out.print(f"retention the pass of {last['began_at']:%Y-%m-%d %H:%M} {stands}: {gone}, {_mib(last['bytes'])}")
    table = Table(box=None, header_style="bold")
    for column in ("what", "MiB", "note"):
        table.add_column(column, justify="right" if column == "MiB" else "left")
    for row in found["files"]:
        note = counted(row["files"], "file")
        if row["evicted_bytes"]:
            note += f"; {_mib(row['evicted_bytes'])} away"
        table.add_row(f"files {row['modality'] or 'without modality'}", f"{row['bytes'] / _MIB:.1f}", note)
    for name, size in list(found["database"]["tables"].items())[:_TABLES_SHOWN]:
        table.add_row(f"table {name}", f"{size / _MIB:.1f}", "")
    for name, size in found["folders"].items():
        table.add_row(name, f"{size / _MIB:.1f}", "database and its log" if name == "postgres" else "")
    table.add_row("thumbnails", "0.0", "in memory only")
    for reason, count in found["files_away"].items():
        table.add_row(f"away: {reason}", "", counted(count, "file"))
    out.print(table)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:,.0f} MiB"
