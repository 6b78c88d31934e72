"""A file whose bytes changed on the disk is never served as good, and breaks no page."""

from __future__ import annotations

import pytest

from radir_pacs.types import JobKind
from tests.dicom_files import radiograph
from tests.integration.conftest import Web


def damage(web: Web, study: str, how: str) -> str:
    """Change one stored file of the study; returns its SOP Instance UID."""
    instance = web.catalogue.instances.of_study(study)[0]
    path = web.blobs.path(instance.content_sha256)
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[-50] ^= 1
    elif how == "header":
        data[132:200] = bytes(68)
    else:
        data = bytearray(len(data))
    path.write_bytes(data) if how != "gone" else path.unlink()
    return instance.sop_uid


@pytest.mark.parametrize("how", ["flipped", "header", "zeroed", "gone"])
def test_a_damaged_file_is_said_and_listed(web: Web, how: str) -> None:
    ds = radiograph()
    web.store(ds)
    study, series, sop = ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID
    assert damage(web, study, how) == sop
    whole = f"/studies/{study}/series/{series}/instances/{sop}"
    for path, accept in (
        (f"/studies/{study}", "multipart/related; type=application/dicom; transfer-syntax=*"),
        (whole, "application/dicom; transfer-syntax=*"),
        (f"{whole}/frames/1", ""),
        (f"{whole}/rendered", ""),
        (f"/studies/{study}/thumbnail", ""),
        (f"/studies/{study}/rendered", ""),
    ):
        answer = web.get(path, accept)
        assert answer.status_code == 410, (path, answer.status_code)
        assert answer.json()["error"]["code"] == "blob_damaged"
    assert [d.sop_uid for d in web.catalogue.damage.all()] == [sop]
    web.store(ds)
    assert web.catalogue.damage.all() == ()
    assert web.get(whole, "application/dicom; transfer-syntax=*").status_code == 200


def test_the_others_of_a_study_are_delivered(web: Web) -> None:
    uids = {"StudyInstanceUID": "2.25.5", "SeriesInstanceUID": "2.25.5.9"}
    first, second = (radiograph(**uids, SOPInstanceUID=f"2.25.5.{n}") for n in (1, 2))
    web.store(first, second)
    damage(web, first.StudyInstanceUID, "flipped")
    answer = web.get(
        f"/studies/{first.StudyInstanceUID}", "multipart/related; type=application/dicom; transfer-syntax=*"
    )
    assert answer.status_code == 206
    assert answer.content.count(b"Content-Type: application/dicom") == 1


def test_what_made_room_is_pulled_again(web: Web) -> None:
    """It is no damage: whoever asks is told to ask again, and the study is fetched, once."""
    ds = radiograph()
    web.store(ds)
    study = ds.StudyInstanceUID
    with web.catalogue._database.transaction() as connection:
        connection.execute("UPDATE study SET state = 'INDEXED'")
        connection.execute("UPDATE job SET state = 'DONE'")
    (old,) = web.catalogue.disk.evictable([study])
    assert web.catalogue.disk.evict(old) == list(old.hashes)
    web.blobs.path(old.hashes[0]).unlink()
    for path in (f"/studies/{study}/rendered", f"/studies/{study}"):
        answer = web.get(path, "" if "rendered" in path else "multipart/related; type=application/dicom")
        assert answer.status_code == 503, path
        assert answer.json()["error"]["code"] == "blob_away"
    assert web.catalogue.damage.all() == ()
    assert len(web.catalogue.jobs.to_announce(9, kinds=(JobKind.PULL,))) == 1
    assert web.catalogue.disk.evictable([study])[0].hashes == [], "it is being fetched"
    web.store(ds)
    assert web.get(f"/studies/{study}/rendered").status_code == 200
