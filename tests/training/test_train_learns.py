"""A minute's training on toy pictures learns to retrieve by region, and does the same again for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from radir_pacs import anatomy
from radir_pacs.encode import Bundle, NetworkConfig
from radir_pacs.encode.config import StemConfig
from radir_pacs.encode.network import view_index
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind, View
from radir_training.augment import augmented, stretched
from radir_training.data import TrainingSet
from radir_training.evaluate import evaluated, pixel_vectors, region_vectors
from radir_training.losses import graded_contrast, severity_loss
from radir_training.phantoms.findings import Finding
from radir_training.train import Recipe, train
from radir_training.truth import CONCEPTS, PLACES, Truth, graded, model_regions, severity_table, similarity

MARGIN = 0.25  # above the random line
TOY = NetworkConfig(
    name="toy",
    stems={ImageKind.CXR: StemConfig(shape=(32, 32), patch=(2, 2), first_width=16, stages=((32, 2), (48, 2)))},
    width=48,
    blocks=1,
    heads=4,
    decoder_blocks=1,
    text_blocks=1,
    embedding_dim=48,
)
CENTRES = {
    ("nodule", "right_upper_lobe"): (8, 8),
    ("nodule", "left_upper_lobe"): (8, 24),
    ("effusion", "right_pleura"): (25, 7),
    ("effusion", "left_pleura"): (25, 25),
    ("cardiomegaly", "heart"): (18, 17),
}
KEYS = ("chest", "lungs", "right_upper_lobe", "left_upper_lobe", "pleura", "right_pleura", "left_pleura", "heart")


def finding(concept: str, region: str, severity: int) -> Finding:
    side = -1 if region.startswith("right") else 1 if region.startswith("left") else 0
    return Finding(concept=concept, region=region, side=side, severity=severity, at=(0.5, 0.5, 0.5))


def toy_set(studies: int, seed: int) -> TrainingSet:
    """Discs at five places, larger and brighter with severity, on noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    images, found = [], []
    for _ in range(studies):
        image = rng.normal(0, 0.15, (32, 32))
        findings = []
        for (concept, region), (y, x) in CENTRES.items():
            severity = int(rng.choice(4, p=(0.7, 0.1, 0.1, 0.1)))
            if severity:
                distance = np.hypot(rows - y - rng.normal(), columns - x - rng.normal())
                image += (0.5 + 0.5 * severity) * (distance < 1.5 + severity)
                findings.append(finding(concept, region, severity))
        images.append((image - image.mean()) / image.std())
        found.append(findings)
    regions = tuple(anatomy.region(key) for key in KEYS)
    return TrainingSet(
        kind=ImageKind.CXR,
        regions=regions,
        images=np.stack(images)[:, None].astype(np.float16),
        views=np.zeros(studies, np.int64),
        patients=np.arange(studies),
        truth=Truth.of(severity_table(found), regions),
    )


@pytest.fixture(scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def test_training_learns_to_retrieve_by_region(one_thread: None, tmp_path: Path) -> None:
    training, apart = toy_set(1200, seed=0).split(300)
    bundle = train(TOY, training, Recipe(epochs=14, batch=32, seed=1))
    metrics = evaluated(region_vectors(bundle.network, bundle.queries(), apart), apart, seed=0)
    abnormal = metrics["recall_at_5_abnormal"]
    assert abnormal["recall"] > abnormal["random"] + MARGIN
    assert abnormal["interval_95"][0] < abnormal["recall"] < abnormal["interval_95"][1]
    assert metrics["mean_cosine_within_region"] < 0.9, "not collapsed"
    again = bundle.save(tmp_path / "toy")
    assert Bundle.load(tmp_path / "toy").model_id == again.model_id


def test_the_same_seed_trains_the_same_network(one_thread: None) -> None:
    data = toy_set(128, seed=3)

    def weights(seed: int) -> dict[str, torch.Tensor]:
        return train(TOY, data, Recipe(epochs=2, batch=32, seed=seed)).network.state_dict()

    first, second, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_data_set_that_teaches_nothing_is_refused() -> None:
    data = toy_set(64, seed=0)
    normal = Truth.of(np.zeros((64, len(PLACES), len(CONCEPTS)), np.uint8), data.regions)
    with pytest.raises(BadInput, match="no study has a finding"):
        train(TOY, TrainingSet(**{**vars(data), "truth": normal}), Recipe())
    with pytest.raises(BadInput, match="all images are the same"):
        train(TOY, TrainingSet(**{**vars(data), "images": np.zeros_like(data.images)}), Recipe())
    with pytest.raises(BadInput, match="16 patients"):
        train(TOY, TrainingSet(**{**vars(data), "patients": np.zeros(64, np.int64)}), Recipe())
    with pytest.raises(BadInput, match="do not fill a batch"):
        train(TOY, data, Recipe(batch=128))
    with pytest.raises(BadInput, match="held out"):
        data.split(64)


def test_findings_count_for_their_region_and_all_above_it() -> None:
    regions = model_regions(ImageKind.CXR)
    keys = [region.key for region in regions]
    truth = Truth.of(severity_table([[finding("nodule", "right_upper_lobe", 2)], []]), regions)
    abnormal = {key for key, wrong in zip(keys, truth.abnormal[0], strict=True) if wrong}
    assert {"right_upper_lobe", "right_lung", "lungs", "chest"} <= abnormal
    assert not abnormal & {"left_lung", "left_upper_lobe", "right_lower_lobe", "pleura", "heart"}
    assert not truth.abnormal[1].any()
    nodule = CONCEPTS.index("nodule")
    chest = truth.sided[0, keys.index("chest")]
    assert chest[nodule] == 2 and chest[len(CONCEPTS) + nodule] == 0, "on the right, not on the left"
    assert {region.key for region in anatomy.trained(ImageKind.CXR)} <= set(keys)
    assert not truth.described[keys.index("atria")]
    np.testing.assert_array_equal(truth.severity[:, keys.index("atria")], truth.severity[:, keys.index("heart")])


def test_similarity_grades_severity_and_side() -> None:
    regions = (anatomy.region("chest"), anatomy.region("pleura"))
    studies = [
        [finding("effusion", "right_pleura", 3)],
        [finding("effusion", "right_pleura", 3)],
        [finding("effusion", "right_pleura", 1)],
        [finding("effusion", "left_pleura", 3)],
        [finding("pneumothorax", "left_pleura", 3)],
        [],
        [],
    ]
    truth = Truth.of(severity_table(studies), regions)
    features = graded(torch.from_numpy(truth.severity), torch.from_numpy(truth.sided))[:, 1]
    alike = similarity(features, features)
    expected = [1, 1, 0.6, 1 / 3, 0, 0, 0]
    np.testing.assert_allclose(alike[0], expected, atol=1e-6)
    assert alike[5, 6] == 1, "normal is like normal"
    torch.testing.assert_close(alike, alike.T)


def test_contrast_prefers_vectors_that_agree_with_the_truth() -> None:
    alike = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])[None]
    agreeing = torch.eye(2)[[0, 0, 1, 1]][:, None]
    crossing = torch.eye(2)[[0, 1, 0, 1]][:, None]
    abnormal, seen = torch.tensor([[True], [True], [False], [False]]), torch.ones(4, 1, dtype=torch.bool)
    assert graded_contrast(agreeing, alike, abnormal, seen) < 0.01 < graded_contrast(crossing, alike, abnormal, seen)
    unseen = torch.zeros(4, 1, dtype=torch.bool)
    assert graded_contrast(crossing, alike, abnormal, unseen) == 0
    severity = torch.tensor([[[2]]])
    logits = torch.tensor([[[[9.0, 9, -9]]]])
    everything = torch.ones(1, 1, dtype=torch.bool)
    assert severity_loss(logits, severity, everything, everything) < 1e-3
    assert severity_loss(-logits, severity, everything, everything) > 8


def test_a_lateral_view_is_not_asked_about_sides() -> None:
    data = toy_set(16, seed=0)
    lateral = np.full(16, view_index(ImageKind.CXR, View.LATERAL))
    seen = TrainingSet(**{**vars(data), "views": lateral}).seen
    assert [key for key, shown in zip(KEYS, seen[0], strict=True) if shown] == ["chest", "lungs", "pleura", "heart"]
    assert data.seen.all()


def test_augmentation_never_flips() -> None:
    """The mean of many variants of a picture bright on one side is bright on that side, in 2D and 3D."""
    for shape in ((32, 32), (16, 12, 16)):
        images = torch.zeros(200, 1, *shape)
        images[..., : shape[-1] // 3] = 1
        varied = augmented(images, torch.Generator().manual_seed(0))
        left = varied[..., : shape[-1] // 3].mean(tuple(range(1, varied.ndim)))
        right = varied[..., -shape[-1] // 3 :].mean(tuple(range(1, varied.ndim)))
        assert (left > right + 0.3).all()
    still = torch.rand(2, 1, 8, 6, 4)
    same = stretched(still, torch.ones(2, 3), torch.zeros(2, 3))
    torch.testing.assert_close(same, still)
    moved = stretched(still, torch.ones(2, 3), torch.tensor([[0.0, 0, 0.25]] * 2))
    torch.testing.assert_close(moved[..., 0], still[..., 1])


def test_pixels_are_compared_as_they_are() -> None:
    vectors = pixel_vectors(toy_set(16, seed=0))
    assert vectors.shape == (16, 1, 32 * 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=2), 1, atol=1e-5)
