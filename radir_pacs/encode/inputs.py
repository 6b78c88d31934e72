"""What the network is shown of a study: made without torch, in whichever process reads the study."""

from __future__ import annotations

from dataclasses import dataclass

from radir_pacs.dicom.lung_landmarks import slice_stack
from radir_pacs.image_notes import ImageNote, ImageNoteCode, image_note
from radir_pacs.types import F32, ImageKind, SliceStack, View, Volume

from .preprocess import Preprocessing, preprocess

LEAST_CT_MM = 120.0  # a shorter chest CT misses whole lobes


@dataclass(frozen=True, kw_only=True)
class EncoderInput:
    """One image as the network takes it, and what its encoding will say of it.

    image: [1, *shape] of the ``Preprocessing``; the voxels that it was made from are gone. The rest is as in
    ``Encoding``.
    """

    kind: ImageKind
    view: View | None
    image: F32
    study_uid: str
    series_uid: str
    sop_uid: str
    slices: SliceStack | None
    warnings: tuple[ImageNote, ...]

    @property
    def is_lateral(self) -> bool:
        """A lateral view cannot tell left from right."""
        return self.kind is ImageKind.CXR and self.view is View.LATERAL


def encoder_input(volume: Volume, how: Preprocessing) -> EncoderInput:
    """``volume`` prepared as ``how`` says, which is of its kind. Raises Quarantined when the image shows nothing."""
    uids = volume.sop_instance_uids
    return EncoderInput(
        kind=volume.kind,
        view=volume.view,
        image=preprocess(volume, how),
        study_uid=volume.study_uid,
        series_uid=volume.series_uid,
        sop_uid=uids[len(uids) // 2],
        slices=slice_stack(volume),
        warnings=volume.warnings + _coverage_warnings(volume),
    )


def _coverage_warnings(volume: Volume) -> tuple[ImageNote, ...]:
    if volume.kind is ImageKind.CXR and volume.view is View.LATERAL:
        return (image_note(ImageNoteCode.NO_SIDES),)
    covered_mm = volume.voxels.shape[0] * volume.spacing_mm[0]
    if volume.kind is ImageKind.CT and covered_mm < LEAST_CT_MM:
        return (image_note(ImageNoteCode.SHORT_SERIES, covered_mm=covered_mm),)
    return ()
