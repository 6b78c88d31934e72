"""From a path in a URL to what is stored there."""

from __future__ import annotations

from pathlib import Path

from radir_pacs.catalogue import StoredInstance
from radir_pacs.errors import BlobAway, BlobDamaged, NotFound
from radir_pacs.web.services import services

CHECKED_BYTES = 64 << 20  # a tenth of a second; a frame of a larger file must not wait for all of it


def instances_at(study: str, series: str | None = None) -> tuple[StoredInstance, ...]:
    """The instances of a study or series, in the catalogue's order. Raises NotFound when there are none."""
    found = services().catalogue.instances.of_study(study, series)
    if not found:
        raise NotFound("there is no such study" if series is None else "there is no such series in this study")
    return found


def instance_at(study: str, series: str, instance: str) -> StoredInstance:
    """Raises NotFound, also when it belongs to another study or series."""
    found = services().catalogue.instances.get(instance)
    if (found.study_uid, found.series_uid) != (study, series):
        raise NotFound("there is no such instance in this series")
    return found


def blob_of(instance: StoredInstance) -> Path:
    """Its Part-10 file, which is checked first unless it is large. Raises as `whole_blob_of`."""
    if instance.size_bytes > CHECKED_BYTES and (path := services().blobs.path(instance.content_sha256)).is_file():
        return path
    return whole_blob_of(instance)


def whole_blob_of(instance: StoredInstance) -> Path:
    """Its Part-10 file, of which every byte has just been checked.

    Raises NotFound when it has just been deleted, BlobDamaged, noted for `radir problems`, when it is damaged, BlobAway
    when it made room and is pulled again.
    """
    context = services()
    try:
        return context.blobs.intact(instance.content_sha256)
    except BlobDamaged as damaged:
        context.catalogue.instances.get(instance.sop_uid)
        if context.catalogue.damage.note(damaged.sha256):
            raise BlobAway(damaged.sha256) from damaged
        raise


def url_of(instance: StoredInstance) -> str:
    above = f"{services().base_url}/studies/{instance.study_uid}/series/{instance.series_uid}"
    return f"{above}/instances/{instance.sop_uid}"
