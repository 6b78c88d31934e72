"""``radir index show|move``: which engine holds the vectors, and moving them to another one while questions go on."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from rich.table import Table

from radir_pacs import config
from radir_pacs.catalogue import SILENT_S, Catalogue
from radir_pacs.cli.output import bars, counted, errors, out, print_json, say, say_progress
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.errors import NotReady
from radir_pacs.index.engine import LOCAL, MILVUS, PGVECTOR
from radir_pacs.index.engines import Engines
from radir_pacs.types import JobKind

_LOOK_S = 0.5
_SAY_S = 5.0
_INDEXER = "indexer"


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("index", help="which engine holds the vectors, and moving them to another")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="the engine, and what each holds of each region")
    move = actions.add_parser(
        "move",
        help="have another engine hold the vectors; questions go on",
        description="The indexer fills the new engine, region by region; each region is answered by the old one until"
        " the new one has it. Interrupted, the move goes on by itself, and the same command shows how far it is. What"
        " the old engine has is cleared an hour later.",
    )
    move.add_argument("--to", required=True, choices=(LOCAL, PGVECTOR, MILVUS), help="the engine")
    move.add_argument("--no-wait", action="store_true", help="return at once; the indexer goes on")
    for action, run in ((show, _show), (move, _move)):
        action.add_argument("--json", action="store_true", help="for machines")
        config.add_flags(action)
        action.set_defaults(run=run, needs_settings=True)


def _show(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        found = gather(catalogue)
    if args.json:
        print_json(found)
        return 0
    out.print(f"engine      {found['engine']}")
    if left := sum(row["engine"] != found["engine"] for row in found["partitions"]):
        out.print(f"moving      {counted(left, 'region')} to go")
    table = Table(box=None, header_style="bold")
    for column in ("model", "region", "engine", "vectors", "on their way"):
        table.add_column(column, justify="right" if column in ("vectors", "on their way") else "left")
    for row in found["partitions"]:
        table.add_row(row["model"], row["region"], row["engine"], str(row["vectors"]), str(row["filled"] or ""))
    out.print(table)
    return 0


def gather(catalogue: Catalogue) -> dict[str, Any]:
    """The engine that builds go to, and the one that answers for each region."""
    engine = catalogue.generations.engine()
    filled = {(one.model_id, one.region): one.filled for one in catalogue.generations.to_move(engine)}
    return {
        "engine": engine,
        "partitions": [
            {
                "model": one.model_id,
                "region": one.region,
                "engine": one.engine,
                "vectors": one.count,
                "filled": filled.get((one.model_id, one.region), 0),
            }
            for one in catalogue.generations.served()
            if one.published is not None
        ],
    }


def _move(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    began = time.monotonic()
    with Catalogue.open(settings) as catalogue:
        if args.to != LOCAL:
            with closing(Engines(catalogue, settings)) as engines:
                version = engines.named(args.to).check()
                if not args.json:
                    errors.print(f"moving to {version}", markup=False)
        catalogue.generations.choose_engine(args.to)
        left = catalogue.generations.to_move(args.to)
        total = sum(one.count for one in left)
        for one in left:
            catalogue.jobs.enqueue_merge(one.model_id, one.region, rest_s=0)
        if not args.no_wait:
            _wait(catalogue, args.to, total)
        remaining = catalogue.generations.to_move(args.to)
    done = {
        "engine": args.to,
        "partitions": len(left) - len(remaining),
        "partitions_left": len(remaining),
        "vectors": total,
        "seconds": round(time.monotonic() - began, 1),
    }
    moved = f"{counted(done['partitions'], 'region')} of {len(left)} moved to {args.to}, {counted(total, 'vector')}"
    say(done, moved if left else f"the index is in {args.to}", as_json=args.json)
    if settings.index_engine != args.to:
        errors.print(f"set index_engine to {args.to} as well, so that the settings say what is", markup=False)
    return 0


def _wait(catalogue: Catalogue, engine: str, total: int) -> None:
    """Until every region has moved. Raises NotReady where nobody moves them, or an attempt failed for good."""
    said = time.monotonic()
    with _bar(total) as advance:
        while left := catalogue.generations.to_move(engine):
            done = total - sum(one.count - min(one.filled, one.count) for one in left)
            advance(max(0, done))
            if time.monotonic() - said > _SAY_S:
                said = time.monotonic()
                say_progress(f"{done} of {total} vectors, {counted(len(left), 'region')} to go")
            if not any(_role(row.name) == _INDEXER and row.silent_s < SILENT_S for row in catalogue.processes.all()):
                raise NotReady("no indexer runs: start one (radir up, or radir serve indexer), and the move goes on")
            keys = {f"{one.model_id}/{one.region}" for one in left}
            failed = [job for job in catalogue.jobs.failed() if job.kind is JobKind.INDEX and job.key in keys]
            if failed:
                raise NotReady(f"a job of the index failed: {failed[0].error}; the move goes on when that is mended")
            time.sleep(_LOOK_S)


@contextmanager
def _bar(total: int) -> Iterator[Any]:
    with bars() as start_bar:
        yield start_bar("vectors", total)


def _role(process: str) -> str:
    return process.partition("@")[0].partition("-")[0]
