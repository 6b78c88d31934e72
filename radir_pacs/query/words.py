"""Cases ordered by words that no region has a vector for: those most alike in a trained region, asked in words.

The cases most alike in the region, `Settings.words_cases` at most, are asked what the words say, by the serving model's
decoder over the image tokens that are kept of them, and ordered by their answers; so is the study that is asked about.
No other case is looked at. What such an order is worth was measured (``words_measured.json``, which
``benchmarks.experiments.unseen`` writes beside its page); every answer carries the figures. docs/adr/0048.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from radir_pacs import anatomy
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.encode.folder import ENCODER
from radir_pacs.errors import BadInput, BundleRefused
from radir_pacs.models import Registry
from radir_pacs.query.ranking import Part, Ranked, ranked
from radir_pacs.similar_cases import Notice, NoticeCode, Words, WordsOf
from radir_pacs.types import F32, Encoding, KeptTokens

if TYPE_CHECKING:
    from radir_pacs.encode import Bundle

LEAST_CASES = 20  # whose answers are compared: the mean of fewer says little
_BATCH = 50  # cases whose tokens are read at a time
_CODES = {WordsOf.REGION: NoticeCode.WORDS_OF_A_REGION, WordsOf.FINDING: NoticeCode.WORDS_OF_A_FINDING}


@cache
def measured(of: WordsOf) -> Mapping[str, str]:
    """What was measured of questions in words: found, above, trained, chance."""
    read = json.loads((files("radir_pacs.query") / "words_measured.json").read_text(encoding="utf-8"))
    return {str(name): str(value) for name, value in read[of.value].items()}


class WordOrder:
    """Orders cases by words. One for a process; safe for many threads, of which one computes at a time."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue, self._settings = catalogue, settings
        self._computing = threading.Lock()
        self._loaded: dict[str, Bundle] = {}  # the model asked last of each kind of image

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
        self, part: Part, encoding: Encoding, words: Words, seen: int, limit: int
    ) -> tuple[Ranked, int, list[Notice]]:
        """At most ``limit`` cases behind the first ``seen``, how many were ordered, and what must be said of it.

        ``by_part`` stays the cosine in the region. Raises BadInput.
        """
        found = ranked([part], self._settings.words_cases)
        encoder = self._encoder(encoding.model_id)
        own = self._catalogue.image_tokens.of(encoder, [encoding.study_uid])
        if not own:
            raise BadInput("no image tokens of the study are kept (keep_tokens): it cannot be asked about in words")
        kept = self._kept(encoder, found.labels.tolist())
        rows = np.array([row for row, label in enumerate(found.labels.tolist()) if label in kept], np.intp)
        missing = len(found.labels) - len(rows)
        if len(found.labels) and len(rows) < LEAST_CASES:
            raise BadInput(
                f"in words at least {LEAST_CASES} cases are compared, of which image tokens are kept: {len(rows)} are "
                "here; filter less, or ask for a region"
            )
        with_tokens = found.rows(rows)
        if len(rows):
            asked = [own[0], *(kept[label] for label in with_tokens.labels.tolist())]
            with_tokens = replace(with_tokens, scores=self._scores(encoding.model_id, asked, words))
        order = np.lexsort((with_tokens.labels, -with_tokens.scores))
        about: dict[str, str | float] = {"words": words.text, "count": len(rows), "region": part.partition.region}
        notices = [Notice(code=_CODES[words.of], values={**about, **measured(words.of)})]
        if missing:
            notices.append(Notice(code=NoticeCode.WITHOUT_TOKENS, values={"count": missing}))
        whole = part.partition.candidates(part.selection) <= len(rows)
        page = with_tokens.rows(order[seen : seen + limit])
        return replace(page, exact=page.exact and whole), len(rows), notices

    def _encoder(self, model_id: str) -> str:
        """Whose image tokens the model answers from. Raises BadInput for one that keeps none."""
        model = self._catalogue.models.get(model_id)
        encoder = model.manifest.get(ENCODER) if model is not None else None
        if not isinstance(encoder, str):
            raise BadInput(f"{model_id} cannot be asked in words: no image tokens of it are kept")
        return encoder

    def _kept(self, encoder: str, labels: Sequence[int]) -> dict[int, KeptTokens]:
        found: dict[int, KeptTokens] = {}
        for start in range(0, len(labels), _BATCH):
            found |= self._catalogue.image_tokens.of_encodings(encoder, labels[start : start + _BATCH])
        return found

    def _scores(self, model_id: str, asked: Sequence[KeptTokens], words: Words) -> F32:
        """Of every study after the first."""
        from radir_pacs.encode.words import presence_in_words, vectors_in_words  # brings torch

        with self._computing:
            bundle = self._bundle(model_id)
            if words.of is WordsOf.FINDING:
                return presence_in_words(bundle, asked[1:], words.text)
            vectors = vectors_in_words(bundle, asked, words.text)
        alike: F32 = np.vecdot(vectors[1:], vectors[0])
        return alike

    def _bundle(self, model_id: str) -> Bundle:
        """The model, loaded when it is first asked. Raises BadInput where this machine has no copy of it."""
        from radir_pacs.encode import Bundle  # brings torch

        if model_id not in self._loaded:
            registry = Registry(self._catalogue, self._settings)
            try:
                bundle = Bundle.load(registry.folder(registry.get(model_id)))
            except (BundleRefused, OSError):
                raise BadInput(f"{model_id} cannot be asked in words: its bundle is not on this machine") from None
            others = {key: held for key, held in self._loaded.items() if held.kind is not bundle.kind}
            self._loaded = {**others, model_id: bundle}
        return self._loaded[model_id]
