"""Programs from elsewhere are opened, tried and read place by place, and their features are computed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radir_pacs.encode import Preprocessing, trial
from radir_pacs.encode.config import VIEWS
from radir_pacs.encode.import_program import ProgramRequest, import_program
from radir_pacs.encode.onnx_regions import Features, by_place
from radir_pacs.encode.program import ProgramStem
from radir_pacs.errors import BadInput, BundleRefused
from radir_pacs.types import ImageKind
from radir_training.data.program_features import spread, with_features
from radir_training.evaluation.embeddings import encoded
from radir_training.learning.recipe import OURS
from radir_training.learning.train import train
from tests.services import need_module
from tests.training.toy import TOY_CT, toy_ct_set, toy_set

from .program_material import (
    CHANNELS,
    GRID,
    SIDE,
    STRIDE,
    exported,
    prepared,
    program_of,
    reading,
    request,
)

need_module("onnx")


LAYOUTS = [
    ("map", 0, Features.MAP),  # a convolutional network
    ("tokens", 0, Features.TOKENS),
    ("tokens", 1, Features.TOKENS),  # RAD-DINO, BiomedCLIP: a class token first
    ("tokens", 5, Features.TOKENS),  # and four registers
]


@pytest.mark.parametrize(("layout", "prefix", "features"), LAYOUTS)
def test_each_layout_answers_its_places_in_order(layout: str, prefix: int, features: Features, tmp_path: Path) -> None:
    network = exported(tmp_path / "m.onnx", layout, prefix)
    program = program_of(tmp_path / "m.onnx", features, prefix)
    assert program.config.grid == GRID
    stem = ProgramStem(program.config, 48, program.content)
    image = torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = (network.stem(image).tanh() * 3 + 7).flatten(2)[0].T
        assert np.allclose(stem.features(image[0].numpy(), 0), expected.numpy(), atol=1e-5)
        alike = stem(expected[None], torch.tensor([0]))
        assert torch.allclose(stem(image, torch.tensor([0])), alike, atol=1e-4), "features stand for their image"
        other = stem.features(-image[0].numpy(), 0)
    assert np.abs(other - expected.numpy()).max() > 0.1


def test_a_volume_has_places_along_three_axes(tmp_path: Path) -> None:
    shape = TOY_CT.stems[ImageKind.CT].shape
    exported(tmp_path / "m.onnx", axes=3)
    how = Preprocessing.of(TOY_CT, ImageKind.CT)
    program = import_program(tmp_path / "m.onnx", ProgramRequest(preprocessing=how, features=Features.MAP))
    config = reading(program, TOY_CT, ImageKind.CT)
    assert program.config.grid == tuple(n // STRIDE for n in shape) and Preprocessing.of(config, ImageKind.CT) == how
    data = with_features(toy_ct_set(32, 0), ProgramStem(program.config, 48, program.content), tmp_path)
    bundle = train(config, data, replace(OURS, epochs=1, batch=16, augment=False), program=program.content)
    found = encoded(bundle.save(tmp_path / "model"), data)
    assert found.image.shape == (32, 48) and np.ptp(found.image @ found.image[0]) > 0.01


def test_tokens_of_a_volume_that_are_no_cubes_are_refused(tmp_path: Path) -> None:
    exported(tmp_path / "m.onnx", "tokens", axes=3)
    content = (tmp_path / "m.onnx").read_bytes()
    assert by_place(content, Features.TOKENS, prefix=0, shape=(8, 32, 32))[1] == (2, 8, 8)
    with pytest.raises(ValueError, match=r"128 tokens less 1 are no grid .* no cubes"):
        by_place(content, Features.TOKENS, prefix=1, shape=(8, 32, 32))


@pytest.mark.parametrize(
    ("layout", "prefix", "features", "said"),
    [
        ("tokens", 1, Features.TOKENS, "65 tokens less 0 are no grid"),
        ("map", 0, Features.TOKENS, "not tokens"),
        ("tokens", 1, Features.MAP, "not a map"),
    ],
)
def test_another_layout_than_is_said_is_refused(
    layout: str, prefix: int, features: Features, said: str, tmp_path: Path
) -> None:
    exported(tmp_path / "m.onnx", layout, prefix)
    with pytest.raises(ValueError, match=said):
        program_of(tmp_path / "m.onnx", features)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": Features.VECTORS}, "features of places"),
        ({"prefix_tokens": -1}, "number of tokens"),
        ({"features": Features.TOKENS}, "m.onnx: the model answers .* not tokens"),
        ({"slowest_s": 1e-9}, "more than 1e-09 s"),
        ({"preprocessing": prepared((36, 32))}, "fails on an image|takes images of"),
    ],
)
def test_the_child_that_opens_the_file_says_what_is_wrong(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    exported(tmp_path / "m.onnx")
    with pytest.raises(BundleRefused, match=said):
        import_program(tmp_path / "m.onnx", request(**changes))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (np.nan, "NaN or infinity"),
        (1e6, "normalise them in its graph"),
        (0.0, "every image alike"),
    ],
)
def test_features_that_say_nothing_are_refused(answer: float, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "OnnxFile", lambda content, shape: ConstantFile(answer))
    task = {"shape": (SIDE, SIDE), "view": 0, "places": 64, "slowest_s": 5.0, "threads": 1}
    with pytest.raises(BundleRefused, match=said):
        trial.measure_features(b"", task)


class ConstantFile:
    """Stands in for a file that answers one number, whatever it is shown."""

    def __init__(self, answer: float) -> None:
        self.answer = answer

    def use_threads(self, threads: int) -> None: ...

    def run(self, image: Any, view: int) -> Any:
        return np.full((1, 64, CHANNELS), self.answer, np.float32)


def test_features_are_computed_once_and_go_on_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(tmp_path / "m.onnx", view=True)
    program = program_of(tmp_path / "m.onnx")
    stem, data, ran = ProgramStem(program.config, 48, program.content), toy_set(8, seed=0), list[int]()
    data.views[3:] = VIEWS.index("lateral")
    features = stem.features

    def counted(image: Any, view: int) -> Any:
        ran.append(view)
        if len(ran) == 6:
            raise KeyboardInterrupt
        return features(image, view)

    monkeypatch.setattr(stem, "features", counted)
    with pytest.raises(KeyboardInterrupt):
        with_features(data, stem, tmp_path / "cache")
    done: list[int] = []
    found = with_features(data, stem, tmp_path / "cache", done.append)
    assert len(ran) == 6 + 3 and done == list(range(1, 9)) and ran[2:5] == [0, 1, 1]
    assert found.features and found.images.shape == (8, 64, CHANNELS) and found.reports == data.reports
    again = with_features(data.subset(np.array([7, 0])), stem, tmp_path / "cache")
    assert len(ran) == 9 and np.array_equal(again.images, found.images[[7, 0]])
    kept = sorted((tmp_path / "cache").rglob("*.npy"))
    assert len(kept) == 8 and {path.stat().st_mode & 0o777 for path in kept} == {0o600}, "they tell of patients"
    kept[0].write_bytes(kept[0].read_bytes()[:-40])
    repaired = with_features(data, stem, tmp_path / "cache")
    assert len(ran) == 10 and np.array_equal(repaired.images, found.images)
    mean, deviation = spread(found)
    flat = found.images.astype(np.float64).reshape(-1, CHANNELS)
    assert np.allclose(mean, flat.mean(0), atol=1e-4) and np.allclose(deviation, flat.std(0), atol=1e-4)


def test_features_that_half_precision_cannot_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(tmp_path / "m.onnx")
    program = program_of(tmp_path / "m.onnx")
    stem = ProgramStem(program.config, 48, program.content)
    monkeypatch.setattr(stem, "features", lambda image, view: np.full((64, CHANNELS), 1e6, np.float32))
    with pytest.raises(BadInput, match="half precision"):
        with_features(toy_set(1, seed=0), stem, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.npy"))
