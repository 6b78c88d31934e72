"""A pass over the archive goes page by page; who asks for it, what it says, and what comes after it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from radir_pacs.access import erasure
from radir_pacs.catalogue import Away, Catalogue, Evictable, HeldBy, disk
from radir_pacs.catalogue.jobs import AWAY_ATTEMPTS
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import BlobDamaged
from radir_pacs.intake.sources import Pacs, Sources, load_sources
from radir_pacs.query import Searcher
from radir_pacs.reasons import ReasonCode
from radir_pacs.similar_cases import Query
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import JobKind, JobState, StudyState
from radir_workers import evict_files
from radir_workers.evict_files import BY_RULE
from radir_workers.outcome import Outcome
from radir_workers.relay import PASS_EVERY_S, Relay
from tests.catalogue_material import TESTER, add, claimed, header, register
from tests.integration.test_disk import study
from tests.integration.test_retention import DAYS, ENCODED, NO_SOURCE, aged, passed, rules, standing


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

    nothing = {"studies": 0, "files": 0, "bytes": 0}
    one = {"studies": 1, "files": 1, "bytes": 1 << 20}
    assert told("dry-run") == {"due": {"month": one}, "without_source": nothing, "held_studies": {}}
    explained = told("explain", "2.25.1")
    assert isinstance(explained, dict) and explained["pictures"][0]["due"] is True
    explained = told("explain", "2.25.2")
    assert isinstance(explained, dict) and explained["pictures"][0]["due"] is False
    assert told("hold", "2.25.1") == {"study": "2.25.1", "held": True, "away": 0}
    assert told("dry-run") == {"due": {"month": nothing}, "without_source": nothing, "held_studies": {"person": 1}}
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


def test_a_dry_run_says_when_nothing_goes_for_want_of_a_source(
    settings: Settings,
    catalogue: Catalogue,
    blobs: BlobStore,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rule asks the source PACS unless it says otherwise; where none is named, "0 files" alone explains nothing."""
    register(catalogue)
    for number in (1, 2):
        study(catalogue, blobs, number)
        aged(database_url, number, 31)
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_pacs.cli.retention.must_run", lambda settings: None)
    other = settings.home / "other.toml"
    other.write_text(DAYS.replace("needs_source = false\n", ""))
    given = ("--rules", str(other))
    assert main(["retention", "dry-run", *given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["without_source"] == {"studies": 2, "files": 2, "bytes": 2 << 20}
    assert told["due"] == {"month": {"studies": 0, "files": 0, "bytes": 0}}
    assert main(["retention", "dry-run", *given]) == 0
    told = "2 files of 2 studies would go, but no source PACS is named (pull_url, sources_file): nothing goes"
    assert told in capsys.readouterr().out
    assert main(["retention", "explain", "2.25.1", *given]) == 0
    assert "rule month, stays: no source PACS is named for its sites" in capsys.readouterr().out
    assert main(["retention", "explain", "2.25.1", "--rules", "/nonexistent"]) == 1
    both = settings.home / "both.toml"
    both.write_text(f"{other.read_text()}sop_class = ['1.2.3']\n{DAYS.replace('month', 'rest')}")
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE instance SET sop_class_uid = '1.2.3' WHERE study_uid = '2.25.1'")
    assert main(["retention", "dry-run", "--rules", str(both)]) == 0
    said = capsys.readouterr().out
    assert "rule rest: 1 file of 1 study" in said
    assert "1 file of 1 study would go, but no source PACS is named (pull_url, sources_file): it stays" in said


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
