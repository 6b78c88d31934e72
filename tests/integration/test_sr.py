"""The structured report: what it says, what it must not say, and that dciodvfy finds no error."""

from __future__ import annotations

import csv
import io
import logging
import re
import subprocess
import warnings
from datetime import UTC
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from radir_pacs import anatomy
from radir_pacs.delivery import codes
from radir_pacs.delivery.check import content_tree as tree
from radir_pacs.delivery.check.template import violations
from radir_pacs.delivery.structured_report import similar_cases_sr
from radir_pacs.dicom.loop_guard import CODING_SCHEME_UID
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.types import ImageKind, ImageRef
from tests.services import data_dir, need
from tests.sr_material import (
    DEVICE_UID,
    NOW,
    OTHERS_ID,
    OTHERS_NAME,
    hit_headers,
    image_header,
    report,
    several_regions,
    several_slices,
    similar_answer,
)

_OF_OUR_SCHEME = re.compile(rf"Unrecognized defined term <({anatomy.PRIVATE_SCHEME}|{CODING_SCHEME_UID})>")
# Sided, unsided, private, with the side in its code, and below the lungs.
REGIONS = ["left_lower_lobe", "heart", "right_costophrenic_angle", "right_middle_lobe", "abdomen"]


def dciodvfy_complaints(path: Path) -> list[str]:
    """What dciodvfy says, but for the warning that a private coding scheme is not one it knows."""
    done = subprocess.run([need("dciodvfy"), str(path)], capture_output=True, text=True, timeout=60)
    return [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if line.startswith(("Error", "Warning")) and not _OF_OUR_SCHEME.search(line)
    ]


def groups(sr: Dataset) -> list[Dataset]:
    return tree.children(tree.children(sr, codes.IMAGING_MEASUREMENTS)[0], codes.MEASUREMENT_GROUP)


def sites(group: Dataset) -> list[tuple[str, str, str]]:
    """Code, scheme and laterality code of each finding site."""
    found = []
    for item in tree.children(group, codes.FINDING_SITE):
        sides = [tree.code(side, "ConceptCodeSequence")[0] for side in tree.children(item, codes.LATERALITY)]
        found.append((*tree.code(item, "ConceptCodeSequence"), "".join(sides)))
    return found


@pytest.mark.parametrize("comprehensive_3d", [True, False])
@pytest.mark.parametrize("include_other_uids", [True, False])
@pytest.mark.parametrize("modality", ["CR", "DX", "CT"])
def test_no_validator_complains(
    modality: str, include_other_uids: bool, comprehensive_3d: bool, tmp_path: Path
) -> None:
    for region in REGIONS:
        sr = report(modality, region, include_other_uids=include_other_uids, comprehensive_3d=comprehensive_3d)
        assert violations(sr, foreign_texts=[OTHERS_NAME, OTHERS_ID, "Somebody", "OTHER"]) == []
        sr.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
        assert dciodvfy_complaints(tmp_path / "sr.dcm") == []
    expected = "1.2.840.10008.5.1.4.1.1.88.34" if comprehensive_3d else "1.2.840.10008.5.1.4.1.1.88.33"
    assert sr.SOPClassUID == expected


def test_every_region_of_both_kinds_makes_a_sound_report(tmp_path: Path) -> None:
    for kind, modality in ((ImageKind.CXR, "DX"), (ImageKind.CT, "CT")):
        for region in anatomy.trained(kind):
            assert violations(report(modality, region.key, answer=similar_answer(region.key, 1))) == []


def test_it_belongs_to_the_query_patient_and_study() -> None:
    query_image = image_header()
    sr = report(query_image=query_image)
    for keyword in ("PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "AccessionNumber"):
        assert sr[keyword].value == query_image[keyword].value
    assert sr.PatientName == "Müller^Jane"
    assert sr.SpecificCharacterSet == "ISO_IR 192"
    assert (sr.CompletionFlag, sr.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert (sr.ContentDate, sr.InstanceCreationDate) == ("20260102", "20260102")


def test_groups_come_by_rank_with_score_and_a_reference() -> None:
    answer = similar_answer()
    shuffled = similar_answer(cases=answer.cases[::-1])
    found = groups(report(answer=shuffled))
    assert [tree.number(group, codes.RANK) for group in found] == [1, 2, 3]
    assert [str(tree.children(group, codes.RANK)[0].MeasuredValueSequence[0].NumericValue) for group in found] == [
        "1",
        "2",
        "3",
    ]
    assert tree.number(found[0], codes.SIMILARITY_SCORE) == pytest.approx(0.987654)
    images = [tree.image_uid(tree.children(group, codes.SIMILAR_IMAGE)[0]) for group in found]
    assert images == [case.sop_uid for case in answer.cases]


def test_evidence_query_study_in_one_sequence_hits_in_the_other() -> None:
    sr = report()
    assert tree.evidence(sr, "CurrentRequestedProcedureEvidenceSequence") == {"1.2.3.1.3": "1.2.3.1.1"}
    assert set(tree.evidence(sr, "PertinentOtherEvidenceSequence").values()) == {"1.2.9.0.1", "1.2.9.1.1", "1.2.9.2.1"}


def test_without_other_uids_cases_are_only_numbered() -> None:
    answer = similar_answer()
    sr = similar_cases_sr(answer, image_header(), {}, now=NOW, device_uid=DEVICE_UID, include_other_uids=False)
    assert "PertinentOtherEvidenceSequence" not in sr
    named = [uid for case in answer.cases for uid in (case.sop_uid, case.series_uid, case.study.study_uid)]
    assert violations(sr, foreign_texts=[*named, "1.2.9."]) == []
    assert violations(report(), foreign_texts=named[:1]) == ["a text names another patient"]
    assert [tree.number(group, codes.RANK) for group in groups(sr)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("heart", [("80891009", "SCT", "")]),
        ("left_lower_lobe", [("90572001", "SCT", "7771000")]),
        ("right_middle_lobe", [("72481006", "SCT", "")]),
        ("right_costophrenic_angle", [("COSTOPHRENIC", "99RADIR", "24028007"), ("3120008", "SCT", "")]),
        ("retrocardiac_region", [("RETROCARDIAC", "99RADIR", ""), ("90572001", "SCT", "7771000")]),
    ],
)
def test_finding_site(region: str, expected: list[tuple[str, str, str]]) -> None:
    for group in groups(report(region=region)):
        assert sites(group) == expected


def test_a_parent_that_answered_is_the_site_and_the_region_asked_is_told() -> None:
    answer = similar_answer(region_asked=anatomy.region("lingula"), region_answered=anatomy.region("left_upper_lobe"))
    group = groups(report(answer=answer))[0]
    assert sites(group) == [("45653009", "SCT", "7771000")]
    texts = [str(item.TextValue) for item in tree.children(group, codes.ALGORITHM_PARAMETERS)]
    assert "region_asked=lingula" in texts and "generation=g-17" in texts and "search=approximate" in texts
    assert "as_of=2026-01-02T03:00:00+00:00" in texts


def polyline(sr: Dataset) -> list[tuple[float, float]]:
    data = [float(number) for number in tree.children(groups(sr)[0], codes.IMAGE_REGION)[0].GraphicData]
    return list(zip(data[::2], data[1::2], strict=True))


@pytest.mark.parametrize(
    ("modality", "changes", "at_the_left"),
    [
        ("DX", {}, True),
        ("DX", {"PatientOrientation": ["R", "F"]}, False),
        ("DX", {"PatientOrientation": None}, True),
        ("RG", {}, True),
        ("CT", {}, True),
        ("CT", {"ImageOrientationPatient": [-1, 0, 0, 0, 1, 0]}, False),
    ],
)
def test_outline_lies_on_the_side_of_the_region(modality: str, changes: dict[str, Any], at_the_left: bool) -> None:
    points = polyline(report(modality, "right_lower_lobe", query_image=image_header(modality, **changes)))
    assert points[0] == points[-1] and len(points) >= 4
    assert all(0 <= column <= 500 and 0 <= row <= 400 for column, row in points)
    middle = sum(column for column, _ in points[:-1]) / (len(points) - 1)
    assert (middle < 250) is at_the_left


@pytest.mark.parametrize(
    ("modality", "changes"),
    [
        ("DX", {"ViewPosition": "LL"}),
        ("DX", {"ViewPosition": "LLO"}),
        ("DX", {"ViewPosition": "RAO", "PatientOrientation": None}),
        ("DX", {"PatientOrientation": ["A", "F"]}),
        ("DX", {"ViewPosition": None, "PatientOrientation": None, "SeriesDescription": "Chest lateral"}),
        ("CT", {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}),
    ],
)
def test_where_no_outline_holds_the_chest_is_outlined(modality: str, changes: dict[str, Any]) -> None:
    query_image = image_header(modality, **changes)
    assert polyline(report(modality, "heart", query_image=query_image)) == polyline(
        report(modality, "chest", query_image=query_image)
    )


@pytest.mark.parametrize(
    ("modality", "changes", "to_stored"),
    [
        ("DX", {"PatientOrientation": ["F", "L"]}, lambda x, y: (y, x)),
        ("DX", {"PatientOrientation": ["F", "R"]}, lambda x, y: (y, 1 - x)),
        ("DX", {"PatientOrientation": ["H", "L"]}, lambda x, y: (1 - y, x)),
        ("DX", {"PatientOrientation": ["H", "R"]}, lambda x, y: (1 - y, 1 - x)),
        ("DX", {"PatientOrientation": ["R", "H"]}, lambda x, y: (1 - x, 1 - y)),
        ("CT", {"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, lambda x, y: (y, x)),
        ("CT", {"ImageOrientationPatient": [0, 1, 0, -1, 0, 0]}, lambda x, y: (y, 1 - x)),
        ("CT", {"ImageOrientationPatient": [0, -1, 0, 1, 0, 0]}, lambda x, y: (1 - y, x)),
    ],
)
def test_an_outline_follows_a_turned_picture(modality: str, changes: dict[str, Any], to_stored: Any) -> None:
    kind = ImageKind.CT if modality == "CT" else ImageKind.CXR
    expected = [to_stored(x, y) for x, y in anatomy.outline("right_lower_lobe", kind)]
    points = polyline(report(modality, "right_lower_lobe", query_image=image_header(modality, **changes)))
    assert points[:-1] == [pytest.approx((500 * x, 400 * y), abs=0.01) for x, y in expected]


@pytest.mark.parametrize("modality", ["DX", "CT"])
@pytest.mark.parametrize("region", ["lungs", "pleura"])
def test_both_sides_are_outlined(modality: str, region: str, tmp_path: Path) -> None:
    sr = report(modality, region)
    outlines = tree.children(groups(sr)[0], codes.IMAGE_REGION)
    sides = [sorted(float(n) for n in outline.GraphicData[::2]) for outline in outlines]
    assert len(sides) == 2 and sides[0][-1] < 290 and sides[1][0] > 210
    assert violations(sr) == []
    sr.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    assert dciodvfy_complaints(tmp_path / "sr.dcm") == []


def test_an_answer_over_several_regions_names_them_all(tmp_path: Path) -> None:
    sr = report("DX", "left_pleura", **several_regions())
    assert violations(sr) == []
    sr.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    assert dciodvfy_complaints(tmp_path / "sr.dcm") == []


def test_a_region_of_several_slices_is_outlined_on_each(tmp_path: Path) -> None:
    sr = report("CT", "lungs", **several_slices())
    outlines = tree.children(groups(sr)[0], codes.IMAGE_REGION)
    on = [tree.image_uid(tree.content(outline)[0]) for outline in outlines]
    assert on == ["1.2.3.1.3", "1.2.3.1.3", "1.2.3.1.4", "1.2.3.1.4", "1.2.3.1.5", "1.2.3.1.5"]
    assert tree.library_images(sr) == ["1.2.3.1.3", "1.2.3.1.4", "1.2.3.1.5"]
    assert violations(sr) == []
    sr.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    assert dciodvfy_complaints(tmp_path / "sr.dcm") == []


@pytest.mark.parametrize(("frames", "expected"), [((), 21), ((7,), 7), ((30, 12), [12, 30]), ((99,), 21)])
def test_a_multi_frame_query_points_at_the_frames_of_the_region(frames: tuple[int, ...], expected: Any) -> None:
    answer = similar_answer(query_images=tuple(ImageRef(sop_uid="1.2.3.1.3", frame=frame) for frame in frames))
    sr = report("CT", answer=answer, query_image=image_header("CT", NumberOfFrames=41))
    source = tree.content(tree.children(groups(sr)[0], codes.IMAGE_REGION)[0])[0]
    assert source.ReferencedSOPSequence[0].ReferencedFrameNumber == expected


def test_a_new_run_is_a_new_report_that_names_the_old_one(tmp_path: Path) -> None:
    first = report()
    second = report(now=NOW.replace(minute=59), predecessor=first)
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    assert second.InstanceNumber == first.InstanceNumber + 1
    references = list(tree.references(second.PredecessorDocumentsSequence))
    assert references == [(first.SOPInstanceUID, first.StudyInstanceUID)]
    assert violations(second) == []
    second.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    assert dciodvfy_complaints(tmp_path / "sr.dcm") == []


@pytest.mark.parametrize(("offset", "day", "hour"), [("+0900", "20260102", "12"), ("-0500", "20260101", "22")])
def test_times_are_written_in_the_zone_of_the_query_image(offset: str, day: str, hour: str) -> None:
    sr = report(query_image=image_header(TimezoneOffsetFromUTC=offset), now=NOW.replace(tzinfo=UTC))
    assert (sr.ContentDate, sr.ContentTime[:2], sr.TimezoneOffsetFromUTC) == (day, hour, offset)
    assert "TimezoneOffsetFromUTC" not in report(query_image=image_header(TimezoneOffsetFromUTC="CET"))


@pytest.mark.parametrize("modality", ["DX", "CT"])
def test_a_header_from_the_catalogue_makes_the_same_report(modality: str) -> None:
    """There headers are kept as DICOM JSON."""
    from_json = Dataset.from_json(image_header(modality).to_json_dict())
    assert report(modality, query_image=from_json) == report(modality)


def test_same_arguments_same_bytes() -> None:
    def written(sr: Dataset) -> bytes:
        file = io.BytesIO()
        sr.save_as(file, enforce_file_format=True)
        return file.getvalue()

    assert written(report()) == written(report())


def test_what_cannot_be_reported_is_refused() -> None:
    answer = similar_answer()
    with pytest.raises(NotFound):
        report(answer=similar_answer(count=0))
    with pytest.raises(NotFound, match=r"1\.2\.9\.0\.3"):
        similar_cases_sr(answer, image_header(), {}, now=NOW, device_uid=DEVICE_UID)
    with pytest.raises(BadInput):
        report(device_uid="../etc")
    for changes in ({"Rows": None}, {"SOPInstanceUID": None}, {"StudyInstanceUID": "not a uid"}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            query_image = image_header(**changes)
        with pytest.raises(BadInput):
            report(query_image=query_image)


def test_an_odd_header_makes_a_sound_report_and_no_noise(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Whatever the header lacks or spoils; and the patient's name never reaches a log or a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = image_header(
            PatientName="OddSecret",
            PatientBirthDate="1950.01.01",
            PatientSex="X",
            StudyDate="20201399",
            StudyTime="noon",
            PatientOrientation=None,
            ImagerPixelSpacing=None,
            AccessionNumber=None,
            StudyID=None,
            ReferringPhysicianName=None,
        )
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sr = report(query_image=odd)
    assert "Secret" not in caplog.text + "".join(str(warning.message) for warning in caught)
    assert (sr.PatientName, sr.PatientBirthDate, sr.PatientSex, sr.StudyDate) == ("OddSecret", "", "", "")
    assert violations(sr) == []
    sr.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    assert [line for line in dciodvfy_complaints(tmp_path / "sr.dcm") if line.startswith("Error")] == []


def test_a_report_as_json_and_back() -> None:
    sr = report()
    assert pydicom.Dataset.from_json(sr.to_json()).ContentSequence == sr.ContentSequence


def test_real_headers(tmp_path: Path) -> None:
    """Radiographs and CT slices of the test collections, with all that their headers lack."""
    folder = data_dir("dicom")
    with (folder / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["modality"] in {"CR", "DX", "CT"} and row["rows"]]
    done = 0
    for row in rows[:: max(1, len(rows) // 25)]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                header = pydicom.dcmread(folder / row["path"], stop_before_pixels=True, force=True)
                sr = report(query_image=header)
            except (BadInput, InvalidDicomError, OSError):
                continue
        assert violations(sr) == [], row["path"]
        sr.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
        complaints = dciodvfy_complaints(tmp_path / "sr.dcm")
        # The UIDs of the query image are taken as they are.
        assert [line for line in complaints if line.startswith("Error") and "root for UID" not in line] == [], row[
            "path"
        ]
        done += 1
    assert done >= 15


def test_hits_keep_nothing_but_uids() -> None:
    answer = similar_answer()
    headers = hit_headers(answer)
    assert all(header.PatientName == OTHERS_NAME for header in headers.values())
    text = str(report(answer=answer))
    assert not any(word in text for word in ("Somebody", OTHERS_ID, "20190203"))
