"""Pixels go by the rules of a site, and what stays: vectors, what is held, what the PACS lacks, what a model lacks."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from radir_pacs.access import erasure
from radir_pacs.catalogue import Away, Catalogue, Evictable, HeldBy, SnapshotStudy, disk
from radir_pacs.catalogue.jobs import AWAY_ATTEMPTS
from radir_pacs.cli import main
from radir_pacs.cli.disk import gather
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import BlobDamaged
from radir_pacs.intake.retention import RetentionRules, load_retention
from radir_pacs.intake.sources import Pacs, Sources, load_sources
from radir_pacs.query import Searcher
from radir_pacs.reasons import ReasonCode
from radir_pacs.similar_cases import Query
from radir_pacs.storage import open_blobs
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import ImageKind, JobKind, JobState, StudyState
from radir_workers import evict_files
from radir_workers.evict_files import BY_RULE, EvictFiles
from radir_workers.outcome import Outcome
from radir_workers.relay import PASS_EVERY_S, Relay
from tests.catalogue_material import DIM, MODEL, TESTER, add, claimed, encoding, header, register
from tests.conftest import free_port
from tests.integration.test_disk import pacs, study

DAYS = '[[rule]]\nname = "month"\ndays = 30\nneeds_source = false\n'
ENCODED = '[[rule]]\nname = "encoded"\nuntil_encoded = true\nneeds_source = false\n'
NOW = datetime.now(UTC)
NO_SOURCE = Sources()


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return open_blobs(settings)


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


def test_a_page_is_bounded_in_instances_too(
    catalogue: Catalogue, blobs: BlobStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(catalogue)
    for number in range(1, 5):
        study(catalogue, blobs, number)
        aged(database_url, number, 50 - number)
    for number in (2, 3, 4):
        add(catalogue, header(2, 1, number), f"more of it, {number}")
    aged(database_url, 2, 48)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE study SET state = 'INDEXED'")
    monkeypatch.setattr(disk, "_MOST_INSTANCES", 2)
    pages = [[one.study_uid for one in page] for page in catalogue.disk.pages(Away.RETENTION, 500)]
    assert pages == [["2.25.1"], ["2.25.2"], ["2.25.3", "2.25.4"]]


def test_a_pass_goes_on_where_it_stopped(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(catalogue)
    files = [study(catalogue, blobs, number) for number in (1, 2, 3)]
    for number, days in ((1, 50), (2, 40), (3, 31)):
        aged(database_url, number, days)
    monkeypatch.setattr(evict_files, "_PAGE", 1)
    evict, pages = catalogue.disk.evict, catalogue.disk.pages
    began: list[object] = []

    class Stopped(Exception):
        pass

    def stops(of: Evictable, *given: Any, **named: Any) -> list[str]:
        if of.study_uid == "2.25.3":
            raise Stopped
        return evict(of, *given, **named)

    def begins(*given: Any, after_at: Any = None) -> Any:
        began.append(after_at)
        return pages(*given, after_at=after_at, look=2)

    monkeypatch.setattr(catalogue.disk, "evict", stops)
    monkeypatch.setattr(catalogue.disk, "pages", begins)
    with pytest.raises(Stopped):
        passed(catalogue, blobs, settings, DAYS)
    assert standing(blobs, files) == [False, False, True]
    last = catalogue.retention.last_pass()
    assert last is not None and (last.ended_at, last.files) == (None, 2)

    job = catalogue.jobs.claim(catalogue.jobs.enqueue(JobKind.EVICT, BY_RULE), "test")
    assert job is None, "the killed one has its lease"
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE job SET state = 'DONE'")
    monkeypatch.setattr(catalogue.disk, "evict", evict)
    passed(catalogue, blobs, settings, DAYS)
    assert began == [None, last.after_at], "not from the oldest study on"
    assert standing(blobs, files) == [False] * 3
    last = catalogue.retention.last_pass()
    assert last is not None and last.ended_at is not None and last.files == 3


def test_the_relay_asks_for_a_pass_an_hour_and_at_once_by_other_rules(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, database_url: str
) -> None:
    def waiting() -> int:
        return sum(
            count.count for count in catalogue.overview().jobs if count.kind is JobKind.EVICT and not _ended(count)
        )

    def _ended(count: object) -> bool:
        return getattr(count, "state", None) in ("DONE", "FAILED")

    relay = Relay(catalogue, blobs, settings, lambda job, queue: None)
    relay._follow_retention()
    assert waiting() == 0, "all is kept"
    path = settings.home / "retention.toml"
    text = DAYS
    rules(settings, text)
    relay = Relay(catalogue, blobs, replace(settings, retention_file=str(path)), lambda job, queue: None)
    relay._follow_retention()
    assert waiting() == 1
    passed(catalogue, blobs, settings, text)
    relay._follow_retention()
    assert waiting() == 0, "it ended just now"
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE retention_pass SET ended_at = now() - make_interval(secs => %s)", (PASS_EVERY_S,))
    relay._follow_retention()
    assert waiting() == 1
    passed(catalogue, blobs, settings, text)
    rules(settings, ENCODED)
    relay = Relay(catalogue, blobs, replace(settings, retention_file=str(path)), lambda job, queue: None)
    relay._follow_retention()
    assert waiting() == 1


def test_the_command_says_what_would_go_and_holds_a_study(
    settings: Settings,
    catalogue: Catalogue,
    blobs: BlobStore,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(catalogue)
    files = [study(catalogue, blobs, number) for number in (1, 2)]
    aged(database_url, 1, 31)
    rules(settings, DAYS)
    here = replace(settings, retention_file=str(settings.home / "retention.toml"))
    for name, value in to_environment(here).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_pacs.cli.retention.must_run", lambda settings: None)

    def told(*words: str) -> object:
        assert main(["retention", *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert told("dry-run") == {"due": {"month": {"studies": 1, "files": 1, "bytes": 1 << 20}}, "held_studies": {}}
    explained = told("explain", "2.25.1")
    assert isinstance(explained, dict) and explained["pictures"][0]["due"] is True
    explained = told("explain", "2.25.2")
    assert isinstance(explained, dict) and explained["pictures"][0]["due"] is False
    assert told("hold", "2.25.1") == {"study": "2.25.1", "held": True, "away": 0}
    assert told("dry-run") == {"due": {"month": {"studies": 0, "files": 0, "bytes": 0}}, "held_studies": {"person": 1}}
    held = told("holds")
    assert isinstance(held, list) and [row["study"] for row in held] == ["2.25.1"]
    assert standing(blobs, files) == [True, True]
    assert told("release", "2.25.1") == {"study": "2.25.1", "held": False}
    assert main(["retention", "release", "2.25.1"]) == 1
    assert main(["retention", "hold", "2.25.99"]) == 1
    catalogue.disk.evict(catalogue.disk.evictable(["2.25.2"])[0])
    capsys.readouterr()
    assert main(["retention", "hold", "2.25.2", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"study": "2.25.2", "held": True, "away": 1}
    assert main(["retention", "hold", "2.25.2"]) == 1
    assert "1 file is away already" in capsys.readouterr().out
    for words in (["show"], ["explain", "2.25.1"], ["dry-run"], ["holds"]):
        assert main(["retention", *words]) == 0
        assert capsys.readouterr().out.strip()


def test_a_hold_is_erased_with_its_study(settings: Settings, catalogue: Catalogue, blobs: BlobStore) -> None:
    register(catalogue)
    study(catalogue, blobs, 1)
    catalogue.retention.hold(["2.25.1"], HeldBy.PERSON, by="somebody")
    places = {place.name: place.found for place in erasure.look("2.25.1", catalogue, settings)}
    assert places["table: holds of files"] == 1
    left = {place.name for place in erasure.erase("2.25.1", catalogue, settings, by=TESTER) if place.found}
    assert left <= {"index segments", "files as received"}


@pytest.mark.parametrize("pull_url", ["", "http://127.0.0.1:9/dicom-web"])
def test_a_model_that_comes_later_has_the_study_pulled_or_says_that_it_is_away(
    pull_url: str, settings: Settings, catalogue: Catalogue, blobs: BlobStore
) -> None:
    register(catalogue)
    sha256 = study(catalogue, blobs, 1)
    passed(catalogue, blobs, settings, ENCODED)
    there_settings = replace(settings, pull_url=pull_url)
    with Catalogue.open(there_settings) as there:
        job = there.jobs.claim(there.jobs.enqueue(JobKind.REENCODE, "next/2.25.1"), "t")
        assert job is not None
        Outcome(there, load_sources(there_settings)).failed(job, 1, BlobDamaged(sha256))
        ended = there.jobs.get(job.id)
        pulls = [count.count for count in there.overview().jobs if count.kind is JobKind.PULL]
    assert ended is not None
    if pull_url:
        assert (ended.state, pulls) == (JobState.PENDING, [1])
    else:
        assert (ended.state, ended.reason_code, pulls) == (JobState.FAILED, ReasonCode.BLOB_AWAY, [])
    assert catalogue.studies.get("2.25.1").state is StudyState.INDEXED, "it goes on answering"


@pytest.mark.parametrize("reason", [Away.RETENTION, Away.ROOM])
@pytest.mark.parametrize(
    "sites, is_last", [((), False), (("elsewhere",), False), (("TEST",), False), (("TEST",), True)]
)
def test_a_late_image_leaves_the_vectors_of_a_study_whose_pixels_are_away(
    sites: tuple[str, ...], is_last: bool, reason: Away, settings: Settings, catalogue: Catalogue, blobs: BlobStore
) -> None:
    register(catalogue)
    sha256, _ = study(catalogue, blobs, 1), study(catalogue, blobs, 2)
    catalogue.disk.evict(catalogue.disk.evictable(["2.25.1"], reason)[0], reason)
    blobs.delete(sha256)
    add(catalogue, header(1, 1, 2))
    catalogue.studies.complete_now("2.25.1")
    sources = Sources(by_site=((frozenset(sites), Pacs(url="http://127.0.0.1:9")),)) if sites else NO_SOURCE
    outcome, job = Outcome(catalogue, sources), claimed(catalogue, key="2.25.1")
    revision = outcome.begin(job)
    assert revision == 2
    attempt = AWAY_ATTEMPTS if is_last else job.max_attempts
    outcome.failed(replace(job, attempt=attempt), revision, BlobDamaged(sha256))
    found, waits = catalogue.studies.get("2.25.1"), sites == ("TEST",) and not is_last
    ended = (StudyState.STABLE, None) if waits else (StudyState.INDEXED, ReasonCode.BLOB_AWAY)
    assert (found.state, found.reason_code) == ended
    pulls = [count.count for count in catalogue.overview().jobs if count.kind is JobKind.PULL]
    assert pulls == ([1] if reason is Away.ROOM or sites == ("TEST",) else [])
    assert len(catalogue.encodings.models_of_study("2.25.1")) == 1
    answer = Searcher(catalogue, settings).similar(Query(study_uid="2.25.2", region="chest", limit=5), TESTER)
    assert [case.study.study_uid for case in answer.cases] == ["2.25.1"]
    if not waits:  # its pixels come back, whoever sends them
        catalogue.instances.came_again("2.25.1", sha256)
        assert catalogue.studies.get("2.25.1").state is StudyState.RECEIVING


def test_a_wrong_file_stops_the_start(settings: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('[[rule]]\nname = "a"\ndays = 0\n')
    assert main(["retention", "show", "--home", str(tmp_path), "--retention-file", str(path)]) == 1
    assert "days must be" in capsys.readouterr().err
