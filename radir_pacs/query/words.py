"""Cases ordered by words that no region has a vector for: those most alike in a trained region, asked in words.

The cases most alike in the region, `Settings.words_cases` at most, are asked what the words say, by the serving model's
decoder over the image tokens that are kept of them, and ordered by their answers; where the words name a region, the
study that is asked about is asked too. No other case is looked at. What such an order is worth was measured
(``words_measured.json``, which ``benchmarks.experiments.unseen`` and ``words_order`` write beside their pages); every
answer carries the figures. docs/adr/0048.

Some seconds of a processor go into an answer, so one thread of a process computes them, and few wait for it: the
threads that answer other requests stay free.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from radir_pacs import anatomy
from radir_pacs.catalogue import Answering, Catalogue
from radir_pacs.config import Settings
from radir_pacs.encode.folder import ENCODER
from radir_pacs.errors import BadInput, BundleRefused, NotReady
from radir_pacs.models import Registry
from radir_pacs.models.bundles import bundle_folder
from radir_pacs.query.ranking import Ranked, RegionSearch, ranked
from radir_pacs.similar_cases import Notice, NoticeCode, Words, WordsOf
from radir_pacs.types import F32, Encoding

if TYPE_CHECKING:
    from radir_pacs.encode import Bundle

LEAST_CASES = 20  # whose answers are compared: the mean of fewer says little
BATCH = 32  # cases whose tokens are held at a time: 0.5 MB each with the largest network
WAIT_S = 1.0  # for others' questions in words
PLACES = 3  # questions in words at once: one is computed, the others wait
_REFUSED_S = 60.0  # until a bundle that was refused is read again
_CODES = {WordsOf.REGION: NoticeCode.WORDS_OF_A_REGION, WordsOf.FINDING: NoticeCode.WORDS_OF_A_FINDING}

log = logging.getLogger(__name__)
Computed = TypeVar("Computed")


@cache
def measured(of: WordsOf) -> Mapping[str, str]:
    """What was measured of questions in words: found, above, trained, chance."""
    read = json.loads((files("radir_pacs.query") / "words_measured.json").read_text(encoding="utf-8"))
    return {str(name): str(value) for name, value in read[of.value].items()}


class WordOrder:
    """Orders cases by words. One for a process; safe for many threads, for which a thread of its own computes."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue, self._settings = catalogue, settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="words")
        self._places = threading.BoundedSemaphore(PLACES)
        self._closing = threading.Event()
        self._loaded: dict[str, Bundle] = {}  # the model asked last of each kind of image
        self._refused: dict[str, float] = {}  # when a model's bundle is read again, on the monotonic clock

    def close(self) -> None:
        """Answer no more; what is being computed ends with its batch."""
        self._closing.set()
        self._thread.shutdown()

    def check(self, words: Words, encoding: Encoding) -> None:
        """Raise BadInput where questions in words are refused, or the words name a region that the model knows."""
        if not self._settings.words_cases:
            raise BadInput("questions in words are turned off here (words_cases)")
        if words.of is WordsOf.FINDING:
            return
        text = " ".join(words.text.lower().split())
        for region in map(anatomy.region, encoding.regions):
            if text in (name.lower() for name in (region.name, *region.synonyms)):
                raise BadInput(f"the model is trained on the {region.name}: ask for that region, which is found better")

    def page_of(
        self, part: RegionSearch, answering: Answering, words: Words, seen: int, limit: int
    ) -> tuple[Ranked, int, list[Notice]]:
        """At most ``limit`` cases behind the first ``seen``, how many were ordered, and what must be said of it.

        ``by_part`` stays the cosine in the region. Raises BadInput, and NotReady where others ask in words.
        """
        found = ranked([part], self._settings.words_cases)
        ordered = found
        if len(found.labels):
            scores = self._in_turn(lambda: self._scores(answering, found.labels.tolist(), words))
            rows = np.flatnonzero(~np.isnan(scores))
            ordered = replace(found, scores=scores).rows(rows)
        count = len(ordered.labels)
        missing = len(found.labels) - count
        about: dict[str, str | float] = {"words": words.text, "count": count, "region": part.partition.region}
        notices = [Notice(code=_CODES[words.of], values={**about, **measured(words.of)})]
        if missing:
            notices.append(Notice(code=NoticeCode.WITHOUT_TOKENS, values={"count": missing}))
        whole = part.partition.candidates(part.selection) <= count
        page = ordered.rows(np.lexsort((ordered.labels, -ordered.scores))[seen : seen + limit])
        return replace(page, exact=page.exact and whole), count, notices

    def _in_turn(self, compute: Callable[[], Computed]) -> Computed:
        """What ``compute`` returns or raises, in the thread that computes. Raises NotReady where others hold it."""
        busy = "other questions in words are being answered: ask again in some seconds"
        if not self._places.acquire(blocking=False):
            raise NotReady(busy)
        try:
            job = self._thread.submit(compute)
            try:
                return job.result(WAIT_S)
            except TimeoutError:
                if job.cancel():  # it has not begun
                    raise NotReady(busy) from None
                return job.result()
        finally:
            self._places.release()

    def _scores(self, answering: Answering, labels: Sequence[int], words: Words) -> F32:
        """Of each of these encodings, at least one; NaN without image tokens. Raises BadInput, NotReady."""
        encoder = self._encoder(answering.encoding.model_id)
        bundle = self._bundle(answering.encoding.model_id)
        from radir_pacs.encode.words import Asked  # brings torch

        asked, of_region = Asked(bundle, words.text, self._settings.torch_threads), words.of is WordsOf.REGION
        answer = asked.raw if of_region else asked.presence
        wanted = [answering.label, *labels] if of_region else labels
        answers: dict[int, F32 | np.float32] = {}
        for start in range(0, len(wanted), BATCH):
            if self._closing.is_set():
                raise NotReady("the service ends")
            kept = self._catalogue.image_tokens.of_encodings(encoder, wanted[start : start + BATCH])
            if kept:
                answers |= zip(kept, answer(list(kept.values())), strict=True)
            if of_region and answering.label not in answers:
                raise BadInput("no image tokens of the study are kept (keep_tokens): it cannot be asked about in words")
        rows = [row for row, label in enumerate(labels) if label in answers]
        if len(rows) < LEAST_CASES:
            few = f"in words at least {LEAST_CASES} cases are compared"
            if len(labels) < LEAST_CASES:
                raise BadInput(f"{few}, and {len(labels)} are here: filter less, or ask for a region")
            raise BadInput(
                f"{few}, and image tokens are kept of {len(rows)} of the {len(labels)} here: ask for a region"
            )
        found = np.stack([answers[labels[row]] for row in rows])
        if of_region:
            vectors = asked.compared(np.stack([answers[answering.label], *found]))
            found = np.vecdot(vectors[1:], vectors[0])
        scores = np.full(len(labels), np.nan, np.float32)
        scores[rows] = found
        return scores

    def _encoder(self, model_id: str) -> str:
        """Whose image tokens the model answers from. Raises BadInput for one that keeps none."""
        model = self._catalogue.models.get(model_id)
        encoder = model.manifest.get(ENCODER) if model is not None else None
        if not isinstance(encoder, str):
            raise BadInput(f"{model_id} cannot be asked in words: no image tokens of it are kept")
        return encoder

    def _bundle(self, model_id: str) -> Bundle:
        """The model, loaded when it is first asked. Raises BadInput where this machine has no intact copy of it."""
        if model_id not in self._loaded:
            bundle = self._read(model_id)
            others = {key: held for key, held in self._loaded.items() if held.kind is not bundle.kind}
            self._loaded = {**others, model_id: bundle}
        return self._loaded[model_id]

    def _read(self, model_id: str) -> Bundle:
        from radir_pacs.encode import Bundle  # brings torch

        if not bundle_folder(self._settings.home, model_id).is_dir():
            raise BadInput(f"{model_id} cannot be asked in words: its bundle is not on this machine")
        if time.monotonic() >= self._refused.get(model_id, 0.0):
            registry = Registry(self._catalogue, self._settings)
            try:
                # what faces the network opens no file from elsewhere: words are answered from kept image tokens
                return Bundle.load(registry.folder(registry.get(model_id)), program=False)
            except (BundleRefused, OSError) as error:
                log.error("a bundle cannot be asked in words", extra={"model": model_id, "reason": str(error)})
                self._refused = {model_id: time.monotonic() + _REFUSED_S}
        raise BadInput(
            f"{model_id} cannot be asked in words: its bundle on this machine is altered or cannot be read "
            "(`radir models register` its folder)"
        )
