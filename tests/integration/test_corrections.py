"""An instance that comes again: the same, corrected, compressed anew, mended, or another image under its UID."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from radir_pacs.catalogue import Catalogue, database
from radir_pacs.config import Settings
from radir_pacs.dicom.header import read_header
from radir_pacs.intake.instances import CONFLICT, Intake, StoreOutcome
from radir_pacs.similar_cases import Filters
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import HeaderNote, StudyState
from tests.catalogue_material import MODEL, encoding, owners, register
from tests.dicom_files import radiograph, save

STUDY, SERIES = "2.25.1", "2.25.1.1"
PIXELS = np.random.default_rng(0).integers(0, 4096, (32, 32)).astype(np.uint16)
Send = Callable[..., StoreOutcome]


def image(number: int = 1, **changes: Any) -> Dataset:
    given = {
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "SOPInstanceUID": f"2.25.1.1.{number}",
        "IssuerOfPatientID": "H",
        "PixelData": PIXELS.tobytes(),
    }
    return radiograph(**(given | changes))


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return BlobStore(settings.home / "blobs")


@pytest.fixture
def intake(catalogue: Catalogue, blobs: BlobStore, settings: Settings) -> Intake:
    return Intake(catalogue, blobs, settings)


@pytest.fixture
def send(intake: Intake, blobs: BlobStore, tmp_path: Path) -> Send:
    numbers = iter(range(1_000_000))

    def one(ds: Dataset | bytes, through: Intake = intake, source: str = "PEER") -> StoreOutcome:
        with blobs.incoming() as incoming:
            if isinstance(ds, bytes):
                incoming.write(ds)
            else:
                incoming.write(save(ds, tmp_path / f"{next(numbers)}.dcm").read_bytes())
            return through.store(incoming, source=source)

    return one


def stored_file(catalogue: Catalogue, blobs: BlobStore, number: int = 1) -> Path:
    return blobs.path(catalogue.instances.get(f"2.25.1.1.{number}").content_sha256)


def rewritten(ds: Dataset, syntax: Any, path: Path) -> bytes:
    if syntax != ExplicitVRBigEndian:
        ds = dcmread(save(ds, path))
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        lossy: dict[str, Any] = {"j2k_cr": [20]} if syntax == JPEG2000 else {}
        ds.compress(syntax, generate_instance_uid=False, **lossy)
    elif syntax == ExplicitVRBigEndian:
        ds.PixelData = PIXELS.astype(">u2").tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    return path.read_bytes()


# What is a correction


def test_a_corrected_patient_replaces_and_everything_follows(
    catalogue: Catalogue, blobs: BlobStore, send: Send
) -> None:
    assert send(image()).ok
    before = catalogue.instances.get("2.25.1.1.1")
    again = send(image(PatientID="RIGHT", PatientName="Right^Person", PatientSex="M"), source="ROUTER")
    assert again.ok and not again.same
    study = catalogue.studies.get(STUDY)
    assert (study.patient_id, study.patient_name, study.patient_sex) == ("RIGHT", "Right^Person", "M")
    assert (study.instance_count, study.state) == (1, StudyState.RECEIVING)
    assert catalogue.instances.get("2.25.1.1.1").attributes["00100020"]["Value"] == ["RIGHT"]
    assert read_header(stored_file(catalogue, blobs)).patient_id == "RIGHT"
    (trace,) = catalogue.corrections.recent()
    assert (trace.other_sha256, trace.aside, trace.source) == (before.content_sha256, False, "ROUTER")
    assert trace.changed == ("PatientName", "PatientID", "PatientSex")
    assert "Right" not in repr(trace) and "TEST-1" not in repr(trace)


def test_one_attribute_added_by_a_router_is_a_correction(catalogue: Catalogue, send: Send) -> None:
    assert send(image()).ok
    assert send(image(InstitutionName="Second house")).ok
    assert [trace.changed for trace in catalogue.corrections.recent()] == [("InstitutionName",)]


def test_a_long_binary_attribute_counts_as_well(catalogue: Catalogue, send: Send) -> None:
    def overlaid(first: int) -> Dataset:
        ds = image()
        ds.add_new(0x60003000, "OW", bytes([first]) + bytes(4095))
        return ds

    assert send(overlaid(0)).ok and send(overlaid(1)).ok
    assert [trace.changed for trace in catalogue.corrections.recent()] == [("60003000",)] or [
        trace.changed for trace in catalogue.corrections.recent()
    ] == [("OverlayData",)]


@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_same_pixels_written_anew_are_the_same(
    catalogue: Catalogue, send: Send, tmp_path: Path, syntax: Any
) -> None:
    assert send(image()).ok
    again = send(rewritten(image(), syntax, tmp_path / "anew.dcm"))
    assert again.ok and again.same
    assert catalogue.corrections.recent() == ()


@pytest.mark.parametrize("syntax", [JPEGLSLossless, DeflatedExplicitVRLittleEndian])
def test_compressed_anew_and_corrected_is_a_correction(
    catalogue: Catalogue, send: Send, tmp_path: Path, syntax: Any
) -> None:
    for first, then in ((image(1), image(1, PatientID="B")), (image(2, PatientID="B"), image(2))):
        assert send(rewritten(first, syntax, tmp_path / "one.dcm")).ok
        assert send(then).ok
    assert [trace.changed for trace in catalogue.corrections.recent()] == [("PatientID",)] * 2


@pytest.mark.parametrize("other", ["pixel", "shape", "lossy", "none", "series", "class"])
def test_only_other_pixels_or_another_place_are_a_conflict(
    catalogue: Catalogue, send: Send, tmp_path: Path, other: str
) -> None:
    assert send(image()).ok
    ds = image(PatientID="OTHER")
    match other:
        case "pixel":
            ds.PixelData = bytes(PIXELS.nbytes)
        case "shape":
            ds.Rows, ds.Columns = 16, 64
        case "none":
            del ds.PixelData
        case "series":
            ds.SeriesInstanceUID = "2.25.1.2"
        case "class":
            ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    sent = send(rewritten(ds, JPEG2000, tmp_path / "lossy.dcm") if other == "lossy" else ds)
    assert sent.status == CONFLICT
    assert "stored already" in sent.reason and len(sent.reason) <= 64  # all of Error Comment (PS3.7 C.4.2)
    assert catalogue.studies.get(STUDY).patient_id == "TEST-1"
    assert catalogue.corrections.recent() == ()


# What then counts


def test_a_file_that_was_replaced_does_not_come_back(catalogue: Catalogue, send: Send) -> None:
    """A sender repeats itself: two copies may arrive in either order, and each has one effect (P2)."""
    wrong, right = image(), image(PatientID="RIGHT")
    assert send(wrong).ok and send(right).ok
    for ds in (wrong, right, wrong):
        again = send(ds)
        assert again.ok and again.same
    assert catalogue.studies.get(STUDY).patient_id == "RIGHT"
    assert len(catalogue.corrections.recent()) == 1


def test_kept_aside_the_first_header_counts_and_the_file_is_kept(
    catalogue: Catalogue, blobs: BlobStore, settings: Settings, send: Send
) -> None:
    aside = Intake(catalogue, blobs, replace(settings, corrected_headers="aside"))
    assert send(image(), aside).ok
    later = send(image(PatientID="LATER"), aside)
    assert later.ok and not later.same and send(image(PatientID="LATER"), aside).same
    assert catalogue.studies.get(STUDY).patient_id == "TEST-1"
    (trace,) = catalogue.corrections.recent()
    assert trace.aside and trace.changed == ("PatientID",)
    assert catalogue.instances.known_blobs([trace.other_sha256]) == {trace.other_sha256}, "no sweep may take it"
    assert read_header(blobs.path(trace.other_sha256)).patient_id == "LATER"
    both = {catalogue.instances.get("2.25.1.1.1").content_sha256, trace.other_sha256}
    assert set(catalogue.studies.delete_part(STUDY, SERIES)) == both


def test_a_file_kept_aside_goes_with_its_study(
    catalogue: Catalogue, blobs: BlobStore, settings: Settings, send: Send
) -> None:
    aside = Intake(catalogue, blobs, replace(settings, corrected_headers="aside"))
    assert send(image(), aside).ok and send(image(PatientID="LATER"), aside).ok
    (trace,) = catalogue.corrections.recent()
    assert trace.other_sha256 in catalogue.studies.delete(STUDY)


def test_an_empty_attribute_erases_nothing_of_the_study(catalogue: Catalogue, send: Send) -> None:
    assert send(image()).ok
    assert send(image(PatientID="", PatientName="", PatientSex="", InstitutionName="x")).ok
    study = catalogue.studies.get(STUDY)
    assert (study.patient_id, study.patient_name, study.patient_sex) == ("TEST-1", "Test^Person", "F")
    assert catalogue.instances.get("2.25.1.1.1").attributes["00100020"] == {"vr": "LO"}


def left_out(catalogue: Catalogue, study_uid: str = STUDY) -> set[int]:
    """The encodings that are left out as the query patient's own."""
    return set(catalogue.questions.ask(study_uid, Filters(), cases={}, partitions={}).excluded.tolist())


def encoded(catalogue: Catalogue, send: Send, study: int, **changes: Any) -> int:
    """A study of one image under an id of its own; its encoding's id."""
    uids: dict[str, Any] = {"StudyInstanceUID": f"2.25.{study}", "SeriesInstanceUID": f"2.25.{study}.1"}
    assert send(image(SOPInstanceUID=f"2.25.{study}.1.1", **uids, **changes)).ok
    catalogue.studies.complete_now(f"2.25.{study}")
    catalogue.encodings.save(encoding(study, study), revision=1)
    whose = owners(catalogue, catalogue.encodings.changes(MODEL, "chest").ids)
    return next(i for i, owner in whose.items() if owner.study.study_uid == f"2.25.{study}")


def test_a_study_half_corrected_is_of_both_patients_for_exclusions(catalogue: Catalogue, send: Send) -> None:
    register(catalogue)
    wrong = encoded(catalogue, send, 2, PatientID="WRONG")
    right = encoded(catalogue, send, 3, PatientID="RIGHT")
    own = encoded(catalogue, send, 1, PatientID="WRONG")
    assert send(image(2, PatientID="WRONG")).ok
    assert left_out(catalogue) == {wrong, own}
    assert send(image(1, PatientID="RIGHT")).ok
    assert catalogue.studies.get(STUDY).patient_id == "RIGHT", "the newest correction speaks for the study"
    assert left_out(catalogue) == {wrong, right, own}
    assert send(image(2, PatientID="RIGHT")).ok
    assert left_out(catalogue) == {right, own}
    assert left_out(catalogue, "2.25.2") == {wrong}


def test_a_patient_with_two_ids_is_known_by_both(catalogue: Catalogue, send: Send) -> None:
    register(catalogue)
    one = encoded(catalogue, send, 2, PatientID="A")
    two = encoded(catalogue, send, 3, PatientID="B")
    own = encoded(catalogue, send, 1, PatientID=["A", "B"])
    assert left_out(catalogue) == {one, two, own}
    assert left_out(catalogue, "2.25.2") == {one, own}


@pytest.mark.parametrize(
    ("changes", "reopens"),
    [
        ({"PatientName": "New^Name", "AccessionNumber": "A2"}, False),
        ({"ViewPosition": "LL"}, True),
        ({"SeriesDescription": "hand"}, True),
        ({"WindowCenter": "100"}, True),
    ],
)
def test_what_the_network_sees_is_encoded_again_and_a_name_is_not(
    catalogue: Catalogue, send: Send, changes: dict[str, Any], reopens: bool
) -> None:
    register(catalogue)
    encoded(catalogue, send, 1)
    assert send(image(**changes)).ok
    state, revision = catalogue.studies.revision_of(STUDY)
    assert (state, revision) == ((StudyState.RECEIVING, 2) if reopens else (StudyState.ENCODED, 1))


def test_a_corrected_report_is_read_again(catalogue: Catalogue, send: Send) -> None:
    sr: dict[str, Any] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11",
        "Modality": "SR",
        "SeriesInstanceUID": "2.25.1.99",
    }

    def report(**changes: Any) -> Dataset:
        ds = image(SOPInstanceUID="2.25.1.99.1", **sr, **changes)
        for keyword in ("PixelData", "Rows", "Columns"):
            delattr(ds, keyword)
        return ds

    assert send(report()).ok
    job = catalogue.jobs.claim(catalogue.jobs.enqueue("report", "2.25.1.99.1"), "test")  # type: ignore[arg-type]
    assert job is not None
    catalogue.reports.add(STUDY, body="Old.", source="sr", sop_uid="2.25.1.99.1", job=job)
    assert send(report(PatientID="RIGHT")).ok
    assert catalogue.reports.of_study(STUDY) == ()
    assert [count.state for count in catalogue.overview().jobs if count.kind == "report"] == ["DONE", "PENDING"]


# Mending


def test_a_damaged_file_is_mended_by_whoever_sends_it_again(catalogue: Catalogue, blobs: BlobStore, send: Send) -> None:
    assert send(image()).ok
    catalogue.studies.set_state(STUDY, StudyState.QUARANTINED, "the file is damaged")
    path = stored_file(catalogue, blobs)
    path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    assert send(image(InstitutionName="another router")).ok
    assert catalogue.studies.get(STUDY).state is StudyState.RECEIVING
    assert stored_file(catalogue, blobs) != path


def test_a_damaged_head_is_mended_by_the_same_content_under_another_head(
    catalogue: Catalogue, blobs: BlobStore, send: Send
) -> None:
    ds = image()
    assert send(ds).ok
    path = stored_file(catalogue, blobs)
    path.write_bytes(b"damaged!" + path.read_bytes()[8:])  # the preamble: its data set is whole
    catalogue.damage.note(path.name)
    ds.file_meta.ImplementationVersionName = "ANOTHER"
    assert send(ds).ok
    mended = stored_file(catalogue, blobs)
    assert mended != path
    assert blobs.intact(mended.name) == mended
    assert catalogue.damage.all() == ()


def test_truncated_pixels_are_mended_by_whole_ones(catalogue: Catalogue, send: Send) -> None:
    half = image(PixelData=PIXELS.tobytes()[: PIXELS.nbytes // 2])
    assert send(half).ok
    (noted,) = catalogue.instances.noted()
    assert noted.notes == (HeaderNote.PIXELS_TRUNCATED,)
    assert send(image()).ok
    assert catalogue.instances.noted() == ()
    assert catalogue.studies.revision_of(STUDY)[1] == 2
    assert send(half).same, "and they do not come back"


# Files without a head


def test_a_file_without_preamble_is_kept_as_part_10(
    catalogue: Catalogue, blobs: BlobStore, send: Send, tmp_path: Path
) -> None:
    whole = save(image(), tmp_path / "whole.dcm").read_bytes()
    bare = whole[144 + int.from_bytes(whole[140:144], "little") :]
    assert send(bare).ok and send(bare).same
    kept = dcmread(stored_file(catalogue, blobs))
    assert kept.file_meta.MediaStorageSOPInstanceUID == kept.SOPInstanceUID == "2.25.1.1.1"
    assert (kept.pixel_array == PIXELS).all()
    assert send(whole).same, "the same data set, with a head of its own"


def test_the_meta_information_of_another_instance_is_not_kept(
    catalogue: Catalogue, blobs: BlobStore, send: Send, tmp_path: Path
) -> None:
    ds = dcmread(save(image(), tmp_path / "whole.dcm"))
    ds.file_meta.MediaStorageSOPInstanceUID = UID("1.9.9")
    ds.save_as(tmp_path / "other.dcm")
    assert send((tmp_path / "other.dcm").read_bytes()).ok
    assert dcmread(stored_file(catalogue, blobs)).file_meta.MediaStorageSOPInstanceUID == "2.25.1.1.1"
    assert [noted.notes for noted in catalogue.instances.noted()] == [(HeaderNote.META_DIFFERS,)]


# Two at once, and crashes


def test_many_senders_of_one_correction_correct_once(catalogue: Catalogue, send: Send) -> None:
    assert send(image()).ok
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda _: send(image(PatientID="RIGHT")), range(12)))
    assert all(outcome.ok for outcome in outcomes)
    assert sum(not outcome.same for outcome in outcomes) == 1
    assert len(catalogue.corrections.recent()) == 1


def test_two_different_corrections_at_once_leave_one_that_counts(
    catalogue: Catalogue, blobs: BlobStore, send: Send
) -> None:
    assert send(image()).ok
    start = threading.Barrier(2)

    def one(patient: str) -> StoreOutcome:
        start.wait(10)
        return send(image(PatientID=patient))

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(one, ("A", "B")))
    assert all(outcome.ok for outcome in outcomes)
    study = catalogue.studies.get(STUDY)
    assert study.patient_id in ("A", "B")
    assert read_header(stored_file(catalogue, blobs)).patient_id == study.patient_id
    assert len(catalogue.corrections.recent()) == 2


@pytest.fixture
def crash(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """End the connection at the named statement, as a kill or a lost network would."""
    import radir_pacs.catalogue.corrections as module

    true_run = database.run

    def at(statement: str) -> None:
        def run(connection: Any, query: str, *args: Any, **named: Any) -> Any:
            if query == statement:
                connection.close()
                raise psycopg.OperationalError("gone")
            return true_run(connection, query, *args, **named)

        monkeypatch.setattr(module, "run", run)

    yield at
    monkeypatch.undo()


@pytest.mark.parametrize("statement", ["lock_instance", "add_correction", "correct_instance", "correct_study"])
def test_a_crash_in_between_changes_nothing_and_is_no_success(
    catalogue: Catalogue,
    blobs: BlobStore,
    send: Send,
    crash: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
) -> None:
    assert send(image()).ok
    before = catalogue.instances.get("2.25.1.1.1")
    crash(statement)
    failed = send(image(PatientID="RIGHT"))
    assert not failed.ok and failed.status == 0xA700
    monkeypatch.undo()
    assert catalogue.instances.get("2.25.1.1.1") == before
    assert catalogue.studies.get(STUDY).patient_id == "TEST-1"
    assert catalogue.corrections.recent() == ()
    assert send(image(PatientID="RIGHT")).ok, "the sender sends again"
    assert catalogue.studies.get(STUDY).patient_id == "RIGHT"
