"""Pixels go by the rules of a site, and what stays: vectors, what is held, what the PACS lacks, what a model lacks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from radir_pacs.catalogue import Away, Catalogue, Evictable, HeldBy, SnapshotStudy
from radir_pacs.cli.disk import gather
from radir_pacs.config import Settings
from radir_pacs.intake.retention import RetentionRules, load_retention
from radir_pacs.intake.sources import Sources
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import ImageKind, JobKind, StudyState
from radir_workers import evict_files
from radir_workers.evict_files import BY_RULE, EvictFiles
from tests.catalogue_material import DIM, MODEL, add, claimed, encoding, header, register
from tests.conftest import free_port
from tests.integration.test_disk import pacs, study

DAYS = '[[rule]]\nname = "month"\ndays = 30\nneeds_source = false\n'
ENCODED = '[[rule]]\nname = "encoded"\nuntil_encoded = true\nneeds_source = false\n'
NOW = datetime.now(UTC)
NO_SOURCE = Sources()


def rules(settings: Settings, text: str) -> RetentionRules:
    path = settings.home / "retention.toml"
    path.write_text(text)
    load_retention.cache_clear()
    return load_retention(str(path))


def aged(database_url: str, number: int, days: float) -> None:
    """The last image of a study came so many days ago."""
    with psycopg.connect(database_url) as connection:
        at = NOW - timedelta(days=days)
        connection.execute("UPDATE study SET last_instance_at = %s WHERE study_uid = %s", (at, f"2.25.{number}"))


def passed(
    catalogue: Catalogue, blobs: BlobStore, settings: Settings, text: str, sources: Sources = NO_SOURCE
) -> EvictFiles:
    """One job of the rules."""
    evict = EvictFiles(catalogue, blobs, sources, settings, rules(settings, text))
    evict(claimed(catalogue, JobKind.EVICT, BY_RULE))
    return evict


def standing(blobs: BlobStore, files: Sequence[str]) -> list[bool]:
    return [blobs.path(sha256).exists() for sha256 in files]


def shadow(catalogue: Catalogue) -> None:
    """A second model is made ready beside the one that serves."""
    catalogue.models.register("next", ImageKind.CXR, DIM, {"name": "next"}, by="test", reason="test", bundle_sha256="0")
    catalogue.models.set_shadow("next", by="test", reason="test")


def test_after_so_many_days_pixels_go_and_vectors_stay(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, database_url: str
) -> None:
    register(catalogue)
    files = [study(catalogue, blobs, number) for number in (1, 2)]
    waiting = study(catalogue, blobs, 3, indexed=False)
    for number, days in ((1, 31), (2, 29), (3, 31)):
        aged(database_url, number, days)
    passed(catalogue, blobs, settings, DAYS)
    assert standing(blobs, [*files, waiting]) == [False, True, True], "nor what was acknowledged and is not encoded"
    assert catalogue.studies.get("2.25.1").state is StudyState.INDEXED
    assert len(catalogue.encodings.models_of_study("2.25.1")) == 1
    assert catalogue.disk.away() == {Away.ROOM: 0, Away.RETENTION: 1}
    assert catalogue.disk.away_reason(files[0]) is Away.RETENTION
    last = catalogue.retention.last_pass()
    assert last is not None and last.ended_at is not None
    assert (last.studies, last.files, last.bytes) == (1, 1, 1 << 20)
    assert gather(settings)["retention_pass"]["files"] == 1
    assert catalogue.damage.note(files[0], to_be_shown=True), "it is no damage"
    assert not [count for count in catalogue.overview().jobs if count.kind is JobKind.PULL], "a rule ended it"


def test_a_skipped_study_goes_by_days_too(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, database_url: str
) -> None:
    register(catalogue)
    skipped, quarantined = (study(catalogue, blobs, number, indexed=False) for number in (1, 2))
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "UPDATE study SET state = CASE study_uid WHEN '2.25.1' THEN 'SKIPPED' ELSE 'QUARANTINED' END"
        )
    aged(database_url, 1, 31)
    aged(database_url, 2, 31)
    passed(catalogue, blobs, settings, ENCODED)
    assert standing(blobs, [skipped, quarantined]) == [True, True], "no model encoded it"
    passed(catalogue, blobs, settings, DAYS)
    assert standing(blobs, [skipped, quarantined]) == [False, True], "somebody has to look at the other"


def test_what_every_model_has_encoded_goes_once_it_has(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, database_url: str
) -> None:
    register(catalogue)
    sha256 = study(catalogue, blobs, 1)
    shadow(catalogue)
    passed(catalogue, blobs, settings, ENCODED)
    assert blobs.path(sha256).exists(), "the model in shadow lacks it"
    job = claimed(catalogue, JobKind.REENCODE, "next/2.25.1")
    catalogue.encodings.save_beside(encoding(1, 1, "next"), 1, job)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE encoding SET revision = 0 WHERE model_id = 'next'")
    [found] = catalogue.disk.evictable(["2.25.1"], Away.RETENTION)
    assert not found.is_encoded, "as it was before its last image"
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE encoding SET revision = 1 WHERE model_id = 'next'")
    [found] = catalogue.disk.evictable(["2.25.1"], Away.RETENTION)
    assert found.is_encoded
    passed(catalogue, blobs, settings, ENCODED)
    assert not blobs.path(sha256).exists()


def test_a_model_that_comes_meanwhile_holds_a_study_back(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore
) -> None:
    register(catalogue)
    study(catalogue, blobs, 1)
    [found] = catalogue.disk.evictable(["2.25.1"], Away.RETENTION)
    assert found.is_encoded
    shadow(catalogue)
    assert catalogue.disk.evict(found, Away.RETENTION, must_be_encoded=True) == []
    assert catalogue.disk.evict(found, Away.RETENTION) == found.hashes


def test_what_something_is_about_to_read_stays(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, database_url: str
) -> None:
    register(catalogue)
    files = [study(catalogue, blobs, number) for number in range(1, 7)]
    for number in range(1, 7):
        aged(database_url, number, 31)
    run = catalogue.retraining.start(
        kind=ImageKind.CXR,
        depth="full",
        plan={},
        plan_sha256="0" * 64,
        champion=MODEL,
        started_by="tester",
        steps=("one",),
    )
    snapshot = SnapshotStudy(study_uid="2.25.1", revision=1, report_sha256="0" * 64, held_out=False)
    catalogue.retraining.keep_snapshot(run, [snapshot])
    one = catalogue.instances.of_study("2.25.2")[0]
    catalogue.commitments.add("2.25.9", "MODALITY", [(one.sop_class_uid, one.sop_uid)])
    catalogue.jobs.enqueue(JobKind.REENCODE, "a model/2.25.3")
    assert catalogue.retention.hold(["2.25.4", "2.25.99"], HeldBy.PERSON, by="somebody") == ("2.25.4",)
    catalogue.retention.hold(["2.25.5"], HeldBy.EXPORT, by="an export", for_s=3600)
    [found] = catalogue.disk.pages(Away.RETENTION, 9)
    held = [["retraining"], ["commitment"], ["job"], ["person"], ["export"], []]
    assert [list(one.held) for one in found] == held
    with psycopg.connect(database_url) as connection:
        before = connection.execute("SELECT count(*) FROM evicted_blob").fetchone()
    for one_study in found[:5]:
        assert catalogue.disk.evict(replace(one_study, hashes=["x"]), Away.RETENTION) == []
        assert catalogue.disk.evict(replace(one_study, hashes=["x"]), Away.ROOM) == []
    assert before == (0,)
    passed(catalogue, blobs, settings, DAYS)
    assert standing(blobs, files) == [True] * 5 + [False]

    catalogue.retention.hold(["2.25.5"], HeldBy.EXPORT, by="an export", for_s=-1)  # as when its time is over
    catalogue.retention.prune()
    assert [one_hold.study_uid for one_hold in catalogue.retention.holds()] == ["2.25.4"]
    assert catalogue.retention.release(HeldBy.PERSON, study_uid="2.25.4") == 1
    passed(catalogue, blobs, settings, DAYS)
    assert standing(blobs, files) == [True] * 3 + [False] * 3


def test_a_hold_that_is_being_written_keeps_the_files(
    catalogue: Catalogue, blobs: BlobStore, database_url: str
) -> None:
    register(catalogue)
    study(catalogue, blobs, 1)
    [found] = catalogue.disk.evictable(["2.25.1"])
    with ThreadPoolExecutor(1) as pool, psycopg.connect(database_url) as person:
        person.execute("SELECT FROM study WHERE study_uid = '2.25.1' FOR UPDATE")
        person.execute("INSERT INTO study_hold (study_uid, why, by) VALUES ('2.25.1', 'person', 'somebody')")
        evicted = pool.submit(catalogue.disk.evict, found)
        waits_for_a_lock(database_url)
        person.commit()
        assert evicted.result() == []


def test_a_hold_waits_for_the_eviction_that_it_comes_too_late_for(
    catalogue: Catalogue, blobs: BlobStore, database_url: str
) -> None:
    register(catalogue)
    sha256 = study(catalogue, blobs, 1)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(database_url) as eviction:
        eviction.execute("SELECT FROM study WHERE study_uid = '2.25.1' FOR UPDATE")
        eviction.execute("INSERT INTO evicted_blob (content_sha256) VALUES (%s)", (sha256,))
        held = pool.submit(catalogue.retention.hold, ["2.25.1"], HeldBy.PERSON, by="somebody")
        waits_for_a_lock(database_url)
        eviction.commit()
        assert held.result() == ("2.25.1",)
    assert catalogue.disk.away_of("2.25.1") == 1


def waits_for_a_lock(database_url: str) -> None:
    """Return once a statement of this database waits for another transaction."""
    deadline = time.monotonic() + 30
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(database_url, autocommit=True) as connection:
        while connection.execute(waiting).fetchone() is None:
            assert time.monotonic() < deadline, "nothing waits"


def test_only_what_its_pacs_names_goes_unless_the_rule_says_otherwise(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, database_url: str
) -> None:
    register(catalogue)
    files = [study(catalogue, blobs, number) for number in (1, 2)]
    for number in (1, 2):
        aged(database_url, number, 31)
    asked: list[str] = []
    safe = DAYS.replace("needs_source = false", "")
    with pacs({"2.25.1": ["2.25.1.1.1"]}, asked_for=asked) as there:
        passed(catalogue, blobs, settings, safe, Sources(by_site=((frozenset({"elsewhere"}), there),)))
        assert (asked, standing(blobs, files)) == ([], [True, True]), "no PACS is named for their site"
        evict = passed(catalogue, blobs, settings, safe, Sources(by_site=((frozenset({"TEST"}), there),)))
        assert standing(blobs, files) == [False, True]
        asked.clear()
        evict(claimed(catalogue, JobKind.EVICT, BY_RULE))
        assert asked == [], "once a day"
    passed(catalogue, blobs, settings, safe, Sources(default=replace(there, url=f"http://127.0.0.1:{free_port()}")))
    last = catalogue.retention.last_pass()
    assert last is not None and last.ended_at is not None, "a PACS that is away holds nothing else up"
    assert standing(blobs, files) == [False, True]
    passed(catalogue, blobs, settings, DAYS)
    assert standing(blobs, files) == [False, False]


def test_one_study_that_the_pacs_cannot_answer_for_holds_up_no_other(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, database_url: str
) -> None:
    register(catalogue)
    files = [study(catalogue, blobs, number) for number in (1, 2, 3)]
    for number, days in ((1, 50), (2, 40), (3, 31)):
        aged(database_url, number, days)
    asked: list[str] = []
    known = {f"2.25.{number}": [f"2.25.{number}.1.1"] for number in (1, 2, 3)}
    safe = DAYS.replace("needs_source = false", "")
    with pacs(known, fails=("2.25.1",), asked_for=asked) as there:
        evict = passed(catalogue, blobs, settings, safe, Sources(default=there))
        assert standing(blobs, files) == [True, False, False]
        asked.clear()
        evict(claimed(catalogue, JobKind.EVICT, BY_RULE))
        assert asked == [], "once a day, like what the PACS lacks"


@pytest.mark.parametrize("body", ["[" * 100_000, "{}", "[1]"])
def test_an_answer_that_makes_no_sense_names_nothing(
    body: str, settings: Settings, catalogue: Catalogue, blobs: BlobStore, database_url: str
) -> None:
    register(catalogue)
    sha256 = study(catalogue, blobs, 1)
    aged(database_url, 1, 31)
    with pacs({}, says=body.encode()) as there:
        safe = DAYS.replace("needs_source = false", "")
        passed(catalogue, blobs, settings, safe, Sources(default=there))
    assert standing(blobs, [sha256]) == [True]


def test_a_pacs_that_names_others_without_end_is_not_asked_for_ever(
    settings: Settings,
    catalogue: Catalogue,
    blobs: BlobStore,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(catalogue)
    sha256 = study(catalogue, blobs, 1)
    aged(database_url, 1, 31)
    monkeypatch.setattr(evict_files, "_MOST_PAGES", 5)
    asked: list[str] = []
    others = {"2.25.1": [f"2.25.9.{number}" for number in range(50)]}
    with pacs(others, page=1, asked_for=asked) as there:
        safe = DAYS.replace("needs_source = false", "")
        passed(catalogue, blobs, settings, safe, Sources(default=there))
    assert (len(asked), standing(blobs, [sha256])) == (5, [True])


def test_a_study_of_which_nothing_is_left_is_not_read_again_until_something_comes_back(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(catalogue)
    files = [study(catalogue, blobs, number) for number in (1, 2, 3)]
    for number in (1, 2, 3):
        aged(database_url, number, 31)
    passed(catalogue, blobs, settings, DAYS)
    assert standing(blobs, files) == [False] * 3
    read: list[str] = []
    evictable = catalogue.disk.evictable

    def notes(study_uids: Sequence[str], *given: Any) -> list[Evictable]:
        read.extend(study_uids)
        return evictable(study_uids, *given)

    monkeypatch.setattr(catalogue.disk, "evictable", notes)
    passed(catalogue, blobs, settings, DAYS)
    assert read == []
    catalogue.instances.came_again("2.25.1", files[0])  # as a pull brings it
    add(catalogue, header(2, 1, 2), "a late image")
    catalogue.disk.stays(files[2])
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE study SET state = 'INDEXED'")
        connection.execute("UPDATE job SET state = 'DONE'")
    for number in (1, 2, 3):
        aged(database_url, number, 31)
    passed(catalogue, blobs, settings, DAYS.replace("30", "40"))
    assert read == ["2.25.1", "2.25.2", "2.25.3"]
