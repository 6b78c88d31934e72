"""From a path in a URL to what is stored there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flask import Response, after_this_request

from radir_pacs.catalogue import Away, StoredInstance
from radir_pacs.dicom.header import read_header
from radir_pacs.errors import BlobAway, BlobDamaged, NotFound, PictureAway
from radir_pacs.web.services import services

_ENDED = "The file is not kept here, by a rule of retention: ask the source PACS, or for one instance at a time."
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


def as_kept(instance: StoredInstance) -> StoredInstance:
    """The instance as its file has it: one that the source PACS keeps may come in another transfer syntax.

    Raises as `whole_blob_of`.
    """
    if services().blobs.stands(instance.content_sha256):
        return instance
    path = whole_blob_of(instance)
    return replace(instance, transfer_syntax_uid=read_header(path).transfer_syntax_uid, size_bytes=path.stat().st_size)


def blob_of(instance: StoredInstance, *, may_fetch: bool = True) -> Path:
    """Its Part-10 file, which is checked first unless it is large. Raises as `whole_blob_of`."""
    if instance.size_bytes > CHECKED_BYTES and (path := services().blobs.path(instance.content_sha256)).is_file():
        return path
    return whole_blob_of(instance, may_fetch=may_fetch)


def whole_blob_of(instance: StoredInstance, *, may_fetch: bool = True) -> Path:
    """Its Part-10 file, of which every byte has just been checked; from the source PACS where it is not kept here.

    Raises NotFound when it has just been deleted, BlobDamaged, noted for `radir problems`, when it is damaged, BlobAway
    when it is not kept here and the source PACS does not give it: what made room is pulled again then.
    """
    context = services()
    try:
        return context.blobs.intact(instance.content_sha256)
    except BlobDamaged as damaged:
        context.catalogue.instances.get(instance.sop_uid)
        reason = context.catalogue.disk.away_reason(damaged.sha256)
        away = PictureAway(damaged.sha256, _ENDED) if reason is Away.RETENTION else BlobAway(damaged.sha256)
        if may_fetch and reason is not None:
            try:
                if (path := context.source_files.file_of(instance)) is not None:
                    return _until_sent(path)
            except PictureAway as failed:
                away = failed
        if context.catalogue.damage.note(damaged.sha256, to_be_shown=True):
            raise away from damaged
        raise


def _until_sent(path: Path) -> Path:
    """A file of the source PACS, which may go from what is kept while it is read; it is given back with the answer."""
    give_back = services().source_files.give_back

    @after_this_request
    def sent(response: Response) -> Response:
        response.call_on_close(lambda: give_back(path))
        return response

    return path


def url_of(instance: StoredInstance) -> str:
    above = f"{services().base_url}/studies/{instance.study_uid}/series/{instance.series_uid}"
    return f"{above}/instances/{instance.sop_uid}"
