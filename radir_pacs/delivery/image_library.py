"""The Image Library (PS3.16 TID 1600) with the query image, and the other slices of its series that are outlined.

highdicom's own class raises on radiographs without orientation or spacing; here a descriptor is written only if the
header has it. Cases found are not listed: a viewer would try to load other patients' images.
"""

from __future__ import annotations

from collections.abc import Sequence

from highdicom.sr.enum import RelationshipTypeValues
from highdicom.sr.value_types import (
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    TextContentItem,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset

from radir_pacs.delivery import codes
from radir_pacs.delivery.query_header import numbers, text
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.types import Code

_CONTAINS = RelationshipTypeValues.CONTAINS
_CONTEXT = RelationshipTypeValues.HAS_ACQ_CONTEXT


def image_library(images: Sequence[Dataset]) -> ContainerContentItem:
    """The library container, to be placed between Procedure Reported and Imaging Measurements."""
    group = _container(codes.IMAGE_LIBRARY_GROUP, [_entry(image) for image in images])
    return _container(codes.IMAGE_LIBRARY, [group])


def _entry(image: Dataset) -> ImageContentItem:
    entry = ImageContentItem(
        name=codes.concept(codes.SOURCE),
        referenced_sop_class_uid=str(image.SOPClassUID),
        referenced_sop_instance_uid=str(image.SOPInstanceUID),
        relationship_type=_CONTAINS,
    )
    entry.ContentSequence = ContentSequence(_descriptors(image))
    return entry


def _container(name: Code, content: Sequence[ContentItem]) -> ContainerContentItem:
    container = ContainerContentItem(name=codes.concept(name), relationship_type=_CONTAINS)
    container.ContentSequence = ContentSequence(content)
    return container


def _descriptors(image: Dataset) -> list[ContentItem]:
    """TID 1602, with TID 1603 for a radiograph and TID 1604 for a CT slice, as far as the header has the values."""
    modality = codes.MODALITIES.get(text(image, "Modality"), codes.OTHER_MODALITY)
    found: list[ContentItem] = [
        CodeContentItem(name=codes.concept(codes.MODALITY), value=codes.concept(modality), relationship_type=_CONTEXT)
    ]
    frame_of_reference = text(image, "FrameOfReferenceUID")
    if is_valid_uid(frame_of_reference):
        concept = codes.concept(codes.FRAME_OF_REFERENCE_UID)
        found.append(UIDRefContentItem(name=concept, value=frame_of_reference, relationship_type=_CONTEXT))
    found += _number(codes.PIXEL_DATA_ROWS, numbers(image, "Rows", 1), codes.PIXELS)
    found += _number(codes.PIXEL_DATA_COLUMNS, numbers(image, "Columns", 1), codes.PIXELS)
    orientation = image.get("PatientOrientation") or ()
    if not isinstance(orientation, str) and len(orientation) == 2 and all(orientation):
        names = (codes.PATIENT_ORIENTATION_ROW, codes.PATIENT_ORIENTATION_COLUMN)
        for name, value in zip(names, orientation, strict=True):
            found.append(TextContentItem(name=codes.concept(name), value=str(value), relationship_type=_CONTEXT))
    spacing = numbers(image, "PixelSpacing", 2) or numbers(image, "ImagerPixelSpacing", 2)
    if spacing is not None:
        found += _number(codes.HORIZONTAL_PIXEL_SPACING, spacing[1:], codes.MILLIMETRE)
        found += _number(codes.VERTICAL_PIXEL_SPACING, spacing[:1], codes.MILLIMETRE)
    found += _number(codes.SLICE_THICKNESS, numbers(image, "SliceThickness", 1), codes.MILLIMETRE)
    return found


def _number(name: Code, value: tuple[float, ...] | None, unit: Code) -> list[ContentItem]:
    if value is None:
        return []
    number = int(value[0]) if value[0].is_integer() else value[0]
    return [
        NumContentItem(name=codes.concept(name), value=number, unit=codes.concept(unit), relationship_type=_CONTEXT)
    ]
