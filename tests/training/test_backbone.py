"""What a frozen backbone adds to a network's vectors: where it looks, how it is measured, what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from radir_pacs.cli import main
from radir_pacs.encode import Bundle, NetworkConfig
from radir_pacs.encode.appearance import Appearance, reduced
from radir_pacs.encode.config import AppearanceConfig
from radir_pacs.encode.efficientnet import Convolution, EfficientNetLite, InvertedBottleneck
from radir_pacs.encode.encoder import Encoder
from radir_pacs.encode.inputs import EncoderInput
from radir_pacs.encode.network import RadirNetwork, view_index
from radir_pacs.encode.places import place
from radir_pacs.encode.tokens import encoder_id, token_bytes
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind, KeptTokens, View
from radir_training.data.studies import StudySet
from radir_training.learning.backbone import EPSILON, published, with_backbone, without_backbone
from radir_training.learning.recipe import OURS
from radir_training.learning.train import train
from tests.model_material import seeded_bundle
from tests.training.toy import TOY, toy_set

NAME, SIDE = "efficientnet-lite0", 256
CONFIG = AppearanceConfig(backbone=NAME, shape=(SIDE, SIDE), dim=4, share=0.4)
STRIPED = "right_lung"


def named(prefix: str, norm: str, layer: Convolution, rng: torch.Generator) -> dict[str, Tensor]:
    """A convolution without its batch norm folded in, as the published files hold it."""
    width = layer.conv.weight.shape[0]
    return {
        f"{prefix}.weight": torch.randn(layer.conv.weight.shape, generator=rng) * 0.1,
        f"{norm}.weight": torch.rand(width, generator=rng) + 0.5,
        f"{norm}.bias": torch.randn(width, generator=rng) * 0.1,
        f"{norm}.running_mean": torch.randn(width, generator=rng) * 0.1,
        f"{norm}.running_var": torch.rand(width, generator=rng) + 0.5,
    }


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    rng, model = torch.Generator().manual_seed(0), EfficientNetLite(NAME)
    found = named("_conv_stem", "_bn0", model.stem, rng)
    for number, block in enumerate(model.blocks):
        assert isinstance(block, InvertedBottleneck)
        within = f"_blocks.{number}."
        if block.expand is not None:
            found |= named(f"{within}_expand_conv", f"{within}_bn0", block.expand, rng)
        found |= named(f"{within}_depthwise_conv", f"{within}_bn1", block.depthwise, rng)
        found |= named(f"{within}_project_conv", f"{within}_bn2", block.project, rng)
    return found


@pytest.fixture(scope="module")
def weights(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def material() -> StudySet:
    """Noise; half of the images have stripes where the right lung lies, the others below all regions."""
    rng = np.random.default_rng(0)
    images = rng.normal(0, 0.3, (20, 1, SIDE, SIDE))
    where = np.kron(place(STRIPED, (16, 16)).reshape(16, 16) > 0, np.ones((16, 16)))
    stripes = np.sign(np.sin(np.arange(SIDE) * 1.5))
    images[::2, 0] += where * stripes
    images[1::2, 0, -16:] += stripes  # so that the range of all is the same
    return StudySet(
        kind=ImageKind.CXR,
        images=images.astype(np.float16),
        views=np.zeros(20, np.int64),
        patients=np.arange(20),
        reports=("",) * 20,
        said=({},) * 20,
    )


@pytest.fixture(scope="module")
def start() -> Bundle:
    return seeded_bundle(ImageKind.CXR)


@pytest.fixture(scope="module")
def grown(start: Bundle, weights: Path, material: StudySet, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return with_backbone(start, CONFIG, published(NAME, weights), material).save(tmp_path_factory.mktemp("b") / "grown")


def test_kept_tokens_answer_as_the_images_did(grown: Bundle, start: Bundle, material: StudySet) -> None:
    assert encoder_id(grown) not in (None, encoder_id(start))
    encoder = Encoder(grown, device="cpu", keep_tokens=True)
    for view in (View.FRONTAL, View.LATERAL):
        one = EncoderInput(
            image=material.images[0].astype(np.float32),
            kind=ImageKind.CXR,
            view=view,
            study_uid="1.2",
            series_uid="1.2.3",
            sop_uid="1.2.3.4",
            slices=None,
            warnings=(),
        )
        [encoding] = encoder.encode_batch([one])
        assert not isinstance(encoding, Exception) and encoding.tokens is not None
        assert encoding.tokens.values.nbytes == token_bytes(grown) > token_bytes(start)
        kept = KeptTokens(study_uid="1.2", series_uid="1.2.3", sop_uid="1.2.3.4", revision=1, tokens=encoding.tokens)
        [again] = encoder.encode_batch([kept])
        assert not isinstance(again, Exception) and again.regions == encoding.regions
        np.testing.assert_allclose(again.vectors, encoding.vectors, atol=2e-3)  # tokens are in half precision


@pytest.mark.parametrize("encoded", [True, False])
def test_a_network_with_a_backbone_is_trained_further(encoded: bool, grown: Bundle, material: StudySet) -> None:
    """From pixels and from kept tokens, by our recipe with all its losses: a report says nothing of appearance."""
    network, written = grown.network, toy_set(len(material), 1)
    assert isinstance(network, RadirNetwork)
    data = replace(material, reports=written.reports, said=written.said)
    if encoded:
        images = torch.from_numpy(data.images.astype(np.float32))
        with torch.inference_mode():
            tokens = network.kept_tokens(images, torch.from_numpy(data.views), ImageKind.CXR)
        data = replace(data, images=tokens.half().numpy(), encoded=True)
    recipe = replace(OURS, epochs=1, batch=10, muon=False, augment=False)
    trained = train(network.config, data, recipe, start=grown).network
    before, after = network.state_dict(), trained.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"decoder", "head", "report"} <= changed and "appearance" not in changed


def test_a_backbone_may_count_in_some_regions_only(
    start: Bundle, weights: Path, material: StudySet, tmp_path: Path
) -> None:
    some = with_backbone(start, replace(CONFIG, regions=(STRIPED, "left_lung")), published(NAME, weights), material)
    some = some.save(tmp_path / "some")
    own = start.network.config
    assert isinstance(own, NetworkConfig)
    small = reduced(torch.from_numpy(material.images.astype(np.float32)), own.stems[ImageKind.CXR].shape)
    before, after = vectors(start, small.numpy()), vectors(some, material.images)
    counted = np.isin([region.key for region in start.regions], (STRIPED, "left_lung"))
    share = np.where(counted, CONFIG.share, 0)[:, None]
    np.testing.assert_allclose(after[..., : own.embedding_dim], before * (1 - share) ** 0.5, atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(after[..., own.embedding_dim :], axis=-1)[:, counted], 0.4**0.5, atol=1e-5
    )
    assert not after[:, ~counted, own.embedding_dim :].any()
    with pytest.raises(BadInput, match="does not know gizzard"):
        with_backbone(start, replace(CONFIG, regions=("gizzard",)), published(NAME, weights), material)


def vectors(bundle: Bundle, images: np.ndarray, view: View = View.FRONTAL) -> np.ndarray:
    views = torch.full((len(images),), view_index(ImageKind.CXR, view))
    with torch.inference_mode():
        out = bundle.network(
            torch.from_numpy(images.astype(np.float32)),
            views,
            ImageKind.CXR,
            bundle.queries(),
            torch.arange(len(bundle.regions)),
        )
    return np.asarray(out.vectors)


def test_batch_norms_are_folded_into_the_convolutions(state: dict[str, Tensor], weights: Path) -> None:
    image = torch.randn(2, 3, 32, 32)
    norm = {name: state[f"_bn0.{name}"] for name in ("running_mean", "running_var", "weight", "bias")}
    padded = functional.pad(image, [0, 1, 0, 1])
    expected = functional.relu6(
        functional.batch_norm(
            functional.conv2d(padded, state["_conv_stem.weight"], stride=2),
            norm["running_mean"],
            norm["running_var"],
            norm["weight"],
            norm["bias"],
            eps=EPSILON,
        )
    )
    torch.testing.assert_close(published(NAME, weights).stem(image), expected)


@pytest.mark.parametrize("name", ["efficientnet-lite1", "efficientnet-lite2"])
def test_weights_of_another_backbone_are_refused(name: str, weights: Path) -> None:
    with pytest.raises(BadInput, match="does not hold"):
        published(name, weights)


def test_a_pickle_of_anything_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save(Path("x"), path)
    with pytest.raises(BadInput, match="does not hold"):
        published(NAME, path)


def test_the_networks_own_answer_stays(start: Bundle, grown: Bundle, material: StudySet) -> None:
    own = start.network.config
    assert isinstance(own, NetworkConfig) and isinstance(grown.network, RadirNetwork)
    small = reduced(torch.from_numpy(material.images[:4].astype(np.float32)), own.stems[ImageKind.CXR].shape)
    before, after = vectors(start, small.numpy()), vectors(grown, material.images[:4])
    assert after.shape[-1] == own.embedding_dim + CONFIG.dim == grown.network.config.vector_dim
    np.testing.assert_allclose(after[..., : own.embedding_dim] / (1 - CONFIG.share) ** 0.5, before, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(after, axis=-1), 1, atol=1e-5)
    assert grown.metrics == {} and grown.training["backbone"]["measured_by"] == len(material)
    assert grown.network.report_vectors(torch.tensor([[1, 2]])).shape == (1, grown.network.config.vector_dim)


def test_it_looks_where_the_region_lies(grown: Bundle, material: StudySet) -> None:
    seen = vectors(grown, material.images)[..., -CONFIG.dim :]
    striped = np.arange(len(material)) % 2 == 0

    def apart(key: str) -> float:
        row = keys.index(key)
        cosines = seen[:, row] @ seen[:, row].T
        return float(cosines[np.ix_(striped, striped)].mean() - cosines[np.ix_(striped, ~striped)].mean())

    keys = [region.key for region in grown.regions]
    assert apart(STRIPED) > 2 * abs(apart("left_lung"))


def test_a_lateral_view_is_seen_as_a_whole(grown: Bundle, material: StudySet) -> None:
    assert isinstance(grown.network, RadirNetwork) and grown.network.appearance is not None
    images = torch.from_numpy(material.images[:1].astype(np.float32))
    frontal, lateral = (grown.network.appearance.features(images, torch.tensor([side])) for side in (False, True))
    torch.testing.assert_close(lateral[0, 0], lateral[0, 1])
    assert not torch.allclose(frontal[0, 0], frontal[0, 1])


def test_what_a_backbone_adds_is_measured_anew(
    start: Bundle, grown: Bundle, weights: Path, material: StudySet, tmp_path: Path
) -> None:
    assert isinstance(grown.network, RadirNetwork) and grown.network.appearance is not None
    half = material.subset(np.arange(16))
    again = with_backbone(grown, CONFIG, grown.network.appearance.backbone, half).save(tmp_path / "again")
    fresh = with_backbone(start, CONFIG, published(NAME, weights), half).save(tmp_path / "fresh")
    np.testing.assert_allclose(vectors(again, half.images), vectors(fresh, half.images), atol=1e-5)
    assert again.manifest["weights_sha256"] != grown.manifest["weights_sha256"]
    assert without_backbone(again).save(tmp_path / "before").model_id == start.save(tmp_path / "start").model_id


def test_what_cannot_have_a_backbone_is_refused(start: Bundle, weights: Path, material: StudySet) -> None:
    backbone = published(NAME, weights)
    with pytest.raises(BadInput, match="network of radiographs"):
        with_backbone(seeded_bundle(ImageKind.CT), CONFIG, backbone, material)
    with pytest.raises(BadInput, match="whole multiple"):
        with_backbone(start, replace(CONFIG, shape=(SIDE, 2 * SIDE)), backbone, material)
    with pytest.raises(BadInput, match="too few"):
        with_backbone(start, CONFIG, backbone, material.subset(np.arange(9)))


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "resnet"},
        {"shape": (100, 100)},
        {"dim": 1},
        {"share": 1.0},
        {"shape": (16, 16, 16)},
        {"regions": ["heart", "heart"]},
    ],
)
def test_a_manifest_cannot_ask_for_nonsense(change: dict[str, object]) -> None:
    written = {**replace(TOY, appearance=replace(CONFIG, shape=(64, 64))).to_json()}
    assert NetworkConfig.from_json(written).appearance == replace(CONFIG, shape=(64, 64))
    with pytest.raises(ValueError):
        NetworkConfig.from_json({**written, "appearance": {**written["appearance"], **change}})


def test_the_command_says_what_is_wrong_and_leaves_what_is_there(
    tmp_path: Path, start: Bundle, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start.save(tmp_path / "start")
    told = ["backbone", str(tmp_path / "start"), "--weights", str(weights), "--data", str(tmp_path), "--name", NAME]
    assert main([*told, "--out", str(tmp_path / "start")]) != 0
    assert "name another folder" in capsys.readouterr().err
    assert main([*told, "--share", "2", "--out", str(tmp_path / "new")]) != 0
    assert "share" in capsys.readouterr().err and not (tmp_path / "new").exists()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_images_are_seen_alike_however_many_come_at_once(count: int) -> None:
    torch.manual_seed(0)
    seen = Appearance(replace(CONFIG, regions=(STRIPED,)), [STRIPED]).eval()
    images, lateral = torch.rand(count, 1, SIDE, SIDE), torch.zeros(count, dtype=torch.bool)
    together = seen.features(images, lateral)
    alone = torch.cat([seen.features(images[row : row + 1], lateral[:1]) for row in range(count)])
    assert together.shape[0] == count
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(8, 8), (9, 7), (7, 12), (5, 5)])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
def test_a_convolution_pads_as_tensorflow_does(shape: tuple[int, int], kernel: int, stride: int) -> None:
    """The larger half of an odd margin lies below and to the right."""
    torch.manual_seed(0)
    layer, image = Convolution(2, 3, kernel, stride=stride), torch.rand(1, 2, *shape)
    sides = []
    for n in reversed(shape):
        margin = max(0, (-(-n // stride) - 1) * stride + kernel - n)
        sides += [margin // 2, margin - margin // 2]
    padded = functional.pad(image, sides)
    expected = functional.conv2d(padded, layer.conv.weight, layer.conv.bias, stride)
    torch.testing.assert_close(layer(image), functional.relu6(expected))
