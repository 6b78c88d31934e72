"""The measures that mining and relevance are judged by: halves, codes, places, nDCG, the peers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.experiments import relevance_ranking as ranking
from benchmarks.experiments.corpora import half_of
from benchmarks.experiments.label_measures import PlaceScore, label_score, score_places
from benchmarks.experiments.mesh import Code, read_code
from radir_pacs.reports import ItemSimilarity, Laterality, mine, similarity_items
from radir_pacs.reports.labels import label_set
from radir_pacs.reports.lexicon import load

LEXICON = load()


def code(path: str) -> Code:
    read = read_code(path, LEXICON)
    assert read is not None
    return read


def test_equal_texts_are_in_one_half() -> None:
    assert half_of("No  Effusion.\n") is half_of("no effusion.")
    assert {half_of(f"report {n}") for n in range(20)} == {0, 1}


def test_a_code_in_our_terms() -> None:
    read = code("Opacity/lung/base/left/patchy")
    assert read.side is Laterality.LEFT
    assert read.places == (frozenset({"left_lower_zone"}),)
    assert "opacity" in read.concepts and "consolidation" not in read.concepts
    assert len(code("Pleural Effusion/bilateral/small").places) == 2
    assert code("Opacity").places == ()
    assert read_code("No Indexing", LEXICON) is None


@pytest.mark.parametrize(
    ("text", "counts", "sides"),
    [
        ("Left basilar opacity.", (1, 0, 0), 1),
        ("Right basilar opacity.", (0, 1, 1), 0),
        ("Left basilar and right apical opacity.", (1, 1, 0), 0),
        ("No opacity.", (0, 0, 0), 0),
    ],
)
def test_places_are_counted(text: str, counts: tuple[int, int, int], sides: int) -> None:
    score = PlaceScore()
    score_places(mine(text).findings, [code("Opacity/lung/base/left")], LEXICON, score)
    assert (score.regions.tp, score.regions.fp, score.regions.fn) == counts
    assert score.sides_right == sides


def test_labels_are_counted() -> None:
    labels = label_set("gold14")
    gold = dict.fromkeys(labels.rules, 0) | {"Effusion": 1, "Nodule": 1}
    score = label_score([(mine("Small effusion. Cardiomegaly.").findings, gold)], labels)
    assert (score.micro.tp, score.micro.fp, score.micro.fn) == (1, 1, 1)
    assert score.macro_f1() == pytest.approx(0.5)
    assert score.macro_f1({"Effusion"}) == 1


def test_ndcg_of_the_best_and_the_worst_order() -> None:
    gains = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    assert ranking.ndcg(gains, gains, k=2) == (pytest.approx(1), 2)
    assert ranking.ndcg(-gains, gains, k=2) == (0, 2)


def test_codes_overlap_by_their_beginnings_under_a_region() -> None:
    codes = [["Opacity/lung/base/left"], ["Opacity/lung/base/right"], ["Cardiomegaly"], ["normal"]]
    overlap = ranking.code_overlap(codes, "lungs", LEXICON)
    assert overlap[0, 1] == pytest.approx(3 / 5)
    assert overlap[0, 0] == 1 and overlap[2].sum() == 0 and overlap[3].sum() == 0
    assert ranking.code_overlap(codes, "left_lung", LEXICON)[0, 1] == 0


def test_every_ranking_puts_the_like_report_first(tmp_path: Path) -> None:
    texts = ["Small left pleural effusion.", "Left pleural effusion.", "Cardiomegaly. No effusion.", "Lungs are clear."]
    items = [similarity_items(mine(text)) for text in texts]
    kinds = ("abnormality", "disease", "non-abnormality", "non-disease")
    weights = {f"{a}_{b}": 0.5 for a in kinds for b in kinds} | {"neg_weight": 0.4}
    (tmp_path / "weights.json").write_text(json.dumps(weights))
    similarity = ItemSimilarity()
    rate = ranking.ratescore_scores(items, "pleura", similarity, tmp_path / "weights.json", LEXICON)
    ours = ranking.our_scores(items, "pleura", similarity)
    for scores in (ours, rate, ranking.tfidf_scores(texts), ranking.bm25_scores(texts)):
        assert int(np.argmax(scores[0][1:])) == 0
    assert ours[0, 3] == rate[0, 3] == -1
    assert rate[0, 2] < rate[0, 1] and ours[0, 2] <= 0.1 + 1e-6
