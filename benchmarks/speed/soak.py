"""Half an hour of ingest, questions and deletions at once: memory, open files and waiting times must stay flat.

    python -m benchmarks.speed.soak [--minutes 30] [--studies 20000] [--stores 2] [--questions 10] [--kept 100]
        [--json] [--out docs/results]

A home folder with ``--studies`` filled in (`hospital`), and the real `radir up`. Every second ``--stores`` radiographs
come by STOW-RS and are encoded by the worker, ``--questions`` similar queries are asked, and what came is deleted again
by HTTP when more than ``--kept`` of it are indexed. Each deletion is checked: the study is in the answer before it, and
gone from the very next one. Flat: in the last third of the time, no figure is above that of the third before it by more
than its tolerance; the first third warms up. Exit status 1 when it is not, or when a check failed.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests
from pydicom.uid import generate_uid

from benchmarks import results
from benchmarks.speed import stack
from benchmarks.speed.hospital import REGION, Hospital, fill, queries, uid_of
from benchmarks.speed.http_client import DICOM_JSON
from radir_pacs.catalogue import embedded_pid, stop_embedded
from radir_pacs.cli.output import progress
from radir_pacs.config import Settings
from tests.dicom_files import radiograph

SAMPLES = 30
PIXELS = 256
DAY = "20280101"  # of what comes: no filled study has it, so a filter finds all of it
TOLERANCE = {"memory_mib": 1.05, "files": 1.02, "p99_ms": 1.5}
_MOST = 200  # cases in an answer


@dataclass(kw_only=True)
class Counts:
    """What happened since the last sample, and faults since the beginning."""

    stored: int = 0
    deleted: int = 0
    asked_ms: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Load:
    """Stores, asks and deletes in threads of its own until it is stopped."""

    def __init__(self, settings: Settings, hospital: Hospital, args: argparse.Namespace) -> None:
        self._base = f"{settings.public_url}/dicom-web"
        self._studies = [uid_of(study) for study in queries(hospital, min(1000, hospital.count))]
        self._kept = args.kept
        self._came: list[str] = []
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._numbers = count()
        self.counts = Counts()
        works = ((self._store, args.stores), (self._ask, args.questions), (self._delete, args.stores * 2))
        self._threads = [threading.Thread(target=self._repeat, args=work, daemon=True) for work in works]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def taken(self) -> Counts:
        """The counts since the last call; they begin anew."""
        with self._lock:
            found = self.counts
            self.counts = Counts(faults=found.faults)
        return found

    def _repeat(self, work: Callable[[requests.Session], None], a_second: float) -> None:
        """At a steady rate: a slow answer delays nothing but the work of its own kind."""
        with requests.Session() as session:
            due = time.monotonic()
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                due = max(due + 1 / a_second, time.monotonic() - 1)
                try:
                    work(session)
                except (requests.RequestException, KeyError, ValueError) as error:
                    self._fault(f"{work.__name__}: {type(error).__name__}")

    def _fault(self, what: str) -> None:
        with self._lock:
            self.counts.faults.append(what)

    def _store(self, session: requests.Session) -> None:
        number = next(self._numbers)
        pixels = np.random.default_rng(number).integers(0, 4096, (PIXELS, PIXELS), np.uint16).tobytes()
        ds = radiograph(Rows=PIXELS, Columns=PIXELS, PixelData=pixels)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = (generate_uid() for _ in range(3))
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.PatientID, ds.StudyDate = f"SOAK{number}", DAY
        with io.BytesIO() as file:
            ds.save_as(file, enforce_file_format=True)
            body = file.getvalue()
        answer = session.post(f"{self._base}/studies", body, headers={"Content-Type": "application/dicom"}, timeout=60)
        answer.raise_for_status()
        session.post(f"{self._base}/studies/{ds.StudyInstanceUID}/complete", timeout=60).raise_for_status()
        with self._lock:
            self._came.append(ds.StudyInstanceUID)
            self.counts.stored += 1

    def _ask(self, session: requests.Session) -> None:
        study = self._studies[next(self._numbers) % len(self._studies)]
        began = time.perf_counter()
        found = self._similar(session, study, limit=10)
        took_ms = (time.perf_counter() - began) * 1e3
        if len(found) != 10:
            self._fault(f"{len(found)} cases in an answer")
        with self._lock:
            self.counts.asked_ms.append(took_ms)

    def _delete(self, session: requests.Session) -> None:
        with self._lock:
            if len(self._came) <= self._kept:
                return
            oldest = self._came[0]
        state = session.get(f"{self._base}/studies/{oldest}/state", timeout=60).json()["state"]
        if state != "INDEXED":
            return
        if oldest not in self._similar(session, self._studies[0], StudyDate=DAY, limit=_MOST):
            self._fault("an indexed study is not in the answer")
        session.delete(f"{self._base}/studies/{oldest}", timeout=60).raise_for_status()
        if oldest in self._similar(session, self._studies[0], StudyDate=DAY, limit=_MOST):
            self._fault("a deleted study is in the next answer")
        with self._lock:
            self._came.pop(0)
            self.counts.deleted += 1

    def _similar(self, session: requests.Session, study: str, **more: object) -> set[str]:
        url = f"{self._base}/studies/{study}/similar"
        asked: dict[str, Any] = {"anatomy": REGION, **more}
        answer = session.get(url, params=asked, headers={"Accept": DICOM_JSON}, timeout=60)
        answer.raise_for_status()
        return {row["0020000D"]["Value"][0] for row in answer.json()} if answer.content else set()


def sample(settings: Settings, counts: Counts) -> dict[str, Any]:
    """What stands now: memory and open files of all processes, and what was asked since the last sample."""
    found = stack.pids(settings)
    server = embedded_pid(settings.home)
    memory = {name: stack.memory(pid).pss for name, pid in found.items()}
    memory["postgres"] = stack.memory(server).pss if server else 0.0
    asked = counts.asked_ms or [0.0]
    return {
        "memory": memory,
        "memory_mib": sum(value for name, value in memory.items() if name != "postgres"),
        "files": sum(psutil.Process(pid).num_fds() for pid in found.values()),
        "p50_ms": float(np.percentile(asked, 50)),
        "p99_ms": float(np.percentile(asked, 99)),
        "asked": len(counts.asked_ms),
        "stored": counts.stored,
        "deleted": counts.deleted,
        "index_files": sum(1 for path in (settings.home / "index").rglob("*") if path.is_file()),
    }


def grown(samples: Sequence[dict[str, Any]], name: str) -> float:
    """The median of the last third of the time beside that of the third before."""
    third = len(samples) // 3
    values = [one[name] for one in samples]
    return float(np.median(values[-third:]) / np.median(values[-2 * third : -third]))


def page(figures: dict[str, Any]) -> str:
    """The result page."""
    samples = figures["samples"]
    lines = [
        f"# {figures['minutes']:g} minutes of ingest, questions and deletions at once",
        "",
        f"`radir up` with {figures['studies']:,} studies filled in; {figures['stores']:g} radiographs per second by"
        f" STOW-RS, encoded by the worker, {figures['questions']:g} similar queries per second, and deletions as fast"
        " as the radiographs come. Memory: shared pages counted once, without Postgres' page cache.",
        "",
        "| minute | stored | deleted | asked | p50 / p99 ms | processes, MiB | Postgres, MiB | open files |"
        " index files |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for number, one in enumerate(samples, 1):
        minute = figures["minutes"] * number / len(samples)
        cells = [
            f"{minute:.1f}",
            *(f"{one[name]:,}" for name in ("stored", "deleted", "asked")),
            f"{one['p50_ms']:.1f} / {one['p99_ms']:.1f}",
            *(f"{value:,.0f}" for value in (one["memory_mib"], one["memory"]["postgres"], one["files"])),
            f"{one['index_files']}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| last third beside the one before | times | allowed |", "|---|---|---|"]
    lines += [f"| {name} | {value:.3f} | {TOLERANCE[name]} |" for name, value in figures["grown"].items()]
    faults = figures["faults"]
    lines += ["", f"Faults: {len(faults)}{': ' + ', '.join(sorted(set(faults))) if faults else ''}."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--studies", type=int, default=20_000, help="filled in beforehand")
    parser.add_argument("--stores", type=float, default=2.0, help="radiographs per second")
    parser.add_argument("--questions", type=float, default=10.0, help="similar queries per second")
    parser.add_argument("--kept", type=int, default=100, help="of what comes, not deleted yet; at most 150")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--out", type=Path, help="folder for the result page, docs/results")
    args = parser.parse_args()
    samples: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="radir-", ignore_cleanup_errors=True) as folder:
        settings = stack.settings_in(Path(folder), log_level="WARNING", torch_threads=1)
        hospital = Hospital(count=args.studies)
        try:
            fill(settings, hospital)
        finally:
            stop_embedded(settings.home)
        with (
            progress() as bar,
            stack.radir_up(settings),
            Load(settings, hospital, args) as load,
        ):
            for _ in bar.track(range(SAMPLES), description="soaking"):
                time.sleep(args.minutes * 60 / SAMPLES)
                samples.append(sample(settings, load.taken()))
            faults = load.taken().faults
    figures = {
        **{name: vars(args)[name] for name in ("minutes", "studies", "stores", "questions")},
        "grown": {name: grown(samples, name) for name in TOLERANCE},
        "faults": faults,
        "samples": samples,
    }
    text = page(figures)
    if args.out:
        results.write(args.out, "soak", figures, text)
    print(json.dumps(figures) if args.json else text)
    flat = all(value <= TOLERANCE[name] for name, value in figures["grown"].items())
    return 0 if flat and not faults else 1


if __name__ == "__main__":
    sys.exit(main())
