"""Questions that were answered are asked again of the model in shadow, unseen, and the answers are compared.

No answer waits for it: a share of the questions goes into a short queue, from which one thread takes them; what finds
the queue full is dropped. The thread rests a hundred times as long as a question took, so that about 1 % of the time
answers share the interpreter with one. (At a low priority it would be interrupted while it holds the interpreter's
lock, for which those wait who answer.) What is kept says nothing about a patient.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from radir_pacs.catalogue import Catalogue, ShadowAnswer
from radir_pacs.errors import RadirError, StorageFailed
from radir_pacs.query.explain import findings_of
from radir_pacs.reports import Finding, ItemSimilarity, similarity_items
from radir_pacs.similar_cases import Query, SimilarCaseList
from radir_pacs.types import ModelState

log = logging.getLogger(__name__)

FIRST = 10  # cases that are compared
_WAITING = 8
_RESTS = 100  # times as long as the last question took
_LOOK_S = 5.0  # between two looks at which models are in shadow


@dataclass(frozen=True)
class _Answered:
    query: Query
    answer: SimilarCaseList
    took_s: float


class ShadowQuestions:
    """``similar`` answers a query by a named model. ``chance``: from 0 to 1, as ``random.random``."""

    def __init__(
        self,
        catalogue: Catalogue,
        similar: Callable[[Query, str], SimilarCaseList],
        *,
        share: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._catalogue, self._similar, self._share, self._chance = catalogue, similar, share, chance
        self._queue: queue.Queue[_Answered | None] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._shadows: Mapping[str, str] = {}
        self._looked_s = float("-inf")

    def offer(self, query: Query, answer: SimilarCaseList, took_s: float) -> None:
        """A question was answered; at once, whatever becomes of it. Further pages are no questions of their own, and
        orders by words are not compared."""
        if query.after is not None or query.offset or query.words is not None or not answer.cases:
            return
        if self._chance() >= self._share:
            return
        try:
            self._queue.put_nowait(_Answered(query, answer, took_s))
        except queue.Full:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Ask no more; what is being asked ends."""
        with self._lock:
            thread, self._thread = self._thread, None
        self._closing.set()
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _work(self) -> None:
        while (one := self._queue.get()) is not None:
            began = time.perf_counter()
            try:
                shadow = self._shadow_beside(one.answer.model_id)
                if shadow is not None:
                    self._catalogue.shadow_answers.add(self._compared(one, shadow))
            except StorageFailed:
                log.info("a comparison is left out: the catalogue is away")
            except RadirError as error:  # such as a study that the model has not encoded yet
                log.debug("a comparison is left out", extra={"error": error.code})
            except Exception:  # the edge of the thread: nobody waits for it
                log.exception("a comparison broke")
            self._closing.wait(_RESTS * (time.perf_counter() - began))

    def _shadow_beside(self, serving: str) -> str | None:
        """The model in shadow for the kind of image that this model answers for."""
        if time.monotonic() - self._looked_s >= _LOOK_S:
            self._looked_s = time.monotonic()
            kept = self._catalogue.models.kept()
            beside = {model.kind: model.model_id for model in kept if model.state is ModelState.SHADOW}
            self._shadows = {model.model_id: beside[model.kind] for model in kept if model.kind in beside}
        found = self._shadows.get(serving)
        return found if found != serving else None

    def _compared(self, one: _Answered, shadow: str) -> ShadowAnswer:
        began = time.perf_counter()
        other = self._similar(replace(one.query, limit=FIRST), shadow)
        took_s = time.perf_counter() - began
        ours = [case.study.study_uid for case in one.answer.cases[:FIRST]]
        theirs = [case.study.study_uid for case in other.cases[: len(ours)]]
        region = one.answer.region_answered.key
        return ShadowAnswer(
            region=region,
            serving=one.answer.model_id,
            shadow=shadow,
            compared=len(ours),
            shared=len(set(ours) & set(theirs)),
            serving_agreement=self._agreement(one.query.study_uid, ours, region),
            shadow_agreement=self._agreement(one.query.study_uid, theirs, region),
            serving_ms=1e3 * one.took_s,
            shadow_ms=1e3 * took_s,
        )

    def _agreement(self, query_uid: str, cases: list[str], region: str) -> float | None:
        """How like the query's report those of the cases are at the region, in the mean; None where none compare."""
        said = {uid: tuple(row.findings for row in self._catalogue.reports.of_study(uid) if row.findings is not None)
                for uid in (query_uid, *cases)}  # fmt: skip
        findings = findings_of({uid: bodies for uid, bodies in said.items() if bodies})
        if query_uid not in findings:
            return None
        return agreement(findings[query_uid], [findings[uid] for uid in cases if uid in findings], region)


def agreement(own: Sequence[Finding], others: Iterable[Sequence[Finding]], region: str) -> float | None:
    """The mean similarity of findings with those of others at a region, 0 to 1; None where no two of them tell."""
    similarity = ItemSimilarity()
    items = similarity_items(own).get(region, ())
    alike = [similarity.score(items, similarity_items(other).get(region, ())) for other in others]
    told = [value for value in alike if value is not None]
    return sum(told) / len(told) if told else None
