"""Retraining a head on an archive: gates, kills at every step, cancelling; serving is never touched."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
import torch
from markupsafe import escape
from psycopg.conninfo import make_conninfo

from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.encode import Bundle
from radir_pacs.encode.tokens import PARTS, encoder_id
from radir_pacs.errors import StorageFailed
from radir_pacs.models import Registry
from radir_pacs.models.run_files import RunFiles
from radir_pacs.types import ImageKind, ModelState, StepState
from radir_training.data.people import KNOWN_PATIENTS, KnownPatients
from radir_training.datasets.archive import pseudonym_key
from radir_training.retraining import folder as files
from radir_training.retraining import pipeline as pipeline_module
from radir_training.retraining.examination import examined, examinee
from radir_training.retraining.folder import run_folder
from radir_training.retraining.material import from_tokens, studies_of
from radir_training.retraining.pipeline import Pipeline
from radir_training.retraining.snapshot import counted, is_held_out, of_kind, taken
from radir_training.retraining.steps import STEPS, StepName

from .retraining_material import PLAN, STUDIES, begin, fill_archive, shuffled, toy_champion, toy_set

Kill = tuple[StepName, str]
AT_EVERY_STEP: tuple[Kill, ...] = tuple((step, "done") for step in STEPS)
IN_THE_MIDDLE: tuple[Kill, ...] = ((StepName.PREFLIGHT, "begins"), (StepName.TRAIN, "does"))
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("champion")
    toy_champion(folder)
    return folder


@contextmanager
def archived(
    postgres: str, home: Path, champion: Path, reports: Callable[[list[str]], list[str]]
) -> Iterator[Settings]:
    """An archive of its own; the key is fixed, so that the same patients are held out in every run of these tests."""
    name = f"radir_retraining_{home.parent.name}".replace("-", "_").lower()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE radir_template".encode())
    settings = Settings(
        home=home,
        database_url=make_conninfo(postgres, dbname=name),
        models=(str(champion),),
        device="cpu",
        torch_threads=1,
    )
    home.mkdir(parents=True, exist_ok=True)
    (home / "pseudonym.key").write_bytes(KEY)
    data = toy_set(STUDIES, 2)
    with Catalogue.open(settings) as catalogue:
        Registry(catalogue, settings).adopt()
        fill_archive(catalogue, Bundle.load(champion), data, reports(list(data.reports)))
    yield settings
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="module")
def archive(postgres: str, champion: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with archived(postgres, tmp_path_factory.mktemp("archive") / "home", champion, list) as settings:
        yield settings


@pytest.fixture
def catalogue(archive: Settings) -> Iterator[Catalogue]:
    with Catalogue.open(archive) as opened:
        yield opened


@pytest.fixture(scope="module")
def finished(archive: Settings) -> int:
    """A run that nothing disturbed."""
    with Catalogue.open(archive) as catalogue:
        number = begin(catalogue)
        assert Pipeline(catalogue, archive, number, worker="test").work() == "DONE"
    return number


def test_a_challenger_that_learned_passes_its_gates(finished: int, archive: Settings, catalogue: Catalogue) -> None:
    run, folder = catalogue.retraining.get(finished), run_folder(archive, finished)
    assert (run.state, run.passed, run.reason) == ("DONE", True, None)
    told = files.read(folder / files.EVIDENCE)
    mean = told["impact_assessment"]["examination"]["overall"]
    assert mean["interval_95"][0] > 0 and mean["challenger"] > mean["champion"] > 0
    assert told["modification_protocol"]["plan_sha256"] == run.plan_sha256 == PLAN.sha256
    time = told["modification_protocol"]["time"]
    assert time["estimated_s"] == files.read(folder / files.PREFLIGHT)["estimated_s"] > 0
    assert list(time["steps_s"]) == list(STEPS[:-1]) and time["took_s"] >= time["steps_s"][StepName.TRAIN] > 0
    page = (folder / files.PAGE).read_text()
    assert f"<td>{time['estimated_s']:.1f}</td>" in page and f"train {time['steps_s'][StepName.TRAIN]:.1f}" in page
    assert RunFiles.of(archive, finished).estimated_s == time["estimated_s"]
    assert "Description of modifications" in page and "Modification protocol" in page and "Impact assessment" in page
    assert all(escape(gate["text"]) in page for gate in files.read(folder / files.GATES))
    assert not (folder / files.WORK).exists()
    steps = catalogue.retraining.steps(finished)
    assert [step.name for step in steps] == list(STEPS) and {step.state for step in steps} == {StepState.DONE}
    for step in steps:
        for name, digest in step.artefacts.items():
            assert files.sha256(folder / name) == digest
    assert folder.stat().st_mode & 0o077 == 0
    losses = RunFiles.of(archive, finished).losses()
    assert {"contrast", "findings"} <= set(losses) and all(len(points) > 20 for points in losses.values())
    assert all(points[-1][1] < points[0][1] for name, points in losses.items() if name == "findings")


def test_a_run_begun_before_there_were_chances_ends_by_the_rule_of_its_plan(
    archive: Settings, catalogue: Catalogue
) -> None:
    """It was examined, then the program was upgraded: its plan says nothing of chances, nor does its examination."""
    plan = PLAN.as_json()
    del plan["gates"]["false_refusal"]
    number = begin(catalogue, replace(PLAN, pictures=False), stored=plan | {"pictures": False})
    path = run_folder(archive, number) / files.EXAMINATION

    def upgraded(step: StepName, event: str) -> None:
        if (step, event) == (StepName.GATES, "begins"):
            told = files.read(path)
            for one in (*told["regions"].values(), *told["groups"]):
                del one["chance"]
            files.write(path, told)

    assert Pipeline(catalogue, archive, number, worker="test", hook=upgraded).work() == "DONE"
    run, told = catalogue.retraining.get(number), files.read(path.with_name(files.EVIDENCE))
    protocol = told["modification_protocol"]
    assert protocol["plan"] == run.plan and "false_refusal" not in protocol["plan"]["gates"]
    written = json.dumps(protocol["plan"], sort_keys=True).encode()
    assert hashlib.sha256(written).hexdigest() == protocol["plan_sha256"] == run.plan_sha256
    assert "gates.false_refusal" not in path.with_name(files.PAGE).read_text()


def test_the_encoder_stays_and_serving_is_untouched(finished: int, archive: Settings, catalogue: Catalogue) -> None:
    run = catalogue.retraining.get(finished)
    before = Bundle.load(Path(archive.models[0]))
    after = Bundle.load(run_folder(archive, finished) / files.CHALLENGER)
    assert run.challenger == after.model_id != before.model_id == run.champion
    assert encoder_id(after) == encoder_id(before)
    weights = before.network.state_dict(), after.network.state_dict()
    changed = {name.split(".")[0] for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])}
    assert {"decoder", "head"} <= changed and not changed & set(PARTS)
    serving = catalogue.models.serving(ImageKind.CXR)
    assert serving is not None and serving.model_id == before.model_id
    beside = catalogue.models.get(after.model_id)
    assert beside is not None and beside.state is ModelState.SHADOW
    assert [event.evidence for event in catalogue.models.history(after.model_id)] == [
        f"retraining/{finished}/evidence.json"
    ] * 2


def test_nobody_is_named_in_what_a_run_leaves(finished: int, archive: Settings) -> None:
    written = [path.read_bytes() for path in run_folder(archive, finished).rglob("*") if path.is_file()]
    assert written and not any(b"2.25.17" in content or b"|p17" in content for content in written)


def test_held_out_patients_are_the_same_in_every_run_and_never_trained_on(
    finished: int, archive: Settings, catalogue: Catalogue
) -> None:
    key = pseudonym_key(archive.home)
    again = begin(catalogue, replace(PLAN, data=replace(PLAN.data, least_studies=STUDIES)))
    Pipeline(catalogue, archive, again, worker="test", hook=stop_before(StepName.DATA, catalogue, again)).work()
    first, second = ({s.study_uid: s.held_out for s in catalogue.retraining.snapshot(n)} for n in (finished, again))
    assert first == second and 40 < sum(first.values()) < 80
    assert first == {uid: is_held_out(f"|p{uid.removeprefix('2.25.')}", key) for uid in first}
    after = Bundle.load(run_folder(archive, finished) / files.CHALLENGER)
    known = [KnownPatients.from_json(told) for told in after.training[KNOWN_PATIENTS]]
    learned = {uid for uid in first if any(f"|p{uid[5:]}" in one for one in known if one)}
    assert {uid for uid, apart in first.items() if not apart} <= learned
    assert len(learned & {uid for uid, apart in first.items() if apart}) <= 5, "1 % are taken for known"


def test_patients_whom_the_champion_knows_judge_nothing(finished: int, archive: Settings, catalogue: Catalogue) -> None:
    champion = Bundle.load(Path(archive.models[0]))
    material = from_tokens(catalogue, champion, studies_of(catalogue, finished, champion.model_id)[0])
    everybody = replace(champion, training={KNOWN_PATIENTS: [KnownPatients.of(material.data.names).as_json()]})
    assert len(examinee(material, everybody, PLAN, KEY)[0]) == 0
    assert len(examinee(material, champion, PLAN, KEY)[0]) == material.held_out.sum()


def test_a_challenger_of_shuffled_reports_is_refused_with_its_table(postgres: str, tmp_path: Path) -> None:
    toy_champion(tmp_path / "champion", forgets=False)
    with (
        archived(postgres, tmp_path / "home", tmp_path / "champion", shuffled) as settings,
        Catalogue.open(settings) as catalogue,
    ):
        number = begin(catalogue)
        assert Pipeline(catalogue, settings, number, worker="test").work() == "DONE"
        run, folder = catalogue.retraining.get(number), run_folder(settings, number)
        assert run.passed is False
        failed = [gate for gate in files.read(folder / files.GATES) if not gate["passed"]]
        assert "OVERALL" in {gate["code"] for gate in failed}
        page = (folder / files.PAGE).read_text()
        assert "Refused by its gates" in page and all(gate["text"].split(":")[0] in page for gate in failed)
        assert (folder / files.CHALLENGER / "manifest.json").is_file(), "kept as evidence"


def test_a_run_killed_at_every_step_ends_with_the_same_challenger(
    finished: int, archive: Settings, catalogue: Catalogue
) -> None:
    number = begin(catalogue)
    clean = multiprocessing.get_context("forkserver")
    clean.set_forkserver_preload([__name__])
    for kill in sorted((*AT_EVERY_STEP, *IN_THE_MIDDLE), key=lambda kill: (STEPS.index(kill[0]), kill[1] == "done")):
        process = clean.Process(target=work_and_die, args=(to_environment(archive), number, kill))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, kill
        assert catalogue.retraining.get(number).state == "RUNNING"
    let_the_lease_run_out(archive)
    assert Pipeline(catalogue, archive, number, worker="test").work() == "DONE"
    runs = [catalogue.retraining.get(one) for one in (finished, number)]
    assert runs[0].challenger == runs[1].challenger and runs[1].passed is True
    kept = [files.read(run_folder(archive, one) / files.EXAMINATION)["regions"] for one in (finished, number)]
    assert kept[0] == kept[1]
    drawn = [RunFiles.of(archive, one).losses() for one in (finished, number)]
    assert drawn[0] == drawn[1], "no step twice"
    attempts = {step.name: step.attempts for step in catalogue.retraining.steps(number)}
    assert attempts == {step: 3 if step in (StepName.PREFLIGHT, StepName.TRAIN) else 2 for step in STEPS}


def work_and_die(environment: dict[str, str], number: int, kill: Kill) -> None:
    """In a process of its own: work at the run, and be killed at a point of it."""
    os.environ.update(environment)
    from radir_pacs import config

    def hook(step: StepName, event: str) -> None:
        if (step, event) == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = config.load()
    let_the_lease_run_out(settings)
    with Catalogue.open(settings) as catalogue:
        Pipeline(catalogue, settings, number, worker=f"test:{os.getpid()}", hook=hook).work()


def let_the_lease_run_out(settings: Settings) -> None:
    """Of a process that was killed; waiting for it would take a minute."""
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("UPDATE retraining_run SET lease_until = now() WHERE state = 'RUNNING'")


def test_a_database_that_is_away_for_a_moment_ends_no_run(
    archive: Settings, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left, looked = [StepName.TRAIN, StepName.EXAMINE], Mock(wraps=examined)
    monkeypatch.setattr(pipeline_module, "examined", looked)
    monkeypatch.setattr(pipeline_module, "SAY_S", 0.0)
    started = "after `radir down` nobody would stop a server that a trainer started"
    monkeypatch.setattr(Catalogue, "revive", lambda self: pytest.fail(started))

    def hook(step: StepName, event: str) -> None:
        if event == "does" and step in left:
            left.remove(step)
            raise StorageFailed

    number = begin(catalogue)
    with caplog.at_level("INFO"):
        assert Pipeline(catalogue, archive, number, worker="test", hook=hook).work() == "DONE"
    assert not left and {step.attempts for step in catalogue.retraining.steps(number)} == {1}
    assert looked.call_count == 1, "an examination does not begin anew for progress that nobody could note"
    ended = [vars(record)["state"] for record in caplog.records if record.getMessage() == "the run ends"]
    assert ended == ["DONE"]


@pytest.mark.parametrize("away", ["steps", "tell", "end"])
def test_a_database_that_is_away_between_two_steps_ends_no_run(
    away: str, archive: Settings, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had been waited for within a step alone, and there from its beginning."""
    number, left = begin(catalogue), [away]
    asked = getattr(catalogue.retraining, away)

    def fails_once(*told: Any, **more: Any) -> Any:
        if left:
            left.pop()
            raise StorageFailed
        return asked(*told, **more)

    monkeypatch.setattr(catalogue.retraining, away, fails_once)
    monkeypatch.setattr(pipeline_module, "AWAY_S", 0.0)  # counted from the first failure, not from the beginning
    pipeline = Pipeline(catalogue, archive, number, worker="test", hook=stop_before(STEPS[0], catalogue, number))
    assert pipeline.work() == "CANCELLED" and not left
    assert catalogue.retraining.get(number).state == "CANCELLED"


def stop_before(step: StepName, catalogue: Catalogue, number: int) -> Callable[[StepName, str], None]:
    """A hook that asks for the run to be cancelled when a step begins, and waits until its process knows."""
    waited = threading.Event()

    def hook(at: StepName, event: str) -> None:
        if (at, event) == (step, "begins"):
            catalogue.retraining.ask_to_cancel(number)
            waited.wait(1.5)  # the lease is renewed once a second

    return hook


def test_the_command_shows_the_estimate_beside_the_time_taken(
    finished: int, archive: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = command(archive, monkeypatch, capsys, "show", str(finished))
    time = files.read(run_folder(archive, finished) / files.EVIDENCE)["modification_protocol"]["time"]
    assert told["estimated_s"] == time["estimated_s"] and told["took_s"] >= time["took_s"]
    assert told["promotions"] == []


def command(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *words: str,
    expected: int = 0,
) -> Any:
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    code = main(["retrain", *words, "--json"])
    told = capsys.readouterr()
    assert code == expected, told.err
    return json.loads(told.out)


def test_a_merge_brings_nobody_who_was_held_out_into_the_training(
    finished: int, archive: Settings, catalogue: Catalogue
) -> None:
    """A held-out patient becomes one who is trained on: both are held out from now on."""
    then = {study.study_uid: study.held_out for study in catalogue.retraining.snapshot(finished)}
    apart, trained = (next(uid for uid, held_out in then.items() if held_out is wanted) for wanted in (True, False))
    key = f"|p{trained.removeprefix('2.25.')}"
    with psycopg.connect(archive.database_url) as connection:  # as a merge by HL7 leaves it
        old = connection.execute("SELECT patient_key FROM study WHERE study_uid = %s", [apart]).fetchone()
        connection.execute("UPDATE study SET patient_key = %s WHERE study_uid = %s", [key, apart])
    assert not is_held_out(key, KEY)
    studies = list(of_kind(catalogue.retraining.studies("none"), ImageKind.CXR))
    found = taken(studies, KEY, catalogue.retraining.once_held_out())
    counts = counted(found.rows, found.patients)
    now = {row.study_uid: row.held_out for row in found.rows}
    assert now[apart] and now[trained] and counts.held_out_studies == sum(then.values()) + 1
    assert old is not None
    with psycopg.connect(archive.database_url) as connection:  # the other way round: who was trained on judges nobody
        connection.execute("UPDATE study SET patient_key = %s WHERE study_uid IN (%s, %s)", [old[0], apart, trained])
    champion = Bundle.load(Path(archive.models[0]))
    material = from_tokens(catalogue, champion, studies_of(catalogue, finished, champion.model_id)[0])
    judges = [uid in (apart, trained) for uid in material.study_uids]
    assert material.held_out[judges].all()
    once = catalogue.retraining.once_trained_on()
    assert trained in once and apart not in once
    rows_of_exam = examinee(material, champion, PLAN, KEY, once)[2]
    assert not {apart, trained} & {material.study_uids[row] for row in rows_of_exam}
    with psycopg.connect(archive.database_url) as connection:
        for uid, name in ((apart, old[0]), (trained, key)):
            connection.execute("UPDATE study SET patient_key = %s WHERE study_uid = %s", [name, uid])
