"""The network and the encoder: shapes, unit vectors, determinism, and left that stays left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from radir_pacs.encode import CONFIGS, Encoder, Preprocessing
from radir_pacs.encode.config import NetworkConfig, StemConfig
from radir_pacs.encode.network import (
    LEAST_SPREAD,
    CoronalPlanes,
    RadirNetwork,
    RegionHead,
    ResidualStage,
)
from radir_pacs.encode.positions import grid_coordinates
from radir_pacs.encode.preprocess import area_weights, preprocess
from radir_pacs.encode.tokenizer import PAD, SPECIAL, UNKNOWN, Tokenizer
from radir_pacs.errors import BadInput, Quarantined
from radir_pacs.image_notes import ImageNoteCode, image_note
from radir_pacs.types import ImageKind, View, Volume
from tests.model_material import REGIONS, seeded_bundle


def radiograph(pixels: np.ndarray, view: View = View.FRONTAL, mm: tuple[float, float] = (1.0, 1.0)) -> Volume:
    return Volume(
        kind=ImageKind.CXR,
        voxels=np.ascontiguousarray(pixels, np.float32)[None],
        spacing_mm=(1.0, *mm),
        affine=np.eye(4),
        study_uid="1.2",
        series_uid="1.2.3",
        sop_instance_uids=("1.2.3.4",),
        view=view,
    )


def chest_ct(voxels: np.ndarray, spacing_mm: tuple[float, float, float]) -> Volume:
    return Volume(
        kind=ImageKind.CT,
        voxels=np.ascontiguousarray(voxels, np.float32),
        spacing_mm=spacing_mm,
        affine=np.eye(4),
        study_uid="1.2",
        series_uid="1.2.3",
        sop_instance_uids=tuple(f"1.2.3.{i}" for i in range(len(voxels))),
    )


def picture(kind: ImageKind, seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    if kind is ImageKind.CXR:
        return radiograph(rng.random((200, 160)))
    return chest_ct(rng.uniform(-1000, 400, (50, 60, 60)), (6.0, 5.0, 5.0))


@pytest.mark.parametrize("kind", list(ImageKind))
def test_every_region_gets_a_unit_vector_and_the_same_one_again(kind: ImageKind) -> None:
    encoder = Encoder(seeded_bundle(kind), device="cpu")
    encoding = encoder.encode(picture(kind))
    assert encoding.regions == tuple(key for key, _, _ in REGIONS)
    assert encoding.vectors.shape == (len(REGIONS), CONFIGS["tiny"].embedding_dim)
    np.testing.assert_allclose(np.linalg.norm(encoding.vectors, axis=1), 1, atol=1e-5)
    again = Encoder(seeded_bundle(kind), device="cpu").encode(picture(kind))
    np.testing.assert_array_equal(encoding.vectors, again.vectors)
    other = encoder.encode(picture(kind, seed=1))
    assert np.abs(other.vectors - encoding.vectors).max() > 1e-4
    assert np.abs(encoding.vectors[1] - encoding.vectors[2]).max() > 1e-4, "left and right are different questions"


def test_one_network_reads_both_kinds_through_shared_blocks() -> None:
    config = CONFIGS["tiny"]
    network = RadirNetwork(config, vocabulary_size=40, regions=["chest", "heart"], findings=["mass"]).eval()
    queries = network.text(torch.tensor([[2, 3], [4, PAD]]))
    for view, (kind, stem) in enumerate(config.stems.items()):
        images = torch.randn(3, 1, *stem.shape)
        out = network(images, torch.full((3,), view), kind, queries, torch.arange(2))
        assert out.vectors.shape == (3, 2, config.embedding_dim)
        assert out.severity.shape == (3, 2, 1, 3)
        with pytest.raises(ValueError, match="the stem takes"):
            network.image_tokens(images[..., 1:], torch.zeros(3, dtype=torch.int64), kind)


PLANED = replace(
    CONFIGS["tiny"],
    stems={
        ImageKind.CXR: StemConfig(shape=(16, 20), patch=(4, 4), first_width=8),
        ImageKind.CT: StemConfig(shape=(16, 12, 20), patch=(4, 4, 4), first_width=8),
    },
    plane_blocks=1,
    depth_blocks=1,
)


def test_a_volume_becomes_a_coronal_plane_like_a_radiograph() -> None:
    """Height and side stay where they are; a volume of one plane is that plane."""
    torch.manual_seed(0)
    planes = CoronalPlanes(PLANED).eval()
    tokens = torch.randn(2, 4, 3, 5, PLANED.width)
    found = planes(tokens.flatten(1, 3), (4, 3, 5))
    assert found.shape == (2, 20, PLANED.width)
    plane = tokens[:, :, :1].flatten(1, 3)
    torch.testing.assert_close(planes(plane, (4, 1, 5)), planes(plane, (4, 5)))
    planes.within = torch.nn.ModuleList()  # what is left mixes along depth alone
    through = planes(tokens.flatten(1, 3), (4, 3, 5))
    changed = tokens.clone()
    changed[:, 1, 2, 3] += torch.randn(PLANED.width)
    moved = (planes(changed.flatten(1, 3), (4, 3, 5)) - through).abs().amax(2).unflatten(1, (4, 5)) > 1e-4
    assert moved[:, 1, 3].all() and moved.sum() == 2


def test_planes_feed_the_same_decoder() -> None:
    network = RadirNetwork(PLANED, vocabulary_size=40, regions=["chest", "heart"], findings=["mass"]).eval()
    queries = network.text(torch.tensor([[2, 3], [4, PAD]]))
    for view, (kind, stem) in enumerate(PLANED.stems.items()):
        tokens = network.image_tokens(torch.randn(3, 1, *stem.shape), torch.full((3,), view), kind)
        assert tokens.shape == (3, 20, PLANED.width)
        assert network.decode(tokens, queries).shape == (3, 2, PLANED.width)
    assert NetworkConfig.from_json(PLANED.to_json()) == PLANED
    with pytest.raises(ValueError, match="both plane_blocks and depth_blocks"):
        replace(PLANED, depth_blocks=0)


def test_a_vector_does_not_depend_on_what_else_was_asked() -> None:
    bundle = seeded_bundle(ImageKind.CXR)
    image, view = torch.randn(1, 1, 128, 128), torch.zeros(1, dtype=torch.int64)
    queries, rows = bundle.queries(), torch.arange(len(REGIONS))
    together = bundle.network(image, view, ImageKind.CXR, queries, rows).vectors[0, 2]
    alone = bundle.network(image, view, ImageKind.CXR, queries[2:3], rows[2:3]).vectors[0, 0]
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)


def test_the_head_follows_the_mean_in_training_only() -> None:
    network = seeded_bundle(ImageKind.CXR).network
    assert isinstance(network, RadirNetwork)
    head = network.head
    features = torch.randn(64, 1, CONFIGS["tiny"].width) + 3
    before = head.mean.clone()
    head(features, torch.tensor([1]))
    assert torch.equal(head.mean, before)
    head.train()
    for _ in range(100):
        _, trained = head(features, torch.tensor([1]))
    torch.testing.assert_close(head.mean[1], head.project(features).mean((0, 1)), atol=1e-4, rtol=1e-3)
    assert torch.equal(head.mean[0], before[0])
    _, served = head.eval()(features, torch.tensor([1]))
    torch.testing.assert_close(served, trained, atol=1e-3, rtol=0)
    assert (served[:, 0] @ served[:, 0].T).mean() < 0.9, "vectors of one region do not collapse"


def test_lateral_views_answer_only_for_regions_without_a_side() -> None:
    encoder = Encoder(seeded_bundle(ImageKind.CXR), device="cpu")
    encoding = encoder.encode(radiograph(np.random.default_rng(0).random((128, 128)), View.LATERAL))
    assert encoding.regions == tuple(key for key, _, sided in REGIONS if not sided)
    assert image_note(ImageNoteCode.NO_SIDES) in encoding.warnings


def test_the_wrong_kind_and_empty_images_are_refused() -> None:
    encoder = Encoder(seeded_bundle(ImageKind.CXR), device="cpu")
    with pytest.raises(BadInput, match="not CT"):
        encoder.encode(picture(ImageKind.CT))
    with pytest.raises(Quarantined, match="flat"):
        encoder.encode(radiograph(np.full((64, 64), 0.5)))
    with pytest.raises(Quarantined, match="flat"):
        Encoder(seeded_bundle(ImageKind.CT), device="cpu").encode(chest_ct(np.zeros((9, 9, 9)), (5.0, 5.0, 5.0)))
    with pytest.raises(BadInput, match="no device"):
        Encoder(seeded_bundle(ImageKind.CXR), device="tpu")


def test_a_short_ct_is_encoded_with_a_warning() -> None:
    short = picture(ImageKind.CT).voxels[:10]
    encoding = Encoder(seeded_bundle(ImageKind.CT), device="cpu").encode(chest_ct(short, (6.0, 5.0, 5.0)))
    assert image_note(ImageNoteCode.SHORT_SERIES, covered_mm=60.0) in encoding.warnings


CXR = Preprocessing.of(CONFIGS["tiny"], ImageKind.CXR)
CT = Preprocessing.of(CONFIGS["tiny"], ImageKind.CT)


def test_left_and_right_are_not_flipped() -> None:
    """Bright at the patient's right stays at low x in both kinds, and the token grid agrees on the side."""
    pixels = np.zeros((128, 128))
    pixels[28:38, 10:24] = 1
    bright = np.argwhere(preprocess(radiograph(pixels), CXR)[0] > 0.5)
    assert bright.min(0).tolist() == [28, 10] and bright.max(0).tolist() == [37, 23]
    voxels = np.full((64, 48, 64), -1000.0)
    voxels[32, 24, 8] = 500
    found = np.unravel_index(np.argmax(preprocess(chest_ct(voxels, (6.0, 6.0, 6.0)), CT)[0]), CT.shape)
    assert found == (32, 24, 8)
    flat, deep = grid_coordinates((4, 4)), grid_coordinates((4, 3, 4))
    assert flat[0].tolist() == [0.875, 0.5, 0.125], "the first row of a radiograph is the head"
    assert deep[0].tolist() == pytest.approx([0.125, 1 / 6, 0.125]), "the first slice of a CT is the feet"


def test_a_radiograph_is_letterboxed_by_its_true_proportions() -> None:
    square_mm = np.random.default_rng(0).random((100, 50))
    prepared = preprocess(radiograph(square_mm, mm=(1.0, 2.0)), CXR)[0]
    assert (np.abs(prepared).sum(0) > 0).all(), "100 mm x 100 mm fills the square"
    tall = preprocess(radiograph(square_mm), CXR)[0]
    assert not tall[:, :32].any() and not tall[:, -32:].any() and tall[:, 32:-32].any()
    assert abs(tall[:, 32:-32].mean()) < 1e-3 and abs(tall[:, 32:-32].std() - 1) < 1e-3


def test_a_ct_lands_on_the_same_grid_whatever_its_spacing() -> None:
    """A ball of 60 mm in air, sampled finely and coarsely, makes nearly the same input; outside is air."""

    def ball(spacing_mm: tuple[float, float, float]) -> Volume:
        counts = [round(360 / s) for s in spacing_mm]
        axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(counts, spacing_mm, strict=True)]
        z, y, x = np.meshgrid(*axes, indexing="ij")
        return chest_ct(np.where(z**2 + y**2 + (x - 50) ** 2 < 60**2, 40.0, -1000.0), spacing_mm)

    fine, coarse = preprocess(ball((2.0, 1.5, 1.5)), CT)[0], preprocess(ball((5.0, 3.0, 3.0)), CT)[0]
    assert np.abs(fine - coarse).mean() < 0.01
    assert fine.min() == pytest.approx(-1) and fine.max() == pytest.approx(0.04, abs=1e-3)
    assert fine[:, 0].max() == pytest.approx(-1)
    assert fine[32, 24, 32 + 8] == pytest.approx(0.04, abs=1e-3)


def test_a_long_series_is_centred_on_its_lungs() -> None:
    voxels = np.full((200, 48, 64), 40.0)
    voxels[120:170, 10:38, 10:54] = -850
    prepared = preprocess(chest_ct(voxels, (6.0, 6.0, 6.0)), CT)[0]
    lung = np.flatnonzero((prepared < -0.8).mean(axis=(1, 2)) > 0.2)
    assert (lung.min() + lung.max()) / 2 == pytest.approx(31.5, abs=1)


def test_averages_of_repeated_pixels_are_the_image() -> None:
    fine = area_weights(5, 2.0, 10, 1.0, repeats=True)
    np.testing.assert_allclose(fine, np.repeat(np.eye(5), 2, axis=0))
    interpolated = area_weights(5, 2.0, 10, 1.0)
    assert not np.allclose(interpolated, fine)
    coarse = area_weights(12, 1.0, 4, 3.0)
    np.testing.assert_allclose(area_weights(12, 1.0, 4, 3.0, repeats=True), coarse)


def test_area_weights_keep_the_mean_and_interpolate_linearly() -> None:
    down = area_weights(12, 1.0, 3, 4.0)
    np.testing.assert_allclose(down @ np.arange(12), [1.5, 5.5, 9.5], rtol=1e-6)
    up = area_weights(4, 2.0, 8, 1.0)
    np.testing.assert_allclose((up @ np.arange(4.0))[1:-1], [0.25, 0.75, 1.25, 1.75, 2.25, 2.75], rtol=1e-6)
    assert area_weights(4, 1.0, 8, 1.0).sum(1).tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_unknown_words_are_spelled_and_nothing_is_unreadable() -> None:
    tokenizer = Tokenizer.fitted(["right upper lobe", "left lower lobe"])
    known = tokenizer.tokens("Right lower LOBE", 64)
    assert [tokenizer.vocabulary[i] for i in known] == ["right", "lower", "lobe"]
    spelled = [tokenizer.vocabulary[i] for i in tokenizer.tokens("lobectomy", 64)]
    assert spelled[0] == "lobe" and "".join(p.removeprefix("##") for p in spelled) == "lobectomy"
    assert tokenizer.tokens("", 64) == tokenizer.tokens("§ 肺", 64) == [UNKNOWN]
    assert len(tokenizer.tokens("lobe " * 100, 64)) == 64
    with pytest.raises(ValueError, match="repeats"):
        Tokenizer((*SPECIAL, "a", "a"))


def test_configurations_that_cannot_be_built_are_refused() -> None:
    with pytest.raises(ValueError, match="divide"):
        StemConfig(shape=(100, 128), patch=(8, 8), first_width=8)
    with pytest.raises(ValueError, match="not served"):
        StemConfig(shape=(4096, 4096, 4096), patch=(2, 2, 2), first_width=8)
    with pytest.raises(ValueError, match="too many tokens"):
        stem = StemConfig(shape=(512, 512), patch=(2, 2), first_width=8)
        NetworkConfig(**{**vars(CONFIGS["tiny"]), "stems": {ImageKind.CXR: stem}})
    for config in CONFIGS.values():
        assert NetworkConfig.from_json(config.to_json()) == config


def test_a_region_that_says_little_has_bounded_gradients() -> None:
    head = RegionHead(16, 8, 1).train()
    features = torch.randn(4, 1, 16)
    almost_one = (features[:1] + 1e-4 * torch.randn(4, 1, 16)).requires_grad_()
    _, vectors = head(almost_one, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(vectors[0, 0, 0], almost_one)
    assert gradient.abs().max() < 1 / LEAST_SPREAD * 10
    assert vectors[:, 0, -1].min() > 0.99  # next to nothing is said: all are near the constant


def test_half_precision_learns_the_same_from_two_planes() -> None:
    """oneDNN's gradient of two planes was read from memory that nothing had written."""
    torch.manual_seed(0)
    stage, x = ResidualStage(3, 8, 16, 1), torch.randn(4, 8, 2, 4, 4)
    towards = torch.randn(4, 16, 2, 4, 4)

    def gradient(half: bool) -> torch.Tensor:
        stage.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = stage(x)
        torch.autograd.backward([out], [towards.to(out.dtype)])
        assert stage.second.weight.grad is not None
        return stage.second.weight.grad.clone()

    exact = gradient(half=False)
    for _ in range(20):
        for size in (2**n for n in range(8, 20)):  # what is freed is what the next gradient may lie in
            freed = [torch.full((size,), float("nan")) for _ in range(8)]
            del freed
        assert float((gradient(half=True) - exact).norm()) < 0.05 * float(exact.norm())


def test_the_head_is_exact_under_autocast() -> None:
    head = RegionHead(16, 8, 1).eval()
    features = torch.randn(4, 1, 16)
    exact = head(features, torch.tensor([0]))[1]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(head(features, torch.tensor([0]))[1], exact)


def test_the_question_itself_is_no_part_of_its_answer() -> None:
    network = seeded_bundle(ImageKind.CXR).network
    assert isinstance(network, RadirNetwork)
    for block in network.decoder:
        for last in ("attention.to_out.weight", "attention.to_out.bias", "feed.2.weight", "feed.2.bias"):
            torch.nn.init.zeros_(block.get_parameter(last))
    width = network.config.width
    assert not network.decode(torch.randn(2, 5, width), torch.randn(3, width)).any()
