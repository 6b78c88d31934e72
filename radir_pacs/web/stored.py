"""From a path in a URL to what is stored there."""

from __future__ import annotations

from pathlib import Path

from radir_pacs.catalogue import StoredInstance
from radir_pacs.errors import NotFound

from .services import services


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
    """Its Part-10 file. Raises NotFound when it has just been deleted."""
    path = services().blobs.path(instance.content_sha256)
    if not path.is_file():
        raise NotFound("the instance is no longer here")
    return path


def url_of(instance: StoredInstance) -> str:
    above = f"{services().base_url}/studies/{instance.study_uid}/series/{instance.series_uid}"
    return f"{above}/instances/{instance.sop_uid}"
