"""What learns from real X-rays without labels: a network made steadier, and one image in the look of another."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import performance, results
from benchmarks.experiments import self_distillation, style
from benchmarks.experiments.self_distillation import looked_at, steadied
from radir_pacs.encode import Bundle
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.types import ImageKind
from radir_training.learning.recipe import OURS
from radir_training.learning.train import train

from .toy import TOY, fingerprint, toy_set


def vectors(bundle: Bundle, images: torch.Tensor) -> torch.Tensor:
    assert isinstance(bundle.network, RadirNetwork)
    views, regions = torch.zeros(len(images), dtype=torch.int64), torch.arange(len(bundle.regions))
    with torch.inference_mode():
        out: torch.Tensor = bundle.network(images, views, ImageKind.CXR, bundle.queries(), regions).vectors
    return out


def test_small_changes_of_a_real_image_change_its_vectors_less_and_synthetic_ones_stay() -> None:
    synthetic, real = toy_set(96, 1), toy_set(48, 2)
    noise = np.random.default_rng(3).normal(0, 0.5, real.images.shape)
    real = replace(real, images=(real.images + noise).astype(np.float16))  # a look that training never showed
    before = train(TOY, synthetic, replace(OURS, epochs=3, batch=32, learning_rate=2e-3))
    after = steadied(before, real, synthetic, seed=1, steps=60)
    assert fingerprint(after) == fingerprint(steadied(before, real, synthetic, seed=1, steps=60))

    shown = torch.from_numpy(real.images.astype(np.float32))
    moved = looked_at(shown, torch.Generator().manual_seed(9))
    assert moved.shape == shown.shape and not torch.equal(moved, shown)

    def unsteady(bundle: Bundle) -> float:
        return float((vectors(bundle, moved) - vectors(bundle, shown)).square().sum(-1).mean())

    assert unsteady(after) < 0.8 * unsteady(before)
    drawn = torch.from_numpy(synthetic.images.astype(np.float32))
    kept = (vectors(after, drawn) * vectors(before, drawn)).sum(-1)
    others = vectors(before, drawn).roll(1, 0)
    assert float(kept.mean()) > 0.9 > float((vectors(before, drawn) * others).sum(-1).mean())


def test_a_look_is_the_greys_and_the_frequencies_of_another_image() -> None:
    rng = np.random.default_rng(0)
    fine, coarse = rng.normal(size=(64, 64)).astype(np.float32), np.zeros((64, 64), np.float32)
    coarse[16:48, 20:40] = 5.0
    coarse += rng.normal(0, 0.01, coarse.shape).astype(np.float32)
    moved = style.greys(fine, coarse)
    assert np.array_equal(np.sort(moved, axis=None), np.sort(coarse, axis=None))
    order = np.argsort(fine, axis=None)
    assert np.all(np.diff(moved.ravel()[order]) >= 0)

    def fineness(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image, axis=0)).mean() / image.std())

    assert fineness(style.greys_and_frequencies(fine, coarse)) < 0.5 * fineness(fine)


def test_images_of_one_look_are_not_told_apart() -> None:
    rng, people = np.random.default_rng(0), np.arange(200)
    one, alike, other = (rng.normal(mean, 1, (100, 8)).astype(np.float32) for mean in (0, 0, 2))
    assert abs(float(style.told_apart(one, alike, people, 0).mean) - 0.5) < 0.15
    assert float(style.told_apart(one, other, people, 0).mean) > 0.95


@pytest.mark.parametrize(("name", "made"), [("self-distillation", self_distillation), ("style", style)])
def test_the_page_is_made_of_its_figures(name: str, made: object) -> None:
    told = json.loads((performance.DOCS / "results" / f"{name}.json").read_text())
    written = made.written(told)  # type: ignore[attr-defined]
    assert (performance.DOCS / "results" / f"{name}.md").read_text() == results.headed(
        written, results.origin(told["made"], name)
    )
