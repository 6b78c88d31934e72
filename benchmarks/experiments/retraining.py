"""A retraining from its first report to a rollback, on the real processes, as an administrator does it.

    python -m benchmarks.experiments.retraining --hospital DIR --work DIR --curve DIR [--patients 300]
        [--part fill,retrain,full,serve,throttle,page] [--also DIR] [--out docs/results]

DIR is what ``radir phantom --house other --kinds cxr`` wrote: another hospital than the starter's. Its parts, each of
which goes on from the home folder in ``--work``:

- fill: `radir up`; the images by C-STORE; the reports of one half of the patients as structured reports, of the other
  half by ``radir reports`` from a table.
- retrain, full: ``radir retrain --depth head``, and ``--depth full``, with the default plan.
- serve: a client asks all the time, while the challenger encodes the archive from image tokens and is promoted and
  rolled back, and while another model encodes it from pixels: the challenger that passed its gates, or the first.
  Takes three minutes, on a machine that is quiet.
- throttle: the same client while another model encodes it from pixels, as fast as it can and no faster than
  ``reencode_per_minute`` says. Takes three minutes, on a machine that is quiet.
- page: docs/results/retraining.md, with the figures of `retraining_curve`.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import results
from benchmarks.experiments.retraining_page import page
from benchmarks.speed import stack
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.status import gather
from radir_pacs.config import Settings, to_environment
from radir_pacs.encode import Bundle, default_bundles
from radir_pacs.encode.tokens import PARTS as IMAGE_ENCODER
from radir_pacs.types import ImageKind

PARTS = ("fill", "retrain", "full", "serve", "throttle", "page")
DEPTHS = {"retrain": "head", "full": "full"}
REGIONS = ("chest", "right_lung", "left_lung", "heart")
KEY = bytes(range(32))  # of the installation: the same patients are held out whenever this is repeated
ENDED = {"INDEXED", "SKIPPED", "QUARANTINED"}
PER_MINUTE = (0, 300, 60)  # studies that are encoded again at most; 0: no limit
COMPARED = 40  # questions whose answers before a promotion and after a rollback are compared
BEFORE_S, SHADOW_S, AFTER_S, PIXELS_S, THROTTLED_S = 20.0, 40.0, 10.0, 30.0, 40.0
WAIT_S = 1800.0


def radir(settings: Settings, *words: str, codes: Sequence[int] = (0,)) -> Any:
    """A command with ``--json``, in a process of its own; raises where its exit code is another."""
    done = subprocess.run(
        [sys.executable, "-m", "radir_pacs.cli", *words, "--json"],
        env=os.environ | to_environment(settings),
        capture_output=True,
        text=True,
    )
    if done.returncode not in codes:
        raise SystemExit(f"error: radir {words[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def wait(condition: Callable[[], bool], seconds: float = WAIT_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("error: it takes too long")
        time.sleep(2)


def is_settled(settings: Settings, studies: int) -> bool:
    found = gather(settings)
    ended = sum(found.get("studies", {}).get(state, 0) for state in ENDED)
    return ended == studies and not found["queue"]


class Parts:
    """``figures``: of the parts that are done, in ``story.json``."""

    def __init__(self, hospital: Path, work: Path, curve: Path, patients: int) -> None:
        self.hospital, self.work, self.curve, self.patients = hospital, work, curve, patients
        self.home = work / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "pseudonym.key").write_bytes(KEY)
        self._file = work / "story.json"
        self.figures: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}

    @property
    def settings(self) -> Settings:
        return stack.settings_in(self.home, log_level="WARNING", device="cpu", shadow_share=1.0)

    def keep(self, part: str, told: dict[str, Any]) -> None:
        self.figures[part] = told
        self._file.write_text(json.dumps(self.figures, default=str))

    def rows(self) -> list[dict[str, str]]:
        """Of the hospital's table of reports, those of these patients, in order."""
        with (self.hospital / "reports.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        known = sorted({row["patient_id"] for row in rows})[: self.patients]
        return [row for row in rows if row["patient_id"] in set(known)]

    def fill(self) -> None:
        folders = sorted(self.hospital.glob("patient_*"))[: self.patients]
        images = [file for folder in folders[1::2] for file in folder.rglob("*.dcm") if file.name != "report.dcm"]
        rows = self.rows()
        by_table = set(sorted({row["patient_id"] for row in rows})[1::2])
        table = self.work / "reports.csv"
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["study_uid", "report"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row for row in rows if row["patient_id"] in by_table)
        settings = self.settings
        with stack.radir_up(settings):
            began = time.monotonic()
            radir(settings, "send", *map(str, folders[::2]), *map(str, images))
            sent_s = time.monotonic() - began
            radir(settings, "reports", str(table), "--study", "study_uid", "--text", "report")
            wait(lambda: is_settled(settings, len(rows)))
            settled_s = time.monotonic() - began
            with Catalogue.open(settings) as catalogue:
                kept = [vars(one) for one in catalogue.image_tokens.counts().values()]
        told = {
            "patients": self.patients,
            "studies": len(rows),
            "by_sr": len(rows) - sum(row["patient_id"] in by_table for row in rows),
        }
        self.keep("fill", told | {"sent_s": sent_s, "indexed_s": settled_s, "tokens": kept})

    def retrain(self, part: str = "retrain") -> None:
        plan = self.work / "plan.toml"
        plan.write_text("shadow = false\n")  # the part "serve" puts it into shadow, and measures that
        settings = self.settings
        with stack.radir_up(settings):
            began = time.monotonic()
            told = radir(settings, "retrain", "--depth", DEPTHS[part], "--plan", str(plan), codes=(0, 1))
            took_s = time.monotonic() - began
        evidence = (
            json.loads((Path(told["folder"]) / "evidence.json").read_text()) if told["passed"] is not None else {}
        )
        keep = {
            name: told[name]
            for name in ("state", "passed", "reason", "champion", "challenger", "gates", "steps", "folder")
        }
        examination = evidence.get("impact_assessment", {}).get("examination")
        data = evidence.get("modification_protocol", {}).get("data")
        self.keep(part, keep | {"depth": DEPTHS[part], "seconds": took_s, "examination": examination, "data": data})

    def full(self) -> None:
        self.retrain("full")

    def put_forward(self) -> dict[str, Any]:
        """The run whose challenger is shown while it serves."""
        runs: list[dict[str, Any]] = [self.figures[part] for part in DEPTHS if part in self.figures]
        return next((run for run in runs if run["passed"]), runs[0])

    def serve(self) -> None:
        settings = self.settings
        uids = [row["study_uid"] for row in self.rows()]
        run = self.put_forward()
        model = run["challenger"]
        told: dict[str, Any] = {"passed": run["passed"], "depth": run["depth"]}
        with stack.radir_up(settings), Catalogue.open(settings) as catalogue:
            wait(lambda: is_settled(settings, len(uids)))
            if not run["passed"]:  # it is shown all the same what a promotion does to a client
                radir(settings, "models", "register", run["folder"] + "/challenger", "--reason", "benchmark")
            paths = [f"/api/studies/{uid}/similar?anatomy={region}" for uid in uids for region in REGIONS]
            before = answers(settings, paths[:COMPARED])
            with client(settings, paths) as asked:
                asked.settle()
                time.sleep(BEFORE_S)
                told["before"] = asked.since()
                began = time.monotonic()
                catalogue.models.set_shadow(model, by="benchmark", reason="a retraining passed its gates")
                wait(lambda: catalogue.models.coverage(model).share == 1)
                told["tokens_s"] = time.monotonic() - began
                told["while_encoding_from_tokens"] = asked.since()
                time.sleep(SHADOW_S)
                told["in_shadow"] = asked.since()
                told["shadow"] = radir(settings, "models", "compare", model)
                wait(lambda: promoted(settings, model))
                time.sleep(AFTER_S)
                told["at_promotion"] = asked.since()
                told["model_after_promotion"] = answers(settings, paths[:1])[0]["model"]
                began = time.monotonic()
                radir(settings, "models", "rollback", "cxr", "--reason", "benchmark")
                told["rollback_s"] = time.monotonic() - began
                time.sleep(AFTER_S)
                told["at_rollback"] = asked.since()
                after = answers(settings, paths[:COMPARED])
                told["compared"] = len(before)
                told["same_answers"] = sum(
                    (one["model"], one["cases"]) == (two["model"], two["cases"])
                    for one, two in zip(before, after, strict=True)
                )
                told["studies"] = len(uids)
                other = another_encoder(self.work / "another-encoder")
                name = radir(settings, "models", "register", str(other), "--reason", "benchmark")["model_id"]
                began = time.monotonic()
                catalogue.models.set_shadow(name, by="benchmark", reason="by pixels")
                time.sleep(PIXELS_S)
                encoded, took_s = catalogue.models.coverage(name).encoded, time.monotonic() - began
                told["while_encoding_from_pixels"] = asked.since()
                told["pixels"] = {"studies": encoded, "seconds": took_s}
                catalogue.models.retire(name, by="benchmark", reason="measured")
        self.keep("serve", told)

    def throttle(self) -> None:
        self.keep("throttle", {"limits": [self._throttled(number, limit) for number, limit in enumerate(PER_MINUTE)]})

    def _throttled(self, number: int, limit: int) -> dict[str, Any]:
        """What a client notices of a model that encodes from pixels, at most ``limit`` studies per minute."""
        settings = replace(self.settings, reencode_per_minute=limit, shadow_share=0.0)
        uids = [row["study_uid"] for row in self.rows()]
        paths = [f"/api/studies/{uid}/similar?anatomy={region}" for uid in uids for region in REGIONS]
        with stack.radir_up(settings), Catalogue.open(settings) as catalogue, client(settings, paths) as asked:
            asked.settle()
            time.sleep(PIXELS_S)
            before = asked.since()
            other = another_encoder(self.work / f"encoder-{number}", 1.002 + 0.001 * number)
            name = radir(settings, "models", "register", str(other), "--reason", "benchmark")["model_id"]
            catalogue.models.set_shadow(name, by="benchmark", reason="throttled")
            wait(lambda: catalogue.models.coverage(name).encoded > 0)
            began, first = time.monotonic(), catalogue.models.coverage(name).encoded
            asked.forget()
            time.sleep(THROTTLED_S)
            encoded = catalogue.models.coverage(name).encoded - first
            seconds, during = time.monotonic() - began, asked.since()
            catalogue.models.retire(name, by="benchmark", reason="measured")
        return {"limit": limit, "before": before, "during": during, "studies": encoded, "seconds": seconds}


def another_encoder(folder: Path, factor: float = 1.001) -> Path:
    """The starter with an encoder that made no tokens here: it encodes an archive from pixels."""
    starter = Bundle.load(default_bundles()[ImageKind.CXR])
    with torch.no_grad():
        for name, weight in starter.network.named_parameters():
            if name.split(".")[0] in IMAGE_ENCODER:
                weight.mul_(factor)
    starter.save(folder)
    return folder


def promoted(settings: Settings, model: str) -> bool:
    """Whether it is by now; refused while its index is built."""
    told = subprocess.run(
        [sys.executable, "-m", "radir_pacs.cli", "models", "promote", model, "--reason", "benchmark", "--json"],
        env=os.environ | to_environment(settings),
        capture_output=True,
    )
    return told.returncode == 0


def answers(settings: Settings, paths: Sequence[str]) -> list[dict[str, Any]]:
    """Model, and rank, study and score of each case, as they come over HTTP."""
    connection, found = http.client.HTTPConnection("127.0.0.1", settings.web_port, timeout=120), []
    for path in paths:
        connection.request("GET", path)
        lines = [json.loads(line) for line in connection.getresponse().read().splitlines()]
        cases = [line for line in lines if line["type"] == "case"]
        found.append({"model": lines[0]["model"], "cases": cases})
    connection.close()
    return found


@dataclass
class Asked:
    """What a client that asks all the time was answered; ``since``: figures from the last call on."""

    answers: Any  # a list of (seconds, status) that its process adds to
    _from: int = 0

    def settle(self) -> None:
        wait(lambda: len(self.answers) > 50)
        self.forget()

    def forget(self) -> None:
        """Figures are of what is answered from now on."""
        self._from = len(self.answers)

    def since(self) -> dict[str, Any]:
        found, self._from = self.answers[self._from :], len(self.answers)
        ms = np.array([seconds for seconds, _ in found]) * 1e3
        return {
            "questions": len(found),
            "errors": sum(status != 200 for _, status in found),
            "p50_ms": round(float(np.percentile(ms, 50)), 2),
            "p99_ms": round(float(np.percentile(ms, 99)), 2),
            "most_ms": round(float(ms.max()), 2),
        }


@contextmanager
def client(settings: Settings, paths: Sequence[str]) -> Iterator[Asked]:
    """One client in a process of its own, over one connection, a question after the other."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        asked, stop = Asked(manager.list()), context.Event()
        process = context.Process(target=ask, args=(settings.web_port, list(paths), asked.answers, stop))
        process.start()
        try:
            yield asked
        finally:
            stop.set()
            process.join(30)


def ask(port: int, paths: Sequence[str], answered: Any, stop: Event) -> None:
    """Until told to stop; a connection that breaks is an error, status 0."""
    order, number = np.random.default_rng(1).permutation(len(paths)), 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while not stop.is_set():
        began = time.perf_counter()
        try:
            connection.request("GET", paths[order[number % len(order)]])
            response = connection.getresponse()
            response.read()
            status = response.status
        except (OSError, http.client.HTTPException):
            connection.close()
            status = 0
        answered.append((time.perf_counter() - began, status))
        number += 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hospital", type=Path, required=True, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--curve", type=Path, required=True, metavar="DIR", help="--work of `retraining_curve`")
    parser.add_argument("--part", default=",".join(PARTS), metavar="NAMES", help="some of %(default)s")
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the page is written, such as docs/results")
    parser.add_argument("--also", type=Path, metavar="DIR", help="--work of a run on fewer patients, for the page")
    args = parser.parse_args(arguments)
    parts = Parts(args.hospital, args.work, args.curve, args.patients)
    for name in args.part.split(","):
        if name not in PARTS:
            parser.error(f"there is no part {name}: {', '.join(PARTS)}")
        if name != "page":
            getattr(parts, name)()
            print(json.dumps({name: parts.figures[name]}, default=str)[:3000], flush=True)
    if "page" in args.part.split(","):
        curve = args.curve / "curve.json"
        also = json.loads((args.also / "story.json").read_text()) if args.also else None
        for story in (parts.figures, also or {}):
            for part in DEPTHS:
                story.get(part, {}).pop("folder", None)  # of this machine
        told = {
            "story": parts.figures,
            "also": also,
            "curve": json.loads(curve.read_text()) if curve.exists() else None,
        }
        if args.out is None:
            print(page(told))
        else:
            print(results.write(args.out, "retraining", told, page(told)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
