"""The models that this worker serves: loaded once when the process starts, and registered in the catalogue."""

from __future__ import annotations

import logging
from pathlib import Path

from radir_pacs.catalogue import Models
from radir_pacs.config import Settings
from radir_pacs.encode import Bundle, Encoder, default_bundles
from radir_pacs.encode.card import has_collapsed
from radir_pacs.errors import SettingError
from radir_pacs.types import ImageKind

log = logging.getLogger(__name__)


class Encoders:
    """One encoder per image kind for which a bundle is set."""

    def __init__(self, settings: Settings, models: Models) -> None:
        """Raises BundleRefused, and SettingError for two bundles of one kind."""
        folders = [Path(folder) for folder in settings.models] or list(default_bundles().values())
        self._encoders: dict[ImageKind, Encoder] = {}
        for folder in folders:
            encoder = Encoder(Bundle.load(folder), device=settings.device, threads=settings.torch_threads)
            if encoder.kind in self._encoders:
                raise SettingError(f"models: two bundles for {encoder.kind}")
            if has_collapsed(encoder.bundle.manifest):
                log.warning(
                    "the model gives every study the same vector: train another", extra={"model": encoder.model_id}
                )
            self._encoders[encoder.kind] = encoder
        for kind, encoder in self._encoders.items():
            dim = encoder.bundle.network.config.embedding_dim
            models.register(encoder.model_id, kind, dim, encoder.bundle.manifest)

    def encoder(self, kind: ImageKind) -> Encoder | None:
        """The encoder of a kind, None where none is served."""
        return self._encoders.get(kind)
