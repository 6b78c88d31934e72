"""The models that this worker serves: loaded once when the process starts, and registered in the catalogue."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from radir_pacs.catalogue import Models
from radir_pacs.config import Settings
from radir_pacs.encode import Bundle, Encoder, Preprocessing, default_bundles
from radir_pacs.encode.card import has_collapsed
from radir_pacs.errors import SettingError
from radir_pacs.types import ImageKind

log = logging.getLogger(__name__)


class Encoders:
    """One encoder per image kind for which a bundle is set."""

    def __init__(self, settings: Settings, models: Models, worker: int = 0) -> None:
        """``worker``: as in ``choose_device``. Raises BundleRefused, and SettingError for two bundles of one kind."""
        folders = [Path(folder) for folder in settings.models] or list(default_bundles().values())
        self._encoders: dict[ImageKind, Encoder] = {}
        for folder in folders:
            encoder = Encoder(
                Bundle.load(folder),
                device=settings.device,
                threads=settings.torch_threads,
                mixed={"auto": None, "full": False, "mixed": True}[settings.precision],
                worker=worker,
            )
            if encoder.kind in self._encoders:
                raise SettingError(f"models: two bundles for {encoder.kind}")
            if has_collapsed(encoder.bundle.manifest):
                log.warning(
                    "the model gives every study the same vector: train another", extra={"model": encoder.model_id}
                )
            self._encoders[encoder.kind] = encoder
        for kind, encoder in self._encoders.items():
            dim = encoder.bundle.network.config.vector_dim
            models.register(encoder.model_id, kind, dim, encoder.bundle.manifest)

    @property
    def device(self) -> str:
        """Where the network runs, such as ``cuda:1``."""
        return str(next(iter(self._encoders.values())).device)

    @property
    def preparing(self) -> Mapping[ImageKind, Preprocessing]:
        """How an image of each served kind is prepared."""
        return {kind: encoder.bundle.preprocessing for kind, encoder in self._encoders.items()}

    def encoder(self, kind: ImageKind) -> Encoder:
        """The encoder of a kind that is served."""
        return self._encoders[kind]
