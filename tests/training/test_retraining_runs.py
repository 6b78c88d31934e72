"""Runs begin by schedule, command or page, one at a time; they are cancelled, given up, and cleared away."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.encode import Bundle
from radir_pacs.errors import BadInput, Conflict, LeaseLost
from radir_pacs.models import clear_work
from radir_pacs.models.errands import SCHEDULE, Errands
from radir_pacs.models.retraining_work import clear_old_work
from radir_pacs.types import ImageKind, StepState
from radir_pacs.web.admin import retrain_command
from radir_training.retraining import __main__ as process
from radir_training.retraining import folder as files
from radir_training.retraining.folder import run_folder
from radir_training.retraining.pipeline import Pipeline
from radir_training.retraining.plan import Plan
from radir_training.retraining.snapshot import counted, of_kind, taken
from radir_training.retraining.steps import STEPS, StepName

from .retraining_material import PLAN, STUDIES, begin
from .test_retraining import KEY, archive, catalogue, champion, command, let_the_lease_run_out, stop_before

__all__ = ["archive", "catalogue", "champion"]  # fixtures


@pytest.mark.parametrize("step", STEPS)
def test_cancelled_at_any_step_it_leaves_serving_as_it_is(
    step: StepName, archive: Settings, catalogue: Catalogue
) -> None:
    number = begin(catalogue, replace(PLAN, recipe=replace(PLAN.recipe, epochs=1)))
    pipeline = Pipeline(catalogue, archive, number, worker="test", hook=stop_before(step, catalogue, number))
    assert pipeline.work() == "CANCELLED"
    assert catalogue.retraining.get(number).state == "CANCELLED"
    assert catalogue.retraining.steps(number)[STEPS.index(step)].state is not StepState.DONE
    assert not (run_folder(archive, number) / files.WORK).exists()
    serving = catalogue.models.serving(ImageKind.CXR)
    assert serving is not None and serving.model_id == Bundle.load(Path(archive.models[0])).model_id
    with pytest.raises(Conflict, match="ended"):
        Pipeline(catalogue, archive, number, worker="test").work()


def test_a_run_that_nobody_works_at_is_cancelled_at_once(catalogue: Catalogue) -> None:
    number = begin(catalogue)
    assert catalogue.retraining.ask_to_cancel(number) == "CANCELLED"
    with pytest.raises(Conflict, match="cannot be cancelled"):
        catalogue.retraining.ask_to_cancel(number)


def test_one_process_at_a_time_works_at_a_run(catalogue: Catalogue) -> None:
    number = begin(catalogue)
    first = catalogue.retraining.hold(number, "one", 60)
    with pytest.raises(Conflict, match="another process"):
        catalogue.retraining.hold(number, "two", 60)
    with psycopg.connect(catalogue.conninfo) as connection:
        connection.execute("UPDATE retraining_run SET lease_until = now() WHERE id = %s", [number])
    second = catalogue.retraining.hold(number, "two", 60)
    with pytest.raises(LeaseLost):
        catalogue.retraining.tell(number, first, 1, StepState.DONE)
    catalogue.retraining.tell(number, second, 1, StepState.DONE)
    with pytest.raises(Conflict, match="another retraining"):
        begin(catalogue)
    catalogue.retraining.end(number, second, "CANCELLED")


def test_there_are_never_two_at_once(catalogue: Catalogue) -> None:
    one, other = begin(catalogue), begin(catalogue)
    token = catalogue.retraining.hold(one, "one", 60)
    with pytest.raises(Conflict, match="another run"):
        catalogue.retraining.hold(other, "two", 60)
    catalogue.retraining.end(one, token, "FAILED", "no memory")
    catalogue.retraining.end(other, catalogue.retraining.hold(other, "two", 60), "CANCELLED")


def test_the_schedule_begins_a_run_when_the_last_one_is_old(archive: Settings, catalogue: Catalogue) -> None:
    """In off-peak hours, one at a time; what was killed goes on."""
    begun: list[tuple[str, ...]] = []
    signals: list[int] = []
    night, day = datetime(2031, 1, 2, 23, 30, tzinfo=UTC), datetime(2031, 1, 2, 12, tzinfo=UTC)
    running = [False]

    def begin_command(command: Sequence[str]) -> Any:
        begun.append(tuple(command))
        return SimpleNamespace(poll=lambda: None if running[0] else 0, send_signal=signals.append)

    settings = replace(archive, retrain_every_days=30, quality_weekly=False)
    at = [day]
    errands = Errands(catalogue, settings, begin_command, lambda: at[0])
    errands.look()
    assert not begun, "not by day"
    at[0], running[0] = night, True
    errands.look()
    errands.look()
    assert begun == [("retrain", "--scheduled", "--kind", "CXR")], "one at a time"
    errands.close()
    assert signals == [signal.SIGINT]
    running[0] = False
    number = begin(catalogue, started_by=SCHEDULE)
    Errands(catalogue, settings, begin_command, lambda: at[0]).look()
    assert begun.pop() == ("retrain", "--resume", str(number))
    token = catalogue.retraining.hold(number, "test", 60)
    Errands(catalogue, settings, begin_command, lambda: at[0]).look()
    assert len(begun) == 1, "a process is at it"
    catalogue.retraining.end(number, token, "REFUSED", "too few studies")
    at[0] = datetime.now(UTC).replace(hour=23)
    Errands(catalogue, settings, begin_command, lambda: at[0]).look()
    assert len(begun) == 1, "refused as well, it was the run of this month"
    Errands(catalogue, replace(settings, retrain_every_days=0), begin_command, lambda: night).look()
    assert len(begun) == 1, "off by default"
    with pytest.raises(Conflict, match="too young"):
        begin(catalogue, started_by=SCHEDULE, least_days=30)
    assert not Settings(home=archive.home).promote_when_covered and not Settings(home=archive.home).retrain_every_days


def test_the_relay_begins_and_resumes_what_somebody_asked_for(archive: Settings, catalogue: Catalogue) -> None:
    """At once and by day; a run that a terminal began is its own, and one that is asked for again goes on."""
    begun: list[tuple[str, ...]] = []

    def begin_command(command: Sequence[str]) -> Any:
        begun.append(tuple(command))
        return SimpleNamespace(poll=lambda: 0)

    def look() -> list[tuple[str, ...]]:
        begun.clear()
        noon = datetime(2031, 1, 2, 12, tzinfo=UTC)
        Errands(catalogue, replace(archive, retrain_every_days=0), begin_command, lambda: noon).look()
        return begun

    own = begin(catalogue)
    assert look() == []
    catalogue.retraining.ask(own)
    resumes = [("retrain", "--resume", str(own))]
    assert look() == resumes
    token = catalogue.retraining.hold(own, "test", 60)
    assert look() == []
    with pytest.raises(Conflict, match="a process is at it"):
        catalogue.retraining.ask(own)
    let_the_lease_run_out(archive)
    assert look() == resumes, "it was killed"
    catalogue.retraining.end(own, catalogue.retraining.hold(own, "test", 60), "FAILED", "no memory")
    assert look() == []
    for _ in range(5):
        held = catalogue.retraining.hold(own, "test", 60)
        catalogue.retraining.tell(own, held, 1, StepState.RUNNING, begins=True)
        let_the_lease_run_out(archive)
    assert look() == [] and catalogue.retraining.get(own).state == "FAILED", "it was given up"
    catalogue.retraining.ask(own)
    assert look() == resumes, "what was tried before somebody asked again does not count"
    assert token and catalogue.retraining.ask_to_cancel(own) == "CANCELLED"
    with pytest.raises(Conflict, match="has ended"):
        catalogue.retraining.ask(own)


def test_what_fails_does_not_starve_the_others(archive: Settings, catalogue: Catalogue) -> None:
    begun: list[tuple[str, ...]] = []
    at = [datetime(2031, 1, 2, 23, tzinfo=UTC)]

    def begin_command(command: Sequence[str]) -> Any:
        begun.append(tuple(command))
        return SimpleNamespace(poll=lambda: 1)  # refused before there is a run

    errands = Errands(catalogue, replace(archive, retrain_every_days=30), begin_command, lambda: at[0])
    for _ in range(3):
        errands.look()
    assert begun == [("retrain", "--scheduled", "--kind", "CXR"), ("quality", "--measure")], "each once an hour"
    at[0] += timedelta(hours=1)
    errands.look()
    assert begun[2:] == begun[:1]


def test_a_step_that_never_ends_is_given_up(archive: Settings, catalogue: Catalogue) -> None:
    """As where the machine has too little memory: each process is killed at the same step."""
    day = datetime(2031, 1, 2, 12, tzinfo=UTC)
    errands = Errands(catalogue, archive, lambda command: SimpleNamespace(poll=lambda: 0), lambda: day)  # type: ignore[arg-type,return-value]
    ours, theirs = begin(catalogue, started_by=SCHEDULE), begin(catalogue)
    for number in (ours, theirs):
        for _ in range(5):
            assert catalogue.retraining.get(number).state in ("PENDING", "RUNNING")
            token = catalogue.retraining.hold(number, "test", 60)
            catalogue.retraining.tell(number, token, 1, StepState.RUNNING, begins=True)
            errands.look()
            let_the_lease_run_out(archive)
    errands.look()
    ended = catalogue.retraining.get(ours)
    assert ended.state == "FAILED" and ended.reason == "preflight was begun 5 times and never ended"
    assert catalogue.retraining.get(theirs).state == "RUNNING", "a person may try as often as they like"
    assert catalogue.retraining.ask_to_cancel(theirs) == "CANCELLED"


def test_a_run_that_dies_before_it_is_cancelled_ends(archive: Settings, catalogue: Catalogue) -> None:
    number = begin(catalogue)
    catalogue.retraining.hold(number, "test", 60)
    assert catalogue.retraining.ask_to_cancel(number) == "RUNNING"
    day = datetime(2031, 1, 2, 12, tzinfo=UTC)
    errands = Errands(catalogue, archive, now=lambda: day)
    errands.look()
    assert catalogue.retraining.get(number).state == "RUNNING", "its process may still see it"
    let_the_lease_run_out(archive)
    errands.look()
    assert catalogue.retraining.get(number).state == "CANCELLED"


def test_two_clicks_make_one_run(catalogue: Catalogue) -> None:
    number = begin(catalogue, at_once=True)
    with pytest.raises(Conflict, match="a moment ago"):
        begin(catalogue, at_once=True)
    catalogue.retraining.ask_to_cancel(number)
    catalogue.retraining.ask_to_cancel(begin(catalogue, at_once=True))


def test_a_snapshot_stays_and_is_described_as_it_is_kept(archive: Settings, catalogue: Catalogue) -> None:
    """Killed after it was kept and before it was described; meanwhile an addendum came."""
    number = begin(catalogue)
    studies = list(of_kind(catalogue.retraining.studies("none"), ImageKind.CXR))
    first = taken(studies[:-1], KEY, ())
    kept = catalogue.retraining.keep_snapshot(number, first.rows)
    again = taken(studies, KEY, ())
    assert catalogue.retraining.keep_snapshot(number, again.rows) == kept == tuple(first.rows)
    assert counted(kept, again.patients) == counted(first.rows, first.patients)
    assert catalogue.retraining.ask_to_cancel(number) == "CANCELLED"


def test_an_addendum_or_a_draft_does_not_stand_for_the_report(catalogue: Catalogue) -> None:
    uid = "2.25.1"
    [before] = [study for study in catalogue.retraining.studies("none") if study.study_uid == uid]
    with psycopg.connect(catalogue.conninfo) as connection:
        for adds, draft in ((True, False), (False, True)):
            connection.execute(
                "INSERT INTO report (study_uid, source, body, content_sha256, adds, draft)"
                " VALUES (%s, 'test', %s, %s, %s, %s)",
                [uid, f"Addendum: {adds}", f"{adds}", adds, draft],
            )
    try:
        [after] = [study for study in catalogue.retraining.studies("none") if study.study_uid == uid]
        assert after.body == before.body == catalogue.quality.reports([uid])[uid]
    finally:
        with psycopg.connect(catalogue.conninfo) as connection:
            connection.execute("DELETE FROM report WHERE study_uid = %s AND (adds OR draft)", [uid])


def test_too_little_is_refused_with_numbers_before_anything_is_trained(archive: Settings, catalogue: Catalogue) -> None:
    number = begin(catalogue, Plan.from_json({"data": {"least_studies": 1000, "least_held_out_patients": 90}}))
    assert Pipeline(catalogue, archive, number, worker="test").work() == "REFUSED"
    run = catalogue.retraining.get(number)
    assert run.reason is not None and f"{STUDIES} studies have a report, and the plan asks for 1000" in run.reason
    assert "patients are held out, and the plan asks for 90" in run.reason
    assert run.challenger is None and not catalogue.retraining.snapshot(number)


def test_a_run_that_is_told_to_stop_is_let_go_of(archive: Settings, catalogue: Catalogue) -> None:
    """It counted as running until its lease had run out: nobody could resume it, and a word to cancel was not heard."""
    number = begin(catalogue)

    def stop(step: StepName, event: str) -> None:
        if step is StepName.TRAIN:
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        Pipeline(catalogue, archive, number, worker="test", hook=stop).work()
    run = catalogue.retraining.get(number)
    assert (run.state, run.held) == ("RUNNING", False)
    token = catalogue.retraining.hold(number, "another", 60)
    catalogue.retraining.let_go(number, token - 1)
    assert catalogue.retraining.get(number).held, "only who holds a run lets go of it"
    catalogue.retraining.let_go(number, token)
    assert catalogue.retraining.ask_to_cancel(number) == "CANCELLED"


def test_sigterm_unwinds_the_process_that_trains(
    archive: Settings, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in to_environment(archive).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Pipeline, "work", lambda self: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            process.main([str(begin(catalogue))])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 128 + signal.SIGTERM


def test_what_has_ended_is_not_resumed_and_an_empty_list_says_so(
    archive: Settings, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in to_environment(archive).items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as patch:
        patch.setattr(type(catalogue.retraining), "runs", lambda self: ())
        assert main(["retrain", "list"]) == 0
    assert "no run yet" in capsys.readouterr().out
    number = begin(catalogue)
    assert catalogue.retraining.ask_to_cancel(number) == "CANCELLED"
    assert main(["retrain", "--resume", str(number)]) != 0
    assert f"retraining {number} has ended (cancelled)" in " ".join(capsys.readouterr().err.split())
    assert main(["retrain", "show", str(number)]) == 0
    assert "cancelled: cancelled" not in capsys.readouterr().out


def test_where_nothing_can_be_judged_nothing_is_trained(archive: Settings, catalogue: Catalogue) -> None:
    """It failed after the training, which may take hours."""
    number = begin(catalogue, replace(PLAN, gates=replace(PLAN.gates, least_queries=10_000)))
    assert Pipeline(catalogue, archive, number, worker="test").work() == "REFUSED"
    run, steps = catalogue.retraining.get(number), catalogue.retraining.steps(number)
    assert run.reason is not None and "no region has 10000 abnormal held-out queries" in run.reason
    assert steps[STEPS.index(StepName.TRAIN)].state is StepState.PENDING and run.challenger is None


def test_the_command_says_what_a_run_would_take(
    archive: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = command(archive, monkeypatch, capsys, "--dry-run")
    assert told["counts"]["studies"] == STUDIES and told["missing_tokens"] == 0 and told["refusals"] == []
    assert told["visible_gain"] > 0
    assert main(["retrain", "--dry-run"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"a gain of {told['visible_gain']:.3f} in Recall@5 passes the gate" in text, text
    plan = tmp_path / "plan.toml"
    plan.write_text("[data]\nleast_patients = 500\n")
    told = command(archive, monkeypatch, capsys, "--dry-run", "--plan", str(plan), expected=1)
    assert [(one["code"], one["wanted"]) for one in told["refusals"]] == [("PATIENTS", 500)]


def test_the_command_has_a_process_of_its_own_do_the_work(
    archive: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("[data]\nleast_studies = 5000\n")
    told = command(archive, monkeypatch, capsys, "--plan", str(plan), expected=1)
    assert told["state"] == "REFUSED" and "asks for 5000" in told["reason"]
    assert told["worker"] != f"retraining:{os.getpid()}" and told["worker"].startswith("retraining:")
    assert command(archive, monkeypatch, capsys, "list")[0]["id"] == told["id"]


def test_the_administrators_page_has_the_command_begin_a_run(archive: Settings, catalogue: Catalogue) -> None:
    plan = retrain_command.PlanForm.of("CXR", "head", "[data]\r\nleast_studies = 5000\r\n")
    tried = retrain_command.tried(plan, archive)
    assert [(one["code"], one["wanted"]) for one in tried["refusals"]] == [("STUDIES", 5000)]
    number = retrain_command.begun(plan, archive, by="Dr. Meyer")
    run = catalogue.retraining.get(number)
    assert (run.state, run.asked, run.held) == ("PENDING", True, False), "it is no child of the web service"
    assert Pipeline(catalogue, archive, number, worker="relay").work() == "REFUSED"
    run = catalogue.retraining.get(number)
    assert (run.state, run.started_by, run.plan_sha256) == ("REFUSED", "Dr. Meyer", tried["plan_sha256"])
    with pytest.raises(BadInput, match="has ended"):
        retrain_command.resumed(number, archive)


def test_work_that_no_run_goes_on_with_is_cleared_away(archive: Settings, catalogue: Catalogue) -> None:
    failed, cancelled, held = begin(catalogue), begin(catalogue), begin(catalogue)
    catalogue.retraining.end(failed, catalogue.retraining.hold(failed, "test", 60), "FAILED", "no memory")
    assert catalogue.retraining.ask_to_cancel(cancelled) == "CANCELLED"
    token = catalogue.retraining.hold(held, "test", 60)
    for number in (failed, cancelled, held):
        (run_folder(archive, number) / files.WORK / "inputs").mkdir(parents=True)
    left = {failed: True, cancelled: False, held: True}
    assert cancelled in clear_old_work(catalogue, archive.home, keep_days=7)
    assert {number: (run_folder(archive, number) / files.WORK).exists() for number in left} == left
    with psycopg.connect(archive.database_url) as connection:
        connection.execute("UPDATE retraining_run SET changed_at = now() - interval '8 days' WHERE id = %s", [failed])
    assert clear_old_work(catalogue, archive.home, keep_days=7) == (failed,)
    with pytest.raises(Conflict, match="is at"):
        clear_work(catalogue, archive.home, held)
    assert (run_folder(archive, held) / files.WORK).exists()
    catalogue.retraining.end(held, token, "CANCELLED")


def test_clear_and_cancel_remove_the_work_at_once(
    archive: Settings, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = begin(catalogue), begin(catalogue)
    for number in (one, other):
        (run_folder(archive, number) / files.WORK).mkdir(parents=True)
    assert command(archive, monkeypatch, capsys, "cancel", str(one)) == {"run": one, "state": "CANCELLED"}
    assert not (run_folder(archive, one) / files.WORK).exists()
    assert command(archive, monkeypatch, capsys, "clear", str(other)) == {"cleared": [other]}
    assert not (run_folder(archive, other) / files.WORK).exists()
