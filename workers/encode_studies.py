"""Encode jobs: studies are claimed several at a time, read by several processes, and encoded in batches.

A message only announces that there are jobs: whoever gets it works until no encode job is left. Claimed studies
pass three places, each busy while the others are: readers, the network in the main thread, and threads that save. A
batch is whatever is ready when the network is free; while more is being read it waits for it, but not for long. Every
study is one job with a lease, an attempt and a transaction of its own (`radir_pacs.catalogue.jobs`): what happens to
one in a batch happens to no other. What nobody waits for, from ``Urgency.BESIDE`` on, is read and encoded at a low
priority, so that questions beside it are answered as without it, and in a thread beside the main one, since a batch
that yields takes long where others work (on a GPU the encoder lets passes take turns); but not a study that goes
alone, for which all wait.
"""

from __future__ import annotations

import bisect
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from radir_pacs import metrics, traces
from radir_pacs.catalogue import Catalogue, runs_alone
from radir_pacs.encode import EncoderInput, Preprocessing
from radir_pacs.errors import LeaseLost, Skipped, StorageFailed
from radir_pacs.intake.sources import NO_SOURCES, Sources
from radir_pacs.low_priority import after_others
from radir_pacs.types import Encoding, ImageKind, Job, KeptTokens, Urgency

from .leases import Leases
from .outcome import Outcome
from .readers import Reader, Readers
from .runner import said

log = logging.getLogger(__name__)

LOOK_S = 0.2  # between two looks for more jobs while there is enough to do, and for one that is urgent
LINGER_S = 0.1  # that an image waits for others to go with: a large batch costs much less per image than a small one
BESIDE_S = 1.0  # that a batch which yields may take: its results are lost when the worker stops
SAVERS = 2  # transactions wait for the disk, not for the processor
URGENT_ROOM = 4  # urgent studies held beyond the window


class BatchEncoder(Protocol):
    """What encodes images by one model: `radir_pacs.encode.Encoder`, or a fake in tests."""

    def encode_batch(self, inputs: Sequence[EncoderInput | KeptTokens]) -> Sequence[Encoding | Exception]: ...


class EncoderShelf(Protocol):
    """The models that encode: how images are prepared for them, and what encodes them; as `encoders.Encoders`."""

    def look(self) -> None: ...

    def preparing(self, model_id: str | None) -> Mapping[ImageKind, tuple[str, Preprocessing]]: ...

    def batch_limit(self, model_id: str) -> int: ...

    def tokens_of(self, model_id: str) -> str | None: ...

    def encoder(self, model_id: str) -> BatchEncoder: ...


@dataclass(eq=False)
class _Held:
    """A study whose job this worker has. Once ``given_back``, nothing that becomes of it counts."""

    job: Job
    revision: int = -1
    models: Mapping[ImageKind, str] = field(default_factory=dict)  # by which its images are encoded
    left: int = 0  # images that are not encoded yet
    encodings: list[Encoding] = field(default_factory=list)
    error: Exception | None = None
    saving: bool = False
    since_s: float = field(default_factory=time.monotonic)
    given_back: bool = False
    span: traces.Span = traces.OFF

    @property
    def place(self) -> tuple[int, int]:
        return self.job.urgency, self.job.id

    @property
    def yields(self) -> bool:
        """Whether nobody waits for it. For one that goes alone the whole machine waits, so it must not take long."""
        return self.job.urgency >= Urgency.BESIDE and not runs_alone(self.job)


_Image = tuple[_Held, EncoderInput | KeptTokens]
_Ready = tuple[tuple[int, int], int, _Held, EncoderInput | KeptTokens]  # place, number, study, image


class EncodeStudies:
    """``run`` is for one thread at a time, the one in which the network works.

    ready_bytes: memory that inputs may take which wait for the network. sources: from where files that are away come.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        shelf: EncoderShelf,
        readers: Readers,
        leases: Leases,
        *,
        worker: str,
        ready_bytes: int = 1 << 30,
        sources: Sources = NO_SOURCES,
    ) -> None:
        self._catalogue, self._shelf, self._readers, self._leases = catalogue, shelf, readers, leases
        self._outcome = Outcome(catalogue, sources)
        self._worker = worker
        self._ready_bytes = ready_bytes
        self._held: set[_Held] = set()
        self._ready: list[_Ready] = []  # sorted
        self._count = 0
        self._changed = threading.Condition()
        self._look_at = self._ready_since = 0.0
        self._savers = ThreadPoolExecutor(SAVERS, thread_name_prefix="saver")
        met = threading.Barrier(SAVERS)
        for _ in range(SAVERS):  # they start here: a thread has the priority of the one that submits what it starts for
            self._savers.submit(met.wait)
        # A thread cannot raise its priority again, and torch's threads have that of the one that started them.
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="beside", initializer=after_others)
        self._beside_image_s = 0.0  # that an image of the last such batch took
        self._beside_model: str | None = None  # whose batch that thread has in hand
        self._stopping = threading.Event()
        self._released: list[Job] = []  # which the catalogue does not know yet

    def run(self, job_id: int = 0) -> None:
        """Encode until no job is left, or until ``stop``. What goes wrong stands in the job rows; nothing is raised."""
        try:
            self._release()
            while self._step():
                pass
        except StorageFailed as error:  # leases run out and the relay asks again
            log.error("the catalogue is away", extra={"error": str(error)})
        except Exception:  # the broker's library would log the text of what we raise
            log.exception("encoding broke")
        finally:
            self._give_back()

    def give_back(self) -> None:
        """The process ends before its batch does: what it holds is for another worker. Raises StorageFailed."""
        with self._changed:
            held = [study for study in self._held if not study.saving]
            for study in held:
                study.given_back = True
        if held:
            self._catalogue.jobs.release([study.job for study in held])
            log.warning("jobs given back", extra={"jobs": len(held)})

    def stop(self) -> None:
        """Have ``run`` return after the batch in hand, or at once where one yields; from a signal handler too."""
        self._stopping.set()

    def close(self) -> None:
        """End the readers."""
        self._readers.close()
        self._savers.shutdown()
        self._beside.shutdown()

    def _step(self) -> bool:
        """Whether there may be more to do."""
        if not self._claim() or self._stopping.is_set():
            return False
        with self._changed:
            if (rest_s := self._rest_s()) > 0 and self._held:
                self._changed.wait(rest_s)
            batch = [] if self._stopping.is_set() or self._rest_s() > 0 else self._take_batch()
        if batch:
            self._encode(batch)
        return True

    def _claim(self) -> bool:
        """Claim as many jobs as the window has room for; when it is full, urgent ones all the same.

        False when nothing was held and there was nothing to claim.
        """
        with self._changed:
            held, alone = len(self._held), any(runs_alone(one.job) for one in self._held)
            news = any(one.job.urgency <= Urgency.NEW for one in self._held)
        if alone or self._stopping.is_set() or (held and time.monotonic() < self._look_at):
            return True
        self._shelf.look()
        window = self._window()
        room, least_urgent = window - held, Urgency.BACKGROUND
        if held and room < max(1, window // 4):  # a few at a time: each claim is a transaction
            room, least_urgent = window + URGENT_ROOM - held, Urgency.URGENT if news else Urgency.NEW
        if room <= 0:
            return True
        jobs = self._catalogue.jobs.claim_studies(room, self._worker, least_urgent=least_urgent, holds_none=not held)
        full = len(jobs) == room and least_urgent is Urgency.BACKGROUND
        self._look_at = 0.0 if full else time.monotonic() + LOOK_S
        for job in jobs:
            self._leases.hold(job)
            study = _Held(job, span=traces.start("job", job.study_uid))
            with self._changed:
                self._held.add(study)
            self._readers.submit(study.place, partial(self._read, study), yields=study.yields)
        return bool(held or jobs)

    def _window(self) -> int:
        """How many studies may be held: those being read, and two batches, as far as memory allows."""
        served = self._shelf.preparing(None)
        batch = max((self._shelf.batch_limit(model_id) for model_id, _ in served.values()), default=1)
        largest = max((4 * math.prod(how.shape) for _, how in served.values()), default=1)
        return len(self._readers) + max(1, min(2 * batch, self._ready_bytes // largest))

    def _read(self, study: _Held, reader: Reader) -> None:
        """In a reader's thread: from a job to inputs that are ready, or to its end."""
        job = study.job
        if study.given_back:
            return
        try:
            revision = self._outcome.begin(job)
            if revision is None:
                self._drop(study)
                return
            study.revision = revision
            preparing = self._shelf.preparing(job.model_id)
            study.models = {kind: model_id for kind, (model_id, _) in preparing.items()}
            with metrics.timed(metrics.STAGE_SECONDS, "read"), traces.start("read", job.study_uid, parent=study.span):
                inputs: Sequence[EncoderInput | KeptTokens] = self._kept(job) or reader.read(
                    self._catalogue.instances.headers_of(job.study_uid),
                    {kind: how for kind, (_, how) in preparing.items()},
                    alone=runs_alone(job),
                    last_attempt=job.attempt >= job.max_attempts,
                )
        except Exception as error:  # the edge of the thread
            self._end(study, error)
            return
        with self._changed:
            study.left = len(inputs)
            if not study.given_back:
                if not self._ready:
                    self._ready_since = time.monotonic()
                for one in inputs:
                    self._count += 1
                    bisect.insort(self._ready, (study.place, self._count, study, one))
            if self._rest_s() <= 0:
                self._changed.notify()

    def _kept(self, job: Job) -> Sequence[KeptTokens]:
        """Image tokens from which a model beside those that serve answers: its encoder has seen the study already."""
        encoder = None if job.model_id is None else self._shelf.tokens_of(job.model_id)
        return self._catalogue.image_tokens.of(encoder, [job.study_uid]) if encoder else ()

    def _rest_s(self) -> float:
        """How long to wait for a better batch: not at all for a full one, an urgent one, or when nothing is read."""
        if not (ready := self._takeable()):
            return LOOK_S
        (urgency, _), _, study, first = ready[0]
        reading = any(study.left == 0 and not study.saving for study in self._held)
        limit = self._shelf.batch_limit(study.models[first.kind])
        if urgency == Urgency.URGENT or not reading or len(ready) >= limit:
            return 0.0
        return max(0.0, self._ready_since + LINGER_S - time.monotonic())

    def _takeable(self) -> Sequence[_Ready]:
        """What is ready for a network that is free: a model's works at one batch at a time, and so does what yields."""
        busy = self._beside_model
        if busy is None:
            return self._ready
        return [one for one in self._ready if not one[2].yields and one[2].models[one[3].kind] != busy]

    def _take_batch(self) -> list[_Image]:
        """The first image that may be taken, and those that may go with it: for its model and as urgent."""
        if not (ready := self._takeable()):
            return []
        (urgency, _), _, study, first = ready[0]
        model_id = study.models[first.kind]
        limit = self._shelf.batch_limit(model_id)
        if study.yields and self._beside_image_s:
            limit = min(limit, max(1, int(BESIDE_S / self._beside_image_s)))
        chosen = [one for one in ready if one[0][0] == urgency and one[2].models[one[3].kind] == model_id][:limit]
        taken = {one[1] for one in chosen}
        self._ready_since = time.monotonic()
        self._ready = [one for one in self._ready if one[1] not in taken]
        if study.yields:
            self._beside_model = model_id
        return [(study, image) for _, _, study, image in chosen]

    def _encode(self, batch: Sequence[_Image]) -> None:
        """Here, or in the thread beside this one: then its images are encoded some time later."""
        if batch[0][0].yields:
            self._beside.submit(self._encode_beside, batch)
        else:
            self._encoded(batch)

    def _encode_beside(self, batch: Sequence[_Image]) -> None:
        try:
            self._beside_image_s = self._encoded(batch) / len(batch)
        except Exception:  # the edge of the thread
            log.exception("encoding broke")
        finally:
            with self._changed:
                self._beside_model = None
                self._changed.notify()

    def _encoded(self, batch: Sequence[_Image]) -> float:
        """From images to results, which are saved; returns how long the network took, in seconds."""
        images = [image for _, image in batch]
        found: Sequence[Encoding | Exception]
        metrics.BATCH_IMAGES.labels(images[0].kind).observe(len(images))
        began = time.monotonic()
        try:
            with metrics.timed(metrics.STAGE_SECONDS, "network"):
                found = self._shelf.encoder(batch[0][0].models[images[0].kind]).encode_batch(images)
        except Exception as error:  # of our own: it must count as an attempt
            found = [error] * len(images)
        took_s = time.monotonic() - began
        for (study, _), one in zip(batch, found, strict=True):
            traces.record("network", took_s, study.job.study_uid, parent=study.span, images=len(images))
            if isinstance(one, Exception):
                study.error = one
            else:
                study.encodings.append(one)
            study.left -= 1
            if study.left == 0:
                self._end(study, study.error)
        return took_s

    def _end(self, study: _Held, error: Exception | None) -> None:
        """Have its result saved, whatever it is, unless the job is somebody else's by now."""
        with self._changed:
            if study.given_back:
                return
            study.saving, study.error = True, error
        if error is None:
            act: Callable[[], None] = partial(self._outcome.encoded, study.job, study.revision, study.encodings)
        else:
            act = partial(self._outcome.failed, study.job, study.revision, error)
        self._savers.submit(self._save, study, act)

    def _save(self, study: _Held, act: Callable[[], None]) -> None:
        extra, outcome = said(study.job), "lost"
        try:
            with (
                metrics.timed(metrics.STAGE_SECONDS, "save"),
                traces.start("save", study.job.study_uid, parent=study.span),
            ):
                act()
        except LeaseLost:
            log.warning("lease lost", extra=extra)
        except StorageFailed as error:  # it counts as an attempt, lest one that cannot be saved is tried for ever
            log.error("the catalogue is away", extra=extra | {"error": str(error)})
        except Exception:  # the edge of the thread
            log.exception("a result could not be saved", extra=extra)
        else:
            outcome = _counted(study.error)
            log.info("job ends", extra=extra | {"attempt": study.job.attempt})
        finally:
            metrics.JOBS.labels(study.job.kind, outcome).inc()
            metrics.JOB_SECONDS.labels(study.job.kind).observe(time.monotonic() - study.since_s)
            attempt = study.job.attempt
            study.span.end(failed=outcome in ("failed", "lost"), kind=study.job.kind, outcome=outcome, attempt=attempt)
            self._drop(study)

    def _drop(self, study: _Held) -> None:
        self._leases.drop(study.job)
        with self._changed:
            self._held.discard(study)
            self._changed.notify()

    def _release(self) -> None:
        """Raises StorageFailed; it is tried again then, and is no attempt unless somebody takes it before."""
        if self._released:
            self._catalogue.jobs.release(self._released)
            self._released = []

    def _give_back(self) -> None:
        """Leave nothing held: results on their way are saved, everything else is for the next worker."""
        with self._changed:
            unused = [study for study in self._held if not study.saving]
            for study in unused:
                study.given_back = True
                self._held.discard(study)
            self._ready.clear()
        for study in unused:
            self._leases.drop(study.job)
            self._released.append(study.job)
        try:
            self._release()
        except StorageFailed:  # their leases run out
            log.error("jobs could not be given back", extra={"jobs": len(self._released)})
        with self._changed:
            while self._held:
                self._changed.wait(LOOK_S)


def _counted(error: Exception | None) -> str:
    """What became of an attempt, as it is counted."""
    if error is None:
        return "done"
    return "skipped" if isinstance(error, Skipped) else "failed"
