"""Folders of every kind become studies: a phantom's, structured reports alone, pictures with a table, a data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radir_pacs.cli.import_images import import_images
from radir_pacs.dicom.header import read_header
from radir_pacs.encode import CONFIGS
from radir_pacs.encode.network import view_index
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind, View
from radir_training.data import dicom_studies, prepared
from radir_training.data.folder_set import folder_set
from radir_training.data.prepared import MOST_STUDIES
from radir_training.datasets.build import build as build_dataset
from radir_training.datasets.sources import Case
from radir_training.phantoms import SIZES
from radir_training.phantoms.hospital import HospitalRequest, build
from tests.services import data_dir

TINY = CONFIGS["tiny"]
CXR, CT = ImageKind.CXR, ImageKind.CT
FRONTAL, LATERAL = view_index(CXR, View.FRONTAL), view_index(CXR, View.LATERAL)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three synthetic patients, drawn small."""
    out = tmp_path_factory.mktemp("hospital") / "hospital"
    order = HospitalRequest(out=out, patients=3, seed=5, size=SIZES["tiny"], kinds=frozenset(ImageKind))
    assert len(list(build(order))) == 3
    return out


@pytest.fixture
def hospital(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(built, tmp_path / "hospital"))


def truth_of(folder: Path, kind: ImageKind) -> list[dict[str, object]]:
    studies = json.loads((folder / "truth.json").read_bytes())["studies"]
    return sorted((s for s in studies if s["kind"] == kind), key=lambda s: s["study_uid"])


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (80, 100), np.uint8)).save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for number, name in enumerate(("a.png", "b.png", "c.png", "sub/d.jpg")):
        picture(folder / name, number)
    (folder / "broken.png").write_bytes(b"\x89PNG nonsense")
    (folder / "table.csv").write_text(
        "path,patient,study,view,report,labels,modality\n"
        "a.png,Smith,1,PA,Large left pleural effusion.,,\n"
        "b.png,Smith,1,L,,,\n"
        "c.png,Jones,1,AP,,Cardiomegaly|Pleural_Thickening,\n"
        "sub/d.jpg,Jones,2,,,No Finding,\n"
        "broken.png,Brown,1,PA,Fine.,,\n"
        "Brown_gone.png,Brown,2,PA,Fine.,,\n"
        "a.png,Brown,3,Axial,Fine.,,CT\n"
    )
    return folder


def test_a_phantom_hospital_comes_with_reports_and_truth(hospital: Path, tmp_path: Path) -> None:
    said: list[str] = []
    data = folder_set(TINY, CXR, hospital, cache=tmp_path / "cache", tell=said.append)
    truth = truth_of(hospital, CXR)
    assert data.images.shape == (2 * len(truth), 1, 128, 128) and data.images.dtype == np.float16
    assert data.views.tolist() == [FRONTAL, LATERAL] * len(truth)
    assert data.reports == tuple(study["report"] for study in truth for _ in range(2))
    people = [study["patient_id"] for study in truth for _ in range(2)]
    assert len(set(zip(people, data.patients, strict=True))) == len(set(people)) == len(set(data.patients)) == 3
    assert data.true is not None
    for row, study in enumerate(truth):
        findings = study["findings"]
        assert isinstance(findings, list)
        found = {item.region for item in data.true[2 * row]["chest"] if item.present}
        assert found == {finding["region"] for finding in findings}
        assert any(item.present for item in data.said[2 * row].get("chest", ())) == bool(findings)
    assert said == [f"{len(data)} images of {len(truth)} studies of 3 patients, {len(data)} with statements"]


def test_ct_series_are_read_as_volumes(hospital: Path, tmp_path: Path) -> None:
    data = folder_set(TINY, CT, hospital, cache=tmp_path / "cache")
    assert data.images.shape == (len(truth_of(hospital, CT)), 1, 64, 48, 64)
    assert data.images.min() == -1 and data.images.astype(np.float32).std() > 0.1
    assert set(data.views) == {view_index(CT, None)}


def test_structured_reports_serve_where_there_is_no_table(hospital: Path, tmp_path: Path) -> None:
    with_table = folder_set(TINY, CXR, hospital, cache=tmp_path / "cache")
    for name in ("reports.csv", "truth.json"):
        (hospital / name).unlink()
    data = folder_set(TINY, CXR, hospital, cache=tmp_path / "cache")
    assert data.true is None
    assert all(report.startswith("INDICATION:") or "FINDINGS:" in report for report in data.reports)
    assert data.said == with_table.said


def test_what_is_corrupt_is_left_out_and_counted(hospital: Path, tmp_path: Path) -> None:
    whole = folder_set(TINY, CXR, hospital, cache=tmp_path / "cache")
    [frontal, lateral, *_] = sorted(hospital.rglob("visit_*_cxr/*.dcm"))
    frontal.write_bytes(frontal.read_bytes()[:-5000])
    lateral.write_bytes(b"no DICOM at all")
    (hospital / "empty.dcm").touch()
    lines: list[str] = []
    data = folder_set(TINY, CXR, hospital, cache=tmp_path / "cache", tell=lines.append)
    assert len(data) == len(whole) - 2
    [line] = lines
    assert "1 × not a DICOM file" in line and "1 × the file is empty" in line and "PHANTOM" not in line


def test_nothing_left_says_what_was_looked_for(hospital: Path, tmp_path: Path) -> None:
    for path in hospital.rglob("*.dcm"):
        path.write_bytes(b"spoilt")
    with pytest.raises(BadInput, match=r"looked for DICOM files of CR or DX images, and for a CSV table.*left out"):
        folder_set(TINY, CXR, hospital, cache=tmp_path / "cache")
    with pytest.raises(BadInput, match="no folder"):
        folder_set(TINY, CXR, tmp_path / "nowhere", cache=tmp_path / "cache")


def test_pictures_with_a_table(pictures: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    data = folder_set(TINY, CXR, pictures, cache=tmp_path / "cache", tell=lines.append)
    assert data.views.tolist() == [FRONTAL, LATERAL, FRONTAL, FRONTAL]
    assert data.reports == ("Large left pleural effusion.",) * 2 + ("", "")
    smith, jones = data.patients[0], data.patients[2]
    assert data.patients.tolist() == [smith, smith, jones, jones] and smith != jones
    assert any(item.present for item in data.said[1]["left_pleura"]), "views of one study share its report"
    assert {(item.concept, item.region) for item in data.said[2]["chest"]} == {
        ("cardiomegaly", "heart"),
        ("pleural_thickening", "pleura"),
    }
    [normal] = data.said[3]["chest"]
    assert not normal.present and normal.region == "chest"
    [line] = lines
    assert "1 × no X-ray" in line and "1 × image not found" in line and "not a readable JPEG or PNG" in line
    assert "Brown" not in line


def test_a_picture_becomes_the_input_that_service_would_make_of_it(pictures: Path, tmp_path: Path) -> None:
    for view in ("PA", "L", "RL"):
        table = pictures / "table.csv"
        table.write_text(f"image,patient,view\na.png,P,{view}\n")
        import_images(table, pictures, tmp_path / f"dicom_{view}")
        direct = folder_set(TINY, CXR, pictures, cache=tmp_path / "cache")
        service = folder_set(TINY, CXR, tmp_path / f"dicom_{view}", cache=tmp_path / "cache")
        np.testing.assert_allclose(direct.images, service.images, atol=0.02)
        assert direct.views.tolist() == service.views.tolist()


def test_patients_who_share_an_image_are_one(pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "a.png", pictures / "again.png")
    (pictures / "table.csv").write_text("path,patient\na.png,P1\nb.png,P2\nagain.png,P3\nc.png,P3\n")
    lines: list[str] = []
    data = folder_set(TINY, CXR, pictures, cache=tmp_path / "cache", tell=lines.append)
    one, two, *same = data.patients.tolist()
    assert same == [one, one] and one != two
    assert "patients counted as the same because they share an image: 1" in lines[0]


@pytest.mark.parametrize(
    ("kind", "header", "said"),
    [
        (CXR, "path,report", "a CSV table with the columns path and patient"),
        (CT, "path,patient", "a CT is read from DICOM files"),
    ],
)
def test_tables_that_cannot_serve_are_refused(
    pictures: Path, tmp_path: Path, kind: ImageKind, header: str, said: str
) -> None:
    (pictures / "table.csv").write_text(f"{header}\na.png,x\n")
    with pytest.raises(BadInput, match=said):
        folder_set(TINY, kind, pictures, cache=tmp_path / "cache")


def test_a_preparation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder, cache = tmp_path / "many", tmp_path / "cache"
    count = 2 * MOST_STUDIES + 3
    for number in range(count):
        picture(folder / f"{number}.png", number)
    rows = "".join(f"{number}.png,P{number},No effusion.\n" for number in range(count))
    (folder / "table.csv").write_text("path,patient,report\n" + rows)

    class Killed(Exception):
        pass

    def kill(done: int) -> None:
        if done >= MOST_STUDIES:
            raise Killed

    with pytest.raises(Killed):
        folder_set(TINY, CXR, folder, cache=cache, progress=kill)
    seen: list[int] = []
    totals: list[int] = []
    data = folder_set(TINY, CXR, folder, cache=cache, progress=seen.append, total=totals.append)
    assert totals == [count] and seen[0] == MOST_STUDIES and seen[-1] == count
    seen.clear()
    picture(folder / "5.png", 4711)
    [damaged, *_] = sorted(cache.rglob("*.npz"))
    held = len(json.loads(np.load(damaged)["notes"].tobytes()))
    damaged.write_bytes(damaged.read_bytes()[:100])
    again = folder_set(TINY, CXR, folder, cache=cache, progress=seen.append)
    assert seen[0] in (count - held - 1, count - held), "only the changed file and the damaged shard are read anew"
    changed = [row for row in range(count) if not np.array_equal(data.images[row], again.images[row])]
    assert changed == [5]


def test_processes_share_the_work_and_change_nothing(
    hospital: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = folder_set(TINY, CT, hospital, cache=tmp_path / "one")
    monkeypatch.setattr(prepared, "MOST_STUDIES", 1)
    monkeypatch.setattr(dicom_studies, "CHUNK", 20)
    two = folder_set(TINY, CT, hospital, cache=tmp_path / "two", processes=2)
    assert len(list((tmp_path / "two").rglob("*.npz"))) == len(two)
    assert np.array_equal(one.images, two.images) and one.reports == two.reports


def test_a_data_set_is_joined_with_its_images(tmp_path: Path) -> None:
    names = [f"files/p10/p1000000{n}/s5/{n}.jpg" for n in (1, 1, 2)] + ["files/p10/p10000003/s5/gone.jpg"]
    names[1] = names[1].replace("/1.jpg", "/1b.jpg")
    for number, name in enumerate(names[:3]):
        picture(tmp_path / "images" / name, number)
    texts = ("Large left effusion.", "No effusion.", "Heart is enlarged.", "Clear lungs.")
    cases = [
        Case(path=name, patient=name.split("/")[2], split="train", text=text, kind=CXR)
        for name, text in zip(names, texts, strict=True)
    ]
    build_dataset(cases, tmp_path / "set", source="test", least_images=1)
    lines: list[str] = []
    data = folder_set(
        TINY, CXR, tmp_path / "set", images=tmp_path / "images", cache=tmp_path / "cache", tell=lines.append
    )
    assert data.reports == texts[:3]
    assert data.patients[0] == data.patients[1] != data.patients[2]
    assert "1 × image not found" in lines[0]
    with pytest.raises(BadInput, match="name the folder"):
        folder_set(TINY, CXR, tmp_path / "set", cache=tmp_path / "cache")
    with pytest.raises(BadInput, match="no split 'test'"):
        folder_set(TINY, CXR, tmp_path / "set", images=tmp_path / "images", split="test", cache=tmp_path / "cache")


def test_a_data_set_of_our_archive_is_joined_by_study(hospital: Path, tmp_path: Path) -> None:
    truth = truth_of(hospital, CXR)[1:]
    cases = [
        Case(path=str(study["study_uid"]), patient="P", split="test", text=f"Mass number {n}.", kind=CXR)
        for n, study in enumerate(truth)
    ]
    build_dataset(cases, tmp_path / "set", source="test", least_images=1)
    data = folder_set(TINY, CXR, tmp_path / "set", images=hospital, split="test", cache=tmp_path / "cache")
    assert data.reports == tuple(f"Mass number {n}." for n in range(len(truth)) for _ in range(2))


def test_reports_that_belong_to_nothing_here_are_counted(hospital: Path, tmp_path: Path) -> None:
    """A table that no study is found in, and one whose columns are not found, say so."""
    (hospital / "reports.csv").rename(hospital / "REPORTS.CSV")
    (hospital / "export.csv").write_text("study_uid|report\n1.2.3|The heart is enlarged.\n")
    told: list[str] = []
    data = folder_set(TINY, CXR, hospital, cache=tmp_path / "cache", tell=told.append)
    assert any(data.said), "the ending's case does not matter"
    (hospital / "REPORTS.CSV").write_text("study_uid,report\n1.2.3,The heart is enlarged.\n")
    for path in hospital.rglob("report.dcm"):
        path.unlink()
    folder_set(TINY, CXR, hospital, cache=tmp_path / "cache", tell=told.append)
    assert "1 × a report of the table, which has none for the studies here" in told[-1]
    (hospital / "REPORTS.CSV").unlink()
    folder_set(TINY, CXR, hospital, cache=tmp_path / "cache", tell=told.append)
    assert "1 × a table without a column of studies" in told[-1]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_may_name_accession_numbers(hospital: Path, tmp_path: Path, separator: str) -> None:
    """And be separated as spreadsheets of other countries do it."""
    for path in (*hospital.rglob("report.dcm"), hospital / "reports.csv"):
        path.unlink()
    header = read_header(next(hospital.rglob("visit_*_cxr/frontal.dcm")))
    (hospital / "export.csv").write_text(
        f"Accession Number,Findings,Impression\n{header.accession_number},Cardiomegaly.,No effusion.\n".replace(
            ",", separator
        )
    )
    data = folder_set(TINY, CXR, hospital, cache=tmp_path / "cache")
    assert sorted(set(data.reports)) == ["", "FINDINGS: Cardiomegaly.\n\nIMPRESSION: No effusion."]
    assert sum(bool(said) for said in data.said) == 2


@pytest.mark.parametrize(
    ("name", "images", "spoken"), [("cxr_cohen", 183, 160), ("cxr_hannover", 208, 0), ("cxr_nih", 62, 62)]
)
def test_public_collections_are_read_in_their_own_layout(name: str, images: int, spoken: int, tmp_path: Path) -> None:
    data = folder_set(TINY, CXR, data_dir(name), cache=tmp_path / "cache")
    assert len(data) == images
    assert sum(bool(said) for said in data.said) >= spoken
    assert len(np.unique(data.patients)) < images
