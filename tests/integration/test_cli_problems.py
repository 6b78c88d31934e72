"""``radir problems``: what it lists, and how refused instances leave the list."""

from __future__ import annotations

import json
from typing import Any

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.cli.state import only_one, write_state
from radir_pacs.config import Settings, to_environment
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import JobKind, StudyState
from tests.catalogue_material import add, header


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find this test's installation."""
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)


def radir(*arguments: str) -> int:
    return main(list(arguments))


def test_refused_instances_are_taken_off_the_list(
    catalogue: Catalogue, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def listed() -> list[str]:
        capsys.readouterr()
        assert radir("problems", "--json") == 0
        return [row["reason_code"] for row in json.loads(capsys.readouterr().out)["refused"]]

    for code in (ReasonCode.CONFLICT, ReasonCode.TOO_LARGE, ReasonCode.CONFLICT):
        catalogue.refusals.add("2.25.7", "refused", 0xA900, "PACS", reason_code=code)
    assert radir("problems") == 0
    assert "radir problems drop-refused" in capsys.readouterr().out
    assert radir("problems", "drop-refused", "--reason", "conflict", "--yes") == 0
    assert "2 refusals taken off the list" in capsys.readouterr().out
    assert listed() == ["TOO_LARGE"]
    for wrong in ((), ("2.25.7",), ("--all", "--reason", "TOO_LARGE"), ("--reason", "NONSENSE")):
        assert radir("problems", "drop-refused", *wrong, "--yes") == 1
    assert radir("problems", "drop-refused", "--all", "--yes") == 0
    assert listed() == []


def set_aside(catalogue: Catalogue, *why: tuple[StudyState, ReasonCode]) -> None:
    """A study for each, from 1 on."""
    for study, (state, code) in enumerate(why, 1):
        add(catalogue, header(study))
        catalogue.studies.set_state(header(study).study_uid, state, "why", reason_code=code)


def test_an_action_says_how_many_it_applies_to_and_asks(
    catalogue: Catalogue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_aside(
        catalogue,
        (StudyState.QUARANTINED, ReasonCode.BLANK_IMAGE),
        (StudyState.QUARANTINED, ReasonCode.WORKER_KILLED),
        (StudyState.SKIPPED, ReasonCode.NOT_CHEST),
    )
    counted = lambda *said: radir("problems", *said, "--dry-run", "--json") or json.loads(capsys.readouterr().out)  # noqa: E731
    assert counted("retry", "--all") == {"studies": {"BLANK_IMAGE": 1, "WORKER_KILLED": 1}, "jobs": {}}
    assert counted("retry", "--reason", "not_chest") == {"studies": {"NOT_CHEST": 1}, "jobs": {}}
    assert counted("drop", "--reason", "not_chest") == {"studies": {}}
    assert counted("drop-refused", "--all") == {"refused": {}}

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    asked: list[str] = []
    answers = ["n", "y"]

    def answer(said: str) -> str:
        asked.append(said)
        return answers.pop(0)

    monkeypatch.setattr("builtins.input", answer)
    assert radir("problems", "retry", "--all") == 1
    assert catalogue.studies.get(header(1).study_uid).state is StudyState.QUARANTINED
    assert radir("problems", "retry", "--all") == 0
    assert catalogue.studies.get(header(1).study_uid).state is StudyState.STABLE
    assert asked == ["retry 2? [y/N] "] * 2
    assert radir("problems", "retry", "--reason", "not_chest", "--yes") == 0
    assert catalogue.studies.get(header(3).study_uid).state is StudyState.STABLE
    assert radir("problems", "--dry-run") == 1


@pytest.mark.parametrize("how", [(), ("--json",)])
@pytest.mark.parametrize("action", ["retry", "drop", "drop-refused"])
def test_without_a_terminal_an_action_on_several_wants_yes(
    action: str, how: tuple[str, ...], catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    add(catalogue, header())
    catalogue.studies.set_state(header().study_uid, StudyState.QUARANTINED, "why", reason_code=ReasonCode.BLANK_IMAGE)
    catalogue.refusals.add("2.25.7", "refused", 0xA900, "PACS", reason_code=ReasonCode.CONFLICT)
    assert radir("problems", action, "--all", *how) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and f"radir problems {action}" in said.err
    assert "add --yes" in said.err and "--dry-run" in said.err
    assert catalogue.studies.get(header().study_uid).state is StudyState.QUARANTINED
    assert len(catalogue.refusals.recent()) == 1


@pytest.mark.parametrize("action", ["retry", "drop", "drop-refused"])
def test_among_json_nobody_is_asked(
    action: str, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(_: str) -> str:
        raise AssertionError("it asked")

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", asked)
    catalogue.refusals.add("2.25.7", "refused", 0xA900, "PACS", reason_code=ReasonCode.CONFLICT)
    assert radir("problems", action, "--all", "--json") == 1
    said = capsys.readouterr()
    assert said.out == "" and "--json does not ask: add --yes" in said.err
    assert len(catalogue.refusals.recent()) == 1
    for _ in range(2):  # the second time there is nothing to do
        assert radir("problems", action, "--all", "--json", "--yes") == 0
        assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_at_the_end_of_a_terminal_nothing_is_done(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    add(catalogue, header())
    catalogue.studies.set_state(header().study_uid, StudyState.QUARANTINED, "why", reason_code=ReasonCode.BLANK_IMAGE)

    def ended(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", ended)
    assert radir("problems", "drop", "--all") == 1
    assert catalogue.studies.get(header().study_uid).state is StudyState.QUARANTINED


def test_drop_says_what_stays_on_the_list_and_why(catalogue: Catalogue, capsys: pytest.CaptureFixture[str]) -> None:
    set_aside(
        catalogue,
        (StudyState.QUARANTINED, ReasonCode.BLANK_IMAGE),
        (StudyState.SKIPPED, ReasonCode.NOT_CHEST),
        (StudyState.SKIPPED, ReasonCode.DROPPED),
    )
    catalogue.refusals.add("2.25.7", "refused", 0xA900, "PACS", reason_code=ReasonCode.CONFLICT)
    job = catalogue.jobs.claim(catalogue.jobs.enqueue(JobKind.REPORT, "2.25.9.1"), "test")
    assert job is not None
    catalogue.jobs.fail(job, "failed", reason_code=ReasonCode.WORKER_FAILED, retry=False)

    assert radir("problems", "drop", "--reason", "not_chest", "--yes") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "left as they are: 0 studies"
    assert len(said) == 2 and said[1].startswith("still listed: 1 NOT_CHEST (SKIPPED): only QUARANTINED studies")
    assert radir("problems", "drop", "--all", "--yes", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["studies"] == [header(1).study_uid]
    assert {(one["of"], one["where"], one["reason_code"], one["count"]) for one in told["stay"]} == {
        ("STUDY", "SKIPPED", "NOT_CHEST", 1),
        ("REFUSAL", "", "CONFLICT", 1),
        ("JOB", "report", "WORKER_FAILED", 1),
    }
    assert all(one["why"] for one in told["stay"])


def test_a_process_that_does_not_stay_up_is_a_problem(
    catalogue: Catalogue, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def child(name: str, pid: int | None, quick_ends: int) -> dict[str, Any]:
        return {"name": name, "command": [], "pid": pid, "restarts": 2 * quick_ends, "quick_ends": quick_ends}

    for name, pid in (("web", 1), ("worker", 2)):
        catalogue.processes.say_alive(name, pid, "UP")
    children = [child("web", 1, 0), child("worker", 2, 3), child("relay", None, 1)]
    log = settings.home / "logs" / "worker.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("started\nerror: weights.safetensors was altered\n")
    with only_one(settings):
        write_state(settings, {"processes": children})
        assert radir("problems", "--json") == 0
        found = json.loads(capsys.readouterr().out)["processes"]
        assert radir("problems") == 0
    assert [(row["process"], row["state"], row["restarts"]) for row in found] == [
        ("relay", "DOWN", 2),
        ("worker", "ENDS AGAIN AND AGAIN", 6),
    ]
    assert found[1]["last_line"] == "error: weights.safetensors was altered"
    assert "was altered" in capsys.readouterr().out


def test_a_study_is_listed_with_what_people_know_it_by(
    catalogue: Catalogue, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    add(catalogue, header(accession_number="A-77"))
    catalogue.studies.set_state(
        header().study_uid, StudyState.SKIPPED, "not a chest", reason_code=ReasonCode.OTHER, revision=1
    )
    assert radir("problems") == 0
    assert "A-77" in capsys.readouterr().out


def test_a_study_that_answers_by_vectors_of_before_is_listed(
    catalogue: Catalogue, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files made room, and no PACS gave them back for a later image; one that lacks nothing is no problem."""
    for study in (1, 2):
        add(catalogue, header(study, accession_number=f"A-{study}"))
    with catalogue.withheld._database.transaction() as connection:
        connection.execute("UPDATE study SET state = 'INDEXED'")
        connection.execute("UPDATE study SET reason = 'away', reason_code = 'BLOB_AWAY' WHERE accession_number = 'A-1'")
    assert radir("problems", "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)["studies"]
    assert (listed["accession_number"], listed["state"], listed["reason_code"]) == ("A-1", "INDEXED", "BLOB_AWAY")
