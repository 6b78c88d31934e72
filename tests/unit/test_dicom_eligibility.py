from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radir_pacs.dicom.body_parts import BodyPart, body_part_of
from radir_pacs.dicom.eligibility import assemble, plan_study
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.errors import Quarantined, Skipped
from radir_pacs.image_notes import ImageNoteCode, image_note
from radir_pacs.types import ImageKind, InstanceHeader, View
from tests.dicom_material import ct_slices, image, save

RAMP = np.arange(80 * 80, dtype=np.uint16).reshape(80, 80)


def radiograph(folder: Path, sop_uid: str = "1.2.3.4", **changes: Any) -> tuple[InstanceHeader, Path]:
    changes = {"BodyPartExamined": "CHEST", "ViewPosition": "PA", **changes}
    path = save(image(RAMP, sop_uid, **changes), folder / f"{sop_uid}.dcm")
    return read_header(path), path


def stack(folder: Path, series_uid: str, count: int, step_mm: float, number_from: int, **changes: Any) -> Any:
    folder = folder / series_uid
    folder.mkdir()
    origins = [[0.0, 0.0, i * step_mm] for i in range(count)]
    return ct_slices(
        folder,
        origins_mm=origins,
        number_from=number_from,
        SeriesInstanceUID=series_uid,
        SliceThickness=step_mm,
        **changes,
    )


def test_the_frontal_radiograph_stands_for_the_study(tmp_path: Path, decoder: PixelDecoder) -> None:
    lateral, lateral_path = radiograph(tmp_path, "1.1", ViewPosition="LL", InstanceNumber=1)
    frontal, frontal_path = radiograph(tmp_path, "1.2", ViewPosition="AP", InstanceNumber=2)
    plan = plan_study([lateral, frontal])
    [volume] = assemble(plan, {"1.1": lateral_path, "1.2": frontal_path}, decoder)
    assert volume.view is View.FRONTAL
    assert volume.sop_instance_uids == ("1.2",)


def test_the_next_candidate_serves_when_the_best_cannot_be_read(tmp_path: Path, decoder: PixelDecoder) -> None:
    best, best_path = radiograph(tmp_path, "1.1")
    next_best, path = radiograph(tmp_path, "1.2", ViewPosition="AP")
    best_path.write_bytes(best_path.read_bytes()[:-100])
    plan = plan_study([best, next_best])
    [volume] = assemble(plan, {"1.1": best_path, "1.2": path}, decoder)
    assert volume.sop_instance_uids == ("1.2",)
    with pytest.raises(Quarantined, match="truncated"):
        assemble(plan_study([best]), {"1.1": best_path}, decoder)


def test_the_thin_axial_series_that_covers_most_stands_for_a_ct(tmp_path: Path, decoder: PixelDecoder) -> None:
    thick, thick_paths = stack(tmp_path, "1.2.1", 20, 5.0, 1)
    thin, thin_paths = stack(tmp_path, "1.2.2", 50, 2.0, 101)
    short, short_paths = stack(tmp_path, "1.2.3", 20, 1.0, 201)
    scout, scout_paths = stack(tmp_path, "1.2.4", 2, 300.0, 301, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    pair, pair_paths = stack(tmp_path, "1.2.5", 2, 400.0, 401)
    plan = plan_study(thick + short + scout + thin + pair)
    ranked = [candidate.headers[0].series_uid for candidate in plan.candidates[ImageKind.CT]]
    assert ranked == ["1.2.2", "1.2.1", "1.2.3", "1.2.5"]
    [volume] = assemble(plan, thick_paths | thin_paths | short_paths | scout_paths | pair_paths, decoder)
    assert volume.series_uid == "1.2.2"


def test_a_study_may_hold_both_kinds(tmp_path: Path, decoder: PixelDecoder) -> None:
    picture, path = radiograph(tmp_path)
    slices, paths = stack(tmp_path, "1.2.1", 10, 5.0, 1)
    volumes = assemble(plan_study([picture, *slices]), {"1.2.3.4": path} | paths, decoder)
    assert {volume.kind for volume in volumes} == {ImageKind.CXR, ImageKind.CT}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Modality": "MR"}, r"modality not supported \(MR\)"),
        ({"Modality": "SR", "Rows": None}, r"no image in the study \(SR\)"),
        ({"Modality": "<b>x</b>"}, "modality not supported$"),
        ({"BodyPartExamined": "HIP"}, "another body part"),
        ({"BodyPartExamined": "", "SeriesDescription": "Knee ap"}, "another body part"),
        ({"PhotometricInterpretation": "RGB"}, "colour"),
        ({"NumberOfFrames": 5}, "several frames"),
        ({"Rows": 10}, "fewer than 64"),
        ({"Modality": "CT"}, "secondary capture"),
    ],
)
def test_what_is_not_encoded_says_why(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    header, _ = radiograph(tmp_path, **{k: v for k, v in changes.items() if k not in {"Rows", "NumberOfFrames"}})
    if "Rows" in changes:
        header = replace(header, rows_px=changes["Rows"])
    header = replace(header, frames=changes.get("NumberOfFrames", 1))
    with pytest.raises(Skipped, match=reason):
        plan_study([header])


def test_an_empty_study_is_skipped() -> None:
    with pytest.raises(Skipped, match="no instances"):
        plan_study([])


def test_an_unknown_body_part_is_taken_for_a_chest_with_a_warning(tmp_path: Path, decoder: PixelDecoder) -> None:
    header, path = radiograph(tmp_path, BodyPartExamined="")
    [volume] = assemble(plan_study([header]), {header.sop_uid: path}, decoder)
    assert image_note(ImageNoteCode.BODY_PART_UNKNOWN) in volume.warnings


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"BodyPartExamined": "CHEST"}, BodyPart.CHEST),
        ({"BodyPartExamined": "THORAX"}, BodyPart.CHEST),
        ({"BodyPartExamined": "CHESTABDPELVIS"}, BodyPart.CHEST),
        ({"BodyPartExamined": "WHOLEBODY"}, BodyPart.CHEST),
        ({"BodyPartExamined": "", "SeriesDescription": "Lunge 1.0 B70f"}, BodyPart.CHEST),
        ({"BodyPartExamined": "", "StudyDescription": "RX TÓRAX"}, BodyPart.CHEST),
        ({"BodyPartExamined": "TSPINE"}, BodyPart.OTHER),
        ({"BodyPartExamined": "", "SeriesDescription": "Thoracic spine lat"}, BodyPart.OTHER),
        ({"BodyPartExamined": "", "SeriesDescription": "Chest spine"}, BodyPart.CHEST),
        ({"BodyPartExamined": "HEAD"}, BodyPart.OTHER),
        ({"BodyPartExamined": "HEAD", "SeriesDescription": "CT Chest"}, BodyPart.CHEST),
        ({"BodyPartExamined": "ABDOMEN", "StudyDescription": "CT Chest/Abdomen"}, BodyPart.UNKNOWN),
        ({"BodyPartExamined": "JPEG 2000 Compressed Image"}, BodyPart.UNKNOWN),
        ({"BodyPartExamined": ""}, BodyPart.UNKNOWN),
    ],
)
def test_body_parts_are_read_from_what_technicians_write(
    tmp_path: Path, changes: dict[str, str], expected: BodyPart
) -> None:
    assert body_part_of(radiograph(tmp_path, **changes)[0]) is expected


def test_truncated_pixels_are_the_reason(tmp_path: Path, decoder: PixelDecoder) -> None:
    ds = image(np.zeros((128, 128), np.uint16), PatientID="P", BodyPartExamined="CHEST", ViewPosition="PA")
    ds.PixelData = ds.PixelData[:-2]
    path = save(ds, tmp_path / "x.dcm")
    plan = plan_study([read_header(path)])
    with pytest.raises(Quarantined, match=r"PixelData is truncated \(1 of 1 instances\)"):
        assemble(plan, {ds.SOPInstanceUID: path}, decoder)
