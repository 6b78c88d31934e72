"""The one instance that stands for a series or study in a picture: the frontal radiograph, the middle slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radir_pacs.catalogue import StoredInstance
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.json_model import numbers, text
from radir_pacs.dicom.views import view_of
from radir_pacs.errors import NotFound
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import View

RADIOGRAPHS = frozenset({"CR", "DX"})
_LOOKED_AT = 20  # radiographs whose view is asked for


def representative(instances: Sequence[StoredInstance], blobs: BlobStore) -> StoredInstance:
    """Raises NotFound when none has pixels."""
    pictures = [instance for instance in instances if instance.rows_px and instance.columns_px]
    if not pictures:
        raise NotFound("there is no picture in it")
    radiographs = [instance for instance in pictures if modality_of(instance) in RADIOGRAPHS]
    for instance in radiographs[:_LOOKED_AT]:
        if view_of(read_header(blobs.path(instance.content_sha256))) is View.FRONTAL:
            return instance
    return radiographs[0] if radiographs else _middle(pictures)


def modality_of(instance: StoredInstance) -> str:
    return text(dict(instance.attributes), "Modality")


def _middle(pictures: Sequence[StoredInstance]) -> StoredInstance:
    """The middle of the longest series, ordered by position along the normal, else by Instance Number."""
    series: dict[str, list[StoredInstance]] = {}
    for instance in pictures:
        series.setdefault(instance.series_uid, []).append(instance)
    longest = max(series.values(), key=len)
    ordered = sorted(longest, key=lambda instance: (_along_normal(instance), instance.instance_number or 0))
    return ordered[len(ordered) // 2]


def _along_normal(instance: StoredInstance) -> float:
    attributes = dict(instance.attributes)
    position = numbers(attributes, "ImagePositionPatient", 3)
    orientation = numbers(attributes, "ImageOrientationPatient", 6)
    if position is None or orientation is None:
        return 0.0
    return float(np.cross(orientation[:3], orientation[3:]) @ np.asarray(position))
