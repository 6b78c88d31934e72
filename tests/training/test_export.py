"""A de-identified export: nothing of Table E.1-1 stays, reports lose what headers name, and the result trains."""

from __future__ import annotations

import csv
import errno
import json
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from radir_pacs.callers import AuditEvent
from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue.incoming import Demographics, PatientMerge
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.rules import load_rules
from radir_pacs.errors import BadInput
from radir_pacs.intake.instances import Intake
from radir_pacs.scopes import Scope, Withheld
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import ImageKind
from radir_training.data.dicom_studies import dicom_studies
from radir_training.exports.deidentify import ACTIONS, Deidentifier
from radir_training.exports.report_text import without_names
from radir_training.exports.training_set import export
from tests.catalogue_material import TESTER
from tests.dicom_files import radiograph

KEY = bytes(range(32))
RESEARCH = Scope(sees=Withheld.FROM_NOBODY)
MARK, DATE, TIME, UID = "MARKED", "19991231", "112233", "1.2.3.99."
SAMPLES: dict[str, Any] = {"DA": DATE, "DT": DATE + TIME, "TM": TIME, "AS": "044Y", "DS": "123456", "IS": "123456"}
NUMBERS = {"FD", "FL", "SL", "SS", "UL", "US", "SV", "UV"}


def everything_of_the_table(nested: bool = True) -> Dataset:
    """A value in every attribute of Table E.1-1, at the top and in a sequence that the table does not name."""
    ds = Dataset()
    for tag in sorted(ACTIONS):
        if tag >> 16 in (0, 2):  # command and file meta information, which are never in a data set
            continue
        vr = vr_of(tag)
        if vr == "SQ":
            value: Any = Sequence([marked()])
        elif vr == "UI":
            value = UID + str(tag)
        elif vr in NUMBERS:
            value = 1234
        elif vr in ("OB", "OW", "UN"):
            value = MARK.encode()
        else:
            value = SAMPLES.get(vr, MARK)
        ds.add_new(tag, vr, value)
    if nested:
        ds.SourceImageSequence = Sequence([marked()])
        ds.SharedFunctionalGroupsSequence = Sequence([everything_of_the_table(nested=False)])
        ds.add_new(0x60003000, "OW", MARK.encode())
        ds.add_new(0x60004000, "LT", MARK)
        block = ds.private_block(0x0029, "SOMEBODY", create=True)
        block.add_new(1, "LO", MARK)
        ds.RequestedProcedureCodeSequence = Sequence([coded("99HOSPITAL")])
        ds.ViewCodeSequence = Sequence([coded("SCT", "no mark"), coded("")])
        ds.AnatomicRegionSequence = Sequence([coded_by_nobody()])
        ds.CodeValue, ds.CodeMeaning = MARK, MARK
    return ds


def vr_of(tag: int) -> str:
    """LO for what is newer than pydicom's dictionary."""
    return dictionary_VR(tag).split(" ")[0] if dictionary_has_tag(tag) else "LO"


def marked() -> Dataset:
    item = Dataset()
    item.PatientName, item.StudyDate, item.StudyTime = MARK, DATE, TIME
    item.ReferencedSOPInstanceUID = UID + "1"
    return item


def coded(scheme: str, meaning: str = MARK) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", scheme, meaning
    return item


def coded_by_nobody() -> Dataset:
    item = Dataset()
    item.CodeMeaning = MARK
    return item


def test_nothing_of_the_table_stays_also_in_nested_data_sets() -> None:
    ds = everything_of_the_table()
    Deidentifier(KEY).apply(ds, "somebody", meta=False)
    told = ds.to_json()
    for trace in (MARK, UID, DATE, TIME, "123456", "044Y", "QUFS", "TUFSS0VE"):
        assert trace not in told, trace
    for tag, letter in ACTIONS.items():
        if letter == "X" and vr_of(tag) not in ("DA", "DT"):
            assert tag not in ds, keyword_for_tag(tag)
    assert len(ACTIONS) > 500, "the table"
    assert ds.ViewCodeSequence[0].CodeMeaning == "no mark" and ds.PatientIdentityRemoved == "YES"


def test_pseudonyms_are_stable_within_an_export_and_differ_between_two() -> None:
    one, other = Deidentifier(KEY), Deidentifier(bytes(32))
    assert one.uid("1.2.3") == one.uid("1.2.3") != one.uid("1.2.4") and one.uid("1.2.3") != other.uid("1.2.3")
    assert len(one.uid("1.2.3")) <= 64 and one.uid("1.2.840.10008.1.2") == "1.2.840.10008.1.2"
    assert one.patient("a") != one.patient("b") and 1 <= one.days("a") <= 3650
    first, second = radiograph(StudyDate="20200101"), radiograph(StudyDate="20200131")
    for ds in (first, second):
        one.apply(ds, "a")
    apart = pydicom.valuerep.DA(second.StudyDate) - pydicom.valuerep.DA(first.StudyDate)
    assert apart.days == 30 and first.StudyDate < "20200101"
    assert first.PatientID == second.PatientID == first.PatientName
    assert not first.get("PatientBirthDate")


@pytest.mark.parametrize(
    "said",
    [
        {"BurnedInAnnotation": "YES"},
        {"RecognizableVisualFeatures": "YES"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
    ],
)
def test_pixels_that_may_show_a_person_are_refused(said: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        Deidentifier(KEY).apply(radiograph(**said), "a")


@pytest.mark.parametrize(
    "group",
    [
        {0x0102: ("US", 12), 0x3000: ("OW", b"\0\0")},
        {0x0102: ("US", 0)},
        {0x0010: ("US", 32)},
    ],
)
def test_an_overlay_in_unused_bits_of_the_pixels_is_refused(group: dict[int, tuple[str, Any]]) -> None:
    ds = radiograph()
    for element, (vr, value) in group.items():
        ds.add_new(0x60020000 | element, vr, value)
    with pytest.raises(BadInput, match="overlay"):
        Deidentifier(KEY).apply(ds, "a")


def test_an_overlay_with_data_of_its_own_is_removed() -> None:
    ds = radiograph()
    ds.add_new(0x60000102, "US", 0)
    ds.add_new(0x60003000, "OW", b"\0\0")
    Deidentifier(KEY).apply(ds, "a")
    assert not any(tag >> 16 == 0x6000 for tag in ds.keys())  # noqa: SIM118


HEADER = {
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Anna Maria"}]},
    "00100020": {"vr": "LO", "Value": ["K-4711"]},
    "00080050": {"vr": "SH", "Value": ["ACC77"]},
    "00080080": {"vr": "LO", "Value": ["St. Elsewhere"]},
    "00081030": {"vr": "LO", "Value": ["Chest PA"]},
    "00080020": {"vr": "DA", "Value": ["20260301"]},
    "00400275": {
        "vr": "SQ",
        "Value": [{"00321032": {"vr": "PN", "Value": [{"Alphabetic": "Okafor^Ben"}]}}],
    },
}


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("Frau MÜLLER, Anna: no effusion.", "[name], [name]: no effusion."),
        ("Patient K-4711, order ACC77 at St. Elsewhere.", "Patient [id], order [id] at [id]."),
        ("Compared with 01.03.2026 and 2025-12-24.", "Compared with [id] and [date]."),
        ("Discussed with Dr. Schmidt-Rottluff at 14:35.", "Discussed with [name] at [time]."),
        ("Asked for by okafor.", "Asked for by [name]."),
        ("Seen on March 3, 2024, tel. +49 30 1234567", "Seen on [date], tel. [number]"),
        ("Nodule of 12 mm in S6, 3/4 of the lobe.", "Nodule of 12 mm in S6, 3/4 of the lobe."),
        ("Heart normal.\nElectronically signed by J. Doe", "Heart normal.\n"),
        ("UID 1.2.840.113619.2.55", "UID [id]"),
        ("Chest PA: clear.", "Chest PA: clear."),
        ("Patientin Mueller, Mu\u0308ller oder Muller.", "Patientin [name], [name] oder [name]."),
        ("Müllers Befund, Anna's image", "[name] Befund, [name]'s image"),
        ("DISCUSSED WITH DR. SMITH.", "DISCUSSED WITH [name]."),
        ("MR. JOHN DOE HAS A LEFT EFFUSION", "[name] HAS A LEFT EFFUSION"),
        ("Siehe Dr.Schmidt und Dr. Şahin", "Siehe [name] und [name]"),
        ("told dr smith by phone; Dr. med. Anna-Lena von Berg", "told [name] by phone; [name]"),
        ("MR THORAX: FRAU WEBER DR ŞAHIN", "MR THORAX: [name] [name]"),
        ("MR chest, delay of 200 ms after injection, HR 80", "MR chest, delay of 200 ms after injection, HR 80"),
        ("Eine Frau mit Husten", "Eine Frau mit Husten"),
        ("Prior of March 2024, März 2023 and 03/2022.", "Prior of [date], [date] and [date]."),
        ("94-year-old woman, 101 y/o, aged 92, 95 Jahre alt", "[age] woman, [age], [age], [age]"),
        ("89-year-old, nodule of 94 mm", "89-year-old, nodule of 94 mm"),
    ],
)
def test_reports_lose_what_headers_name_and_what_has_the_form_of_it(written: str, left: str) -> None:
    assert without_names(written, [HEADER]) == left


@pytest.mark.parametrize(
    ("header", "written", "left"),
    [
        ("MUELLER^ANNA", "Patientin Müller", "Patientin [name]"),
        ("Strauß^Eva", "STRAUSS", "[name]"),
        ("Meyer-Schulz^Eva", "Meyer, MeyerSchulz and Schulz", "[name], [name] and [name]"),
        ("Li^Wei", "LI and li", "[name] and li"),
        ("Yamada^Tarou=山田^太郎", "山田さん, 山田太郎", "[name]さん, [name]"),
    ],
)
def test_a_known_name_goes_however_it_is_spelt(header: str, written: str, left: str) -> None:
    assert without_names(written, [], names=[header]) == left


@pytest.fixture
def archive(catalogue: Catalogue, settings: Settings) -> tuple[Catalogue, BlobStore, list[str]]:
    """Three reported studies of three patients; the second is withheld from research, the third says "annotated"."""
    blobs = BlobStore(settings.home / "blobs")
    intake = Intake(catalogue, blobs, settings)
    uids = []
    for number, more in enumerate(({}, {}, {"BurnedInAnnotation": "YES"})):
        picture = np.random.default_rng(number).integers(0, 4096, (96, 96)).astype(np.uint16).tobytes()
        about = {"PatientID": f"P-{number}", "PatientName": f"Smith^John{number}", "StudyDate": "20260301"}
        ds = radiograph(Rows=96, Columns=96, PixelData=picture, **about, **more)
        store(intake, blobs, ds)
        uid = str(ds.StudyInstanceUID)
        catalogue.studies.complete_now(uid)
        catalogue.reports.add(study_uid=uid, body=f"John{number} Smith: pleural effusion on the left.", source="csv")
        uids.append(uid)
    catalogue.withheld.add("P-1", Withheld.FROM_RESEARCH, by=TESTER)
    return catalogue, blobs, uids


def store(intake: Intake, blobs: BlobStore, ds: Dataset) -> None:
    file = BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    incoming = blobs.incoming()
    with incoming:
        incoming.write(file.getvalue())
        intake.store(incoming, source="TEST")


def test_an_export_is_read_by_training_and_is_in_the_trail(
    archive: tuple[Catalogue, BlobStore, list[str]], tmp_path: Path
) -> None:
    catalogue, blobs, uids = archive
    folder = tmp_path / "set"
    done = export(catalogue, blobs, folder, key=KEY, rules=load_rules(), scope=RESEARCH, by=TESTER)
    assert done.as_json() == {
        "studies": 1,
        "patients": 1,
        "images": 1,
        "burned_in_annotation_unsaid": 1,
        "left_out": {"persons in pixels": 1},
    }
    assert json.loads((folder / "export.json").read_text()) == done.as_json()
    events = catalogue.audit.events(event=AuditEvent.EXPORTED)
    assert {event.study_uid for event in events} == {uids[0], uids[2]} and all(event.patient_keys for event in events)
    (image,) = folder.rglob("*.dcm")
    header = read_header(image)
    assert header.patient_id not in ("P-0", None) and header.body_part == "CHEST"
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for trace in (b"Smith", b"John", b"P-0", b"20260301", uids[0].encode()):
        assert trace not in everything
    (row,) = csv.DictReader((folder / "reports.csv").open())
    assert row["study_uid"] == header.study_uid and row["report"].endswith("pleural effusion on the left.")
    found = dicom_studies(folder, ImageKind.CXR)
    assert [study.report for study in found.studies] == [row["report"]]
    assert "cannot be promised" in (folder / "README.md").read_text()
    with pytest.raises(BadInput, match="not empty"):
        export(catalogue, blobs, folder, key=KEY, rules=load_rules(), scope=Scope(), by=TESTER)


def test_files_stay_while_an_export_is_about_to_read_them(
    archive: tuple[Catalogue, BlobStore, list[str]], tmp_path: Path
) -> None:
    catalogue, blobs, _ = archive
    held: set[tuple[str, str]] = set()

    def look(_: int) -> None:
        held.update((hold.study_uid, hold.why) for hold in catalogue.retention.holds())

    export(catalogue, blobs, tmp_path / "set", key=KEY, rules=load_rules(), scope=RESEARCH, by=TESTER, progress=look)
    exported = {event.study_uid for event in catalogue.audit.events(event=AuditEvent.EXPORTED)}
    assert exported and held == {(uid, "export") for uid in exported}
    assert catalogue.retention.holds() == ()


def test_an_export_obeys_a_scope(archive: tuple[Catalogue, BlobStore, list[str]], tmp_path: Path) -> None:
    catalogue, blobs, _ = archive
    scope = Scope(modalities=frozenset({"CT"}), sees=Withheld.FROM_NOBODY)
    assert export(catalogue, blobs, tmp_path / "set", key=KEY, rules=load_rules(), scope=scope, by=TESTER).studies == 0
    assert catalogue.audit.events(event=AuditEvent.EXPORTED) == ()


def test_where_nothing_fits_no_folder_is_left(
    archive: tuple[Catalogue, BlobStore, list[str]],
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_training.commands.export.must_run", lambda settings: None)
    folder, was_there = tmp_path / "set", tmp_path / "was-there"
    was_there.mkdir()
    for out in (folder, was_there):
        assert main(["export", "training", str(out), "--site", "Nord"]) == 1
        shown = capsys.readouterr()
        assert "nothing fits" in shown.out and "README" not in shown.out
        assert "nobody is labelled 'Nord'; sites here: TEST" in shown.err
    assert not folder.exists() and list(was_there.iterdir()) == []
    assert main(["export", "training", str(folder), "--modality", "CT", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["out"] is None


def test_a_name_that_a_merge_brought_goes_too(archive: tuple[Catalogue, BlobStore, list[str]], tmp_path: Path) -> None:
    catalogue, blobs, uids = archive
    says = Demographics(name="Okonkwo^Adaeze", birth_date=date(1931, 5, 9))
    catalogue.patients.merge(PatientMerge(pairs=(("\\P-0", "\\NEW-4711"),), says=says))
    body = "Okonkwo, before John0 Smith, born 09.05.1931, NEW-4711, P-0: pleural effusion."
    catalogue.reports.add(study_uid=uids[0], body=body, source="csv")
    export(catalogue, blobs, tmp_path / "set", key=KEY, rules=load_rules(), scope=RESEARCH, by=TESTER)
    (row,) = csv.DictReader((tmp_path / "set" / "reports.csv").open())
    assert row["report"] == "[name], before [name] [name], born [id], [id], [id]: pleural effusion."


def test_an_export_into_a_folder_that_was_there_is_its_owners(
    archive: tuple[Catalogue, BlobStore, list[str]], tmp_path: Path
) -> None:
    catalogue, blobs, _ = archive
    folder = tmp_path / "set"
    folder.mkdir()
    folder.chmod(0o755)
    export(catalogue, blobs, folder, key=KEY, rules=load_rules(), scope=RESEARCH, by=TESTER)
    open_to_others = [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]
    assert open_to_others == []


def test_the_rules_of_the_site_choose(archive: tuple[Catalogue, BlobStore, list[str]], tmp_path: Path) -> None:
    catalogue, blobs, _ = archive
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nname = "no-radiographs"\nencode = false\nmodality = ["DX"]\n')
    rules = load_rules(str(file))
    done = export(catalogue, blobs, tmp_path / "set", key=KEY, rules=rules, scope=RESEARCH, by=TESTER)
    assert done.as_json()["left_out"] == {"no image": 2} and done.images == 0


def test_an_image_that_names_no_body_part_is_left_out(catalogue: Catalogue, settings: Settings, tmp_path: Path) -> None:
    blobs = BlobStore(settings.home / "blobs")
    picture = np.zeros((96, 96), np.uint16).tobytes()
    ds = radiograph(Rows=96, Columns=96, PixelData=picture, BodyPartExamined="")
    store(Intake(catalogue, blobs, settings), blobs, ds)
    catalogue.studies.complete_now(str(ds.StudyInstanceUID))
    catalogue.reports.add(study_uid=str(ds.StudyInstanceUID), body="Clear.", source="csv")
    done = export(catalogue, blobs, tmp_path / "set", key=KEY, rules=load_rules(), scope=RESEARCH, by=TESTER)
    assert done.as_json()["left_out"] == {"not said to be of the chest": 1, "no image": 1} and done.images == 0


def test_a_full_disk_ends_an_export(
    archive: tuple[Catalogue, BlobStore, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, blobs, _ = archive

    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        export(catalogue, blobs, tmp_path / "set", key=KEY, rules=load_rules(), scope=RESEARCH, by=TESTER)
    assert not list((tmp_path / "set").rglob("*.dcm")) and not (tmp_path / "set" / "export.json").exists()
