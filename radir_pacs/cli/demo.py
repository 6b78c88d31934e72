"""``radir demo``: the main job from nothing to a report, on a synthetic hospital or on a folder of DICOM files."""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from radir_pacs import anatomy, config
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import viewer
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import counted, out, progress, say_progress
from radir_pacs.cli.send import all_below, send_paths
from radir_pacs.cli.similar import show
from radir_pacs.cli.up import check_free, print_addresses, running
from radir_pacs.config import Settings
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.report import report_of
from radir_pacs.errors import RadirError, SettingError
from radir_pacs.query import Searcher
from radir_pacs.similar_cases import Query
from radir_pacs.types import StudyState

_ENDED = frozenset({StudyState.INDEXED, StudyState.SKIPPED, StudyState.QUARANTINED})
_STUCK_S = 300.0  # without any change of a study or job
_SAY_EVERY_S = 5.0
_LIMIT = 8
_PLAIN = frozenset({"effusion", "pneumothorax", "consolidation", "cardiomegaly"})  # plain to see, whoever looks
_UNKNOWN: dict[str, Any] = {"kind": ""}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("demo", help="run the main job on a synthetic hospital and show its result")
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where the demo keeps everything")
    parser.add_argument("--patients", type=int, default=40, help="how many synthetic patients")
    parser.add_argument("--data", type=Path, default=None, help="send this folder's DICOM files instead")
    parser.add_argument("--once", action="store_true", help="stop after the result")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    if args.data:
        all_below(args.data)  # a folder without files is an error before anything starts
    folder = args.folder.resolve()
    home = folder / ("home-data" if args.data else "home")
    settings = replace(settings, home=home, quiet_period_s=min(settings.quiet_period_s, 2.0))
    images = args.data or _hospital(folder, args.patients)
    if not args.once:
        settings = _with_viewer(settings, folder)
    settings = _free_ports(settings)
    say_progress("starting the services")
    with running(settings) as supervisor:
        if supervisor.stopping.is_set():
            return 130
        print_addresses(settings)
        out.print(f"Images    {images}", markup=False, soft_wrap=True)
        with Catalogue.open(settings) as catalogue:
            _send(catalogue, settings, images)
            _wait(catalogue, supervisor.stopping)
            if not supervisor.stopping.is_set():
                _ask(catalogue, settings, folder, _truth(images))
        if args.once or not sys.stdout.isatty():
            out.print("stopping now; run it in a terminal without ONCE=1 to open these addresses")
            return 0
        out.print("serving until Ctrl-C")
        while not supervisor.stopping.wait(0.5):
            pass
    return 1 if supervisor.broken else 0


def _send(catalogue: Catalogue, settings: Settings, images: Path) -> None:
    """Send by C-STORE; of the synthetic hospital, only the studies that an earlier run did not finish."""
    here = Destination(ae_title=settings.ae_title, host=settings.listener_host, port=settings.listener_port)
    truth = _truth(images)
    if truth:
        held = {study.study_uid: study.instance_count for study in catalogue.studies.in_state(StudyState.INDEXED)}
        missing = [study for uid, study in truth.items() if held.get(uid) != len(study["files"])]
        files = [images / file for study in missing for file in study["files"]]
    else:
        files = all_below(images)
    if files:
        say_progress(f"sending {counted(len(files), 'file')} by C-STORE")
    results = send_paths(files, here) if files else []
    for reason, count in Counter(r.reason for r in results if r.reason).most_common():
        out.print(f"{counted(count, 'file')} not stored: {reason}", markup=False)


def _with_viewer(settings: Settings, folder: Path) -> Settings:
    """With OHIF, fetched once per demo folder, where npm can fetch it; otherwise the sidebar's own page is used."""
    say_progress("installing the OHIF viewer")
    settings = replace(settings, ohif_folder=settings.ohif_folder or str(folder / "ohif"))
    try:
        viewer.install(settings)
    except RadirError as error:
        out.print(f"no OHIF viewer: {error}", markup=False, soft_wrap=True)
    return settings


def _free_ports(settings: Settings) -> Settings:
    """Another port where the default one is taken and none was chosen."""
    for name, host in (("listener_port", settings.listener_host), ("web_port", settings.web_host)):
        port = getattr(settings, name)
        if port != getattr(Settings, name):
            continue
        try:
            check_free(name, host, port)
        except SettingError:
            with socket.socket() as probe:
                probe.bind((host, 0))
                settings = replace(settings, **{name: probe.getsockname()[1]})
    return settings


def _hospital(folder: Path, patients: int) -> Path:
    """The synthetic hospital, made once per size."""
    hospital = folder / f"hospital-{patients}"
    if not (hospital / "truth.json").exists():
        say_progress(f"making a synthetic hospital of {counted(patients, 'patient')}, which later runs use again")
        command = ["phantom", "--out", str(hospital), "--patients", str(patients), "--seed", "7", "--size", "small"]
        made = subprocess.run([sys.executable, "-m", "radir_pacs.cli", *command], stdout=subprocess.DEVNULL)
        if made.returncode:
            raise RadirError("the synthetic hospital could not be made")
    return hospital


def _truth(images: Path) -> dict[str, dict[str, Any]]:
    """What is known to be in the pictures, by study UID; empty for a folder without truth."""
    path = images / "truth.json"
    if not path.exists():
        return {}
    return {study["study_uid"]: study for study in json.loads(path.read_text())["studies"]}


def _wait(catalogue: Catalogue, stopping: Any) -> None:
    """Wait until every study has reached its final state and no job is open."""
    last: tuple[int, int] | None = None
    moved_at = time.monotonic()
    said_at = 0.0
    with progress() as bar:
        task = bar.add_task("encoding and indexing", total=None)
        while not stopping.wait(0.2):
            overview = catalogue.overview()
            ended = sum(count for state, count in overview.studies.items() if state in _ENDED)
            open_jobs = sum(job.count for job in overview.jobs if job.oldest_s is not None)
            bar.update(task, total=sum(overview.studies.values()), completed=ended)
            if ended == sum(overview.studies.values()) and not open_jobs:
                return
            if last != (ended, open_jobs):
                last, moved_at = (ended, open_jobs), time.monotonic()
            if moved_at - said_at >= _SAY_EVERY_S:
                said_at = moved_at
                every = counted(sum(overview.studies.values()), "study", "studies")
                say_progress(f"encoding and indexing: {ended} of {every}")
            if time.monotonic() - moved_at > _STUCK_S:
                raise RadirError(f"nothing has moved for {_STUCK_S:.0f} s; see: radir status")


def _ask(catalogue: Catalogue, settings: Settings, folder: Path, truth: dict[str, dict[str, Any]]) -> None:
    study_uid, region = _question(catalogue, truth)
    searcher, query = Searcher(catalogue, settings), Query(study_uid=study_uid, region=region, limit=_LIMIT)
    answer = searcher.similar(query, caller())
    pictured = {uid: _seen(study, region) for uid, study in truth.items()} if truth else None
    if pictured:
        out.print(f"the query shows, in the {anatomy.region(region).name}: {pictured[study_uid]}", markup=False)
    show(answer, pictured=pictured, offers=() if answer.cases else searcher.nearest(query, caller()))
    if not answer.cases:
        return
    path = folder / "similar-cases.dcm"
    report_of(answer, catalogue, settings).save_as(path, enforce_file_format=True)
    url = f"{settings.public_url}/dicom-web/studies/{study_uid}/similar?anatomy={region}"
    out.print(f"structured report  {path}", soft_wrap=True)
    out.print(f"the same as JSON   {url}", soft_wrap=True)
    page = f"{settings.public_url}/sidebar?StudyInstanceUID={study_uid}&anatomy={region}"
    out.print(f"in a browser       {page}", soft_wrap=True)
    if (settings.ohif_dist / "index.html").is_file():
        url = f"{settings.public_url}/ohif/viewer?StudyInstanceUIDs={study_uid}"
        out.print(f"in OHIF            {url}", soft_wrap=True)


def _question(catalogue: Catalogue, truth: dict[str, dict[str, Any]]) -> tuple[str, str]:
    """A study and a region worth asking about; without truth, the first study's lungs.

    The region is that of the finding of at least moderate severity that most patients share in a radiograph, a disease
    rather than a device.
    """
    indexed = [
        study for study in catalogue.studies.in_state(StudyState.INDEXED) if not truth or study.study_uid in truth
    ]
    if not indexed:
        raise RadirError("no study could be indexed; see: radir status")
    patients: dict[tuple[str, str], set[str]] = {}
    for study in indexed:
        known = truth.get(study.study_uid, _UNKNOWN)
        for finding in known["findings"] if known["kind"] == "CXR" else ():
            if finding["severity"] >= 2:
                patients.setdefault((finding["concept"], finding["region"]), set()).add(known["patient_id"])
    if not patients:
        return indexed[0].study_uid, "lungs"
    concept, region = max(sorted(patients), key=lambda key: (key[0] in _PLAIN, len(patients[key])))
    for study in indexed:
        known = truth[study.study_uid]
        if known["kind"] == "CXR" and any(
            (f["concept"], f["region"]) == (concept, region) and f["severity"] >= 2 for f in known["findings"]
        ):
            return study.study_uid, region
    raise AssertionError("the finding came from one of these studies")


def _seen(study: dict[str, Any], region: str) -> str:
    """The true findings at a region and below it, each with its severity out of 3."""
    below = {region, *(r.key for r in anatomy.descendants(region))}
    found = [
        f"{finding['concept'].replace('_', ' ')} {finding['severity']}/3"
        for finding in study["findings"]
        if finding["region"] in below
    ]
    return ", ".join(found) or "nothing here"
