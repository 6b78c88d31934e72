"""What the relay does for models: coverage, promotion by rule, gaps in the archive, models that are cleared away."""

from __future__ import annotations

import logging
import time

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import DAY_S, Settings
from radir_pacs.errors import Conflict, NotReady
from radir_pacs.index import remove_model
from radir_pacs.models.bundles import remove_bundle
from radir_pacs.models.promotions import file_promotions
from radir_pacs.models.registry import Registry
from radir_pacs.models.retraining_work import clear_old_work
from radir_pacs.types import ImageKind, ModelState

log = logging.getLogger(__name__)

KEEP_ANSWERS_S = 365 * DAY_S  # of models in shadow: what a promotion was decided on
AGAIN_S = 60.0  # between two looks at a model that may not answer yet
RULE = "rule:promote_when_covered"


class Upkeep:
    """Each step is a transaction of its own; two relays do no harm."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue, self._settings = catalogue, settings
        self._registry = Registry(catalogue, settings)
        self._refused_s: dict[str, float] = {}
        self._counted_s: dict[str, float] = {}
        self._leaving: list[tuple[str, ImageKind]] = []

    def look(self) -> None:
        """Every few seconds: what answers says how much it covers, and what may answer does, where that is set."""
        for model in self._catalogue.models.kept():
            if model.state is ModelState.SERVING and model.coverage < 1 and self._is_time(model.model_id):
                share = self._catalogue.models.coverage(model.model_id).share
                self._catalogue.reencoding.note_coverage(model.model_id, share)
            elif model.state is ModelState.SHADOW and self._settings.promote_when_covered:
                self._promote(model.model_id)

    def _is_time(self, model_id: str) -> bool:
        """Counting a large archive takes seconds: once a minute."""
        now_s = time.monotonic()
        if now_s - self._counted_s.get(model_id, -AGAIN_S) < AGAIN_S:
            return False
        self._counted_s[model_id] = now_s
        return True

    def _promote(self, model_id: str) -> None:
        now_s = time.monotonic()
        waits = now_s - self._refused_s.get(model_id, -AGAIN_S) < AGAIN_S
        if waits or not self._catalogue.reencoding.is_done(model_id):
            return
        try:
            self._registry.promote(model_id, by=RULE, reason="enough studies are encoded by it")
        except (Conflict, NotReady):  # not yet; counting a large archive takes a while
            self._refused_s[model_id] = now_s
            return
        log.info("model promoted", extra={"model": model_id})

    def tidy(self) -> None:
        """Every few minutes: studies that no job asks for are asked for again; models to forget are cleared away."""
        kept = self._catalogue.models.kept()
        file_promotions(self._catalogue, self._settings, [model.model_id for model in kept])
        for model in kept:
            if model.bundle_sha256 is None:
                continue
            progress = self._catalogue.models.progress(model.model_id)
            coverage = progress.coverage
            if coverage.encoded + progress.waiting + progress.failed < coverage.total:
                self._catalogue.reencoding.again(model.model_id)
        self._catalogue.shadow_answers.prune(KEEP_ANSWERS_S)
        clear_old_work(self._catalogue, self._settings.home, self._settings.retraining_keep_days)
        self._leaving = list(self._catalogue.reencoding.to_prune())
        self.clear_away()

    def clear_away(self) -> None:
        """Every round, some of what `tidy` found to clear away, so that a round stays short."""
        while self._leaving:
            model_id, kind = self._leaving[0]
            if not self._catalogue.reencoding.prune(model_id, kind):
                return
            del self._leaving[0]
            model = self._catalogue.models.get(model_id)
            if model is None or model.bundle_sha256 is None:  # else it was brought forward meanwhile
                remove_bundle(self._settings.home, model_id)
                remove_model(self._settings.home, model_id)
                log.info("a retired model was cleared away", extra={"model": model_id})
