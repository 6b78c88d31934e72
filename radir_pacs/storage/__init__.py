"""Durable files: content-addressed blobs in a folder, or in a bucket with a folder beside it."""

from __future__ import annotations

from pathlib import Path

from radir_pacs.config import Settings
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.storage.s3 import S3Address
from radir_pacs.storage.s3_blobs import S3BlobStore


def open_blobs(settings: Settings, installation: str = "") -> BlobStore:
    """The installation's blobs. Raises SettingError.

    installation: `Backups.installation`, for whoever stores or removes; without it nothing in a bucket is removed.
    """
    return blobs_at(settings.home / "blobs", bucket_of(settings), settings.blob_cache_mib << 20, installation)


def bucket_of(settings: Settings) -> S3Address | None:
    """Where the blobs are, if not in the home folder. Raises SettingError."""
    return S3Address.of(settings.blob_store, settings) if settings.blob_store else None


def blobs_at(folder: Path, bucket: S3Address | None, most_bytes: int, installation: str = "") -> BlobStore:
    """In a folder, or in a bucket with that folder beside it."""
    if bucket is None:
        return BlobStore(folder)
    return S3BlobStore(folder, bucket, most_bytes=most_bytes, installation=installation)
