"""The one instance that stands for a series or study in a picture: the frontal radiograph, the middle slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radir_pacs.catalogue import StoredInstance
from radir_pacs.dicom.json_model import numbers, text
from radir_pacs.dicom.views import view_of
from radir_pacs.errors import NotFound
from radir_pacs.types import InstanceHeader, View

RADIOGRAPHS = frozenset({"CR", "DX"})
_LOOKED_AT = 20  # radiographs whose view is asked for


def representative(instances: Sequence[StoredInstance]) -> StoredInstance:
    """Raises NotFound when none has pixels."""
    pictures = [instance for instance in instances if instance.rows_px and instance.columns_px]
    if not pictures:
        raise NotFound("there is no picture in it")
    radiographs = [instance for instance in pictures if modality_of(instance) in RADIOGRAPHS]
    for instance in radiographs[:_LOOKED_AT]:
        if view_of_stored(instance) is View.FRONTAL:
            return instance
    return radiographs[0] if radiographs else _middle(pictures)


def view_of_stored(instance: StoredInstance) -> View | None:
    """The view of a radiograph by what the catalogue holds of its header: its file may be damaged."""
    attributes = dict(instance.attributes)
    return view_of(
        InstanceHeader(
            study_uid=instance.study_uid,
            series_uid=instance.series_uid,
            sop_uid=instance.sop_uid,
            sop_class_uid=instance.sop_class_uid,
            transfer_syntax_uid=instance.transfer_syntax_uid,
            series_description=text(attributes, "SeriesDescription"),
            study_description=text(attributes, "StudyDescription"),
            attributes=attributes,
        )
    )


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
