from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from radir_pacs.cli.import_images import import_images, register
from radir_pacs.dicom.eligibility import assemble, plan_study
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.errors import BadInput
from radir_pacs.pictures.basic_text_sr import BASIC_TEXT_SR
from radir_pacs.pictures.image_table import NotAnXRay, find_image, layout_for, parse_columns, read_row
from radir_pacs.types import View
from tests.services import need

RAMP = (np.arange(100 * 120) % 256).astype(np.uint8).reshape(100, 120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures a.jpg, b.png (16 bits), c.png (colour), bad.jpg, flat.png, and outside of it secret.png."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(RAMP).save(folder / "a.jpg", quality=95)
    Image.fromarray(RAMP.astype(np.uint16) * 200).save(folder / "b.png")
    Image.fromarray(np.dstack([RAMP] * 3)).save(folder / "c.png")
    Image.fromarray(np.full((100, 100), 7, np.uint8)).save(folder / "flat.png")
    Image.fromarray(RAMP).save(tmp_path / "secret.png")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    return folder


def table(folder: Path, text: str) -> Path:
    path = folder.parent / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_becomes_studies_that_can_be_encoded(folder: Path, tmp_path: Path, decoder: PixelDecoder) -> None:
    rows = "image,patient,study,view,sex,age,report,date\na,P1,S1,PA,f,64,Großer Erguss links.,2020-03-04\n"
    rows += "b.jpg,P1,S1,L,f,64,,2020-03-04\nc.png,P2,S1,AP,M,,,\n"
    outcome = import_images(table(folder, rows), folder, tmp_path / "out")
    assert (outcome.studies, outcome.images, outcome.reports, outcome.refused) == (2, 3, 1, [])
    paths = {read_header(p).sop_uid: p for p in (tmp_path / "out").rglob("*.dcm")}
    headers = [read_header(p) for p in paths.values()]
    of_p1 = [h for h in headers if h.patient_id == "P1"]
    assert len({h.study_uid for h in of_p1}) == 1
    assert {h.patient_age_years for h in of_p1} == {64}
    assert {str(h.study_date) for h in of_p1} == {"2020-03-04"}
    [volume] = assemble(plan_study(of_p1), paths, decoder)
    assert volume.view is View.FRONTAL
    np.testing.assert_allclose(volume.voxels[0], RAMP / 255, atol=0.05)
    [report] = [dcmread(paths[h.sop_uid]) for h in of_p1 if h.sop_class_uid == BASIC_TEXT_SR]
    assert report.ContentSequence[0].ContentSequence[0].TextValue == "Großer Erguss links."
    assert (
        len(report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence) == 2
    )


def test_a_second_run_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    path = table(folder, "image,patient,report\na,P1,fine\n")
    for name in ("one", "two"):
        import_images(path, folder, tmp_path / name)
    one, two = (
        {path.relative_to(run): path.read_bytes() for path in run.rglob("*.dcm")}
        for run in (tmp_path / "one", tmp_path / "two")
    )
    assert len(one) == 2
    assert one == two


def test_bad_rows_are_named_and_the_rest_goes_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["image,patient,view,age,modality", "a,P1,PA,50,X-ray", "missing,P2,PA,50,", "bad.jpg,P3,PA,50,"]
    rows += [
        "a,,PA,50,",
        "a,P5,sideways,50,",
        "a,P6,PA,old,",
        "a,P7,PA,900,",
        "../secret.png,P8,PA,5,",
        "flat,P9,PA,5,",
    ]
    rows += ["a,P10,Axial,50,CT", "b,P11,AP,50,"]
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    arguments = ["import-images", str(table(folder, "\n".join(rows))), "--images", str(folder)]
    args = parser.parse_args([*arguments, "--out", str(tmp_path / "out"), "--json"])
    assert args.run(args, None) == 1
    said = capsys.readouterr()
    outcome = json.loads(said.out)
    assert outcome["images"] == 2
    assert [line.split(":")[0] for line in outcome["left_out"]] == ["line 11"]
    assert {line.split(":")[0] for line in outcome["refused"]} == {f"line {n}" for n in range(3, 11)}
    assert "line 3: image 'missing' not found" in said.err


def test_a_good_table_exits_with_0(folder: Path, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    path = table(folder, "Datei;Nr\n".replace(";", ",") + "a.jpg,1\n")
    arguments = ["import-images", str(path), "--images", str(folder), "--out", str(tmp_path / "out")]
    args = parser.parse_args([*arguments, "--columns", "image=Datei,patient=Nr"])
    assert args.run(args, None) == 0


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("", None, "empty"),
        ("x,y\n1,2\n", None, "which column holds the image"),
        ("image,y\n1,2\n", None, "which column holds the patient"),
        ("x,y\n1,2\n", {"image": "x", "patient": "z"}, "no column 'z'"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(
    folder: Path, tmp_path: Path, text: str, columns: dict[str, str] | None, words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        import_images(table(folder, text), folder, tmp_path / "out", columns)


def test_column_mappings_are_checked() -> None:
    assert parse_columns("image=File name, patient=Id") == {"image": "File name", "patient": "Id"}
    with pytest.raises(BadInput, match="weight=W"):
        parse_columns("weight=W")


def test_pictures_are_found_under_any_ending_and_never_outside(folder: Path) -> None:
    assert find_image(folder, "b.jpg").name == "b.png"
    assert find_image(folder, "a").name == "a.jpg"
    for name in ("../secret.png", str(folder.parent / "secret.png")):
        with pytest.raises(BadInput, match="outside"):
            find_image(folder, name)


def test_labels_become_a_sentence_and_days_a_date(folder: Path) -> None:
    layout = layout_for(["image", "patient", "report", "day", "modality"], None, "x")
    row = read_row(2, {"image": "a", "patient": "1", "report": "Effusion|Nodule", "day": "-3"}, layout, folder)
    assert row.report == "Effusion, Nodule"
    assert str(row.study_date) == "1999-12-29"
    with pytest.raises(NotAnXRay):
        read_row(2, {"image": "a", "patient": "1", "modality": "CT"}, layout, folder)


def test_what_is_written_has_no_error_under_dciodvfy(folder: Path, tmp_path: Path) -> None:
    dciodvfy = need("dciodvfy")
    rows = "image,patient,study,view,sex,age,report,day\na,P1,S1,PA,F,64,Erguß,0\nb,P1,S1,L,F,64,,0\nc,P2,1,,,,,\n"
    import_images(table(folder, rows), folder, tmp_path / "out")
    written = list((tmp_path / "out").rglob("*.dcm"))
    assert len(written) == 4
    for path in written:
        said = subprocess.run([dciodvfy, path], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout
