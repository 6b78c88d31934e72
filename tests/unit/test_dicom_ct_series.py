from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag

from radir_pacs.dicom.ct_series import CtRules, read_ct_series
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.lung_landmarks import slice_stack
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.errors import DicomRefused, Quarantined, Skipped
from radir_pacs.image_notes import ImageNoteCode, image_note
from radir_pacs.types import Volume
from tests.dicom_material import CT, ENHANCED_CT, ct_slices, hounsfield_at, image, save

AXIAL = [[-10.0, -20.0, 5.0 * z] for z in range(12)]


def check(volume: Volume, atol: float = 0.6) -> None:
    """Every voxel holds the HU of the place that the affine gives it; axes run to the left, back and head."""
    z, y, x = np.indices(volume.voxels.shape)
    at = np.stack((x, y, z, np.ones_like(x)), axis=-1) @ volume.affine.T
    np.testing.assert_allclose(volume.voxels, hounsfield_at(at[..., :3]), atol=atol)
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    assert (np.diag(directions) > 0.9).all()
    assert volume.spacing_mm == pytest.approx(tuple(np.linalg.norm(volume.affine[:3, :3], axis=0)[::-1]))


def test_slices_are_ordered_by_position_not_by_number(tmp_path: Path, decoder: PixelDecoder) -> None:
    shuffled = [AXIAL[i] for i in (7, 2, 11, 0, 5, 9, 1, 10, 3, 8, 4, 6)]
    headers, paths = ct_slices(tmp_path, origins_mm=shuffled)
    volume = read_ct_series(headers, paths, decoder)
    check(volume)
    assert volume.voxels.shape == (12, 12, 10)
    assert volume.spacing_mm == pytest.approx((5, 2, 3))
    assert volume.sop_instance_uids[0] == "1.2.3.4.4"
    assert volume.sop_instance_uids[11] == "1.2.3.4.3"
    assert volume.slice_images == volume.sop_instance_uids
    assert volume.warnings == ()


@pytest.mark.parametrize(
    ("orientation", "along"),
    [
        ((1, 0, 0, 0, 1, 0), (0, 0, 4.0)),  # axial, head first
        ((-1, 0, 0, 0, 1, 0), (0, 0, 4.0)),  # mirrored columns
        ((1, 0, 0, 0, -1, 0), (0, 0, 4.0)),  # prone
        ((0, 1, 0, -1, 0, 0), (0, 0, 4.0)),  # turned in plane
        ((1, 0, 0, 0, 0, -1), (0, 4.0, 0)),  # coronal
        ((0, 1, 0, 0, 0, -1), (4.0, 0, 0)),  # sagittal
        ((1, 0, 0, 0, np.cos(0.2), np.sin(0.2)), (0, -4 * np.sin(0.2), 4 * np.cos(0.2))),  # a little oblique
    ],
)
def test_every_acquisition_lands_on_patient_axes(
    tmp_path: Path, decoder: PixelDecoder, orientation: Sequence[float], along: Sequence[float]
) -> None:
    origins = [np.asarray([50.0, 40.0, 30.0]) + i * np.asarray(along) for i in range(9)]
    headers, paths = ct_slices(tmp_path, origins_mm=origins, orientation=orientation)
    volume = read_ct_series(headers, paths, decoder)
    check(volume)
    assert (image_note(ImageNoteCode.NOT_AXIAL) in volume.warnings) == (along[2] == 0)


def test_a_tilted_gantry_is_told_and_its_shear_kept(tmp_path: Path, decoder: PixelDecoder) -> None:
    origins = [[0.0, 1.5 * i, 5.0 * i] for i in range(10)]
    headers, paths = ct_slices(tmp_path, origins_mm=origins)
    volume = read_ct_series(headers, paths, decoder)
    check(volume)
    (tilted,) = volume.warnings
    assert (tilted.code, round(float(tilted.values["degrees"]))) == (ImageNoteCode.TILTED, 17)


def test_a_missing_slice_is_filled_in_and_told(tmp_path: Path, decoder: PixelDecoder) -> None:
    headers, paths = ct_slices(tmp_path, origins_mm=AXIAL[:6] + AXIAL[7:])
    volume = read_ct_series(headers, paths, decoder)
    assert len(volume.voxels) == len(volume.sop_instance_uids) == 12
    check(volume)
    assert any((w.code, w.values["count"]) == (ImageNoteCode.GAPS_FILLED, 1) for w in volume.warnings)


def test_a_wide_gap_is_quarantined(tmp_path: Path, decoder: PixelDecoder) -> None:
    headers, paths = ct_slices(tmp_path, origins_mm=AXIAL + [[-10, -20, 5.0 * z] for z in range(18, 30)])
    with pytest.raises(Quarantined, match="6 slices missing, the widest gap 35"):
        read_ct_series(headers, paths, decoder)


def test_uneven_slices_are_resampled(tmp_path: Path, decoder: PixelDecoder) -> None:
    heights = np.cumsum([0, 4, 4, 5, 4, 5, 4, 4, 4, 4, 5, 4, 4])
    headers, paths = ct_slices(tmp_path, origins_mm=[[0, 0, float(h)] for h in heights])
    volume = read_ct_series(headers, paths, decoder)
    check(volume)
    assert image_note(ImageNoteCode.UNEVEN_SPACING) in volume.warnings


def test_duplicates_and_phases_are_left_out(tmp_path: Path, decoder: PixelDecoder) -> None:
    headers, paths = ct_slices(tmp_path, origins_mm=[*AXIAL, AXIAL[3]])
    volume = read_ct_series(headers, paths, decoder)
    check(volume)
    assert volume.warnings == (image_note(ImageNoteCode.SAME_POSITION, count=1),)
    (tmp_path / "second").mkdir()
    first = ct_slices(tmp_path, origins_mm=AXIAL, AcquisitionNumber=1)
    second = ct_slices(tmp_path / "second", origins_mm=AXIAL, number_from=101, AcquisitionNumber=2)
    volume = read_ct_series(first[0] + second[0], first[1] | second[1], decoder)
    assert volume.warnings == (image_note(ImageNoteCode.SEVERAL_PHASES, count=2),)
    assert set(volume.sop_instance_uids) == set(first[1])


def test_strays_are_dropped_and_mixtures_quarantined(tmp_path: Path, decoder: PixelDecoder) -> None:
    (tmp_path / "stray").mkdir()
    headers, paths = ct_slices(tmp_path, origins_mm=AXIAL)
    others, more = ct_slices(tmp_path / "stray", origins_mm=AXIAL[:8], size_px=(20, 20), number_from=50)
    volume = read_ct_series([*headers, *others[:1]], paths | more, decoder)
    assert volume.warnings == (image_note(ImageNoteCode.STRAY_SLICES, count=1),)
    with pytest.raises(Quarantined, match="differ in size"):
        read_ct_series(headers + others, paths | more, decoder)


def test_what_is_no_volume_is_skipped(tmp_path: Path, decoder: PixelDecoder) -> None:
    with pytest.raises(Skipped, match="fewer than 8"):
        read_ct_series(*ct_slices(tmp_path, origins_mm=AXIAL[:5]), decoder)
    with pytest.raises(Skipped, match="0 usable"):
        read_ct_series(*ct_slices(tmp_path, origins_mm=AXIAL, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), decoder)
    with pytest.raises(Skipped, match="Hounsfield"):
        read_ct_series(*ct_slices(tmp_path, origins_mm=AXIAL, RescaleType="US"), decoder)
    turned = (1, 0, 0, 0, np.cos(0.7), np.sin(0.7))
    with pytest.raises(Skipped, match="oblique"):
        read_ct_series(*ct_slices(tmp_path, origins_mm=AXIAL, orientation=turned), decoder)


def test_too_many_voxels_are_thinned_out(tmp_path: Path, decoder: PixelDecoder) -> None:
    headers, paths = ct_slices(tmp_path, origins_mm=AXIAL)
    volume = read_ct_series(headers, paths, decoder, CtRules(most_voxels=6 * 120, fewest_slices=4))
    assert volume.voxels.shape == (6, 12, 10)
    check(volume)
    with pytest.raises(Quarantined, match="larger than the limit"):
        read_ct_series(headers, paths, decoder, CtRules(most_voxels=7 * 120))


def test_padding_becomes_air(tmp_path: Path, decoder: PixelDecoder) -> None:
    headers, paths = ct_slices(tmp_path, origins_mm=AXIAL, PixelPaddingValue=1024 - 50)
    volume = read_ct_series(headers, paths, decoder)
    assert (volume.voxels != -50).all()
    assert (volume.voxels == -1024).any()


def test_an_enhanced_multi_frame_ct_is_a_volume(tmp_path: Path, decoder: PixelDecoder) -> None:
    slices, paths = ct_slices(tmp_path, origins_mm=AXIAL[::-1])
    stored = np.concatenate([decoder.decode(paths[header.sop_uid]).pixels for header in slices])
    ds = image(stored, "1.2.9", SOPClassUID=ENHANCED_CT, Modality="CT", ImageType=["ORIGINAL", "PRIMARY", "VOLUME"])
    shared, measures, plane, transform = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [2.0, 3.0]
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = 1, -1024, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    shared.PixelValueTransformationSequence = [transform]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for origin in AXIAL[::-1]:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = origin
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames
    path = save(ds, tmp_path / "enhanced.dcm")
    volume = read_ct_series([read_header(path)], {"1.2.9": path}, decoder)
    check(volume)
    assert volume.spacing_mm == pytest.approx((5, 2, 3))
    assert set(volume.sop_instance_uids) == {"1.2.9"}
    assert volume.slice_images == (*(f"1.2.9/{frame}" for frame in range(12, 1, -1)), "1.2.9")  # from feet to head


def test_a_series_not_acquired_axially_names_no_slices(tmp_path: Path, decoder: PixelDecoder) -> None:
    origins = [[-10.0, 4.0 * y, -20.0] for y in range(12)]
    volume = read_ct_series(*ct_slices(tmp_path, origins_mm=origins, orientation=(1, 0, 0, 0, 0, -1)), decoder)
    assert volume.slice_images == () and slice_stack(volume) is None


def test_the_stack_of_a_chest_without_lungs_goes_by_its_length(tmp_path: Path, decoder: PixelDecoder) -> None:
    volume = read_ct_series(*ct_slices(tmp_path, origins_mm=AXIAL), decoder)
    flat = replace(volume, voxels=np.full_like(volume.voxels, 40))
    stack = slice_stack(flat)
    assert stack is not None and stack.images == volume.slice_images
    assert (stack.dome, stack.apex, stack.step_mm) == pytest.approx((2.75, 9.9, 5))


def test_a_rescale_beyond_all_numbers_is_a_reason(tmp_path: Path, decoder: PixelDecoder) -> None:
    headers, paths = ct_slices(tmp_path, origins_mm=AXIAL, RescaleSlope="1e308")
    with pytest.raises((DicomRefused, Skipped), match=r"finite|Hounsfield"):
        read_ct_series(headers, paths, decoder)


def test_a_slice_that_lies_about_its_size_is_quarantined(tmp_path: Path, decoder: PixelDecoder) -> None:
    headers, paths = ct_slices(tmp_path, origins_mm=AXIAL)
    liar = image(np.zeros((5, 5), np.uint16), headers[4].sop_uid, SOPClassUID=CT, Modality="CT")
    save(liar, paths[headers[4].sop_uid])  # replaced after its header was read
    with pytest.raises(Quarantined, match="another size"):
        read_ct_series(headers, paths, decoder)


ORIGINS = [(0, 0, 2 * n) for n in range(12)]


@pytest.mark.parametrize(
    ("keyword", "raw", "words"),
    [
        ("PixelSpacing", None, "0 usable slices, fewer than 8: PixelSpacing is missing (12)"),
        ("PixelSpacing", b"1,250\\1,250", "PixelSpacing cannot be read (12)"),
        ("PixelSpacing", b"0.5", "PixelSpacing cannot be read (12)"),
        ("PixelSpacing", b"0\\0", "PixelSpacing is impossible (12)"),
        ("ImagePositionPatient", b"AUTO", "ImagePositionPatient cannot be read (12)"),
        ("ImageOrientationPatient", b"1\\0\\0\\1\\0\\0", "ImageOrientationPatient is impossible (12)"),
        ("RescaleSlope", b"one", "without Hounsfield units: RescaleSlope cannot be read (12)"),
        ("RescaleSlope", b"1e308", "without Hounsfield units: RescaleSlope cannot be read (12)"),
        ("RescaleSlope", None, "without Hounsfield units: RescaleSlope is missing (12)"),
        ("RescaleIntercept", b"-1024 HU", "without Hounsfield units: RescaleIntercept cannot be read"),
        ("RescaleType", b"US", "without Hounsfield units: RescaleType is not HU (12)"),
    ],
)
def test_the_reason_names_the_attribute_and_counts(
    tmp_path: Path, decoder: PixelDecoder, keyword: str, raw: bytes | None, words: str
) -> None:
    headers, paths = ct_slices(tmp_path, origins_mm=ORIGINS)
    for path in paths.values():
        ds = dcmread(path)
        if raw is None:
            del ds[keyword]
        else:
            tag = tag_for_keyword(keyword)
            assert tag is not None
            ds[tag] = RawDataElement(BaseTag(tag), dictionary_VR(tag), len(raw), raw, 0, False, True)
        ds.save_as(path)
    headers = [read_header(path) for path in paths.values()]
    with pytest.raises(Skipped) as caught:
        read_ct_series(headers, paths, decoder)
    assert words in str(caught.value)


def test_each_cause_is_counted(tmp_path: Path, decoder: PixelDecoder) -> None:
    _, paths = ct_slices(tmp_path, origins_mm=ORIGINS)
    for number, path in enumerate(paths.values()):
        ds = dcmread(path)
        if number < 2:
            ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        elif number < 5:
            del ds.PixelSpacing
        ds.save_as(path)
    with pytest.raises(Skipped) as caught:
        read_ct_series([read_header(path) for path in paths.values()], paths, decoder)
    assert str(caught.value) == "CT series of 7 usable slices, fewer than 8: PixelSpacing is missing (3), localizer (2)"


def test_decimal_commas_and_wrong_vrs_are_a_volume(tmp_path: Path, decoder: PixelDecoder) -> None:
    _, paths = ct_slices(tmp_path, origins_mm=ORIGINS)
    for path in paths.values():
        ds = dcmread(path)
        position = "\\".join(str(float(v)).replace(".", ",") for v in ds.ImagePositionPatient)
        del ds.ImagePositionPatient, ds.PixelSpacing, ds.RescaleIntercept
        ds.add(DataElement(0x00200032, "UT", position))
        ds.add(DataElement(0x00280030, "LO", "2,0\\3,0", validation_mode=0))
        ds.add(DataElement(0x00281052, "UN", b"-1024 "))
        ds.save_as(path)
    volume = read_ct_series([read_header(path) for path in paths.values()], paths, decoder)
    assert volume.voxels.shape[0] == 12 and volume.spacing_mm[1:] == (2, 3)
