"""Each loss is lower where the vectors agree with what reports say, and depends on nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from radir_training.data.statements import PRESENT, SEVERE, UNDEFINED
from radir_training.learning import losses

SAME = torch.tensor([[100, 100, 0, 0], [100, 100, 0, 0], [0, 0, 100, 100], [0, 0, 100, 100]], dtype=torch.uint8)[None]
SEEN = torch.ones(4, 1, dtype=torch.bool)
RIGHT = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])[:, None]
WRONG = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])[:, None]
ABNORMAL = torch.tensor([[True], [True], [False], [False]])


def within(name: str, vectors: Tensor, relevance: Tensor = SAME) -> float:
    given = (
        (vectors, relevance, ABNORMAL, SEEN) if name in ("graded_contrast", "smooth_ap") else (vectors, relevance, SEEN)
    )
    return float(getattr(losses, name)(*given))


@pytest.mark.parametrize("name", ["graded_contrast", "smooth_ap", "conditional_triplets", "faulty_triplets"])
def test_alike_belongs_together(name: str) -> None:
    assert within(name, RIGHT) < within(name, WRONG) - 0.1


@pytest.mark.parametrize("name", ["graded_contrast", "smooth_ap", "conditional_triplets", "faulty_triplets"])
def test_what_is_undefined_does_not_count(name: str) -> None:
    silent = SAME.clone()
    silent[0, 3, :] = silent[0, :, 3] = UNDEFINED
    moved = RIGHT.clone()
    moved[3] = -moved[3]
    assert within(name, moved, silent) == pytest.approx(within(name, RIGHT, silent))


def test_the_published_triplets_have_a_floor_and_ours_have_none() -> None:
    assert within("faulty_triplets", RIGHT) == pytest.approx(math.log(2))
    assert within("conditional_triplets", RIGHT) < 1e-4


def test_the_published_triplets_take_nearly_any_pair() -> None:
    slightly = torch.full((1, 4, 4), 50, dtype=torch.uint8)
    slightly[0, 0, 1] = 51
    assert within("faulty_triplets", WRONG, slightly) > 0
    assert within("conditional_triplets", WRONG, slightly) == 0


def test_whole_images_are_ranked_with_a_margin() -> None:
    assert float(losses.image_triplets(RIGHT[:, 0], SAME[0])) == 0
    assert float(losses.image_triplets(WRONG[:, 0], SAME[0])) > losses.MARGIN
    slightly = torch.where(SAME[0] == 100, 51, 50).to(torch.uint8)
    assert float(losses.image_triplets(WRONG[:, 0], slightly)) == 0
    assert float(losses.image_triplets(WRONG[:, 0], slightly, losses.PERCENT)) > losses.MARGIN, "as published"


def test_a_study_that_says_the_same_is_no_negative() -> None:
    vectors = RIGHT[:, 0]
    apart = torch.eye(4, dtype=torch.uint8) * 100
    masked = float(losses.image_report(vectors, vectors, SAME[0]))
    unmasked = float(losses.image_report(vectors, vectors, apart))
    assert masked < 1e-3 < math.log(2) <= unmasked + 1e-3


def test_severity_is_only_asked_where_it_was_said() -> None:
    grades = torch.tensor([[[PRESENT]]])
    logits = torch.zeros(1, 1, 1, 3)
    possible, seen = torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)
    logits[..., 0] = 20.0
    assert float(losses.findings_loss(logits, grades, possible, seen)) < 1e-6
    assert float(losses.findings_loss(logits, grades + 2, possible, seen)) > 0.4  # MODERATE: the others count too


def test_a_finding_that_is_there_weighs_more() -> None:
    one, undecided = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, 1, 3)
    there, absent = (
        float(losses.findings_loss(undecided, torch.tensor([[[grade]]]), one, one)) for grade in (SEVERE, 0)
    )
    assert there == pytest.approx(losses.RARE_WEIGHT * absent) and losses.RARE_WEIGHT > 1
