"""Another hospital: other grey values, another mix of findings, other words that mean the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from radir_pacs.reports import Miner, similarity_items
from radir_pacs.types import ImageKind
from radir_training.phantoms.canvas import SIZES
from radir_training.phantoms.course import draw_patient
from radir_training.phantoms.house import FIRST, HOUSES, OTHER, phrases
from radir_training.phantoms.sample import sample
from radir_training.phantoms.statements import true_items
from radir_training.phantoms.wording import write_report


@pytest.mark.parametrize("house", [FIRST, OTHER])
def test_what_its_radiologists_write_is_read_as_it_is_meant(house: str) -> None:
    miner, rng = Miner(), np.random.default_rng(5)
    wanted = found = 0
    for index in range(80):
        patient, findings = draw_patient(6, index, HOUSES[house].mix)
        text = write_report(patient, findings, None, ImageKind.CXR, rng, house=house).text
        said = similarity_items(miner.mine(text, ImageKind.CXR))
        true = {item.concept for item in true_items(findings, ImageKind.CXR)["chest"] if item.present}
        read = {item.concept for item in said.get("chest", ()) if item.present}
        wanted, found = wanted + len(true), found + len(true & read)
    assert wanted > 100 and found / wanted > 0.9


def test_it_says_the_same_in_other_words() -> None:
    book, other = phrases(FIRST), phrases(OTHER)
    assert book.keys() == other.keys() and not set(book["consolidation"]["2"]) & set(other["consolidation"]["2"])
    assert book["rib_fracture"] == other["rib_fracture"]


def test_its_patients_have_other_findings() -> None:
    drawn = {house: Counter[str]() for house in (FIRST, OTHER)}
    for house, counts in drawn.items():
        for index in range(400):
            counts.update(finding.concept for finding in draw_patient(7, index, HOUSES[house].mix)[1])
    assert drawn[OTHER]["fibrosis"] > 1.5 * drawn[FIRST]["fibrosis"]
    assert drawn[OTHER]["effusion"] < 0.8 * drawn[FIRST]["effusion"]


def test_its_scanner_shows_the_same_patient_otherwise() -> None:
    first, other = (sample(1, 3, size=SIZES["tiny"], ct=False, house=house) for house in (FIRST, OTHER))
    assert first.patient == other.patient and first.frontal.shape == other.frontal.shape
    assert other.frontal.min() >= 0 and other.frontal.max() <= 1
    assert np.abs(first.frontal - other.frontal).mean() > 0.05
