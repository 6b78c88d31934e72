"""What may be done with models, with its rules: register, shadow, promote, roll back, retire."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from radir_pacs.catalogue import Catalogue, Coverage, ModelEvent, ModelProgress, ModelRow
from radir_pacs.config import Settings
from radir_pacs.encode import default_bundles
from radir_pacs.encode.folder import ENCODER, read_manifest
from radir_pacs.errors import BundleRefused, Conflict, NotFound, NotReady, RadirError, SettingError
from radir_pacs.index import should_merge
from radir_pacs.models.answered import Answered, answered
from radir_pacs.models.bundles import bundle_folder, copy_bundle, is_intact, manifest_sha256
from radir_pacs.models.comparison import Comparison, compared
from radir_pacs.models.promotions import file_promotions
from radir_pacs.printable import counted
from radir_pacs.types import ImageKind, ModelState

log = logging.getLogger(__name__)


class Registry:
    """The use cases; ``by`` is a person, or "rule:" and the name of a rule. Every change is one transaction."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue, self._settings = catalogue, settings
        self._models = catalogue.models

    def register(self, folder: Path, *, by: str, reason: str, evidence: str = "") -> ModelRow:
        """Verify a bundle, copy it into the home folder and make it known; the one that is known already stays.

        It encodes nothing yet. Raises BundleRefused, Conflict, OSError.
        """
        manifest = read_manifest(folder)
        model_id, kind = _named(folder, manifest)
        known = self._models.get(model_id)
        if known is None or not self._has_bundle(known):
            from radir_pacs.encode import Bundle  # brings torch
            from radir_pacs.encode.tokens import encoder_id

            bundle = Bundle.load(folder)
            dim = bundle.network.config.vector_dim
            copy = copy_bundle(folder, self._settings.home, model_id)
            if (encoder := encoder_id(bundle)) is not None:  # older manifests do not say
                manifest = {ENCODER: encoder, **manifest}
            self._models.register(
                model_id,
                kind,
                dim,
                manifest,
                by=by,
                reason=reason,
                evidence=evidence,
                bundle_sha256=manifest_sha256(copy),
            )
        return self.get(model_id)

    def get(self, model_id: str) -> ModelRow:
        """Raises NotFound."""
        model = self._models.get(model_id)
        if model is None:
            raise NotFound(f"there is no model {model_id}; `radir models list` shows them")
        return model

    def kept(self) -> tuple[ModelRow, ...]:
        """As `Models.kept`."""
        return self._models.kept()

    def folder(self, model: ModelRow) -> Path:
        """The copy of its bundle, as it was registered. Raises BundleRefused when it is missing or altered."""
        folder = bundle_folder(self._settings.home, model.model_id)
        if model.bundle_sha256 is None or manifest_sha256(folder) != model.bundle_sha256:
            raise BundleRefused(f"the bundle of {model.model_id} is not here: `radir models register` its folder")
        return folder

    def _has_bundle(self, model: ModelRow) -> bool:
        if model.bundle_sha256 is None:
            return False
        return is_intact(bundle_folder(self._settings.home, model.model_id), model.bundle_sha256)

    def adopt(self, folders: Sequence[Path] | None = None) -> None:
        """What a worker does at its start with the bundles that the settings name, or with the shipped ones.

        The first model of a kind serves at once. Another one that a person named goes into shadow when it is seen for
        the first time; nothing that serves is ever replaced here, except one whose bundle exists no more, by which
        no study could be encoded. Raises SettingError for two bundles of a kind, BundleRefused.
        """
        named = [Path(folder) for folder in self._settings.models] if folders is None else list(folders)
        folders = named or list(default_bundles().values())
        kinds: set[ImageKind] = set()
        for folder in folders:
            kind = _named(folder, read_manifest(folder))[1]
            if kind in kinds:
                raise SettingError(f"models: two bundles for {kind}")
            kinds.add(kind)
            self._adopt(folder, kind, "named in the settings" if named else "")

    def _adopt(self, folder: Path, kind: ImageKind, named: str) -> None:
        rule = f"rule:{named or 'shipped with the software'}"
        model_id, _ = _named(folder, read_manifest(folder))
        is_new = self._models.get(model_id) is None
        model = self.register(folder, by=rule, reason="found at a worker's start")
        serving = self._models.serving(kind)
        try:
            if serving is None:
                self._models.promote(
                    model_id, by="rule:first model of its kind", reason="there was none", instead_of=None
                )
            elif serving.model_id != model_id and serving.bundle_sha256 is None:
                self._models.promote(
                    model_id,
                    by="rule:the bundle of the model that served is gone",
                    reason=f"nothing can be encoded by {serving.model_id}; the archive is encoded again",
                    least_coverage=0.0,
                    instead_of=serving.model_id,
                )
            elif serving.model_id != model_id and named and is_new:
                self._models.set_shadow(model_id, by=rule, reason="another model serves")
            elif serving.model_id != model_id and named and model.state is not ModelState.SHADOW:
                log.warning(
                    "the settings name a model that does not serve: `radir models promote` or `rollback` decides",
                    extra={"model": model_id, "serves": serving.model_id},
                )
        except Conflict as error:  # another process was faster, or another model is in shadow
            log.warning("a model of the settings waits", extra={"model": model_id, "reason": str(error)})

    def shadow(self, model_id: str, *, by: str, reason: str, evidence: str = "") -> ModelRow:
        """As `Models.set_shadow`."""
        return self._models.set_shadow(model_id, by=by, reason=reason, evidence=evidence)

    def coverage(self, model_id: str) -> Coverage:
        """As `Models.coverage`."""
        return self._models.coverage(model_id)

    def progress(self, model_id: str) -> ModelProgress:
        """As `Models.progress`."""
        return self._models.progress(model_id)

    def unbuilt(self, model_id: str) -> tuple[str, ...]:
        """Regions whose index is being built: until then their first questions would be slow."""
        generations = self._catalogue.generations
        until = generations.snapshot_xmin()
        waiting = []
        for one in generations.served():
            if one.model_id == model_id:
                n_tail, n_gone = generations.tail(model_id, one.region, one.as_of, until)
                if should_merge(one.count, n_tail, n_gone):
                    waiting.append(one.region)
        return tuple(waiting)

    def promote(self, model_id: str, *, by: str, reason: str, evidence: str = "") -> ModelRow:
        """The model answers from the next question on, everywhere.

        Raises NotFound; NotCovered below ``model_coverage``; NotReady while its index is built; Conflict.
        """
        model = self.get(model_id)
        serving = self._models.serving(model.kind)
        if not self._has_bundle(model):
            raise Conflict(f"the bundle of {model_id} is not here: `radir models register` its folder")
        if serving is not None and (regions := self.unbuilt(model_id)):
            raise NotReady(
                f"the index of {model_id} is being built ({counted(len(regions), 'region')} left): ask again in a while"
            )
        promoted = self._models.promote(
            model_id,
            by=by,
            reason=reason,
            evidence=evidence,
            least_coverage=self._settings.model_coverage,
            instead_of=serving.model_id if serving else None,
        )
        self._file(model_id, serving)
        return promoted

    def rollback(
        self, kind: ImageKind, *, by: str, reason: str, evidence: str = "", instead_of: str = ""
    ) -> tuple[ModelRow, Coverage]:
        """As `Models.rollback`; also Conflict when its bundle is damaged, by which nothing new could be encoded."""
        before, serving = self._models.served_before(kind), self._models.serving(kind)
        if before is not None and before.bundle_sha256 is not None and not self._has_bundle(before):
            raise Conflict(f"the bundle of {before.model_id} is damaged: `radir models register` its folder")
        model, coverage = self._models.rollback(kind, by=by, reason=reason, evidence=evidence, instead_of=instead_of)
        self._file(model.model_id, serving)
        return model, coverage

    def _file(self, model_id: str, replaced: ModelRow | None) -> None:
        """In the runs that trained them: who had one serve in place of the other."""
        both = [model_id, *([replaced.model_id] if replaced else [])]
        try:
            file_promotions(self._catalogue, self._settings, both)
        except RadirError as error:  # what serves has changed all the same; `Upkeep.tidy` files it
            log.warning("a promotion is not filed yet", extra={"model": model_id, "error": error.code})

    def retire(self, model_id: str, *, by: str, reason: str, evidence: str = "") -> None:
        """As `Models.retire`."""
        self._models.retire(model_id, by=by, reason=reason, evidence=evidence)

    def compared(self, model_id: str) -> tuple[Comparison, ...]:
        """How a model answered in shadow, beside each model that served meanwhile. Raises NotFound."""
        return compared(self._catalogue.shadow_answers.of(self.get(model_id).model_id))

    def history(self, model_id: str | None = None) -> tuple[ModelEvent, ...]:
        """As `Models.history`."""
        return self._models.history(model_id)

    def answered(self, since: datetime, until: datetime) -> tuple[Answered, ...]:
        """Which models answered at any moment of that time."""
        return answered(self._models.history(), since, until)


def _named(folder: Path, manifest: Mapping[str, Any]) -> tuple[str, ImageKind]:
    try:
        return str(manifest["model_id"]), ImageKind(manifest["kind"])
    except (KeyError, ValueError) as error:
        raise BundleRefused(f"{folder.name}: the manifest names no model: {error}") from None
