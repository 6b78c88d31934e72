from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.dicom.radiograph import read_radiograph
from radir_pacs.errors import DicomRefused
from radir_pacs.image_notes import ImageNoteCode, image_note
from radir_pacs.types import View, Volume
from tests.dicom_material import image, save

RAMP = (
    np.linspace(0, 1000, 32 * 48).reshape(32, 48).round().astype(np.uint16)
)  # darkest top left, brightest bottom right


def read(folder: Path, decoder: PixelDecoder, pixels: Any = RAMP, **changes: Any) -> Volume:
    path = save(image(pixels, **changes), folder / "x.dcm")
    return read_radiograph(read_header(path), path, decoder)


def lut(first: int, values: list[int], bits: int = 8) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(values), first, bits])
    item.add_new("LUTData", "OW", np.asarray(values, "<u2").tobytes())
    return item


def test_without_a_window_the_shades_spread_over_the_range(tmp_path: Path, decoder: PixelDecoder) -> None:
    volume = read(tmp_path, decoder)
    assert volume.voxels.shape == (1, 32, 48)
    assert (volume.voxels.min(), volume.voxels.max()) == (0, 1)
    np.testing.assert_allclose(volume.voxels[0, 16, 0], 0.5, atol=0.03)


def test_a_linear_window_follows_the_formula_of_the_standard(tmp_path: Path, decoder: PixelDecoder) -> None:
    volume = read(tmp_path, decoder, WindowCenter="500", WindowWidth="801", RescaleSlope="1", RescaleIntercept="-10")
    modality = RAMP.astype(float) - 10
    expected = ((modality - 499.5) / 800 + 0.5).clip(0, 1)
    np.testing.assert_allclose(volume.voxels[0], expected, atol=1e-5)


def test_linear_exact_and_sigmoid_windows(tmp_path: Path, decoder: PixelDecoder) -> None:
    window = {"WindowCenter": "500", "WindowWidth": "800"}
    exact = read(tmp_path, decoder, VOILUTFunction="LINEAR_EXACT", **window).voxels[0]
    np.testing.assert_allclose(exact, ((RAMP - 500.0) / 800 + 0.5).clip(0, 1), atol=1e-5)
    sigmoid = read(tmp_path, decoder, VOILUTFunction="SIGMOID", **window).voxels[0]
    np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-4 * (RAMP - 500.0) / 800)), atol=1e-5)


def test_a_voi_lut_goes_before_a_window(tmp_path: Path, decoder: PixelDecoder) -> None:
    table = list(range(255, -1, -1))  # inverts
    volume = read(tmp_path, decoder, VOILUTSequence=[lut(100, table)], WindowCenter="500", WindowWidth="1000")
    expected = (255 - (RAMP.astype(int) - 100).clip(0, 255)) / 255
    np.testing.assert_allclose(volume.voxels[0], expected, atol=1e-5)


def test_a_large_modality_lut_is_used(tmp_path: Path, decoder: PixelDecoder) -> None:
    table = [min(i * 2, 4095) for i in range(4096)]
    volume = read(tmp_path, decoder, ModalityLUTSequence=[lut(0, table, 12)], WindowCenter="1000", WindowWidth="2001")
    np.testing.assert_allclose(volume.voxels[0], ((RAMP * 2.0 - 999.5) / 2000 + 0.5).clip(0, 1), atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"},
    ],
)
def test_inverse_pictures_are_inverted_once(tmp_path: Path, decoder: PixelDecoder, changes: dict[str, str]) -> None:
    upright, inverse = read(tmp_path, decoder), read(tmp_path, decoder, **changes)
    np.testing.assert_allclose(inverse.voxels, 1 - upright.voxels, atol=1e-6)


@pytest.mark.parametrize(
    ("photometric", "shape"), [("MONOCHROME2", "INVERSE"), ("MONOCHROME1", "IDENTITY"), ("MONOCHROME1", "inverse")]
)
def test_a_stray_lut_shape_is_followed_for_the_senders_named_alone(
    tmp_path: Path, decoder: PixelDecoder, photometric: str, shape: str
) -> None:
    plain = read(tmp_path, decoder).voxels
    path = save(image(RAMP, PhotometricInterpretation=photometric, PresentationLUTShape=shape), tmp_path / "x.dcm")
    by_photometric, by_shape = photometric == "MONOCHROME1", shape.upper() == "INVERSE"
    for sender, inverted in (("OTHER", by_photometric), ("ODD_CR", by_shape)):
        header = replace(read_header(path), source=sender)
        volume = read_radiograph(header, path, decoder, lut_shape_senders={"ODD_CR"})
        np.testing.assert_allclose(volume.voxels, 1 - plain if inverted else plain, atol=1e-6)
        warned = any("FOLLOWED" in warning.code.name for warning in volume.warnings)
        assert warned is (by_photometric is not by_shape)


@pytest.mark.parametrize(
    "changes",
    [
        {"RescaleSlope": "1e308", "RescaleIntercept": "0"},
        {"RescaleSlope": "1", "RescaleIntercept": "-1e308"},
        {"RescaleSlope": "1e308", "RescaleIntercept": "-1e308"},
    ],
)
def test_a_rescale_beyond_all_numbers_is_a_reason(
    tmp_path: Path, decoder: PixelDecoder, changes: dict[str, str]
) -> None:
    with pytest.raises(DicomRefused, match="finite"):
        read(tmp_path, decoder, **changes)


@pytest.mark.parametrize("changes", [{"WindowCenter": "1e308"}, {"WindowWidth": "1e308"}, {"WindowWidth": "-5"}])
def test_a_window_beyond_all_numbers_is_not_believed(
    tmp_path: Path, decoder: PixelDecoder, changes: dict[str, str]
) -> None:
    volume = read(tmp_path, decoder, **({"WindowCenter": "500", "WindowWidth": "1000"} | changes))
    np.testing.assert_array_equal(volume.voxels, read(tmp_path, decoder).voxels)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_stretch_the_shades(
    tmp_path: Path, decoder: PixelDecoder, photometric: str
) -> None:
    padded = RAMP.copy()
    padded[:8] = 60000
    volume = read(tmp_path, decoder, padded, PixelPaddingValue=60000, PhotometricInterpretation=photometric)
    assert (volume.voxels[0, :8] == 0).all()
    assert volume.voxels[0, 8:].std() > 0.2


def test_a_window_that_hides_everything_is_not_believed(tmp_path: Path, decoder: PixelDecoder) -> None:
    volume = read(tmp_path, decoder, WindowCenter="30000", WindowWidth="10")
    assert volume.voxels.std() > 0.2
    assert image_note(ImageNoteCode.WINDOW_REPLACED) in volume.warnings


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (["L", "F"], lambda p: p),
        (["R", "F"], lambda p: p[:, ::-1]),
        (["R", "H"], lambda p: p[::-1, ::-1]),
        (["F", "L"], lambda p: p.T),
        (["H", "R"], lambda p: p.T[::-1, ::-1]),
        (["F", "R"], lambda p: p.T[:, ::-1]),
        (["H", "L"], lambda p: p.T[::-1]),
        (["P", "F"], lambda p: p),
        (["FA", "P"], lambda p: p.T),
        (["L", "R"], lambda p: p),  # makes no sense
    ],
)
def test_the_picture_is_turned_to_the_reading_position(
    tmp_path: Path, decoder: PixelDecoder, orientation: list[str], turn: Any
) -> None:
    window = {"WindowCenter": "500", "WindowWidth": "1001", "PixelSpacing": [0.2, 0.3]}
    plain = read(tmp_path, decoder, **window)
    turned = read(tmp_path, decoder, PatientOrientation=orientation, **window)
    np.testing.assert_array_equal(turned.voxels[0], turn(plain.voxels[0]))
    assert turned.spacing_mm[1:] == ((0.3, 0.2) if turned.voxels.shape[1] == 48 else (0.2, 0.3))


@pytest.mark.parametrize(
    ("changes", "spacing_mm"),
    [
        ({"PixelSpacing": [0.1, 0.2], "ImagerPixelSpacing": [1, 1]}, (0.1, 0.2)),
        ({"ImagerPixelSpacing": [0.3, 0.3], "EstimatedRadiographicMagnificationFactor": "1.5"}, (0.2, 0.2)),
        ({"PixelAspectRatio": [2, 1]}, (800 / 48, 400 / 48)),
        ({"PixelSpacing": [0, 0]}, (400 / 48, 400 / 48)),
    ],
)
def test_spacing(
    tmp_path: Path, decoder: PixelDecoder, changes: dict[str, Any], spacing_mm: tuple[float, float]
) -> None:
    assert read(tmp_path, decoder, **changes).spacing_mm[1:] == pytest.approx(spacing_mm)


def code(value: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "view"
    return [item]


@pytest.mark.parametrize(
    ("changes", "view"),
    [
        ({"ViewPosition": "PA"}, View.FRONTAL),
        ({"ViewPosition": "LL"}, View.LATERAL),
        *(({"ViewPosition": oblique}, None) for oblique in ("LLO", "RLO", "LAO", "RAO", "LPO", "RPO")),
        ({"ViewCodeSequence": code("399348003")}, View.FRONTAL),
        ({"ViewCodeSequence": code("399173006"), "SeriesDescription": "PA"}, View.LATERAL),
        ({"ViewCodeSequence": code("399135007")}, None),
        ({"PatientOrientation": ["L", "F"]}, View.FRONTAL),
        ({"PatientOrientation": ["P", "F"]}, View.LATERAL),
        ({"SeriesDescription": "CHEST PA"}, View.FRONTAL),
        ({"SeriesDescription": "Chest lat."}, View.LATERAL),
        ({"SeriesDescription": "W034 Thorax lateral"}, View.LATERAL),
        ({"StudyDescription": "PORTABLE CHEST"}, View.FRONTAL),
        ({"SeriesDescription": "CHEST PA AND LAT"}, None),
        ({"SeriesDescription": "Papua"}, None),
    ],
)
def test_the_view_is_found(tmp_path: Path, decoder: PixelDecoder, changes: dict[str, Any], view: View | None) -> None:
    assert read(tmp_path, decoder, **changes).view is view


def test_what_is_no_single_grey_picture_is_refused(tmp_path: Path, decoder: PixelDecoder) -> None:
    with pytest.raises(DicomRefused, match="several frames"):
        read(tmp_path, decoder, np.stack([RAMP, RAMP]))
    with pytest.raises(DicomRefused, match="flat shade"):
        read(tmp_path, decoder, np.zeros((32, 32), np.uint16))
    colour = image(np.zeros((32, 96), np.uint8), SamplesPerPixel=3, Columns=32, PhotometricInterpretation="RGB")
    colour.PlanarConfiguration = 0
    path = save(colour, tmp_path / "colour.dcm")
    with pytest.raises(DicomRefused, match="colour"):
        read_radiograph(read_header(path), path, decoder)
