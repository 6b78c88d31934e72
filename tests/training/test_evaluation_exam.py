"""Queries, galleries, and the uncertainty of the figures."""

from __future__ import annotations

import numpy as np
import pytest

from radir_pacs.anatomy import ROOT
from radir_pacs.errors import BadInput, UnknownRegion
from radir_pacs.reports import Item
from radir_pacs.types import ImageKind
from radir_training.data.statements import UNDEFINED, Relevance, Said, model_regions
from radir_training.data.studies import StudySet
from radir_training.evaluation.compare import MEAN, metrics, needed, rows, tally
from radir_training.evaluation.embeddings import Embeddings
from radir_training.evaluation.exam import DIRECTIONS, IMAGE_TO_IMAGE, IMAGE_TO_REPORT, REPORT_TO_IMAGE, Exam
from radir_training.evaluation.examine import ABNORMAL, ALL, CellKey, examine
from radir_training.evaluation.measures import KS
from radir_training.evaluation.quick import abnormal_recall
from radir_training.evaluation.regions import RegionCandidate, candidates, chosen, judgeable, named
from radir_training.evaluation.relevance_source import MINED, TRUE
from radir_training.evaluation.resample import Bootstrap, Resampled

EFFUSION = Item("pleural_effusion", "right_pleura", True)
CLEAR = Item("pleural_effusion", "right_pleura", False)
BIG_HEART = Item("cardiomegaly", "heart", True)
NO_BIG_HEART = Item("cardiomegaly", "heart", False)


def said(*items: Item) -> Said:
    found: dict[str, tuple[Item, ...]] = {ROOT: tuple(sorted(items))}
    for item in items:
        for key in {"right_pleura": ("right_pleura", "pleura"), "heart": ("heart", "mediastinum")}[item.region]:
            found[key] = (*found.get(key, ()), item)
    return found


def study_set(
    statements: list[Said], patients: list[int], reports: list[str], views: list[int] | None = None
) -> StudySet:
    n = len(statements)
    return StudySet(
        kind=ImageKind.CXR,
        images=np.random.default_rng(0).normal(size=(n, 1, 8, 8)).astype(np.float16),
        views=np.array(views or [0] * n, np.int64),
        patients=np.array(patients, np.int64),
        reports=tuple(reports),
        said=tuple(statements),
        true=tuple(statements),
    )


def hospital(patients: int = 240, seed: int = 0) -> StudySet:
    """One study each, with random effusions and enlarged hearts."""
    rng = np.random.default_rng(seed)
    statements = [
        said(EFFUSION if effusion else CLEAR, BIG_HEART if heart else NO_BIG_HEART)
        for effusion, heart in rng.random((patients, 2)) < 0.2
    ]
    return study_set(statements, list(range(patients)), [f"report {i}" for i in range(patients)])


def oracle(data: StudySet, reports: bool = True) -> Embeddings:
    """A perfect model: vectors that follow from the truth, and one per report."""
    own = np.eye(len(data), dtype=np.float32)

    def flags(item: Item) -> np.ndarray:
        found = np.array([1.0 if item in study[ROOT] else -1.0 for study in data.said], np.float32)
        return np.stack([found, np.ones_like(found)], axis=1) / np.sqrt(2, dtype=np.float32)

    whole = np.concatenate([flags(EFFUSION), flags(BIG_HEART), 0.1 * own], axis=1)
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    regions = {"pleura": flags(EFFUSION), "heart": flags(BIG_HEART), "mediastinum": flags(BIG_HEART)}
    return Embeddings(image=whole, regions=regions, reports={ROOT: whole} if reports else {})


def test_a_query_never_meets_its_own_patient_nor_whom_the_report_is_silent_about() -> None:
    data = study_set([said(EFFUSION), said(EFFUSION), said(EFFUSION), said(BIG_HEART)], [1, 1, 2, 3], list("abcd"))
    exam = Exam.of(data)
    question, _ = exam.question(exam.sources[0], IMAGE_TO_IMAGE, "pleura")
    assert question.relevance[0].tolist() == [UNDEFINED, UNDEFINED, 100, UNDEFINED]
    assert (question.relevance[3] == UNDEFINED).all()


def test_a_lateral_view_is_not_asked_about_one_side() -> None:
    data = study_set([said(EFFUSION)] * 3, [1, 2, 3], list("abc"), views=[0, 1, 0])
    exam = Exam.of(data)
    sided, _ = exam.question(exam.sources[0], IMAGE_TO_IMAGE, "right_pleura")
    both, _ = exam.question(exam.sources[0], IMAGE_TO_IMAGE, "pleura")
    assert sided.relevance[0].tolist() == [UNDEFINED, UNDEFINED, 100] and (sided.relevance[1] == UNDEFINED).all()
    assert both.relevance[0].tolist() == [UNDEFINED, 100, 100]


def test_the_own_report_is_sought_once_and_the_same_words_are_own() -> None:
    data = study_set([said(EFFUSION)] * 4, [1, 1, 2, 3], ["x", "x", "x", ""])
    exam = Exam.of(data)
    assert exam.texts.tolist() == [0]
    to_report, _ = exam.question(exam.sources[0], IMAGE_TO_REPORT, ROOT)
    assert to_report.matches[:, 0].tolist() == [True, True, True, False]
    assert (to_report.relevance[3] == UNDEFINED).all(), "who has no report asks for none"
    to_image, rows_ = exam.question(exam.sources[0], REPORT_TO_IMAGE, ROOT)
    assert rows_.tolist() == [0] and to_image.matches.tolist() == [[True, True, True, False]]
    within, _ = exam.question(exam.sources[0], IMAGE_TO_REPORT, "pleura")
    assert within.relevance[0, 0] == UNDEFINED and within.relevance[3, 0] == UNDEFINED


def test_one_patient_or_silence_is_no_exam() -> None:
    with pytest.raises(BadInput, match="one patient"):
        Exam.of(study_set([said(EFFUSION)] * 2, [1, 1], ["a", "b"]))
    with pytest.raises(BadInput, match="nothing to judge"):
        Exam.of(study_set([{}, {}], [1, 2], ["a", "b"]))


def test_an_oracle_reaches_the_bound_and_a_random_order_its_line() -> None:
    data = hospital()
    exam = Exam.of(data)
    pairs = [(direction, key) for direction in DIRECTIONS for key in (ROOT, "heart", "pleura")]
    found = examine(exam, {"oracle": oracle(data), "mute": oracle(data, reports=False), "random": None}, pairs, seed=1)
    assert found.by_chance == {"mute", "random"}
    for source in (MINED, TRUE):
        for queries in (ALL, ABNORMAL):
            cell = found.cells[CellKey(source, queries, IMAGE_TO_IMAGE, "heart")]
            assert cell.models["oracle"].mean[0] == pytest.approx(np.ones(len(KS)))
            np.testing.assert_allclose(cell.models["random"].mean, cell.random.mean)
            own = found.cells[CellKey(source, queries, IMAGE_TO_REPORT, ROOT)]
            assert own.models["oracle"].mean[0, 0] == 1.0
            assert own.models["mute"].mean[0, 0] == pytest.approx(1 / len(exam.texts))
    ill = int(exam.sources[0].abnormal("heart").sum())  # type: ignore[union-attr]
    assert found.cells[CellKey(MINED, ABNORMAL, IMAGE_TO_IMAGE, "heart")].random.queries[0, 0] == ill
    assert found.cells[CellKey(MINED, ALL, IMAGE_TO_IMAGE, "heart")].random.queries[0, 0] == len(data)


def test_the_comparison_counts_thirty_nine_metrics_a_kind_and_is_fair_to_equals() -> None:
    data = hospital()
    exam = Exam.of(data)
    assert len(metrics([f"r{i}" for i in range(9)])) == 39
    models = {"ours": oracle(data), "again": oracle(data), "random": None}
    found = examine(exam, models, needed(["heart", "pleura"]), seed=1)
    table = list(rows(found, data.kind, ["heart", "pleura"], list(models), source=MINED, queries=ABNORMAL))
    assert tally(table, "again") == {
        "wins": 0, "ties": 18, "losses": 0, "clear_wins": 0, "clear_losses": 0, "of": 18,
    }  # fmt: skip
    against = tally(table, "random")
    assert against["wins"] == against["of"] - against["ties"] and against["losses"] == 0
    mean = next(row for row in table if row.metric.region == MEAN)
    parts = [row for row in table if row.metric.k == mean.metric.k and row.metric.region in ("heart", "pleura")]
    value = mean.models["random"].value
    assert value == pytest.approx(np.mean([row.models["random"].value or 0.0 for row in parts]), abs=1e-3)


def test_regions_are_chosen_by_the_data_and_copies_and_trivial_ones_are_left_out() -> None:
    n = 100
    some, others = np.arange(n) < 40, (np.arange(n) >= 30) & (np.arange(n) < 75)
    found = (
        RegionCandidate("left_lung", others, 0.3),
        RegionCandidate("lungs", some, 0.3),
        RegionCandidate("spine", np.arange(n) < 38, 0.3),  # published after the lungs, the same queries
        RegionCandidate("heart", np.arange(n) < 29, 0.3),  # too few
        RegionCandidate("carina", np.arange(n) >= 50, 0.99),  # chance answers
        RegionCandidate("airways", np.arange(n) >= 60, 0.5, alike=0.9),  # whoever has anything there has the same
    )
    assert {one.key for one in judgeable(found)} == {"left_lung", "lungs", "spine", "airways"}
    assert chosen(found, ImageKind.CXR) == ("lungs", "left_lung")
    assert chosen(found, ImageKind.CXR, 1) == ("lungs",)


def test_regions_by_hand_are_those_that_are_spoken_of() -> None:
    exam = Exam.of(hospital())
    assert named("heart, right pleura", exam) == ("heart", "right_pleura")
    with pytest.raises(UnknownRegion):
        named("pancreas", exam)
    assert {one.key for one in candidates(exam)} == set(exam.keys) - {ROOT}


def test_a_region_whose_abnormal_studies_are_all_alike_is_told_from_one_where_they_differ() -> None:
    hearts = [Item("cardiomegaly", "heart", True, severity=severity) for severity in (1, 1, 3)]
    data = study_set([*(said(EFFUSION, heart) for heart in hearts), said(CLEAR, NO_BIG_HEART)], [0, 1, 2, 3], ["r"] * 4)
    found = {one.key: one for one in candidates(Exam.of(data))}
    assert found["pleura"].alike == 1.0
    assert found["heart"].alike == pytest.approx(2 / 6), "of six ordered pairs two match"
    twice = study_set([said(EFFUSION, heart) for heart in hearts], [0, 0, 1], ["r"] * 3)
    assert {one.key: one.alike for one in candidates(Exam.of(twice))}["heart"] == 0, "one patient is asked of others"


def test_where_all_regions_are_of_one_kind_they_are_compared_all_the_same() -> None:
    found = candidates(Exam.of(hospital()))
    assert all(one.alike == 1 for one in judgeable(found))
    assert chosen(found, ImageKind.CXR)


def test_the_interval_is_over_patients_and_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for repeat in range(100):
        hits = (rng.random(120) < 0.3).astype(np.float64)
        low, high = Bootstrap(np.arange(120), repeat, draws=300).resampled(hits[:, None], np.arange(120)).interval()
        inside += bool(low[0] <= 0.3 <= high[0])
    assert 86 <= inside <= 100
    twice = np.repeat(np.arange(60), 10)  # ten images per patient, all alike: no more is known than of one each
    few = (rng.random(60) < 0.3).astype(np.float64)
    many = few[twice]
    one = Bootstrap(np.arange(60), 0).resampled(few[:, None], np.arange(60)).interval()
    ten = Bootstrap(twice, 0).resampled(many[:, None], np.arange(600)).interval()
    np.testing.assert_allclose(one, ten, atol=1e-6)


def test_a_figure_without_queries_is_none_and_the_mean_is_over_the_rest() -> None:
    bootstrap = Bootstrap(np.arange(4), 0, draws=50)
    empty = bootstrap.resampled(np.full((4, 1), np.nan), np.arange(4))
    full = bootstrap.resampled(np.ones((4, 1)), np.arange(4))
    assert np.isnan(empty.mean[0]) and np.isnan(empty.interval()[0][0]) and empty.queries[0] == 0
    assert Resampled.average([empty, full]).mean[0] == 1.0


def test_the_quick_look_agrees_with_the_exam() -> None:
    data = hospital()
    regions = model_regions(data.kind, data.said)
    keys = [region.key for region in regions]
    knowing = oracle(data)
    noise = np.random.default_rng(5).normal(0, 0.6, (len(data), len(keys), 2)).astype(np.float32)
    vectors = np.stack([knowing.of(key) if key in knowing.regions else noise[:, 0] for key in keys], axis=1) + noise
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    quick = abnormal_recall(vectors, data, Relevance.of(data.said, keys), regions, k=5)
    exam = Exam.of(data)
    model = Embeddings(image=vectors[:, 0], regions={key: vectors[:, i] for i, key in enumerate(keys)})
    judged = [one.key for one in judgeable(candidates(exam))]
    found = examine(exam, {"model": model}, [(IMAGE_TO_IMAGE, key) for key in judged], seed=0)
    cell = found.mean(MINED, ABNORMAL, IMAGE_TO_IMAGE, judged)
    assert judged and set(quick["regions"]) - {ROOT} == set(judged)
    assert quick["recall"] == pytest.approx(cell.models["model"].mean[0, KS.index(5)], abs=1e-4)
    assert quick["random"] == pytest.approx(cell.random.mean[0, KS.index(5)], abs=1e-3)
    assert not quick["collapsed"]
    same = np.broadcast_to(vectors[:1], vectors.shape).copy()
    assert abnormal_recall(same, data, Relevance.of(data.said, keys), regions)["collapsed"]
