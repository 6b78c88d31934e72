"""Durable files: content-addressed blobs in a folder."""

from __future__ import annotations

from radir_pacs.config import Settings
from radir_pacs.storage.blobs import BlobStore


def open_blobs(settings: Settings) -> BlobStore:
    """The installation's blobs."""
    return BlobStore(settings.home / "blobs")
