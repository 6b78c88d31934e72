"""Each gate fails by its own figure alone, each refusal of a preflight has its numbers, and groups are examined."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from radir_pacs.encode import Bundle
from radir_pacs.types import ImageKind
from radir_training.commands.retrain import _lasts
from radir_training.retraining import preflight as preflights
from radir_training.retraining.chance import Unjudged
from radir_training.retraining.examination import GROUPS, Examination, examined
from radir_training.retraining.gates import Gate, GateCode, gates
from radir_training.retraining.lease import Cancelled
from radir_training.retraining.material import Groups, age_group
from radir_training.retraining.plan import Plan
from radir_training.retraining.preflight import RefusalCode, preflight
from radir_training.retraining.snapshot import Counts
from tests.model_material import seeded_bundle
from tests.services import ROOT

from .retraining_material import PLAN, toy_champion, toy_set

Told = dict[str, Any]
STUDIES = 160
FEW = 3  # studies of the scanner with too few queries


_LOSS = "-0.050, 95 % interval -0.100 to -0.001; by chance at any region or group"


def figures(difference: float, low: float, high: float) -> Told:
    return {
        "queries": 80,
        "champion": 0.5,
        "challenger": 0.5 + difference,
        "random": 0.2,
        "difference": difference,
        "interval_95": [low, high],
    }


def passing() -> Told:
    """What an examination tells of a challenger that is a little better, as fast and as large."""
    return {
        "overall": figures(0.05, 0.01, 0.09),
        "means": {"queries": figures(0.05, 0.01, 0.09), "regions": figures(0.04, -0.01, 0.09)},
        "regions": {"heart": figures(0.05, -0.02, 0.1) | {"name": "heart", "chance": 1.0}},
        "groups": [
            figures(0.05, -0.02, 0.1) | {"by": "sex", "group": "F", "judged": True, "chance": 1.0},
            figures(0.05, -0.02, 0.1)
            | {"by": "scanner", "group": "old", "judged": False}
            | {"chance": None, "unjudged": "FEW_QUERIES"},
        ],
        "collapse": {"champion": 0.3, "challenger": 0.3, "limit": 0.95},
        "latency_ms": {"champion": 10.0, "challenger": 10.0},
        "memory_bytes": {"champion": 1000, "challenger": 1000},
    }


def _overall(told: Told) -> None:
    told["overall"] = figures(0.05, -0.001, 0.1)


def _region(told: Told) -> None:
    told["regions"]["heart"] |= figures(-0.05, -0.1, -0.001) | {"chance": 0.049}


def _group(told: Told) -> None:
    told["groups"][0] |= figures(-0.05, -0.1, -0.001) | {"chance": 0.0123}


def _collapse(told: Told) -> None:
    told["collapse"]["challenger"] = 0.96


def _latency(told: Told) -> None:
    told["latency_ms"]["challenger"] = 12.6


def _memory(told: Told) -> None:
    told["memory_bytes"]["challenger"] = 1260


def _nothing(told: Told) -> None:
    """The weights of the challenger are altered: its figures are good."""


@pytest.mark.parametrize(
    ("code", "worsen", "words"),
    [
        (GateCode.OVERALL, _overall, "mean of all queries: 0.050, 95 % interval -0.001 to +0.100; must lie above"),
        (GateCode.REGION, _region, f"heart: {_LOSS}: 4.9 %; refused below 20.0 %"),
        (GateCode.GROUP, _group, f"sex F: {_LOSS}: 1.2 %; refused below 20.0 %"),
        (GateCode.COLLAPSE, _collapse, "mean cosine within a region 0.960; at most 0.950"),
        (GateCode.LATENCY, _latency, "1.260 times the champion's; at most 1.25"),
        (GateCode.MEMORY, _memory, "1.260 times the champion's; at most 1.25"),
        (GateCode.GOLDEN, _nothing, "golden image"),
    ],
)
def test_each_gate_fails_by_its_own_figure_alone(code: GateCode, worsen: Callable[[Told], None], words: str) -> None:
    told = passing()
    assert all(gate.passed for gate in gates(Plan(), told, golden=True))
    worsen(told)
    [failed] = [gate for gate in gates(Plan(), told, golden=code is not GateCode.GOLDEN) if not gate.passed]
    assert failed.code is code and words in str(failed)


def test_a_loss_that_chance_shows_often_enough_is_no_reason_to_refuse() -> None:
    told = passing()
    told["regions"]["heart"] |= figures(-0.2, -0.4, -0.01) | {"chance": 0.3}
    for limit, passed in ((0.05, True), (0.4, False)):
        plan = Plan.from_json({"gates": {"false_refusal": limit}})
        [heart] = [gate for gate in gates(plan, told, golden=True) if gate.code is GateCode.REGION]
        assert heart.passed is passed


def test_a_clear_loss_that_chance_excuses_passes_and_is_to_be_watched() -> None:
    told = passing()
    told["regions"]["heart"] |= figures(-0.05, -0.1, -0.001) | {"chance": 0.21}
    told["groups"][0] |= figures(-0.05, -0.1, 0.001) | {"chance": 0.21}
    told["groups"][1] |= figures(-0.5, -0.7, -0.3)
    found = {gate.of: gate for gate in gates(Plan(), told, golden=True)}
    assert all(gate.passed for gate in found.values())
    assert [gate.of for gate in found.values() if gate.watch] == ["heart"]
    assert found["heart"].as_json()["watch"] and Gate.from_json(found["heart"].as_json()) == found["heart"]
    told["regions"]["heart"]["chance"] = 0.19
    [failed] = [gate for gate in gates(Plan(), told, golden=True) if not gate.passed]
    assert failed.of == "heart" and not failed.watch


@pytest.mark.parametrize("lacks", ["examination", "plan"])
def test_a_run_from_before_chances_is_judged_by_its_intervals(lacks: str) -> None:
    """Either its examination has no chances, or its plan as it was stored says nothing of them."""
    told, stored = passing(), Plan().as_json()
    told["regions"]["heart"] |= figures(-0.05, -0.1, 0.001) | {"chance": 0.01}
    told["groups"][0] |= figures(-0.05, -0.1, -0.001) | {"chance": 0.3}
    told["groups"][1] |= figures(-0.5, -0.7, -0.3)
    if lacks == "plan":
        del stored["gates"]["false_refusal"]
    else:
        for one in (*told["regions"].values(), *told["groups"]):
            del one["chance"]
    found = {gate.of: gate for gate in gates(Plan.stored(stored), told, golden=True)}
    assert found["heart"].passed and not found["sex F"].passed
    assert found["scanner old"].passed and not found["scanner old"].judged
    assert str(found["sex F"]).endswith("95 % interval -0.100 to -0.001; must not lie below 0.000")
    assert Gate.from_json(found["sex F"].as_json()) == found["sex F"]


def test_a_group_with_too_few_queries_is_shown_and_not_judged() -> None:
    told = passing()
    told["groups"][1] |= figures(-0.5, -0.7, -0.3)
    [few] = [gate for gate in gates(Plan(), told, golden=True) if gate.of == "scanner old"]
    assert few.passed and not few.judged and few.value == -0.5
    assert str(few) == "scanner old: -0.500, 95 % interval -0.700 to -0.300; not judged: too few queries"


def test_a_region_answered_differently_for_few_patients_is_shown_and_not_judged() -> None:
    told = passing()
    told["regions"]["heart"] |= figures(-1.0, -1.0, -1.0)
    told["regions"]["heart"] |= {"chance": None, "judged": False, "unjudged": "FEW_PATIENTS"}
    [heart] = [gate for gate in gates(Plan(), told, golden=True) if gate.code is GateCode.REGION]
    assert heart.passed and not heart.judged
    assert str(heart).endswith("not judged: the two models differ for too few patients to tell a loss from chance")
    assert Gate.from_json(heart.as_json()) == heart


def test_a_gate_of_an_earlier_version_is_read() -> None:
    few = {"code": "GROUP", "passed": True, "value": -0.5, "limit": 0.0, "of": "scanner old", "judged": False}
    assert str(Gate.from_json(few | {"interval_95": [-0.7, -0.3], "text": ""})).endswith("not judged: too few queries")


def test_no_worse_may_lose_as_much_as_the_plan_says() -> None:
    told = passing() | {"overall": figures(-0.005, -0.019, 0.01)}
    for most_loss, passed in ((0.02, True), (0.018, False)):
        plan = Plan.from_json({"gates": {"overall": "no worse", "most_loss": most_loss}})
        assert gates(plan, told, golden=True)[0].passed is passed


@pytest.fixture(scope="module")
def groups() -> Groups:
    """Half of each sex, three ages and one that is not known, a scanner of nearly all and one of a few."""
    ages = (20.0, 50.0, 80.0, None)
    return Groups(
        sex=tuple("FM"[number % 2] for number in range(STUDIES)),
        age=tuple(age_group(ages[number % 4]) for number in range(STUDIES)),
        scanner=tuple("old" if number < FEW else "new" for number in range(STUDIES)),
    )


@pytest.fixture(scope="module")
def worse(groups: Groups, tmp_path_factory: pytest.TempPathFactory) -> Examination:
    """A challenger that has forgotten what the champion knows."""
    folder = tmp_path_factory.mktemp("worse")
    champion, challenger = toy_champion(folder / "knows", forgets=False), toy_champion(folder / "forgot")
    return examined(toy_set(STUDIES, 7), groups, champion, challenger, PLAN)


def test_an_examination_can_be_cancelled_at_every_word_of_it(groups: Groups, tmp_path: Path) -> None:
    champion, data = toy_champion(tmp_path / "knows", forgets=False), toy_set(STUDIES, 7)
    heard: list[float] = []
    examined(data, groups, champion, champion, PLAN, lambda done, note: heard.append(done))
    assert len(heard) > 3 and heard == sorted(heard) and heard[0] == 0.0 and heard[-1] < 1.0
    for last in (heard[0], heard[len(heard) // 2], heard[-1]):

        def cancel(done: float, note: str, last: float = last) -> None:
            if done == last:
                raise Cancelled

        with pytest.raises(Cancelled):
            examined(data, groups, champion, champion, PLAN, cancel)


def test_groups_by_sex_age_and_scanner_are_examined(worse: Examination, groups: Groups) -> None:
    found = {(one["by"], one["group"]): one for one in worse.told["groups"]}
    assert list(found) == [
        ("sex", "F"),
        ("sex", "M"),
        ("age", "40 to 64"),
        ("age", "65 and over"),
        ("age", "under 40"),
        ("scanner", "new"),
        ("scanner", "old"),
    ]
    rows = np.concatenate([one.rows for one in worse.judged])
    for name in ("champion", "challenger"):
        hits = np.concatenate([getattr(one, name) for one in worse.judged])
        for by in GROUPS:
            of = np.array([getattr(groups, by)[row] or "" for row in rows])
            for group in set(of) - {""}:
                mine = hits[of == group]
                assert found[by, group]["queries"] == np.isfinite(mine).sum()
                assert found[by, group][name] == pytest.approx(np.nanmean(mine), abs=1e-4)
    assert found["scanner", "new"]["judged"] and not found["scanner", "old"]["judged"]
    assert found["scanner", "old"]["unjudged"] == Unjudged.FEW_QUERIES


def test_the_whole_is_the_mean_of_queries_and_that_of_regions_is_shown(worse: Examination) -> None:
    means, hits = worse.told["means"], [one.challenger for one in worse.judged]
    assert means["queries"]["challenger"] == pytest.approx(np.nanmean(np.concatenate(hits)), abs=1e-4)
    assert means["regions"]["challenger"] == pytest.approx(np.mean([np.nanmean(one) for one in hits]), abs=1e-4)
    assert means["queries"] != means["regions"] and worse.told["overall"] == means["queries"]
    [overall] = [gate for gate in gates(PLAN, worse.told, golden=True) if gate.code is GateCode.OVERALL]
    assert (overall.of, overall.value) == ("queries", means["queries"]["difference"])


@pytest.mark.parametrize("lacks", ["examination", "plan"])
def test_a_run_from_before_is_judged_by_the_mean_of_regions(lacks: str, groups: Groups, tmp_path: Path) -> None:
    stored = PLAN.as_json()
    if lacks == "plan":
        del stored["gates"]["mean_over"]
    plan = Plan.stored(stored)
    champion = toy_champion(tmp_path / "knows", forgets=False)
    told = dict(examined(toy_set(STUDIES, 7), groups, champion, champion, plan).told)
    if lacks == "examination":
        told["overall"] = told.pop("means")["regions"]
    assert str(gates(plan, told, golden=True)[0]).startswith("mean of all regions")
    if lacks == "plan":
        assert told["overall"] == told["means"]["regions"]


def test_parts_that_few_patients_tell_apart_are_not_judged(groups: Groups, tmp_path: Path) -> None:
    """All queries of a scanner are of two patients: their heads alone show any loss in a quarter of examinations."""
    data = toy_set(STUDIES, 7)
    people = np.where(np.arange(STUDIES) < STUDIES // 4, np.tile(data.patients[:2], STUDIES // 2), data.patients)
    data = replace(data, patients=people)
    scanners = replace(groups, scanner=tuple("old" if row < STUDIES // 4 else "new" for row in range(STUDIES)))
    champion, challenger = toy_champion(tmp_path / "knows", forgets=False), toy_champion(tmp_path / "forgot")
    for limit, judged in ((0.2, False), (0.3, True)):
        plan = replace(PLAN, gates=replace(PLAN.gates, false_refusal=limit))
        found = examined(data, scanners, champion, challenger, plan)
        by_name = {one["group"]: one for one in found.told["groups"] if one["by"] == "scanner"}
        assert by_name["new"]["judged"] and by_name["new"]["unjudged"] is None
        old = by_name["old"]
        assert old["queries"] >= PLAN.gates.least_queries and old["difference"] < 0
        assert (old["judged"], old["chance"] is not None) == (judged, judged)
        assert old["unjudged"] == (None if judged else Unjudged.FEW_PATIENTS)
    same = examined(data, scanners, champion, champion, PLAN).told
    assert {one["unjudged"] for one in same["regions"].values()} == {Unjudged.FEW_PATIENTS}


def test_a_challenger_that_forgot_fails_for_the_groups_it_leaves_behind(worse: Examination) -> None:
    judged = [gate for gate in gates(PLAN, worse.told, golden=True) if gate.code is GateCode.GROUP]
    failed = {gate.of for gate in judged if not gate.passed}
    assert {"sex F", "sex M", "scanner new"} <= failed and "scanner old" not in failed
    for gate in judged:
        assert gate.passed or (gate.value is not None and gate.value < 0 and gate.chance is not None)


COUNTS = Counts(studies=1000, patients=800, held_out_studies=200, held_out_patients=160, sha256="")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return seeded_bundle(ImageKind.CXR)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What is free on the machine, and how long a step takes on it."""
    told: Told = {"disk": 10**12, "memory": 10**12, "step_s": 1.0}
    monkeypatch.setattr(shutil, "disk_usage", lambda home: SimpleNamespace(free=told["disk"]))
    monkeypatch.setattr(preflights, "free_bytes", lambda device: told["memory"])
    monkeypatch.setattr(preflights, "step_s", lambda plan, bundle: told["step_s"])
    return told


@pytest.mark.parametrize(
    ("code", "plan", "free", "words"),
    [
        (RefusalCode.STUDIES, {"data": {"least_studies": 1001}}, {}, "1000 studies have a report, and .* 1001"),
        (RefusalCode.PATIENTS, {"data": {"least_patients": 801}}, {}, "of 800 patients, and .* 801"),
        (RefusalCode.HELD_OUT, {"data": {"least_held_out_patients": 161}}, {}, "160 patients are held out, .* 161"),
        (RefusalCode.DISK, {}, {"disk": 10**6}, "0.00 GB of disk are free, and the run needs"),
        (RefusalCode.MEMORY, {}, {"memory": 10**8}, "0.10 GB of memory are free, and the run needs"),
        (
            RefusalCode.TIME,
            {"recipe": {"most_hours": 1.5}},
            {"step_s": 30.0},
            "take 2.0 hours, and the plan allows 1.5",
        ),
    ],
)
def test_a_run_is_refused_for_one_reason_with_both_numbers(
    bundle: Bundle, machine: Told, tmp_path: Path, code: RefusalCode, plan: Told, free: Told, words: str
) -> None:
    def looked(told: Told) -> preflights.Preflight:
        return preflight(Plan.from_json(told), bundle, COUNTS, missing_tokens=10, home=tmp_path)

    assert looked({}).refusals == ()
    machine |= free
    found = looked(plan)
    [refusal] = found.refusals
    assert refusal.code is code and re.search(words, str(refusal))
    assert found.as_json()["refusals"][0]["text"] == str(refusal)


@pytest.mark.parametrize(
    ("gates_asked", "patients", "gain"),
    [
        ({}, 64, 0.075),
        ({}, 400, 0.03),
        ({}, 10**6, 0.009),
        ({"least_gain": 0.01}, 400, 0.04),
        ({}, 0, None),
        ({"overall": "no worse"}, 64, None),
        ({"mean_over": "regions"}, 64, None),
        ({"k": 1}, 64, None),
    ],
)
def test_the_gain_that_so_many_patients_show_is_told_before(
    gates_asked: Told, patients: int, gain: float | None
) -> None:
    assert preflights.visible_gain(Plan.from_json({"gates": gates_asked}), patients) == gain


def test_the_intervals_that_were_measured_are_about_as_wide_as_is_told_before() -> None:
    story = json.loads((ROOT / "docs/results/retraining.json").read_text())["story"]
    (low, high), patients = (
        story["full"]["examination"]["means"]["queries"]["interval_95"],
        story["full"]["data"]["held_out_patients"],
    )
    assert (high - low) / 2 == pytest.approx(preflights.HALF_INTERVAL / patients**0.5, rel=0.25)


def test_what_is_told_before_a_run_has_singulars() -> None:
    said = [str(preflights.Refusal(code=code, found=1, wanted=2)) for code in RefusalCode]
    assert [line for line in said if re.search(r"\b1 (patients|studies)", line)] == []
    assert [_lasts(hours) for hours in (0.001, 0.017, 0.5)] == [
        "less than a minute",
        "about 1 minute",
        "about 30 minutes",
    ]
