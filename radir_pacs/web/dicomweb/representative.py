"""The picture that represents a study or series, or shows a region of it: instance, frame, window, outlines.

Without a region it is the frontal radiograph or the middle slice; with one, the slice of a CT where the region lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from radir_pacs import anatomy
from radir_pacs.catalogue import StoredInstance
from radir_pacs.delivery.region_on_image import outlines_as_read, outlines_on
from radir_pacs.dicom.json_model import text
from radir_pacs.dicom.views import view_of
from radir_pacs.errors import NotFound
from radir_pacs.types import ImageKind, ImageRef, View, kind_of_modality
from radir_pacs.web.dicomweb.slice_order import height_mm
from radir_pacs.web.services import services


@dataclass(frozen=True, kw_only=True)
class Representative:
    """An instance and the number of its frame, from 1. window: Window Center and Width in HU; None: the file's own.

    outlines: of the region, in fractions (column, row) of the picture as it is rendered: a radiograph in its reading
    position, a slice as it is stored. stored_outlines: on the stored pixels, as other viewers show them.
    Both are empty without a region, and where outlines do not apply (a lateral view, a plane that is not axial).
    """

    instance: StoredInstance
    frame: int = 1
    window: anatomy.Window | None = None
    outlines: tuple[anatomy.Outline, ...] = ()
    stored_outlines: tuple[anatomy.Outline, ...] = ()


def representative(instances: Sequence[StoredInstance], region: str | None = None) -> Representative:
    """The picture that represents ``instances`` of one study, showing ``region`` (a key) if one is given.

    Raises NotFound when none has pixels, UnknownRegion.
    """
    pictures = [instance for instance in instances if instance.rows_px and instance.columns_px]
    if not pictures:
        raise NotFound("there is no picture in it")
    kinds = anatomy.region(region or anatomy.ROOT).kinds
    radiographs = [instance for instance in pictures if kind_of(instance) is ImageKind.CXR]
    slices = [instance for instance in pictures if kind_of(instance) is ImageKind.CT]
    if radiographs and (ImageKind.CXR in kinds or not slices):
        frontal = (instance for instance in radiographs if view_of(instance.attributes) is View.FRONTAL)
        chosen = next(frontal, radiographs[0])
    else:
        chosen = _middle(slices or pictures)
    return Representative(instance=chosen) if region is None else of_region(chosen, region)


def of_region(instance: StoredInstance, region: str) -> Representative:
    """The picture of ``instance``'s series that shows ``region`` (a key): another slice, or the instance itself.

    Slices are known for the series that was encoded. Raises UnknownRegion.
    """
    frame, window = 1, None
    if kind_of(instance) is ImageKind.CT:
        window = anatomy.ct_window(region)
        image = _slice(instance, region)
        instance, frame = image or (instance, 1)
    return Representative(
        instance=instance,
        frame=frame,
        window=window,
        outlines=outlines_as_read(region, instance.attributes),
        stored_outlines=outlines_on(region, instance.attributes),
    )


def kind_of(instance: StoredInstance) -> ImageKind | None:
    return kind_of_modality(text(instance.attributes, "Modality"))


def _slice(instance: StoredInstance, region: str) -> tuple[StoredInstance, int] | None:
    catalogue = services().catalogue
    stack = catalogue.encodings.slices(instance.study_uid, instance.series_uid)
    if stack is None:
        return None
    best: ImageRef = anatomy.slices_of(stack, region)[0]
    try:
        return catalogue.instances.get(best.sop_uid), best.frame
    except NotFound:  # deleted meanwhile
        return None


def _middle(pictures: Sequence[StoredInstance]) -> StoredInstance:
    """The middle of the longest series, ordered by position along the normal, else by Instance Number."""
    series: dict[str, list[StoredInstance]] = {}
    for instance in pictures:
        series.setdefault(instance.series_uid, []).append(instance)
    longest = max(series.values(), key=len)
    ordered = sorted(longest, key=lambda instance: (height_mm(instance), instance.instance_number or 0))
    return ordered[len(ordered) // 2]
