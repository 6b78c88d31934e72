"""A network that answers features of places, as a map or as tokens, is served with a vector for each region."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.experiments import pooled_features
from radir_pacs import anatomy
from radir_pacs.cli import main
from radir_pacs.encode import CONFIGS, Bundle, Encoder, Preprocessing, default_bundles
from radir_pacs.encode.config import VIEWS
from radir_pacs.encode.external import ExternalNetwork
from radir_pacs.encode.import_model import ImportRequest, import_model
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.encode.onnx_regions import Features, by_region
from radir_pacs.encode.places import place
from radir_pacs.errors import BundleRefused
from radir_pacs.types import F32, ImageKind
from tests.onnx_material import SHAPE
from tests.services import need_module
from tests.unit.test_network import picture

need_module("onnx")
onnxruntime = need_module("onnxruntime")
KEYS = ("chest", "right_upper_lobe", "left_pleura", "heart")
WIDTH = 6
GRID = (8, 8)


class Encoder2D(nn.Module):
    """Random weights: a map of features, or its tokens behind ``prefix`` others, or one vector."""

    def __init__(self, layout: str, prefix: int = 0, view: bool = False) -> None:
        super().__init__()
        self.layout, self.view = layout, view
        self.stem = nn.Conv2d(1, WIDTH, 16, stride=16)
        self.offset = nn.Buffer(torch.zeros(1))
        self.prefix = nn.Parameter(torch.randn(1, prefix, WIDTH) + 50)  # would drown the rest if it were not left out

    def forward(self, image: Tensor, view: Tensor | None = None) -> Tensor:
        features: Tensor = self.stem(image).tanh() + self.offset
        if view is not None:
            features = features + view.float()[:, None, None, None]
        if self.layout == "map":
            return features
        if self.layout == "vector":
            return features.mean((2, 3))
        return torch.cat([self.prefix, features.flatten(2).transpose(1, 2)], dim=1)


def encoder(layout: str, prefix: int = 0, view: bool = False) -> Encoder2D:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Encoder2D(layout, prefix, view).eval()


def exported(path: Path, network: Encoder2D, *, opset: int = 18, weights_as_inputs: bool = False) -> Encoder2D:
    given = (torch.zeros(1, 1, *SHAPE), torch.zeros(1, dtype=torch.int64))[: 1 + network.view]
    torch.onnx.export(
        network, given, path, dynamo=False, opset_version=opset, keep_initializers_as_inputs=weights_as_inputs
    )
    return network


def request(**changes: Any) -> ImportRequest:
    values: dict[str, Any] = {
        "name": "toy",
        "kind": ImageKind.CXR,
        "preprocessing": Preprocessing.of(CONFIGS["tiny"], ImageKind.CXR),
        "regions": [anatomy.region(key) for key in KEYS],
        "training": {"data": "none", "licence": "CC0"},
    }
    return ImportRequest(**{**values, **changes})


def expected(network: Encoder2D, image: Tensor, *, lateral: bool = False) -> F32:
    """Unit vectors [regions, 2 WIDTH]: mean and spread of the features where each region lies."""
    with torch.no_grad():
        cells = network.stem(image).tanh().flatten(2)[0].T.numpy() + (VIEWS.index("lateral") if network.view else 0) * (
            lateral
        )
    share = np.stack([np.full(64, 1 / 64) if lateral else place(key, GRID) for key in KEYS])
    mean = share @ cells
    rows = np.concatenate([mean, np.sqrt(np.maximum(share @ cells**2 - mean**2, 0))], axis=1)
    unit: F32 = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


LAYOUTS = [("map", 0, Features.MAP), ("tokens", 0, Features.TOKENS), ("tokens", 1, Features.TOKENS)]


@pytest.mark.parametrize(("layout", "prefix", "features"), [*LAYOUTS, ("tokens", 5, Features.TOKENS)])
def test_each_region_gets_a_vector_of_its_own(layout: str, prefix: int, features: Features, tmp_path: Path) -> None:
    network = exported(tmp_path / "m.onnx", encoder(layout, prefix))
    made = import_model(tmp_path / "m.onnx", request(features=features, prefix_tokens=prefix))
    bundle = made.save(tmp_path / "model")
    assert isinstance(bundle.network, ExternalNetwork) and bundle.network.config.embedding_dim == 2 * WIDTH
    image = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1))
    rows = torch.arange(len(KEYS))
    for view in (0, VIEWS.index("lateral")):
        found = bundle.network(image, torch.tensor([view]), ImageKind.CXR, bundle.queries(), rows).vectors[0].numpy()
        assert np.allclose(found, expected(network, image, lateral=view > 0), atol=1e-4)
        apart = 1 - (found @ found.T)[np.triu_indices(len(KEYS), 1)]
        assert (apart.min() > 1e-3) if view == 0 else (apart.max() < 1e-5), "no region lies there on a lateral view"
    encoding = Encoder(Bundle.load(tmp_path / "model"), device="cpu", threads=1).encode(picture(ImageKind.CXR))
    assert encoding.regions == KEYS and encoding.vectors.shape == (len(KEYS), 2 * WIDTH)


def test_one_vector_is_served_as_before(tmp_path: Path) -> None:
    exported(tmp_path / "m.onnx", encoder("vector"))
    bundle = import_model(tmp_path / "m.onnx", request(regions=[anatomy.region("chest")])).save(tmp_path / "model")
    assert bundle.network.config.vector_dim == WIDTH and [region.key for region in bundle.regions] == ["chest"]


def test_a_model_that_asks_for_the_view_still_gets_it(tmp_path: Path) -> None:
    network = exported(tmp_path / "m.onnx", encoder("map", view=True))
    bundle = import_model(tmp_path / "m.onnx", request(features=Features.MAP)).save(tmp_path / "model")
    image = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(3))
    rows = torch.arange(len(KEYS))
    views = torch.tensor([VIEWS.index("lateral")])
    found = bundle.network(image, views, ImageKind.CXR, bundle.queries(), rows).vectors[0].numpy()
    assert np.allclose(found, expected(network, image, lateral=True), atol=1e-4)


def answered(path: Path, network: Encoder2D, features: Features, prefix: int = 0) -> tuple[F32, F32]:
    """What the imported file answers of an image, and what it should."""
    bundle = import_model(path, request(features=features, prefix_tokens=prefix))
    image = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(6))
    rows, view = torch.arange(len(KEYS)), torch.tensor([0])
    found: F32 = bundle.network(image, view, ImageKind.CXR, bundle.queries(), rows).vectors[0].numpy()
    return found, expected(network, image)


@pytest.mark.parametrize("view", [False, True])
def test_weights_that_an_older_exporter_lists_as_inputs_are_not_the_view(view: bool, tmp_path: Path) -> None:
    network = exported(tmp_path / "m.onnx", encoder("map", view=view), weights_as_inputs=True)
    found, wanted = answered(tmp_path / "m.onnx", network, Features.MAP)
    assert np.allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_tokens_before_the_grid_are_not_looked_at(value: float, tmp_path: Path) -> None:
    network = encoder("tokens", 2)
    with torch.no_grad():
        network.prefix.fill_(value)
    exported(tmp_path / "m.onnx", network)
    found, wanted = answered(tmp_path / "m.onnx", network, Features.TOKENS, 2)
    assert np.allclose(found, wanted, atol=1e-4)


def test_the_spread_of_features_far_from_zero_is_not_lost(tmp_path: Path) -> None:
    network = encoder("map")
    network.offset.fill_(1000.0)
    exported(tmp_path / "m.onnx", network)
    model = by_region((tmp_path / "m.onnx").read_bytes(), Features.MAP, prefix=0, shape=SHAPE, keys=KEYS)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    image = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(6))
    image_name, view_name = (one.name for one in session.get_inputs())
    (found,) = session.run(None, {image_name: image.numpy(), view_name: np.zeros(1, np.int64)})
    with torch.no_grad():
        cells = network(image).double().flatten(2)[0].T.numpy()
    share = np.stack([place(key, GRID) for key in KEYS]).astype(np.float64)
    mean = share @ cells
    spread = np.sqrt(np.einsum("rn,rnc->rc", share, (cells[None] - mean[:, None]) ** 2))
    assert np.allclose(found[0, :, WIDTH:], spread, rtol=1e-2)
    assert np.allclose(found[0, :, :WIDTH], mean, rtol=1e-5)


def test_a_program_is_taken_too(tmp_path: Path) -> None:
    network = exported(tmp_path / "m.onnx", encoder("map"))
    image = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(2))
    torch.export.save(torch.export.export(network, (image,)), tmp_path / "m.pt2")
    bundle = import_model(tmp_path / "m.pt2", request(features=Features.MAP))
    rows = torch.arange(len(KEYS))
    found = bundle.network(image, torch.tensor([0]), ImageKind.CXR, bundle.queries(), rows).vectors[0].numpy()
    assert np.allclose(found, expected(network, image), atol=1e-4)


@pytest.mark.parametrize(
    ("layout", "prefix", "changes", "why"),
    [
        ("tokens", 1, {"features": Features.TOKENS}, "65 tokens less 0 are no grid"),
        ("tokens", 0, {"features": Features.MAP}, r"not a map"),
        ("map", 0, {"features": Features.TOKENS}, r"not tokens"),
        ("map", 0, {"features": Features.MAP, "prefix_tokens": 1}, "only tokens"),
        ("map", 0, {"features": Features.MAP, "regions": [anatomy.region("chest")]}, "--regions names"),
        ("map", 0, {"features": Features.MAP, "prefix_tokens": -1}, "number of tokens"),
        ("map", 0, {}, r"answers \[1, 6, 8, 8\]"),
    ],
)
def test_what_does_not_fit_is_refused_with_advice(
    layout: str, prefix: int, changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    exported(tmp_path / "m.onnx", encoder(layout, prefix))
    with pytest.raises(BundleRefused, match=why):
        import_model(tmp_path / "m.onnx", request(**changes))


def test_features_of_a_volume_are_refused(tmp_path: Path) -> None:
    exported(tmp_path / "m.onnx", encoder("map"))
    ct = Preprocessing.of(CONFIGS["tiny"], ImageKind.CT)
    with pytest.raises(BundleRefused, match="of radiographs"):
        import_model(tmp_path / "m.onnx", request(features=Features.MAP, kind=ImageKind.CT, preprocessing=ct))


def test_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(tmp_path / "m.onnx", encoder("tokens", 1))
    flags = ["--kind", "cxr", "--name", "toy", "--out", str(tmp_path / "model"), "--regions", ",".join(KEYS), "--json"]
    command = ["models", "import", str(tmp_path / "m.onnx"), "--features", "tokens", "--prefix-tokens", "1", *flags]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["features"] == "tokens"
    assert [region.key for region in Bundle.load(tmp_path / "model").regions] == list(KEYS)


def test_an_efficientnet_exported_here_gives_each_region_what_the_starter_sees_there(tmp_path: Path) -> None:
    starter = Bundle.load(default_bundles()[ImageKind.CXR])
    assert isinstance(starter.network, RadirNetwork) and starter.network.appearance is not None
    keys = ("chest", *starter.network.appearance.keys[:4])
    bundle = pooled_features.imported(starter, keys, tmp_path)
    image = torch.randn(1, 1, *starter.preprocessing.shape, generator=torch.Generator().manual_seed(4))
    rows, view = torch.arange(len(keys)), torch.tensor([0])
    found = bundle.network(image, view, ImageKind.CXR, bundle.queries(), rows).vectors[0, 1:].numpy()
    seen = starter.network.appearance.features(image, torch.tensor([False]))[0, :4].numpy()
    assert np.allclose(found, seen / np.linalg.norm(seen, axis=1, keepdims=True), atol=1e-4)
