"""Readers' judgements as relevance beside that of the reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psycopg
import torch

from radir_pacs.catalogue import Catalogue, JudgedPair
from radir_pacs.config import Settings
from radir_pacs.encode import Bundle
from radir_pacs.similar_cases import Feedback
from radir_pacs.types import ImageKind
from radir_training.data.judgements import Judgements, Pair
from radir_training.data.statements import UNDEFINED
from radir_training.evaluation.embeddings import encoded
from radir_training.learning.recipe import Recipe
from radir_training.learning.train import Training
from radir_training.retraining.material import Groups, Material
from radir_training.retraining.plan import ThumbPlan
from radir_training.retraining.snapshot import of_kind, taken
from radir_training.retraining.thumbs import judgements, ranked_by_readers, trained_on

from .retraining_material import begin
from .test_retraining import KEY, archive, champion  # noqa: F401  fixtures
from .toy import TOY, toy_set


def test_readers_and_reports_are_weighted_and_silence_is_neutral() -> None:
    told = Judgements((Pair(0, 2, "chest", 1.0), Pair(1, 0, "chest", 0.0), Pair(2, 1, "heart", 1.0)), weight=0.5)
    relevance = np.full((2, 3, 3), 80, np.uint8)
    relevance[0, 0, 1] = relevance[0, 1, 0] = UNDEFINED
    rows = np.array([0, 1, 2])
    found = told.applied(relevance, rows, ["chest", "lungs"])
    assert found[0, 0, 2] == found[0, 2, 0] == 90
    assert found[0, 0, 1] == found[0, 1, 0] == 25
    assert (found[1] == relevance[1]).all(), "of another region nothing is said"
    assert relevance[0, 0, 2] == 80
    other = told.applied(relevance, np.array([2, 1, 0]), ["chest", "lungs"])
    assert other[0, 2, 0] == 90 and other[0, 2, 1] == 40, "rows in any order; its reports say 80 here"


def test_verdicts_of_both_ways_are_those_of_one_pair() -> None:
    data = replace(toy_set(4, 6), names=("a", "b", "c", "d"))
    groups = Groups(sex=(None,) * 4, age=(None,) * 4, scanner=(None,) * 4)
    uids = ("2.25.0", "2.25.1", "2.25.2", "2.25.3")
    material = Material(data=data, groups=groups, held_out=np.zeros(4, bool), study_uids=uids, left_out={})
    said = [
        JudgedPair(query_study_uid=uids[query], case_study_uid=uids[case], region="chest", up=up, down=down)
        for query, case, up, down in ((0, 1, 3, 0), (1, 0, 0, 1), (2, 3, 1, 0))
    ]
    assert judgements(said, material, ThumbPlan()).pairs == (Pair(0, 1, "chest", 0.75), Pair(2, 3, "chest", 1.0))


def test_judged_pairs_meet_in_a_batch() -> None:
    told = Judgements(tuple(Pair(n, n + 500, "chest", 1.0) for n in range(100)), weight=0.5, together=0.25)
    generator = torch.Generator().manual_seed(3)
    rows = told.meet(torch.arange(16), generator)
    assert rows[:12].tolist() == list(range(12))
    assert all(int(row) - 500 in range(12) for row in rows[12:] if int(row) >= 16) and (rows >= 500).any()
    assert len(set(rows.tolist())) == 16
    alone = Judgements((), 0.5).meet(torch.arange(16), generator)
    assert alone.tolist() == list(range(16))


def test_of_a_subset_only_whole_pairs_are_left() -> None:
    told = Judgements((Pair(0, 3, "chest", 1.0), Pair(1, 2, "heart", 0.0)), weight=0.5).subset(np.array([3, 1, 0]))
    assert told.pairs == (Pair(2, 0, "chest", 1.0),)


def test_a_training_learns_from_what_readers_say() -> None:
    """The relevance of its batches is theirs, judged studies meet, and it is another training."""
    data = toy_set(64, 4)
    recipe = Recipe(epochs=1, batch=32, augment=False, muon=False, average=0.0)
    pairs = tuple(Pair(n, n + 1, "left_lung", float(n % 4 == 0)) for n in range(0, 63, 2))
    plain, told = (Training(TOY, data, recipe, judgements=one) for one in (None, Judgements(pairs, 1.0, together=0.5)))
    assert plain.identity["data"] != told.identity["data"]
    region = next(n for n, one in enumerate(told.training_set.regions) if one.key == "left_lung")
    relevance = told.training_set.batch(torch.arange(8)).relevance[region]
    assert [int(relevance[n, n + 1]) for n in (0, 2, 4, 6)] == [100, 0, 100, 0]
    assert relevance[1, 2] == plain.training_set.batch(torch.arange(8)).relevance[region][1, 2]
    seen: list[torch.Tensor] = []
    batch_of = told.training_set.batch
    with patch.object(told.training_set, "batch", lambda rows: seen.append(rows) or batch_of(rows)):  # type: ignore[func-returns-value]
        told.step(0.0)
    met = set(seen[0].tolist())
    assert sum({pair.query, pair.case} <= met for pair in pairs) >= 8, "by chance it would be a quarter of 32 pairs"


def test_the_examination_says_who_ranks_as_readers_do(champion: Path) -> None:  # noqa: F811
    bundle, data = Bundle.load(champion), toy_set(40, 6)
    uids = tuple(f"2.25.{n}" for n in range(len(data)))
    none: tuple[str | None, ...] = (None,) * len(data)
    apart = np.arange(len(data)) < 20
    groups = Groups(sex=none, age=none, scanner=none)
    named = replace(data, names=uids)
    material = Material(data=named, groups=groups, held_out=apart, study_uids=uids, left_out={})
    vectors = encoded(bundle, data).of("chest")
    scores, examined = vectors @ vectors.T, np.arange(20)
    said = []
    for query in range(20):
        order = np.argsort(-scores[query])[1:]
        for case, up in ((order[0], 1), (order[-1], 0)):
            said.append(
                JudgedPair(query_study_uid=uids[query], case_study_uid=uids[case], region="chest", up=up, down=1 - up)
            )
    told = ranked_by_readers(said, material, examined, bundle, bundle, 0)
    assert told["champion"] == told["challenger"] > 0.9 and told["interval_95"] == (0.0, 0.0)
    pairs = {frozenset((one.query_study_uid, one.case_study_uid)): one.up for one in said}
    assert (told["up"], told["down"]) == (sum(pairs.values()), len(pairs) - sum(pairs.values()))
    some = ranked_by_readers(said, material, examined[:5], bundle, bundle, 0)
    assert some["pairs"] == sum(bool(pair & set(uids[:5])) for pair in pairs) < len(pairs), (
        "the champion knows the rest"
    )
    assert ranked_by_readers(said[:1], material, examined, bundle, bundle, 0)["champion"] is None
    used = trained_on(judgements(said, material, ThumbPlan()), material)
    assert all(not apart[20 + pair.query] and not apart[20 + pair.case] for pair in used.pairs)
    assert not judgements(said, material, ThumbPlan(use=False)).pairs


def test_a_snapshot_keeps_the_last_word_of_each_reader(archive: Settings) -> None:  # noqa: F811
    with Catalogue.open(archive) as catalogue:
        for reader, verdict in (("one", "UP"), ("one", "DOWN"), ("two", "DOWN"), ("three", "UP")):
            catalogue.feedback.add(
                Feedback(
                    query_study_uid="2.25.1", case_study_uid="2.25.2", region="chest", model_id="any",
                    generation=None, rank=1, score=0.5, verdict=verdict, reader=reader,
                )
            )  # fmt: skip
        number = begin(catalogue)
        studies = list(of_kind(catalogue.retraining.studies("none"), ImageKind.CXR))
        catalogue.retraining.keep_snapshot(number, taken(studies, KEY, ()).rows)
        assert catalogue.retraining.judgements(number) == (
            JudgedPair(query_study_uid="2.25.1", case_study_uid="2.25.2", region="chest", up=1, down=2),
        )
        with psycopg.connect(archive.database_url) as connection:
            connection.execute("DELETE FROM feedback")
        assert len(catalogue.retraining.judgements(number)) == 1, "as of the snapshot"
