"""What reports say becomes labels at regions and relevance of pairs, the truth of a phantom likewise."""

from __future__ import annotations

import numpy as np

from radir_pacs import anatomy
from radir_pacs.types import ImageKind
from radir_training.data.statements import (
    ABSENT,
    PRESENT,
    SEVERE,
    UNDEFINED,
    Labels,
    Relevance,
    common_concepts,
    mined,
    model_regions,
    stand_ins,
)
from radir_training.phantoms.findings import PhantomFinding
from radir_training.phantoms.statements import true_items

REPORTS = (
    "Large left pleural effusion.",
    "Large left pleural effusion.",
    "Consolidation in the right lower lobe. No pleural effusion.",
    "The heart is normal in size.",
)
REGIONS = tuple(anatomy.region(key) for key in ("chest", "pleura", "left_pleura", "right_lower_lobe", "pericardium"))
CONCEPTS = ("consolidation", "pleural_effusion")


def test_findings_are_labels_at_their_region_and_above() -> None:
    labels = Labels.of(mined(REPORTS, ImageKind.CXR), REGIONS, CONCEPTS)
    assert labels.grades[0, :3, 1].tolist() == [SEVERE] * 3
    assert labels.grades[2, 3, 0] == PRESENT
    assert labels.grades[2, 1, 1] == ABSENT
    assert labels.described[:, 1].tolist() == [True, True, True, False]
    assert not labels.described[:, 4].any()


def test_a_region_of_which_nothing_is_found_borrows_the_labels_above_it() -> None:
    said = mined(REPORTS, ImageKind.CXR)
    assert stand_ins(said, REGIONS)[2:4] == ("left_pleura", "right_lower_lobe")
    assert stand_ins(said, REGIONS)[4] == "chest"  # nobody found anything at the pericardium, the heart or above


def test_pairs_of_which_one_is_silent_are_undefined() -> None:
    relevance = Relevance.of(mined(REPORTS, ImageKind.CXR), [region.key for region in REGIONS])
    everyone = np.arange(4)
    pleura = relevance.pairs(1, everyone, everyone)
    assert pleura[0, 1] == 100
    assert pleura[0, 2] < 30  # affirmed and denied
    assert (pleura[3] == UNDEFINED).all()
    assert relevance.abnormal[:, 1].tolist() == [True, True, False, False]
    some = relevance.subset(np.array([2, 0]))
    assert some.pairs(1, np.arange(2), np.arange(2))[0, 1] == pleura[2, 0]


def test_the_regions_and_concepts_of_a_network_follow_from_what_is_said() -> None:
    said = mined(REPORTS * 3, ImageKind.CXR)
    keys = {region.key for region in model_regions(ImageKind.CXR, said)}
    assert {"left_pleura", "right_lower_lobe", "lungs", "chest"} <= keys
    assert set(CONCEPTS) <= set(common_concepts(said, 3))
    assert common_concepts(said, 100) == ()


def test_the_truth_says_normal_where_nothing_is_wrong() -> None:
    finding = PhantomFinding(concept="effusion", region="left_pleura", side=1, severity=3, at=(0.5, 0.5, 0.5))
    sick, well = true_items((finding,), ImageKind.CT), true_items((), ImageKind.CT)
    relevance = Relevance.of((sick, well, sick), ["left_pleura", "heart"])
    everyone = np.arange(3)
    assert relevance.abnormal[:, 0].tolist() == [True, False, True]
    assert relevance.pairs(0, everyone, everyone)[0].tolist()[2] == 100 > relevance.pairs(0, everyone, everyone)[0, 1]
    assert (relevance.pairs(1, everyone, everyone) == 100).all()
