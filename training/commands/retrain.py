"""``radir retrain``: train a challenger on the archive's own reports, examine it, and file the evidence."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.table import Table

from radir_pacs import config
from radir_pacs.catalogue import Catalogue, RetrainingRun
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import bars, counted, errors, out, print_json, progress, say_progress
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import BadInput
from radir_pacs.models import cancel_retraining, clear_work
from radir_pacs.models.errands import SCHEDULE, nicely
from radir_pacs.models.run_files import LOG, RunFiles, run_folder
from radir_pacs.models.signed import signed_by
from radir_pacs.types import ImageKind, StepState

from ..retraining.folder import made_folder

LOOK_S = 0.3
ENDED = frozenset({"DONE", "REFUSED", "FAILED", "CANCELLED"})


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "retrain", help="train a challenger on this archive's own reports, examine it beside the model that serves"
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=["start", "list", "show", "cancel", "tokens", "clear"],
        default="start",
        help="start a run (default); list runs, show or cancel one; tokens: make the image tokens the archive lacks; "
        "clear: remove the work folders of runs that no process is at",
    )
    parser.add_argument("number", nargs="?", type=int, metavar="RUN", help="show, cancel, clear: the run's number")
    parser.add_argument(
        "--kind", type=str.upper, choices=list(ImageKind), default=ImageKind.CXR, help="of image (default CXR)"
    )
    parser.add_argument(
        "--depth", choices=["head", "full"], help="head: decoder and region head alone; full: the whole network"
    )
    parser.add_argument("--plan", type=Path, metavar="FILE", help="TOML: data, recipe and gates in place of defaults")
    parser.add_argument("--dry-run", action="store_true", help="say what a run would take, and stop")
    parser.add_argument("--resume", type=int, metavar="RUN", help="go on with a run that was killed or failed")
    parser.add_argument(
        "--scheduled",
        action="store_true",
        help="as the schedule does it: nothing is begun where the last run is younger than retrain_every_days",
    )
    parser.add_argument(
        "--detach", action="store_true", help="have the relay begin it, and return; show RUN tells the rest"
    )
    parser.add_argument("--by", default="", metavar="NAME", help="who starts it (default: the user of this system)")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 0: a challenger passed, or what was asked for is done; 1: refused, failed or cancelled."""
    must_run(settings)
    if args.action in ("show", "cancel") and args.number is None:
        raise BadInput(f"which run? radir retrain {args.action} RUN; radir retrain list names them")
    with Catalogue.open(settings) as catalogue:
        match args.action:
            case "list":
                return _list(args, catalogue)
            case "show":
                return _show(args, catalogue, settings, args.number)
            case "cancel":
                return _cancel(args, catalogue, settings)
            case "clear":
                return _clear(args, catalogue, settings)
            case "tokens":
                return _tokens(args, catalogue, settings)
        if args.resume is not None:
            ended = catalogue.retraining.get(args.resume)
            if ended.state in ENDED - {"FAILED"}:
                raise BadInput(f"retraining {ended.id} has ended ({ended.state.lower()}): radir retrain begins another")
            return _follow(args, catalogue, settings, ended.id)
        return _start(args, catalogue, settings)


def _lasts(hours: float) -> str:
    minutes = round(60 * hours)
    return f"about {counted(minutes, 'minute')}" if minutes else "less than a minute"


def _start(args: argparse.Namespace, catalogue: Catalogue, settings: Settings) -> int:
    from ..datasets.archive import pseudonym_key
    from ..retraining.champion import bundle_of, champion_of
    from ..retraining.plan import Plan
    from ..retraining.steps import STEPS
    from ..retraining.survey import surveyed

    kind = ImageKind(args.kind)
    path = args.plan
    if args.scheduled and path is None and settings.retrain_plan:
        path = Path(settings.retrain_plan)
    plan = Plan.read(path, args.depth)
    if plan.depth == "full" and find_spec("monai") is None:
        raise BadInput("training a whole network needs monai: pip install -e '.[train]' in the clone")
    champion = champion_of(catalogue, kind)
    bundle = bundle_of(catalogue, settings, champion)
    if args.dry_run:
        with bars() as start_bar:
            say_read = start_bar("studies with reports", 0)
            found = surveyed(catalogue, settings, plan, bundle, pseudonym_key(settings.home), say_read)
        told = {"champion": champion, "plan": plan.as_json(), "plan_sha256": plan.sha256, **found.as_json()}
        if args.json:
            print_json(told)
        else:
            counts = found.counts
            out.print(
                f"{counted(counts.studies, 'study', 'studies')} with reports of {counted(counts.patients, 'patient')}, "
                f"{counts.held_out_patients} held out; {counted(found.missing_tokens, 'study', 'studies')} without "
                f"image tokens{', which the run encodes first' if found.missing_tokens else ''}\n"
                f"{_lasts(found.hours)} on this machine as busy as it is now, "
                f"{found.memory_bytes / 1e9:.2f} GB of memory, {found.disk_bytes / 1e9:.2f} GB of disk"
            )
            if found.visible_gain is not None:
                out.print(
                    f"with so many held-out patients a gain of {found.visible_gain:.3f} in Recall@5 "
                    "passes the gate on the whole about every second time, a smaller one more rarely"
                )
            for refusal in found.refusals:
                out.print(f"refused: {refusal}")
        return 1 if found.refusals else 0
    number = catalogue.retraining.start(
        kind=kind,
        depth=plan.depth,
        plan=plan.as_json(),
        plan_sha256=plan.sha256,
        champion=champion,
        started_by=SCHEDULE if args.scheduled else signed_by(args.by, caller().name),
        steps=STEPS,
        least_days=settings.retrain_every_days if args.scheduled else 0.0,
        asked=args.detach,
    )
    return _follow(args, catalogue, settings, number)


def _follow(args: argparse.Namespace, catalogue: Catalogue, settings: Settings, number: int) -> int:
    """Have a process work at the run unless one does, and show what it does until it ends."""
    if args.detach:
        return _detached(args, catalogue, number)
    say_progress(f"retraining {number}; radir retrain cancel {number} stops it")
    if catalogue.retraining.get(number).held:  # by a process, or by one that was killed less than a lease ago
        errors.print("a process is at it, or was killed a moment ago: waiting for it")
        _watch(catalogue, number, None)
    if catalogue.retraining.get(number).state not in ENDED - {"FAILED"}:
        child = _begun(settings, number)
        try:
            _watch(catalogue, number, child)
        except KeyboardInterrupt:
            child.send_signal(signal.SIGTERM)
            child.wait()
            errors.print(f"stopped; go on with: radir retrain --resume {number}")
            return 130
        if child.returncode:
            errors.print(
                f"the process ended with {child.returncode}: see {run_folder(settings.home, number) / LOG}",
                soft_wrap=True,
            )
    _show(args, catalogue, settings, number)
    found = catalogue.retraining.get(number)
    return 0 if found.state == "DONE" and found.passed else 1


def _begun(settings: Settings, number: int) -> subprocess.Popen[bytes]:
    """The process that works at the run, at a low priority whoever begins it; it outlives this one."""
    with (made_folder(settings, number) / LOG).open("ab") as file:
        return subprocess.Popen(
            nicely("radir_training.retraining", str(number)),
            env={**os.environ, **to_environment(settings)},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def _detached(args: argparse.Namespace, catalogue: Catalogue, number: int) -> int:
    """The relay has it, which outlives this terminal and the web service. Raises Conflict as `Retraining.ask`."""
    catalogue.retraining.ask(number)
    if args.json:
        print_json({"run": number})
    else:
        out.print(f"the relay begins retraining {number}; radir retrain show {number} tells how it goes")
    return 0


def _watch(catalogue: Catalogue, number: int, child: subprocess.Popen[bytes] | None) -> None:
    """Until the run ends, or whoever works at it does."""
    shown: dict[str, Any] = {}
    said: dict[str, str] = {}
    with progress(console=errors) as bar:
        while True:
            ended = child is not None and child.poll() is not None
            held = catalogue.retraining.get(number)
            for step in catalogue.retraining.steps(number):
                if step.state is StepState.PENDING:
                    continue
                if step.name not in shown:
                    shown[step.name] = bar.add_task(step.name, total=100, note="")
                done = 100 if step.state is StepState.DONE else int(100 * step.progress)
                bar.update(shown[step.name], completed=done, note=step.note)
                if step.state is StepState.DONE and said.get(step.name) != step.note:
                    said[step.name] = step.note
                    say_progress(f"{step.name}: {step.note}")
            if ended or (child is None and not held.held):
                return
            time.sleep(LOOK_S)


def _list(args: argparse.Namespace, catalogue: Catalogue) -> int:
    runs = catalogue.retraining.runs()
    if args.json:
        print_json([asdict(one) for one in runs])
        return 0
    if not runs:
        out.print("no run yet: radir retrain begins one, radir retrain --dry-run says what it would take")
        return 0
    table = Table("run", "kind", "depth", "state", "champion", "challenger", "gates", "begun")
    for one in runs:
        gates = {None: "", True: "passed", False: "failed"}[one.passed]
        begun = f"{one.created_at:%Y-%m-%d %H:%M}"
        row = (str(one.id), one.kind, one.depth, _state(one), one.champion, one.challenger or "", gates, begun)
        table.add_row(*row)
    out.print(table)
    return 0


def _state(one: RetrainingRun) -> str:
    """A run that nobody works at does not run."""
    return "stopped" if one.state == "RUNNING" and not one.held else one.state.lower()


def _show(args: argparse.Namespace, catalogue: Catalogue, settings: Settings, number: int) -> int:
    found, steps = catalogue.retraining.get(number), catalogue.retraining.steps(number)
    files = RunFiles.of(settings, number)
    judged, page, promotions = files.gates(), files.evidence, files.promotions()
    took_s = round(sum(step.took_s or 0.0 for step in steps), 1)
    if args.json:
        print_json(
            {
                **asdict(found),
                "steps": [asdict(step) for step in steps],
                "gates": judged,
                "folder": str(files.folder),
                "estimated_s": files.estimated_s,
                "took_s": took_s,
                "evidence": str(page) if page else None,
                "promotions": promotions,
            }
        )
    else:
        out.print(f"retraining {number}: {found.kind} {found.depth}, {_state(found)}", end="")
        said = found.reason if found.reason and found.reason != _state(found) else ""
        out.print(f": {said}" if said else "", markup=False)
        out.print(f"champion {found.champion}, challenger {found.challenger or 'none yet'}")
        table = Table("step", "state", "what it says", "attempts", "seconds")
        for step in steps:
            state, end = step.state.lower(), step.ended_at
            if step.state is StepState.RUNNING:
                state, end = ("running", datetime.now(UTC)) if found.held else ("stopped", None)
            spent = f"{(end - step.started_at).total_seconds():.1f}" if end and step.started_at else ""
            table.add_row(step.name, state, step.note, str(step.attempts), spent)
        out.print(table)
        if files.estimated_s is not None:
            so_far = "" if found.state in ENDED else " so far"
            out.print(f"estimated {files.estimated_s:.0f} s; the steps that are done took {took_s:.0f} s{so_far}")
        for gate in judged:
            if not gate["passed"] or gate.get("watch") or gate["code"] == "OVERALL":
                word = "FAILED" if not gate["passed"] else "WATCH " if gate.get("watch") else "passed"
                out.print(f"{word}  {gate['code'].lower()}: {gate['text']}")
        for one in promotions:
            said = f"{one['at'][:16]} {one['change'].lower()} {one['model_id']} instead of {one['replaces'] or 'none'}"
            out.print(f"{said}, by {one['who']}: {one['reason']}", markup=False)
        if page:
            out.print(f"evidence {page}", soft_wrap=True)
    return 0


def _clear(args: argparse.Namespace, catalogue: Catalogue, settings: Settings) -> int:
    cleared = clear_work(catalogue, settings.home, args.number)
    if args.json:
        print_json({"cleared": cleared})
    else:
        out.print(f"work folders removed: {', '.join(map(str, cleared)) or 'none'}")
    return 0


def _cancel(args: argparse.Namespace, catalogue: Catalogue, settings: Settings) -> int:
    state = cancel_retraining(catalogue, settings.home, args.number)
    if args.json:
        print_json({"run": args.number, "state": state})
    else:
        what = "is cancelled" if state == "CANCELLED" else "stops before its next batch"
        out.print(f"retraining {args.number} {what}")
    return 0


def _tokens(args: argparse.Namespace, catalogue: Catalogue, settings: Settings) -> int:
    """Tokens of every reported study, from its pixels; those of encoders that no model uses any more are dropped."""
    from radir_pacs.storage import open_blobs

    from ..retraining.champion import bundle_of, champion_of
    from ..retraining.material import fill
    from ..retraining.snapshot import of_kind

    kind = ImageKind(args.kind)
    bundle = bundle_of(catalogue, settings, champion_of(catalogue, kind))
    studies = [study.study_uid for study in of_kind(catalogue.retraining.studies(bundle.model_id), kind)]
    with progress(transient=True) as bar:
        task = bar.add_task("studies encoded", total=None)
        made = fill(
            catalogue,
            open_blobs(settings),
            bundle,
            studies,
            lambda done, of: bar.update(task, completed=done, total=of),
            settings.torch_threads,
        )
    dropped = catalogue.image_tokens.forget_unused()
    kept = catalogue.image_tokens.counts()
    told = {
        "made": made,
        "dropped": dropped,
        "encoders": {encoder: {"studies": one.studies, "bytes": one.size_bytes} for encoder, one in kept.items()},
    }
    if args.json:
        print_json(told)
    else:
        out.print(f"{counted(made, 'study', 'studies')} encoded, {dropped} of other encoders dropped; kept by encoder:")
        for encoder, one in kept.items():
            out.print(f"{encoder[:12]}  {counted(one.studies, 'study', 'studies')}, {one.size_bytes / 1e6:.1f} MB")
    return 0
