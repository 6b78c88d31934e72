"""The models that this worker encodes by: those that serve, and those that encode beside them.

What is kept in the catalogue is looked at again while the worker runs, so that a promotion, a rollback or a new model
in shadow needs no restart. A model beside those that serve is loaded when its first study comes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from radir_pacs.catalogue import ModelRow
from radir_pacs.config import Settings
from radir_pacs.encode import Bundle, Encoder, Preprocessing, free_memory
from radir_pacs.encode.card import has_collapsed
from radir_pacs.encode.folder import ENCODER
from radir_pacs.errors import BundleRefused, ModelGone
from radir_pacs.models import Registry
from radir_pacs.types import ImageKind, ModelState

log = logging.getLogger(__name__)

LOOK_S = 2.0  # between two looks at which models are kept


class Encoders:
    """Loaded models by id.

    ``preparing``, ``serving``, ``tokens_of`` and ``batch_limit`` are for any thread; ``encoder`` is for any that no
    other asks beside it for the same model; the rest is for the main one.
    """

    def __init__(
        self, settings: Settings, registry: Registry, worker: int = 0, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """``worker``: as in ``choose_device``. Raises BundleRefused for a model that serves and cannot be loaded."""
        self._settings, self._registry, self._worker, self._clock_s = settings, registry, worker, clock_s
        self._kept: Mapping[str, ModelRow] = {}
        self._encoders: dict[str, Encoder] = {}
        self._looked_s = float("-inf")
        self.look()
        for model_id in self.serving.values():
            self.encoder(model_id)

    def look(self) -> None:
        """Follow the catalogue, at most every few seconds; models that are kept no more leave the memory."""
        if self._clock_s() - self._looked_s < LOOK_S:
            return
        self._looked_s = self._clock_s()
        self._renew()
        gone = set(self._encoders) - self._kept.keys()  # a copy in one step: a model may be loaded beside this
        for model_id in gone:
            del self._encoders[model_id]
            log.info("a model left the memory", extra={"model": model_id})
        if gone:
            free_memory()

    @property
    def device(self) -> str:
        """Where the network runs, such as ``cuda:1``."""
        return str(next(iter(self._encoders.values())).device)

    @property
    def serving(self) -> Mapping[ImageKind, str]:
        """The model by which a new study is encoded, for each kind."""
        kept = self._kept
        return {model.kind: model.model_id for model in kept.values() if model.state is ModelState.SERVING}

    def preparing(self, model_id: str | None) -> Mapping[ImageKind, tuple[str, Preprocessing]]:
        """By which model an image of each kind is encoded, and how it is prepared: by this one, or by those that serve.

        Raises ModelGone for a model that is kept no more.
        """
        if model_id is not None:
            model = self._model(model_id)
            return {model.kind: (model_id, self._how(model))}
        if len(self.serving) < len(ImageKind):  # a study is not skipped for want of a model that has come since
            self._renew()
        kept = self._kept
        return {kind: (one, self._how(kept[one])) for kind, one in self.serving.items() if one in kept}

    def _model(self, model_id: str) -> ModelRow:
        """A model that is kept, which may have come since the last look. Raises ModelGone."""
        if model_id not in self._kept:
            self._renew()
        found = self._kept.get(model_id)
        if found is None:
            raise ModelGone(f"model {model_id} encodes no more")
        return found

    def _renew(self) -> None:
        self._kept = {model.model_id: model for model in self._registry.kept()}

    def _how(self, model: ModelRow) -> Preprocessing:
        return Preprocessing.from_json(model.manifest["preprocessing"])

    def encoder(self, model_id: str) -> Encoder:
        """The encoder of a model that is kept, loaded when it is not yet. Raises ModelGone, BundleRefused."""
        found = self._encoders.get(model_id)
        if found is None:
            found = self._encoders[model_id] = self._loaded(self._model(model_id))
        return found

    def batch_limit(self, model_id: str) -> int:
        """How many images the next batch for a model may have; 1 for one that is not loaded."""
        found = self._encoders.get(model_id)
        return 1 if found is None else found.batch_limit

    def tokens_of(self, model_id: str) -> str | None:
        """The encoder whose kept image tokens a model answers from; None where its bundle does not say."""
        model = self._kept.get(model_id)
        encoder = model.manifest.get(ENCODER) if model is not None else None
        return encoder if isinstance(encoder, str) else None

    def _loaded(self, model: ModelRow) -> Encoder:
        encoder = Encoder(
            Bundle.load(self._registry.folder(model)),
            device=self._settings.device,
            threads=self._settings.torch_threads,
            mixed={"auto": None, "full": False, "mixed": True}[self._settings.precision],
            worker=self._worker,
            keep_tokens=self._settings.keep_tokens,
        )
        if encoder.model_id != model.model_id:
            raise BundleRefused(f"the bundle of {model.model_id} is another model's")
        if model.manifest.get(ENCODER, encoder.encoder_id) != encoder.encoder_id:
            raise BundleRefused(f"the bundle of {model.model_id} names another encoder than it has")
        if has_collapsed(encoder.bundle.manifest):
            log.warning("the model gives every study the same vector: train another", extra={"model": model.model_id})
        return encoder
