"""Handing over and following deletions, with stand-ins for Orthanc, the peer and the service, and a queue on disk."""

from __future__ import annotations

import itertools
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from radir_pacs.reasons import ReasonCode
from tests.services import ROOT

sys.path.append(str(ROOT / "orthanc_plugin"))  # as Orthanc's Python plugin does

from radir_deletions import Deletions
from radir_forward import Forwarder
from radir_handover import (
    MOST_JOBS,
    WHOLE_ATTEMPTS,
    ByPull,
    ByStore,
    Gone,
    Instance,
    NotTaken,
    Refused,
    Study,
    read_study,
)
from radir_queue import Entry, Queue
from radir_service import Answer, Service, Unavailable

UID = "1.2.3"


def answer(status: int, body: Any) -> Answer:
    return Answer(status, "application/json", {}, json.dumps(body).encode())


class World(Service):
    """Orthanc's REST API, the peer behind it, and the service. ``refuses``: what the peer takes no more of."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.refuses: set[str] = set()
        self.drops: set[str] = set()  # said to be taken, and not kept
        self.sent: list[str] = []
        self.jobs: list[dict[str, Any]] = []
        self.forgets_jobs = self.is_away = False
        self.pull: dict[str, Any] = {"state": "PENDING"}
        self.pulls = itertools.count(1)
        self.deleted: list[str] = []
        self.studies: dict[str, str] = {}  # UID by Orthanc id

    def get(self, uri: str) -> Any:
        if uri.startswith("/jobs/"):
            if self.forgets_jobs:
                raise Gone
            return self.jobs[int(uri.removeprefix("/jobs/"))]
        if uri.removeprefix("/studies/") not in self.studies:
            raise Gone
        return {}

    def post(self, uri: str, body: Any) -> Any:
        if uri == "/tools/find":
            return [one for one, uid in self.studies.items() if uid == body["Query"]["StudyInstanceUID"]]
        assert uri == "/modalities/radir/store" and body["Permissive"] is False
        state = "Success"
        for name in body["Resources"]:
            if name in self.refuses:
                state = "Failure"
                break
            self.sent.append(name)
            if name not in self.drops:
                self.held.add(name)
        self.jobs.append({"State": state, "ErrorDetails": "refused"})
        return {"ID": str(len(self.jobs) - 1)}

    def ask(self, method: str, path: str, *_: Any, **__: Any) -> Answer:
        if self.is_away:
            raise Unavailable(502, "nobody there")
        if method == "DELETE":
            self.deleted.append(path.rpartition("/")[2])
            return Answer(204, "", {}, b"")
        if method == "POST":
            return answer(202, {"job": next(self.pulls)})
        return answer(200, self.pull if "/jobs/" in path else {"instances": sorted(self.held)})


def study(count: int) -> Study:
    return Study(UID, [Instance(f"{n}", f"{n}", f"file {n}") for n in range(count)])


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue.sqlite")


def hand_over(world: World, queue: Queue, found: Study, attempts: int = WHOLE_ATTEMPTS) -> None:
    way = ByStore(world, queue, world, "radir", lambda seconds: False)
    assert way.hand_over(Entry("study", attempts), found, lambda: 0.0)


@pytest.mark.parametrize("refused", [(), (0,), (56,), (28,), (0, 56), (3, 4, 5), (0, 20, 40)])
def test_all_but_the_refused_come_once(world: World, queue: Queue, refused: tuple[int, ...]) -> None:
    world.refuses = {str(n) for n in refused}
    if refused:
        with pytest.raises(Refused, match=f"lacks {len(refused)} of 57"):
            hand_over(world, queue, study(57))
    else:
        hand_over(world, queue, study(57))
    assert sorted(world.sent, key=int) == [str(n) for n in range(57) if n not in refused]
    world.refuses.clear()
    hand_over(world, queue, study(57))
    assert len(world.sent) == len(set(world.sent)) == 57


def test_a_peer_that_takes_nothing_is_not_asked_for_every_instance(world: World, queue: Queue) -> None:
    world.refuses = {str(n) for n in range(500)}
    with pytest.raises(NotTaken):
        hand_over(world, queue, study(500), attempts=0)
    assert len(world.jobs) == 1, "at first it may be down"
    world.jobs.clear()
    with pytest.raises(Refused, match="lacks 500 of 500"):
        hand_over(world, queue, study(500))
    assert len(world.jobs) < MOST_JOBS


def test_bad_instances_at_the_beginning_hide_no_good_ones(world: World, queue: Queue) -> None:
    world.refuses = {str(n) for n in range(10)}
    for attempts in range(WHOLE_ATTEMPTS + 4):
        with pytest.raises(NotTaken):
            hand_over(world, queue, study(57), attempts)
    assert sorted(world.sent, key=int) == [str(n) for n in range(10, 57)]


def test_what_the_service_holds_of_an_older_file_is_no_proof(world: World, queue: Queue) -> None:
    """A corrected instance keeps its UID, so only the peer's answer to the C-STORE counts."""
    world.held = {"0", "1", "2"}
    world.refuses = {"1"}
    with pytest.raises(Refused, match="1 of 3 instances were not taken"):
        hand_over(world, queue, study(3))
    assert set(world.sent) == {"0", "2"}, "the first twice: it was taken before a failure, and nothing tells of that"
    world.sent.clear()
    world.refuses.clear()
    hand_over(world, queue, study(3))
    assert world.sent == ["1"]


def test_what_was_taken_and_is_not_there_is_sent_again(world: World, queue: Queue) -> None:
    world.drops = {"1"}
    with pytest.raises(Refused, match="lacks 1 of 3"):
        hand_over(world, queue, study(3), attempts=0)
    world.drops.clear()
    hand_over(world, queue, study(3))
    assert world.sent == ["0", "1", "2", "1"]


def test_a_job_that_orthanc_forgot_proves_nothing(world: World, queue: Queue) -> None:
    """Orthanc keeps ten finished jobs, and other users' jobs displace ours."""
    world.forgets_jobs = True
    world.drops = {"2"}
    with pytest.raises(NotTaken):
        hand_over(world, queue, study(3), attempts=0)
    world.forgets_jobs = False
    world.drops.clear()
    hand_over(world, queue, study(3))
    assert world.sent == ["0", "1", "2", "2"]


def test_a_service_that_is_away_costs_no_job(world: World, queue: Queue) -> None:
    world.is_away = True
    with pytest.raises(Unavailable):
        hand_over(world, queue, study(3))
    assert world.jobs == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (answer(404, {}), "does not say what it holds"),  # an older release, which has no such route
        (answer(200, []), "does not say what it holds"),
        (answer(200, {"held": []}), "does not say what it holds"),
        (answer(200, None), "does not say what it holds"),
        (answer(401, {}), "Token"),
    ],
)
def test_a_service_that_does_not_say_what_it_holds_holds_nothing(
    world: World, queue: Queue, said: Answer, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "ask", lambda *_, **__: said)
    with pytest.raises(NotTaken, match=reason):
        hand_over(world, queue, study(3))
    assert world.jobs == []


def test_a_pull_counts_when_its_study_is_held(world: World, queue: Queue) -> None:
    queue.take(1, [], ["study"], 0.0)
    way, found = ByPull(queue, world), study(2)

    def look(now: float) -> bool:
        entry = queue.next_due(now)
        assert entry is not None
        return way.hand_over(entry, found, lambda: now)

    assert not look(0) and queue.next_due(1) is None, "asked, and not asked again at once"
    assert not look(2), "it still runs"
    world.pull = {"state": "FAILED", "reason_code": "PEER_TOO_SLOW", "message": "the PACS took too long"}
    with pytest.raises(NotTaken, match="PEER_TOO_SLOW") as caught:
        look(4)
    assert not isinstance(caught.value, Refused), "it may be quicker some day"
    world.pull = {"state": "FAILED", "reason_code": ReasonCode.PEER_INCOMPLETE, "message": "1 kept, 1 refused"}
    with pytest.raises(Refused, match="1 refused"):
        look(4)
    world.pull = {"state": "RUNNING"}
    queue.failed(Entry("study", 0), "failed", 4)
    assert not look(6), "asked again"
    world.pull, world.held = {"state": "DONE"}, {"0"}
    with pytest.raises(Refused, match="lacks 1 of 2"):
        look(8)
    world.held.add("1")
    assert look(8)
    found = study(3)
    assert not look(8), "one more image came meanwhile: what was pulled is not this"


def test_a_queue_of_the_release_before_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript("""
            CREATE TABLE cursor (one INTEGER PRIMARY KEY CHECK (one = 1), last_change INTEGER NOT NULL);
            CREATE TABLE arriving (study TEXT PRIMARY KEY);
            CREATE TABLE waiting (study TEXT PRIMARY KEY, since REAL NOT NULL, due REAL NOT NULL,
                attempts INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
                given_up INTEGER NOT NULL DEFAULT 0);
            CREATE TABLE handed_over (study TEXT PRIMARY KEY, content TEXT NOT NULL);
            INSERT INTO cursor VALUES (1, 7);
            INSERT INTO waiting (study, since, due, attempts) VALUES ('a', 1, 1, 3);
            INSERT INTO handed_over VALUES ('b', 'content');
        """)
    old.close()
    for _ in range(2):
        queue = Queue(path)
        assert (queue.last_change(), queue.next_due(1)) == (7, Entry("a", 3))
        assert queue.was_handed_over("b", "content")
        assert queue.handed_over_after("", 9) == [], "its UID is not known: it is never deleted"
        queue.close()


def test_what_was_taken_survives_a_restart(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue.sqlite")
    queue.confirm("a", ["x", "y"])
    queue.withdraw("a", ["y"])
    queue.close()
    queue = Queue(tmp_path / "queue.sqlite")
    assert queue.confirmed("a") == {"x"} and queue.confirmed("b") == set()
    queue.done("a", "content", UID)
    assert queue.confirmed("a") == set()


@pytest.mark.parametrize(
    ("tags", "model", "handed_over"),
    [
        ({"Modality": "CT", "Manufacturer": "ACME"}, "Scanner", True),
        ({"Modality": "CT"}, "", True),
        ({"Modality": "SR", "Manufacturer": "ACME"}, "Reporter", True),
        ({"Modality": "SR", "Manufacturer": "RadIR-PACS"}, "Similar case search", False),
        ({"Modality": "OT", "Manufacturer": "RadIR-PACS"}, "Similar case search", False),
        ({"Modality": "SR", "Manufacturer": "RadIR-PACS"}, "Something else", True),
    ],
)
def test_what_radir_made_is_not_handed_over(tags: dict[str, str], model: str, handed_over: bool) -> None:
    known = {
        "/studies/study": {"MainDicomTags": {"StudyInstanceUID": UID}},
        "/studies/study/series": [
            {"ID": "series", "Instances": ["a"], "MainDicomTags": tags},
            {"ID": "empty", "Instances": [], "MainDicomTags": {}},
        ],
        "/series/series/instances": [{"ID": "a", "FileUuid": "f", "MainDicomTags": {"SOPInstanceUID": "1"}}],
        "/series/empty/instances": [],
        "/instances/a/simplified-tags": {"ManufacturerModelName": model},
    }

    class Orthanc(World):
        def get(self, uri: str) -> Any:
            return known[uri]

    assert read_study(Orthanc(), "study") == Study(UID, [Instance("a", "1", "f")] if handed_over else [])


@pytest.fixture
def kept(world: World, queue: Queue) -> Queue:
    """Two studies that were handed over."""
    world.studies = {"one": "1.1", "two": "1.2"}
    for name, uid in world.studies.items():
        queue.done(name, "content", uid)
    return queue


def test_a_deletion_is_followed_after_its_time_of_grace(world: World, kept: Queue) -> None:
    deletions = Deletions(world, kept, world, grace_s=100.0)
    del world.studies["one"]
    deletions.look(0.0)
    deletions.look(99.0)
    assert world.deleted == []
    world.is_away = True
    deletions.look(100.0)
    world.is_away = False
    deletions.look(101.0)
    deletions.look(102.0)
    assert world.deleted == ["1.1"] and [one.study for one in kept.handed_over_after("", 9)] == ["two"]


def test_a_study_that_comes_back_in_time_stays(world: World, kept: Queue) -> None:
    deletions = Deletions(world, kept, world, grace_s=100.0)
    uid = world.studies.pop("one")
    deletions.look(0.0)
    world.studies["one"] = uid
    deletions.look(50.0)
    del world.studies["one"]
    deletions.look(101.0)
    assert world.deleted == []


def test_a_study_under_another_id_was_corrected_and_not_deleted(world: World, kept: Queue) -> None:
    """Orthanc's id of a study is made of its patient: correcting the patient deletes one and makes another."""
    world.studies["corrected"] = world.studies.pop("one")
    deletions = Deletions(world, kept, world, grace_s=0.0)
    deletions.look(0.0)
    deletions.look(1.0)
    assert world.deleted == [] and [one.study for one in kept.handed_over_after("", 9)] == ["two"]


def test_every_study_has_its_turn(world: World, queue: Queue) -> None:
    for number in range(50):
        queue.done(f"study {number:02}", "content", f"1.{number}")
    deletions = Deletions(world, queue, world, grace_s=0.0)
    for now in range(6):
        deletions.look(float(now))
    assert len(world.deleted) == 50


def test_an_archive_that_was_begun_anew_deletes_nothing(world: World, kept: Queue, monkeypatch: Any) -> None:
    """A lost disk, or a database that was moved away, does not mean that fifty thousand studies were deleted."""
    kept.take(900, [], [], 0.0)
    world.studies.clear()
    monkeypatch.setattr(world, "get", lambda uri: {"Last": 3, "Changes": [], "Done": True})
    forwarder = Forwarder(world, kept, world, "radir", print, Deletions(world, kept, world, 0.0))
    forwarder._begin()
    assert kept.handed_over_after("", 9) == [] and kept.last_change() == 0
