"""A short training on toy pictures learns to retrieve by region, and does the same again for the same seed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radir_pacs import anatomy
from radir_pacs.encode import Bundle
from radir_pacs.encode.network import view_index
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind, View
from radir_training.learning import augment
from radir_training.learning.augment import Augmentation
from radir_training.learning.initial_model import vocabulary_texts
from radir_training.learning.losses import cross_entropy, findings_loss, graded_contrast
from radir_training.learning.recipe import OURS, RECIPES, stages
from radir_training.learning.train import ENCODERS, Training, train
from radir_training.runs import held_out
from radir_training.runs.held_out import HeldOut, split
from tests.training.toy import TOY, fingerprint, toy_set

MARGIN = 0.25  # of recall at 5 above the random line
KEYS = ("chest", "lungs", "right_upper_lobe", "left_upper_lobe", "pleura", "right_pleura", "left_pleura", "heart")
SHORT = replace(OURS, epochs=2, batch=16)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_training_learns_to_retrieve_by_region(tmp_path: Path) -> None:
    training, apart = split(toy_set(900, seed=0), seed=1)
    assert not set(training.patients) & set(apart.patients) and len(np.unique(apart.patients)) == 180
    losses: list[dict[str, float]] = []
    recipe = replace(OURS, epochs=5, batch=32, seed=1, learning_rate=2e-3)
    bundle = train(TOY, training, recipe, tell=lambda step: losses.append(step.losses))
    assert losses[-1]["findings"] < losses[0]["findings"] / 2
    metrics = HeldOut(apart, conditional=True, seed=0).metrics(bundle)
    found, pixels = metrics["recall_at_5_abnormal"], metrics["recall_at_5_abnormal_pixels"]
    assert found["recall"] > found["random"] + MARGIN and found["recall"] > pixels["recall"]
    assert found["interval_95"][0] < found["recall"] < found["interval_95"][1]
    assert not found["collapsed"]
    again = bundle.save(tmp_path / "toy")
    assert Bundle.load(tmp_path / "toy").model_id == again.model_id


def test_the_same_seed_trains_the_same_network() -> None:
    data = toy_set(64, seed=3)
    first, second, other = (fingerprint(train(TOY, data, replace(SHORT, epochs=1, seed=seed))) for seed in (0, 0, 1))
    assert first == second != other


def test_a_bundle_that_is_gone_on_from_stays_as_it_is() -> None:
    data = toy_set(64, seed=3)
    start = train(TOY, data, replace(SHORT, epochs=1))
    before = fingerprint(start)
    further = train(TOY, data, replace(SHORT, epochs=1, learning_rate=3e-4), start=start)
    assert fingerprint(start) == before != fingerprint(further)
    moved = [
        float((a - b).norm() / (b.norm() + 1e-9))
        for a, b in zip(further.network.parameters(), start.network.parameters(), strict=True)
        if b.ndim > 1
    ]
    assert 0 < np.mean(moved) < 0.2, "near the start, not pulled to an average of the first steps"


def test_an_image_without_a_report_is_no_negative() -> None:
    """The losses of a batch do not depend on what the network sees in images without statements."""
    data = toy_set(32, seed=0)
    mute = replace(data, reports=(*data.reports[:16], *[""] * 16), said=(*data.said[:16], *[{}] * 16))
    training = Training(TOY, mute, replace(SHORT, batch=32, report_every=1, augment=False, half_precision=False))

    def losses(rows: torch.Tensor) -> dict[str, float]:
        network = training.network.eval()  # the batch's own mean would mix the images
        objective, generator = training.stages[0], torch.Generator().manual_seed(0)
        found = objective(network, training.training_set.batch(rows), 0, generator).by_name
        return {name: float(loss.detach()) for name, loss in found.items()}

    with_mute, without = losses(torch.arange(32)), losses(torch.arange(16))
    assert with_mute.keys() == OURS.losses.keys()
    for name, loss in without.items():
        assert with_mute[name] == pytest.approx(loss, rel=1e-4), name
    nobody = losses(torch.arange(16, 32))
    assert all(loss == 0 for loss in nobody.values()), "nothing said: nothing to learn, and no NaN"


def test_the_contrast_of_the_whole_is_that_of_the_chest_alone() -> None:
    training = Training(TOY, toy_set(32, seed=0), replace(SHORT, batch=32, half_precision=False))
    batch, objective = training.training_set.batch(torch.arange(32)), training.stages[0]
    found = objective(training.network.eval(), batch, 0, torch.Generator().manual_seed(0))
    row = training.training_set.whole
    assert [training.training_set.regions[row].key] == ["chest"]
    chest = slice(row, row + 1)
    alone = graded_contrast(
        found.vectors[:, chest], batch.relevance[chest], batch.abnormal[:, chest], batch.seen[:, chest]
    )
    of_all, of_chest = (float(found.by_name[name].detach()) for name in ("contrast", "whole"))
    assert of_chest == pytest.approx(float(alone.detach())) and of_chest != pytest.approx(of_all)


def test_a_batch_in_parts_gives_the_same_gradients() -> None:
    data = toy_set(64, seed=3)

    def gradients(parts: int) -> dict[str, torch.Tensor]:
        recipe = replace(SHORT, batch=32, accumulate=parts, half_precision=False, report_every=1)
        training = Training(TOY, data, recipe)
        batch, generator = training.training_set.batch(torch.arange(32)), torch.Generator().manual_seed(0)
        found = training.stages[0](training.network.train(), batch, 0, generator).by_name
        torch.autograd.backward([torch.stack([found[name] for name in sorted(found)]).sum()])
        return {name: p.grad for name, p in training.network.named_parameters() if p.grad is not None}

    whole, parts = gradients(1), gradients(4)
    assert whole.keys() == parts.keys() and any(name.startswith("text.") for name in whole)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize(("name", "faulty"), [("repaired", ""), ("published", "faulty_")])
def test_in_the_second_published_stage_the_encoders_stand_still(name: str, faulty: str) -> None:
    data = toy_set(64, seed=3)
    recipe = replace(RECIPES[name], epochs=2, batch=16, average=0.0, stages="published")
    assert name != "published" or RECIPES["published-staged"] == replace(RECIPES[name], stages="published")
    training = Training(replace(TOY, centred_head=False), data, recipe)
    named: list[set[str]] = []
    weights: list[dict[str, torch.Tensor]] = []
    while (done := training.done()) < 1:
        named.append(set(training.step(done).losses))
        weights.append({name: p.detach().clone() for name, p in training.network.named_parameters()})
    assert named[0] == {"report", f"{faulty}image_triplet"} and named[-1] == {"report", f"{faulty}triplet"}
    assert len(named) == 8 and named[3] != named[4]
    encoders = {name for name in weights[0] if name.split(".")[0] in ENCODERS}
    assert encoders and encoders != set(weights[0])
    changed = {name for name in weights[0] if not torch.equal(weights[3][name], weights[-1][name])}
    assert changed and not changed & encoders
    assert any(not torch.equal(weights[0][name], weights[3][name]) for name in encoders)
    with pytest.raises(BadInput, match="nothing to learn"):
        stages(replace(RECIPES["unconditional"], stages="published"))


def test_a_data_set_that_teaches_nothing_is_refused() -> None:
    data = toy_set(64, seed=0)
    normal = replace(data, said=tuple({} for _ in range(64)))
    with pytest.raises(BadInput, match="no pair to learn from"):
        train(TOY, normal, SHORT)
    rarely = tuple(study if number == 4 else {} for number, study in enumerate(data.said))
    assert any(rarely)
    with pytest.raises(BadInput, match="no finding is reported in 3 studies"):
        train(TOY, replace(data, said=rarely), SHORT)
    with pytest.raises(BadInput, match="all images are the same"):
        train(TOY, replace(data, images=np.zeros_like(data.images)), SHORT)
    with pytest.raises(BadInput, match="too few patients"):
        train(TOY, replace(data, patients=np.zeros(64, np.int64)), SHORT)
    with pytest.raises(BadInput, match="do not fill a batch"):
        train(TOY, data, replace(SHORT, batch=128))


def test_a_training_that_diverges_ends_at_once_with_what_to_do() -> None:
    training = Training(TOY, toy_set(32, seed=0), replace(SHORT, batch=32))
    before = {name: weight.clone() for name, weight in training.network.state_dict().items() if "head." not in name}
    training.network.get_parameter("view.weight").register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(BadInput, match=r"diverged: the gradient of step 0 .* learning rate below"):
        training.step(0.0)
    after = training.network.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items()), "no weight was moved"


def test_a_rare_word_of_a_report_stays_out_of_the_vocabulary() -> None:
    regions = tuple(anatomy.region(key) for key in KEYS)
    reports = [
        f"FINDINGS: Consolidation {number}. Seen with Doctor {'Mustermann' * (number == 0)}" for number in range(9)
    ]
    words = " ".join(vocabulary_texts(regions, ("nodule",), reports)).lower().split()
    assert {"nodule", "heart", "consolidation"} <= set(words) and "mustermann" not in words


def test_contrast_prefers_vectors_that_agree_with_relevance() -> None:
    alike = torch.tensor([[100, 100, 0, 0], [100, 100, 0, 0], [0, 0, 100, 100], [0, 0, 100, 100]], dtype=torch.uint8)
    agreeing, crossing = torch.eye(2)[[0, 0, 1, 1]][:, None], torch.eye(2)[[0, 1, 0, 1]][:, None]
    abnormal, seen = torch.tensor([[True], [True], [False], [False]]), torch.ones(4, 1, dtype=torch.bool)
    near, far = (graded_contrast(vectors, alike[None], abnormal, seen) for vectors in (agreeing, crossing))
    assert near < 0.01 < far
    assert graded_contrast(crossing, alike[None], abnormal, torch.zeros(4, 1, dtype=torch.bool)) == 0
    grades, everything = torch.tensor([[[3]]], dtype=torch.uint8), torch.ones(1, 1, dtype=torch.bool)
    logits = torch.tensor([[[[9.0, 9, -9]]]])
    assert findings_loss(logits, grades, everything, everything) < 1e-3
    assert findings_loss(-logits, grades, everything, everything) > 8
    assert cross_entropy(torch.empty(0), torch.empty(0)) == 0


def test_a_lateral_view_is_not_asked_about_sides() -> None:
    data = toy_set(16, seed=0)
    regions = [anatomy.region(key) for key in KEYS]
    lateral = replace(data, views=np.full(16, view_index(ImageKind.CXR, View.LATERAL)))
    shown = [key for key, seen in zip(KEYS, lateral.seen(regions)[0], strict=True) if seen]
    assert shown == ["chest", "lungs", "pleura", "heart"]
    assert data.seen(regions).all()


def test_no_more_patients_are_kept_apart_than_tell_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy_set(100, seed=0)
    training, apart = split(data, seed=1)
    assert len(np.unique(apart.patients)) == 20
    assert not set(training.patients) & set(apart.patients)
    assert len(training) + len(apart) == len(data)
    monkeypatch.setattr(held_out, "MOST", 12)
    assert len(np.unique(split(data, seed=1)[1].patients)) == 12


def test_what_monai_is_not_to_load_can_be_loaded_afterwards() -> None:
    Augmentation((32, 32))
    assert None not in [sys.modules.get(name, sys) for name in augment._UNUSED_BY_TRANSFORMS]


@pytest.mark.parametrize("shape", [(32, 32), (16, 12, 16)])
def test_augmentation_varies_and_never_flips(shape: tuple[int, ...]) -> None:
    """The mean of many variants of a picture bright in one corner is bright in that corner, in 2D and 3D."""
    images = torch.zeros(64, 1, *shape)
    corner: tuple[Any, ...] = (..., *(slice(n // 2) for n in shape))
    images[corner] = 1.0
    vary = Augmentation(shape)
    varied = vary(images, torch.Generator().manual_seed(0))
    assert varied.shape == images.shape and type(varied) is torch.Tensor
    assert all(float((one - images[0]).abs().max()) > 0.2 for one in varied), "each moved by more than its noise"
    assert varied.std(0).max() > 0.2
    mean = varied.mean(0)[0]
    for axis, n in enumerate(shape):
        others = tuple(other for other in range(len(shape)) if other != axis)
        profile = mean.mean(others) / mean.mean(others).max()
        assert profile[: n // 3].mean() > 0.8 and profile[-(n // 3) :].mean() < 0.3, axis
    again = vary(images, torch.Generator().manual_seed(0))
    torch.testing.assert_close(varied, again, rtol=0, atol=0)
    assert not torch.equal(varied, vary(images, torch.Generator().manual_seed(1)))
