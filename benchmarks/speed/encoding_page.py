"""The figures of ``benchmarks.speed.encoding`` as a table for the terminal and as a page of results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

WANTED = 0.85  # share of the bare rate

COLUMNS = (
    *("image", "config", "on", "cores", "best batch", "bare ms", "pipeline ms", "bare / pipeline", "plain loop ms"),
    *("plain / pipeline", "CPU ms per study", "studies/h", "MiB worker + children", "GPU busy", "GPU MiB"),
)


def cells(found: dict[str, Any]) -> list[str]:
    """One row of the table, in the order of COLUMNS."""
    low_high = "{:.2f} ({:.2f} to {:.2f})".format
    busy, gpu = found["gpu_busy_percent"], found["gpu_mib"]
    return [
        *(found["kind"], found["config"], found["device"], str(found["cores"]), str(found["best_batch"])),
        *(f"{found['bare_ms']:.1f}", f"{found['pipeline_ms']:.1f}", low_high(*found["ratio"])),
        *(f"{found['plain_ms']:.1f}", f"{found['to_plain'][0]:.2f}", f"{found['pipeline_cpu_ms']:.1f}"),
        *(f"{found['studies_per_hour']:.0f}", f"{found['worker_mib']:.0f} + {found['children_mib']:.0f}"),
        *("–" if busy is None else f"{busy:.0f} %", "–" if gpu is None else f"{gpu:.0f}"),
    ]


def title(args: argparse.Namespace) -> str:
    return f"Encoding, {args.size} phantoms, {args.syntax} pixels, one worker"


def show(rows: Sequence[dict[str, Any]], args: argparse.Namespace) -> None:
    table = Table(title=title(args))
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for found in rows:
        table.add_row(*cells(found))
    Console(width=220 if not sys.stdout.isatty() else None).print(table)


def page(rows: Sequence[dict[str, Any]], args: argparse.Namespace) -> str:
    """The same in Markdown."""
    kept = [one for one in rows if one["ratio"][0] >= WANTED]
    short = [one for one in rows if one["ratio"][0] < WANTED]
    names = [", ".join(f"{_name(one)} ({one['ratio'][0]:.2f})" for one in some) or "none" for some in (kept, short)]
    return "\n".join(
        [
            f"# {title(args)}",
            "",
            "`benchmarks/speed/encoding.py` says how it is measured. *bare / pipeline* is the share of the bare "
            "network's rate, at the batch it likes best, that the pipeline keeps (decode, resample, forward, store), "
            "with its 95 % interval over rounds; *plain / pipeline* how many times as fast it is as a loop of pydicom "
            "and torch over the same files. *CPU ms* counts the readers and the database too.",
            "",
            "| " + " | ".join(COLUMNS) + " |",
            "|---" * len(COLUMNS) + "|",
            *("| " + " | ".join(cells(one)) + " |" for one in rows),
            "",
            f"At least {WANTED:.0%} is kept by: {names[0]}. Less by: {names[1]}."
            + (f" Left out: {', '.join(args.without)}." if args.without else ""),
            "",
            *_scaling(rows),
            "",
            "Milliseconds per image of the bare pass by batch: "
            + "; ".join(
                f"{_name(one)}: " + ", ".join(f"{size}: {ms:.1f}" for size, ms in one["ms_by_batch"].items())
                for one in rows
            )
            + ".",
        ]
    )


def _name(one: dict[str, Any]) -> str:
    where = f"{one['cores']} cores" if one["device"] == "cpu" else one["device"]
    return f"{one['kind']} {one['config']} on {where}"


def _scaling(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Studies per hour against cores, of each configuration measured on several."""
    lines = []
    for kind, name in dict.fromkeys((one["kind"], one["config"]) for one in rows):
        some = [one for one in rows if (one["kind"], one["config"], one["device"]) == (kind, name, "cpu")]
        if len(some) > 1:
            rates = ", ".join(f"{one['cores']}: {one['studies_per_hour']:.0f}" for one in some)
            first, last = some[0], some[-1]
            share = last["studies_per_hour"] / first["studies_per_hour"] / (last["cores"] / first["cores"])
            lines.append(f"- {kind} {name}, studies per hour by cores: {rates}; {share:.0%} of linear.")
    return lines
