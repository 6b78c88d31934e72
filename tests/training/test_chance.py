"""A loss at one of many regions counts only where chance would hardly show one anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from radir_training.retraining.chance import Part, by_chance, least_chance

PATIENTS = 60
ROWS = np.arange(PATIENTS)


def part(differences: list[float]) -> Part:
    return Part(np.arange(len(differences)), np.array(differences, np.float64))


@pytest.mark.parametrize("losses", [3, 5])
def test_losses_of_all_patients_are_as_rare_as_that_many_heads(losses: int) -> None:
    [chance] = by_chance(np.arange(losses), [part([-1.0] * losses)], seed=1)
    assert chance == pytest.approx(0.5**losses, abs=0.01)


def test_answers_of_one_patient_are_exchanged_together() -> None:
    patients = np.repeat([7, 9], 10)
    [chance] = by_chance(patients, [part([-1.0] * 20)], seed=1)
    assert chance == pytest.approx(0.25, abs=0.02)


def test_a_region_and_its_copies_count_as_one_and_others_count_each() -> None:
    lost = part([-1.0] * 5 + [0.0] * (PATIENTS - 5))
    [alone] = by_chance(ROWS, [lost], seed=1)
    assert by_chance(ROWS, [lost] * 10, seed=1) == pytest.approx([alone] * 10)
    elsewhere = [part([0.0] * start + [1.0, -1.0] * 5 + [0.0] * (PATIENTS - 10 - start)) for start in range(5, 50, 5)]
    assert by_chance(ROWS, [lost, *elsewhere], seed=1)[0] > 2 * alone


def test_questions_without_a_case_to_find_and_equal_answers_tell_nothing() -> None:
    rows, nothing = np.arange(6), [0.0] * 6
    parts = [part(nothing), Part(rows, np.array([-1.0, -1.0, -1.0, np.nan, np.nan, np.nan]))]
    equal, lost = by_chance(rows, parts, seed=1)
    assert equal == 1 and lost == pytest.approx(1 / 8, abs=0.01)


def test_a_loss_of_few_patients_cannot_be_rarer_than_their_heads() -> None:
    """Answers that are equal, or differ both ways for the same patient, add nothing to the number of patients."""
    lost = Part(np.arange(30), np.array([-1.0] * 30))
    assert least_chance(np.repeat([3, 8], 15), lost) == 1 / 4
    mixed = Part(np.arange(8), np.array([-1.0, -1.0, 0.0, np.nan, 1.0, -1.0, 1.0, -1.0]))
    assert least_chance(np.array([1, 2, 3, 4, 5, 5, 6, 7]), mixed) == 1 / 16
    assert least_chance(ROWS, part([0.0] * PATIENTS)) == 1


def test_gains_are_no_loss() -> None:
    [chance] = by_chance(ROWS, [part([1.0] * PATIENTS)], seed=1)
    assert chance == 1


def test_a_harmless_challenger_is_refused_as_often_as_the_plan_says() -> None:
    rng, examinations, limit = np.random.default_rng(3), 400, 0.1
    refused = 0
    for number in range(examinations):
        differences = rng.choice([-1.0, 0.0, 0.0, 1.0], (25, PATIENTS))
        parts = [Part(ROWS, one) for one in differences]
        refused += by_chance(ROWS, parts, seed=number, draws=500).min() < limit
    assert 0.05 < refused / examinations < 0.15


def test_the_same_examination_gives_the_same_chances() -> None:
    parts = [part([-1.0, 1.0, -1.0, -1.0]), part([0.0, -1.0, -1.0, 1.0])]
    patients = np.arange(4)
    assert (by_chance(patients, parts, seed=5) == by_chance(patients, parts, seed=5)).all()
