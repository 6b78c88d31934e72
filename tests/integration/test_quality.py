"""A week of a model: agreement with reports, drift by scanner, regions answered by those around them; notices."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psycopg
import psycopg.types.json
import pytest

from radir_pacs.catalogue import Catalogue, QualityRow
from radir_pacs.catalogue.queries import QUERIES
from radir_pacs.cli import main
from radir_pacs.cli.quality import _report_vectors
from radir_pacs.config import Settings, to_environment
from radir_pacs.models import Errands, Registry
from radir_pacs.models.errands import week_of
from radir_pacs.query import Searcher
from radir_pacs.query.quality import QualityNotice, WeekOfModel, drift, notices, worded
from radir_pacs.reports import PARSER, findings_to_json, mine
from radir_pacs.types import F32, ImageKind
from tests.catalogue_material import DIM, MODEL, REGIONS, add, encoding, header, register
from tests.model_material import seeded_bundle

WEEK = date(2026, 11, 16)
STUDIES = 40  # half of them sick, and enough to judge by
SCANNER = "Maker\\Model"
SICK, WELL = "FINDINGS: Consolidation in the left lung.", "FINDINGS: The left lung is clear."


def unit(values: object) -> F32:
    found = np.asarray(values, np.float32)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def vector_of(study: int, noise: float = 0.05) -> F32:
    """The sick look alike, and so do the well."""
    one = np.zeros(DIM)
    one[study % 2] = 1
    return unit(one + noise * np.random.default_rng(study).normal(size=DIM))


@pytest.fixture
def archive(catalogue: Catalogue) -> Catalogue:
    """As many studies in the week before WEEK, and in WEEK, half of them sick in the left lung."""
    register(catalogue)
    for study in range(1, 2 * STUDIES + 1):
        add(catalogue, header(study))
        uid = f"2.25.{study}"
        catalogue.studies.complete_now(uid)
        made = replace(encoding(study), vectors=np.stack([vector_of(study)] * len(REGIONS)))
        catalogue.encodings.save(made, revision=1)
        text = SICK if study % 2 else WELL
        body = findings_to_json(mine(text).findings)
        catalogue.reports.add(uid, body=text, source="test", findings=body, parser=PARSER)
    monday = datetime(WEEK.year, WEEK.month, WEEK.day, tzinfo=UTC)
    with psycopg.connect(catalogue.conninfo) as connection:
        for late, moment in ((False, monday - timedelta(days=3)), (True, monday + timedelta(days=2))):
            connection.execute(
                "UPDATE study SET received_at = %s WHERE (split_part(study_uid, '.', 3)::integer > %s) = %s",
                [moment, STUDIES, late],
            )
        connection.execute("UPDATE encoding SET scanner = %s", [SCANNER])
    return catalogue


def reads(texts: Sequence[str]) -> F32:
    """A text encoder that knows the sick from the well."""
    return np.stack([vector_of(1 if text == SICK else 2, noise=0) for text in texts])


def figures(catalogue: Catalogue, settings: Settings, week: date = WEEK) -> dict[str, Any]:
    model = catalogue.models.serving(ImageKind.CXR)
    assert model is not None
    return WeekOfModel(catalogue, Searcher(catalogue, replace(settings, min_cases=1)), model, week, reads).figures()


def test_a_good_model_agrees_and_does_not_drift(archive: Catalogue, settings: Settings) -> None:
    found = figures(archive, settings)
    assert json.loads(json.dumps(found)) == found
    assert found["studies"] == STUDIES
    assert found["own_report"]["mean"] > 0.7, "half of the others have the same text, which counts half"
    assert found["first_ten"]["mean"] > 0.9 and found["first_ten"]["count"] == STUDIES // 2
    assert found["by_parents"]["mean"] == 0
    [one] = found["drift"]
    assert (one["scanner"], one["studies"], one["before"]) == (SCANNER, STUDIES, STUDIES)
    assert one["low"] < 0.01 and one["value"] < 0.01, "two clusters as large as before come out below 0"
    assert notices(found, [], settings) == []


def test_what_got_worse_is_a_notice_and_nothing_more(archive: Catalogue, settings: Settings) -> None:
    good = figures(archive, settings)
    earlier = [QualityRow(week=WEEK, model_id=MODEL, kind=ImageKind.CXR, figures=good, measured_at=datetime.now(UTC))]
    rng = np.random.default_rng(3)
    with psycopg.connect(archive.conninfo) as connection:  # the scanner was changed: its images say nothing any more
        for study in range(STUDIES + 1, 2 * STUDIES + 1):
            other = np.zeros(DIM)
            other[3] = 1
            vectors = np.stack([unit(other + 0.05 * rng.normal(size=DIM))] * len(REGIONS)).astype("<f4").tobytes()
            connection.execute("UPDATE encoding SET vectors = %s WHERE study_uid = %s", [vectors, f"2.25.{study}"])
    bad = figures(archive, settings)
    found = {notice["code"]: notice for notice in notices(bad, earlier, settings)}
    assert {QualityNotice.OWN_REPORT_FELL, QualityNotice.FIRST_TEN_FELL, QualityNotice.DRIFT} == set(found)
    assert SCANNER in worded(found[QualityNotice.DRIFT])
    assert notices(bad, earlier, replace(settings, quality_drop=1.0, quality_drift=4.0)) == []
    assert not archive.retraining.runs(), "never a training"


def test_a_region_that_the_model_does_not_know_counts_as_answered_by_another(
    archive: Catalogue, settings: Settings
) -> None:
    with psycopg.connect(archive.conninfo) as connection:
        text = findings_to_json(mine("FINDINGS: Consolidation in the left lower lobe.").findings)
        connection.execute("UPDATE report SET findings = %s", [psycopg.types.json.Jsonb(text)])
    assert "left_lower_lobe" not in REGIONS
    assert figures(archive, settings)["by_parents"]["mean"] == 1


def test_a_week_without_anything_says_nothing(archive: Catalogue, settings: Settings) -> None:
    found = figures(archive, settings, WEEK + timedelta(days=7))
    assert (found["studies"], found["own_report"], found["first_ten"], found["drift"]) == (0, None, None, [])
    assert notices(found, [], settings) == []


def test_a_fall_is_told_where_both_sides_are_sure(settings: Settings) -> None:
    def week(mean: float, half: float, count: int) -> dict[str, Any]:
        told = {"count": count, "mean": mean, "low": mean - half, "high": mean + half}
        return {"own_report": told, "first_ten": None, "by_parents": None, "drift": []}

    def told(now: dict[str, Any], *before: dict[str, Any]) -> list[dict[str, Any]]:
        at = datetime.now(UTC)
        return notices(
            now,
            [QualityRow(week=WEEK, model_id=MODEL, kind=ImageKind.CXR, figures=one, measured_at=at) for one in before],
            settings,
        )

    sure = week(0.8, 0.02, 200)
    assert [one["code"] for one in told(week(0.6, 0.1, 50), sure)] == [QualityNotice.OWN_REPORT_FELL]
    assert not told(week(0.6, 0.1, 19), sure) and not told(week(0.6, 0.1, 50), week(0.8, 0.1, 19)), "too few studies"
    assert not told(week(0.6, 0.15, 50), week(0.8, 0.15, 50)), (
        "each excludes the other's mean; the difference is unsure"
    )
    assert told(week(0.6, 0.15, 50), *[week(0.8, 0.15, 50)] * 4), "four weeks are surer than one"


def test_drift_is_without_bias() -> None:
    rng = np.random.default_rng(4)
    same = [drift(unit(rng.normal(size=(40, 16))), unit(rng.normal(size=(40, 16)))) for _ in range(60)]
    assert abs(np.mean([value for value, _, _ in same])) < 0.005
    assert np.mean([low <= 0 <= high for _, low, high in same]) > 0.85
    moved = unit(rng.normal(size=(40, 16)) + 2)
    assert drift(unit(rng.normal(size=(40, 16))), moved)[1] > 0.3


def test_the_command_measures_and_shows_by_week(
    archive: Catalogue,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monday = week_of(datetime.now(UTC).date())
    with psycopg.connect(archive.conninfo) as connection:
        connection.execute("UPDATE study SET received_at = %s", [monday - timedelta(days=2)])
    begun: list[Sequence[str]] = []
    night = datetime.now(UTC).replace(hour=23)

    def begin(command: Sequence[str]) -> SimpleNamespace:
        begun.append(command)
        return SimpleNamespace(poll=lambda: 0)

    errands = Errands(archive, replace(settings, quality_weekly=True), begin, lambda: night)
    errands.look()
    assert begun == [("quality", "--measure")]
    assert main(["quality", "--measure", "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert (told["week"], told["model"], told["studies"]) == (str(monday - timedelta(days=7)), MODEL, 2 * STUDIES)
    assert told["own_report"] is None, "this model has no bundle, so no text encoder"
    assert told["notices"] == []
    [row] = archive.quality.rows()
    fell = {"code": QualityNotice.OWN_REPORT_FELL.value, "value": 0.5, "before": 0.8}
    archive.quality.keep(row.week, MODEL, row.kind, {**row.figures, "notices": [fell]})
    errands.look()
    assert len(begun) == 1, "once a week"
    [said] = [record for record in caplog.records if record.getMessage() == "quality notice"]
    assert (said.__dict__["model"], said.__dict__["code"]) == (MODEL, "OWN_REPORT_FELL")
    assert main(["quality"]) == 0
    assert MODEL in capsys.readouterr().out


def test_no_vector_of_the_archive_is_put_in_order(archive: Catalogue) -> None:
    """Two thousand of a million are compared: their rows are chosen without the vectors of the others."""
    values = {"model_id": MODEL, "region": REGIONS[0], "until": datetime.now(UTC) + timedelta(days=1), "limit": 5}
    query = b"EXPLAIN (VERBOSE, FORMAT JSON) " + QUERIES["vectors_of_training"]
    with archive.quality._database.transaction() as connection:
        row = connection.execute(query, values).fetchone()
    assert row is not None
    limits = [node for node in nodes(row["QUERY PLAN"][0]["Plan"]) if node["Node Type"] == "Limit"]
    sorts = [node for limit in limits for node in nodes(limit) if node["Node Type"] == "Sort"]
    assert sorts and not any("vectors" in column for node in sorts for column in node["Output"])
    assert len(archive.quality.training(MODEL, REGIONS[0], datetime.now(UTC) + timedelta(days=1), 5).vectors) == 5


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def test_the_text_encoder_is_that_of_the_model_that_serves(
    catalogue: Catalogue, settings: Settings, tmp_path: Path
) -> None:
    seeded_bundle(ImageKind.CXR).save(tmp_path / "bundle")
    Registry(catalogue, settings).adopt([tmp_path / "bundle"])
    model = catalogue.models.serving(ImageKind.CXR)
    assert model is not None
    reads_reports = _report_vectors(catalogue, settings, model)
    assert reads_reports is not None
    found = reads_reports([f"Heart {n}. FINDINGS: right lung." for n in range(40)] + ["FINDINGS: left lung."])
    assert found.shape == (41, model.dim)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(found[0], found[39], "what stands before the findings is not read")
    assert not np.allclose(found[0], found[40])
