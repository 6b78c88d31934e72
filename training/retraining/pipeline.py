"""A run from its first step that is not done to its end. Each step may be killed and done again, with one effect."""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch

from radir_pacs import durable, printable
from radir_pacs.catalogue import Catalogue, RetrainingStep
from radir_pacs.config import Settings
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.encode import Bundle, choose_device, encoder_input
from radir_pacs.errors import BadInput, BundleRefused, Conflict, LeaseLost, RadirError, StorageFailed
from radir_pacs.models import Registry
from radir_pacs.models.run_files import RunFiles, record_of
from radir_pacs.reports import PARSER
from radir_pacs.storage import open_blobs
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import I64, ModelState, StepState

from ..datasets.archive import pseudonym_key
from ..evaluation.exam import Exam
from . import folder as files
from .champion import bundle_of
from .evidence import evidence, page
from .examination import Examination, examined, examinee, to_judge
from .folder import made_folder
from .gates import Gate, gates
from .lease import Cancelled, RunLease
from .material import Material, fill, from_pixels, from_tokens, studies_of, volume_of
from .plan import Plan
from .snapshot import counted, of_kind, taken
from .steps import STEPS, StepName
from .survey import surveyed
from .thumbs import described, judgements, ranked_by_readers, trained_on
from .trainer import challenger

log = logging.getLogger(__name__)

AWAY_S = 120.0  # that a step waits for a database that does not answer
LONGEST_PAUSE_S = 10.0
SAY_S = 0.5  # between two words about a step's progress
T = TypeVar("T")
Hook = Callable[[StepName, str], None]


class Refused(RadirError):
    """the plan's conditions are not met"""


class Pipeline:
    """One run. ``hook`` gets every step as it begins, is at work, and before it is noted as done."""

    def __init__(
        self,
        catalogue: Catalogue,
        settings: Settings,
        run_id: int,
        *,
        worker: str,
        lease_s: float | None = None,
        hook: Hook = lambda step, event: None,
    ) -> None:
        self._catalogue, self._settings, self._hook = catalogue, settings, hook
        self.run = catalogue.retraining.get(run_id)
        self.plan = Plan.stored(self.run.plan)
        self._lease = RunLease(catalogue, run_id, worker=worker, lease_s=lease_s or settings.job_lease_s)
        self._folder = made_folder(settings, run_id)
        self._key = pseudonym_key(settings.home)
        self._said_at = 0.0
        self._examination: Examination | None = None
        self._rows: I64 = np.empty(0, np.int64)  # of the material, in the order of the examination
        self._read: Material | None = None

    def work(self) -> str:
        """Do what is left; returns the state in which the run ends. Raises Conflict where somebody else is at it."""
        retraining, run_id = self._catalogue.retraining, self.run.id
        with self._lease:
            try:
                for step in self._steadily(lambda: retraining.steps(run_id)):
                    if step.state is not StepState.DONE:
                        self._do(step)
            except LeaseLost:
                log.warning("the run is somebody else's", extra={"run": run_id})
                return "RUNNING"
            except Cancelled:
                return self._ended("CANCELLED", "cancelled")
            except Refused as error:
                return self._ended("REFUSED", str(error))
            except RadirError as error:
                log.error("the run failed", extra={"run": run_id, "error": error.code})
                return self._ended("FAILED", str(error), drop_work=False)
            except Exception as error:  # the edge of the process; its text may name a patient
                log.exception("the run broke", extra={"run": run_id})
                return self._ended("FAILED", f"internal error ({type(error).__name__})", drop_work=False)
            return self._ended("DONE", None)

    def _ended(self, state: str, reason: str | None, *, drop_work: bool = True) -> str:
        if drop_work:
            shutil.rmtree(self._folder / files.WORK, ignore_errors=True)
        try:
            self._when_it_answers(lambda: self._catalogue.retraining.end(self.run.id, self._lease.token, state, reason))
        except LeaseLost:  # ended by a word whose answer was lost, or somebody else's
            state = self._catalogue.retraining.get(self.run.id).state
        log.info("the run ends", extra={"run": self.run.id, "state": state})
        return state

    def _do(self, step: RetrainingStep) -> None:
        name = STEPS[step.number - 1]
        act: Mapping[StepName, Callable[[int], tuple[str, tuple[str, ...]]]] = {
            StepName.PREFLIGHT: self._preflight,
            StepName.SNAPSHOT: self._snapshot,
            StepName.DATA: self._data,
            StepName.TRAIN: self._train,
            StepName.EXAMINE: self._examine,
            StepName.GATES: self._gates,
            StepName.EVIDENCE: self._evidence,
        }
        log.info("step begins", extra={"run": self.run.id, "step": name})
        self._steadily(lambda: self._tell(step.number, StepState.RUNNING, begins=True))
        self._hook(name, "begins")
        note, left = self._steadily(lambda: act[name](step.number))
        artefacts = {file: files.sha256(self._folder / file) for file in left}
        self._hook(name, "done")
        self._steadily(lambda: self._tell(step.number, StepState.DONE, progress=1.0, note=note, artefacts=artefacts))
        log.info("step ends", extra={"run": self.run.id, "step": name})

    def _steadily(self, act: Callable[[], T]) -> T:
        """As `_when_it_answers`, while the run is ours. Raises Cancelled, LeaseLost."""

        def ours() -> T:
            self._lease.check()
            return act()

        return self._when_it_answers(ours)

    def _when_it_answers(self, act: Callable[[], T]) -> T:
        """``act``, once more when the database is back, where it was away.

        A step may take hours: the time counts from its first failure, and anew where it got on for as long as that.
        """
        began, tried = None, 0
        while True:
            started = time.monotonic()
            try:
                return act()
            except StorageFailed:
                failed = time.monotonic()
                if began is None or failed - started > AWAY_S:
                    began, tried = failed, 0
                if failed > began + AWAY_S:
                    raise
                tried += 1
                log.warning("the database is away", extra={"run": self.run.id})
                with suppress(StorageFailed):
                    self._catalogue.await_answer()  # not started from here: after `radir down` nobody would stop it
                time.sleep(min(tried, LONGEST_PAUSE_S))  # what failed may be the disk or the bucket

    def _tell(self, number: int, state: StepState, **told: Any) -> None:
        self._lease.check()
        self._catalogue.retraining.tell(self.run.id, self._lease.token, number, state, **told)

    def _progress(self, number: int) -> Callable[[float, str], None]:
        """What a step calls with the share that is done and what it does; raises Cancelled, LeaseLost."""

        def say(done: float, note: str) -> None:
            self._lease.check()
            now = time.monotonic()
            if now - self._said_at >= SAY_S:
                self._said_at = now
                self._tell(number, StepState.RUNNING, progress=min(1.0, done), note=note)
                self._hook(STEPS[number - 1], "does")

        return say

    def _progress_or_silence(self, number: int) -> Callable[[float, str], None]:
        """As `_progress`, for what would begin anew: progress that the database does not take is not worth that."""
        say = self._progress(number)

        def say_if_it_answers(done: float, note: str) -> None:
            with suppress(StorageFailed):
                say(done, note)

        return say_if_it_answers

    @cached_property
    def _champion(self) -> Bundle:
        return bundle_of(self._catalogue, self._settings, self.run.champion)

    @cached_property
    def _blobs(self) -> BlobStore:
        return open_blobs(self._settings)

    @cached_property
    def _device(self) -> torch.device:
        if self._settings.torch_threads:
            torch.set_num_threads(self._settings.torch_threads)
        return choose_device(self._settings.device)

    def _material(self, number: int) -> Material:
        if self._read is None:
            say = self._progress(number)
            studies, gone = studies_of(self._catalogue, self.run.id, self.run.champion)
            if self.plan.depth == "head":
                found = from_tokens(self._catalogue, self._champion, studies)
            else:
                found = from_pixels(
                    self._catalogue,
                    self._blobs,
                    self._champion,
                    studies,
                    self._folder / files.WORK / "inputs",
                    lambda done, of: say(
                        done / max(1, of), f"{done} of {printable.counted(of, 'study', 'studies')} read"
                    ),
                )
            if gone:
                found.left_out["gone or changed since the snapshot"] = gone
            self._read = found
        return self._read

    def _preflight(self, number: int) -> tuple[str, tuple[str, ...]]:
        found = surveyed(self._catalogue, self._settings, self.plan, self._champion, self._key)
        files.write(self._folder / files.PREFLIGHT, found.as_json())
        if found.refusals:
            raise Refused("; ".join(str(one) for one in found.refusals))
        return (
            f"{printable.counted(found.counts.studies, 'study', 'studies')} of"
            f" {printable.counted(found.counts.patients, 'patient')}"
        ), (files.PREFLIGHT,)

    def _snapshot(self, number: int) -> tuple[str, tuple[str, ...]]:
        window = self.plan.data.since, self.plan.data.until
        studies = of_kind(self._catalogue.retraining.studies(self.run.champion, *window), self.run.kind)
        found = taken(studies, self._key, self._catalogue.retraining.once_held_out())
        counts = counted(self._catalogue.retraining.keep_snapshot(self.run.id, found.rows), found.patients)
        files.write(self._folder / "snapshot.json", asdict(counts))
        return f"{counts.held_out_patients} of {printable.counted(counts.patients, 'patient')} held out", (
            "snapshot.json",
        )

    def _data(self, number: int) -> tuple[str, tuple[str, ...]]:
        say = self._progress(number)
        if self.plan.depth == "head":
            uids = [study.study_uid for study, _ in studies_of(self._catalogue, self.run.id, self.run.champion)[0]]
            fill(
                self._catalogue,
                self._blobs,
                self._champion,
                uids,
                lambda done, of: say(
                    done / max(1, of), f"{done} of {printable.counted(of, 'study', 'studies')} encoded"
                ),
                self._settings.torch_threads,
            )
        material = self._material(number)
        self._refuse_what_cannot_be_judged(material)
        judged = self._catalogue.retraining.judgements(self.run.id)
        told = _described(material) | {"readers": described(judged, material, self.plan.thumbs)}
        told |= {"snapshot_sha256": files.read(self._folder / "snapshot.json")["sha256"]}
        files.write(self._folder / files.DATA, told)
        return f"{printable.counted(told['studies'], 'study', 'studies')}, {told['with_statements']} with statements", (
            files.DATA,
        )

    def _refuse_what_cannot_be_judged(self, material: Material) -> None:
        """Before anything is trained. Raises Refused."""
        once = self._catalogue.retraining.once_trained_on()
        data, _, _, _ = examinee(material, self._champion, self.plan, self._key, once)
        try:
            to_judge(Exam.of(data), self.plan)
        except BadInput as error:
            raise Refused(str(error)) from None

    def _train(self, number: int) -> tuple[str, tuple[str, ...]]:
        material = self._material(number)
        judged = judgements(self._catalogue.retraining.judgements(self.run.id), material, self.plan.thumbs)
        bundle = challenger(
            material,
            self._champion,
            self.plan,
            work=self._folder / files.WORK / "checkpoint",
            out=self._folder / files.CHALLENGER,
            device=self._device,
            say=self._progress(number),
            run_id=self.run.id,
            plan_sha256=self.run.plan_sha256,
            judged=trained_on(judged, material),
        )
        self._catalogue.retraining.note(self.run.id, self._lease.token, challenger=bundle.model_id)
        where = f"{files.CHALLENGER}/manifest.json", f"{files.CHALLENGER}/weights.safetensors"
        return f"{bundle.model_id}, {printable.counted(bundle.training['steps'], 'step')}", where

    def _examined(self, number: int) -> Examination:
        if self._examination is None:
            material, made = self._material(number), Bundle.load(self._folder / files.CHALLENGER)
            once = self._catalogue.retraining.once_trained_on()
            data, groups, self._rows, left_out = examinee(material, self._champion, self.plan, self._key, once)
            found = examined(data, groups, self._champion, made, self.plan, self._progress_or_silence(number))
            judged = self._catalogue.retraining.judgements(self.run.id)
            readers = ranked_by_readers(judged, material, self._rows, self._champion, made, self.plan.recipe.seed)
            told = {**found.told, "readers": readers, "left_out_since_the_champion_knows_them": left_out}
            self._examination = Examination(exam=found.exam, judged=found.judged, vectors=found.vectors, told=told)
        return self._examination

    def _examine(self, number: int) -> tuple[str, tuple[str, ...]]:
        told = self._examined(number).told
        files.write(self._folder / files.EXAMINATION, told)
        mean = told["overall"]
        return f"mean {mean['champion']} to {mean['challenger']}", (files.EXAMINATION,)

    def _gates(self, number: int) -> tuple[str, tuple[str, ...]]:
        try:
            Bundle.load(self._folder / files.CHALLENGER)
            golden = True
        except BundleRefused:
            golden = False
        found = gates(self.plan, files.read(self._folder / files.EXAMINATION), golden=golden)
        files.write(self._folder / files.GATES, [gate.as_json() for gate in found])
        failed = sum(not gate.passed for gate in found)
        self._catalogue.retraining.note(self.run.id, self._lease.token, passed=not failed)
        return f"{failed} of {len(found)} failed" if failed else f"all {len(found)} passed", (files.GATES,)

    def _evidence(self, number: int) -> tuple[str, tuple[str, ...]]:
        judged = [Gate.from_json(one) for one in files.read(self._folder / files.GATES)]
        told = evidence(
            self.run,
            self.plan,
            self._champion,
            Bundle.load(self._folder / files.CHALLENGER),
            files.read(self._folder / files.DATA),
            files.read(self._folder / files.EXAMINATION),
            judged,
            self._time(),
        )
        files.write(self._folder / files.EVIDENCE, told)
        shown = self._page(number, files.read(self._folder / files.EVIDENCE))
        durable.replace(self._folder / files.PAGE, shown.encode())
        verdict = self._registered() if told["passed"] else "refused by its gates"
        return verdict, (files.EVIDENCE, files.PAGE)

    def _time(self) -> dict[str, Any]:
        """Seconds: the preflight's estimate, and what the steps took that are done, each without what a kill undid."""
        steps = self._catalogue.retraining.steps(self.run.id)
        took = {step.name: step.took_s for step in steps if step.state is StepState.DONE and step.took_s is not None}
        return {
            "estimated_s": RunFiles(folder=self._folder).estimated_s,
            "took_s": round(sum(took.values()), 1),
            "steps_s": {name: round(seconds, 1) for name, seconds in took.items()},
        }

    def _registered(self) -> str:
        """The challenger is known, and shown beside the champion unless another one is."""
        registry, run = Registry(self._catalogue, self._settings), self.run
        by, reason = run.started_by, f"retraining {run.id}: all gates passed"
        record = record_of(run.id)
        model = registry.register(self._folder / files.CHALLENGER, by=by, reason=reason, evidence=record)
        if not self.plan.shadow or model.state is not ModelState.REGISTERED:
            return f"{model.model_id} is {model.state.lower()}"
        try:
            registry.shadow(model.model_id, by=by, reason=reason, evidence=record)
        except Conflict as error:
            return f"{model.model_id} is registered: {error}"
        return f"{model.model_id} is in shadow"

    def _page(self, number: int, told: Mapping[str, Any]) -> str:
        if not self.plan.pictures:
            return page(told, None, None, seed=0)
        material, found = self._material(number), self._examined(number)
        uids = [material.study_uids[row] for row in self._rows]
        with PixelDecoder() as decoder:

            def pixels(row: int) -> Any:
                try:
                    volume = volume_of(self._catalogue, self._blobs, uids[row], self.run.kind, decoder)
                    return encoder_input(volume, self._champion.preprocessing).image
                except (RadirError, OSError):
                    return None

            return page(told, found, pixels, seed=self.plan.recipe.seed)


def _described(material: Material) -> dict[str, Any]:
    """What was there to learn from and to be judged by, in numbers."""
    data, apart = material.data, material.held_out
    return {
        "studies": len(data),
        "patients": len(np.unique(data.patients)),
        "trained_on_studies": int((~apart).sum()),
        "trained_on_patients": len(np.unique(data.patients[~apart])),
        "held_out_studies": int(apart.sum()),
        "held_out_patients": len(np.unique(data.patients[apart])),
        "with_statements": sum(map(bool, data.said)),
        "with_findings": sum(any(item.present for items in said.values() for item in items) for said in data.said),
        "parser": PARSER,
        "left_out": material.left_out,
        "sex": _counted(material.groups.sex),
        "age": _counted(material.groups.age),
        "scanner": _counted(material.groups.scanner),
    }


def _counted(groups: Sequence[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(name or "not known" for name in groups).items()))
