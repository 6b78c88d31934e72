"""``radir train --backbone``: a model from elsewhere that answers features of places, read by a decoder of ours."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from radir_pacs.encode import CONFIGS, Bundle, Encoder, Preprocessing, trial
from radir_pacs.encode.config import NetworkConfig, ProgramConfig
from radir_pacs.encode.folder import CARD, MANIFEST, ONNX, WEIGHTS
from radir_pacs.encode.import_program import Program, ProgramRequest, import_program
from radir_pacs.encode.network import VIEWS, RadirNetwork
from radir_pacs.encode.onnx_regions import Features, by_place
from radir_pacs.encode.program import ProgramStem
from radir_pacs.encode.words import Asked
from radir_pacs.errors import BadInput, BundleRefused
from radir_pacs.models.bundles import copy_bundle, is_intact
from radir_pacs.types import ImageKind, KeptTokens
from radir_training.commands import train as command
from radir_training.data.program_features import feature_bytes, spread, with_features
from radir_training.evaluation.embeddings import encoded
from radir_training.learning import memory
from radir_training.learning.batch_sharding import Ranks
from radir_training.learning.recipe import OURS
from radir_training.learning.train import train
from radir_training.runs import session
from tests.services import need_module
from tests.training.toy import TOY, TOY_CT, toy_ct_set, toy_set
from tests.unit.test_network import picture

need_module("onnx")
SIDE, STRIDE, CHANNELS = 32, 4, 6
GRID = (SIDE // STRIDE, SIDE // STRIDE)


class Dense(nn.Module):
    """Random weights in the layout of a known model: ``prefix`` 1 as RAD-DINO's class token, 5 with four registers."""

    def __init__(self, layout: str, prefix: int = 0, axes: int = 2, view: bool = False) -> None:
        super().__init__()
        self.layout, self.view = layout, view
        self.stem = (nn.Conv2d if axes == 2 else nn.Conv3d)(1, CHANNELS, STRIDE, stride=STRIDE)
        self.prefix = nn.Parameter(torch.randn(1, prefix, CHANNELS) + 50)

    def forward(self, image: Tensor, view: Tensor | None = None) -> Tensor:
        found: Tensor = self.stem(image).tanh() * 3 + 7
        if view is not None:
            found = found + view.float()[:, None, None, None]
        if self.layout == "map":
            return found
        return torch.cat([self.prefix, found.flatten(2).transpose(1, 2)], dim=1)


def exported(path: Path, layout: str = "map", prefix: int = 0, axes: int = 2, view: bool = False) -> Dense:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = Dense(layout, prefix, axes, view).eval()
    shape = (SIDE, SIDE) if axes == 2 else TOY_CT.stems[ImageKind.CT].shape
    given = (torch.zeros(1, 1, *shape), torch.zeros(1, dtype=torch.int64))[: 1 + view]
    torch.onnx.export(network, given, path, dynamo=False, opset_version=18)
    return network


def prepared(shape: tuple[int, ...] = (SIDE, SIDE)) -> Preprocessing:
    return Preprocessing(kind=ImageKind.CXR, shape=shape, clip=(0.5, 99.5))


def request(**changes: Any) -> ProgramRequest:
    values: dict[str, Any] = {"preprocessing": prepared(), "features": Features.MAP}
    return ProgramRequest(**{**values, **changes})


def program_of(path: Path, features: Features = Features.MAP, prefix: int = 0) -> Program:
    """As ``import_program``, without its child, which takes seconds."""
    content, grid = by_place(path.read_bytes(), features, prefix=prefix, shape=(SIDE, SIDE))
    sha256 = hashlib.sha256(content).hexdigest()
    config = ProgramConfig(shape=(SIDE, SIDE), clip=(0.5, 99.5), grid=grid, channels=CHANNELS, sha256=sha256)
    return Program(config=config, content=content, source="onnx", seconds_per_image=0.01)


def reading(program: Program, config: NetworkConfig = TOY, kind: ImageKind = ImageKind.CXR) -> NetworkConfig:
    return replace(config, stems={kind: program.config}, blocks=0)


def bundle_of_a_map(folder: Path, *, studies: int, epochs: int) -> Path:
    """A bundle trained for a moment on features of a map."""
    exported(folder / "m.onnx")
    program = program_of(folder / "m.onnx")
    data = with_features(toy_set(studies, seed=1), ProgramStem(program.config, TOY.width, program.content), folder)
    recipe = replace(OURS, epochs=epochs, batch=16, augment=False)
    train(reading(program), data, recipe, program=program.content).save(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return bundle_of_a_map(tmp_path_factory.mktemp("trained"), studies=64, epochs=1)


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
    task = {"shape": (SIDE, SIDE), "view": 0, "places": 64, "slowest_s": 5.0}
    with pytest.raises(BundleRefused, match=said):
        trial.measure_features(b"", task)


class ConstantFile:
    """Stands in for a file that answers one number, whatever it is shown."""

    def __init__(self, answer: float) -> None:
        self.answer = answer

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


def test_the_bundle_holds_the_program_and_our_weights(trained: Path, tmp_path: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {CARD, MANIFEST, ONNX, WEIGHTS}
    bundle = Bundle.load(trained)
    assert isinstance(bundle.network, RadirNetwork) and bundle.network.program is not None
    assert isinstance(bundle.network.config.stems[ImageKind.CXR], ProgramConfig)
    assert "from a program from elsewhere" in (trained / CARD).read_text()
    copy = copy_bundle(trained, tmp_path, bundle.model_id)
    assert is_intact(copy, bundle.manifest["manifest_sha256"]) and Bundle.load(copy).model_id == bundle.model_id
    altered = bytearray((copy / ONNX).read_bytes())
    altered[-10] ^= 1
    (copy / ONNX).write_bytes(altered)
    assert not is_intact(copy, bundle.manifest["manifest_sha256"])
    with pytest.raises(BundleRefused, match=f"{ONNX} was altered"):
        Bundle.load(copy)
    (copy / ONNX).unlink()
    with pytest.raises(BundleRefused, match=f"{ONNX} cannot be read"):
        Bundle.load(copy)


def test_it_encodes_keeps_tokens_and_answers_words(trained: Path) -> None:
    bundle = Bundle.load(trained)
    encoder = Encoder(bundle, device="cpu", threads=1, keep_tokens=True)
    inputs = [encoder.prepare(picture(ImageKind.CXR))]
    [encoding] = encoder.encode_batch(inputs)
    assert not isinstance(encoding, Exception) and encoding.tokens is not None
    assert encoding.tokens.values.shape == (64, 48) and encoding.tokens.encoder == bundle.manifest["encoder"]
    kept = KeptTokens(
        study_uid="1.2", series_uid="1.2.3", sop_uid="1.2.3.4", revision=1, tokens=encoding.tokens, slices=None
    )
    [again] = encoder.encode_batch([kept])
    assert not isinstance(again, Exception)
    assert (encoding.vectors * again.vectors).sum(1).min() > 0.999, "from tokens as from pixels"
    asked = Asked(bundle, "nodule in the right upper lobe", threads=1)
    assert asked.raw([kept]).shape == (1, 47) and 0 < float(asked.presence([kept])[0]) < 1


def test_images_and_their_features_are_judged_alike(trained: Path, tmp_path: Path) -> None:
    bundle, data = Bundle.load(trained), toy_set(8, seed=5)
    assert isinstance(bundle.network, RadirNetwork) and bundle.network.program is not None
    found = [encoded(bundle, one) for one in (data, with_features(data, bundle.network.program, tmp_path))]
    assert np.allclose(found[0].image, found[1].image, atol=0.02), "but for what half precision rounds away"
    for key, vectors in found[0].regions.items():
        assert np.allclose(vectors, found[1].regions[key], atol=0.02)


def test_the_program_is_not_trained_and_its_reader_is(trained: Path) -> None:
    network = Bundle.load(trained).network
    assert isinstance(network, RadirNetwork)
    images = torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    network.image_tokens(images, torch.zeros(2, dtype=torch.int64), ImageKind.CXR).square().sum().backward()
    stem = network.program
    assert stem is not None and all(p.grad is not None for p in stem.parameters())
    assert {name for name, _ in stem.named_parameters()} == {
        "to_width.0.weight",
        "to_width.0.bias",
        "to_width.1.weight",
        "to_width.1.bias",
    }


def parsed(*words: str) -> argparse.Namespace:
    root = argparse.ArgumentParser()
    command.register(root.add_subparsers())
    return root.parse_args(["train", "--kind", "cxr", "--config", "toy", "--threads", "1", "--device", "cpu", *words])


def test_the_command_makes_a_bundle_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(CONFIGS, "toy", TOY)
    exported(tmp_path / "rad-dino.onnx", "tokens", 1)
    how = tmp_path / "how.json"
    how.write_text(json.dumps({"shape": [SIDE, SIDE], "clip": [0.5, 99.5]}))
    shapes = list[tuple[int, ...]]()

    def drawn(config: NetworkConfig, kind: ImageKind, **wishes: Any) -> Any:
        shapes.append(Preprocessing.of(config, kind).shape)
        return toy_set(80, seed=0)

    monkeypatch.setattr(session, "phantom_set", drawn)
    words = ("--patients", "80", "--epochs", "1", "--batch", "16", "--cache", str(tmp_path))
    of_file = ("--backbone", str(tmp_path / "rad-dino.onnx"), "--features", "tokens", "--prefix-tokens", "1")
    card = ("--preprocessing", str(how), "--licence", "MIT", "--backbone-data", "photographs")
    args = parsed(*words, *of_file, *card, "--out", str(tmp_path / "model"), "--json")
    assert args.run(args, None) == 0
    told = json.loads(capsys.readouterr().out)
    bundle = Bundle.load(tmp_path / "model")
    assert told["model_id"] == bundle.model_id and bundle.model_id.startswith("cxr-raddino-")
    assert shapes == [(SIDE, SIDE)] and bundle.preprocessing == prepared()
    said = bundle.training["program"]
    assert (said["licence"], said["data"], said["features"]) == ("MIT", "photographs", "tokens")
    assert not bundle.training["recipe"]["augment"], "features are computed once"
    assert bundle.training["licence"].endswith("MIT") and "licence MIT" in (tmp_path / "model" / CARD).read_text()
    assert {"recall_at_5_abnormal", "recall_at_5_abnormal_pixels"} <= bundle.metrics.keys()
    further = parsed(*words, "--start", str(tmp_path / "model"), "--out", str(tmp_path / "further"))
    further.config = None
    assert further.run(further, None) == 0
    went_on = Bundle.load(tmp_path / "further")
    assert went_on.training["program"] == said and went_on.training["began_with"] == bundle.model_id
    assert isinstance(went_on.network, RadirNetwork) and went_on.network.program is not None
    varied = parsed(*words, "--start", str(tmp_path / "model"), "--augment", "on", "--out", str(tmp_path / "varied"))
    varied.config = None
    with pytest.raises(BadInput, match="computed once"):
        varied.run(varied, None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--licence", "MIT"), "--licence says something of a --backbone"),
        (("--backbone", "{file}", "--start", "other"), "keeps what it reads"),
        (("--backbone", "{file}", "--augment", "on"), "computed once"),
        (("--backbone", "{file}", "--stages", "published"), "not trained"),
        (("--backbone", "nowhere.onnx"), "no file nowhere.onnx"),
        (("--backbone", "{file}", "--slowest-s", "0"), "--slowest-s"),
        (("--backbone", "{file}", "--name", "!"), "letters or digits"),
    ],
)
def test_a_wrong_request_is_refused_with_a_reason(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONFIGS, "toy", TOY)
    exported(tmp_path / "m.onnx")
    how = tmp_path / "how.json"
    how.write_text(json.dumps({"shape": [SIDE, SIDE], "clip": [0.5, 99.5]}))
    named = [word.format(file=tmp_path / "m.onnx") for word in words]
    more = ["--preprocessing", str(how)] if "--backbone" in words else []
    args = parsed(*named, *more, "--out", str(tmp_path / "model"))
    with pytest.raises(BadInput, match=said):
        args.run(args, None)


def test_features_that_do_not_fit_are_refused_before_they_are_computed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONFIGS, "toy", TOY)
    monkeypatch.setattr(session, "phantom_set", lambda *_args, **_wishes: toy_set(80, seed=0))
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    words = ("--patients", "80", "--epochs", "1", "--batch", "16", "--cache", str(tmp_path))
    args = parsed(*words, "--start", str(trained), "--out", str(tmp_path / "model"))
    with pytest.raises(BadInput, match="fewer places"):
        args.run(args, None)
    assert not list(tmp_path.rglob("*.npy"))
    assert bytes_of(trained) == 2 * 64 * CHANNELS


def bytes_of(folder: Path) -> int:
    """What the features of an image take with the program of a bundle."""
    config = json.loads((folder / MANIFEST).read_text())["network"]["stems"]["CXR"]
    return feature_bytes(ProgramConfig.from_json(config))


def test_features_that_are_kept_need_no_room_on_the_disk(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that is repeated or goes on, and the other processes of one, begin with what is there."""
    monkeypatch.setitem(CONFIGS, "toy", TOY)
    data = toy_set(80, seed=0)
    monkeypatch.setattr(session, "phantom_set", lambda *_args, **_wishes: data)
    stem = Bundle.load(trained).network.program
    assert isinstance(stem, ProgramStem)
    with_features(data, stem, tmp_path)
    kept = sorted(tmp_path.rglob("*.npy"))
    assert len(kept) == 80
    for path in kept[:3]:
        path.unlink()
    kept[3].write_bytes(kept[3].read_bytes()[:-200])
    words = ("--patients", "80", "--epochs", "1", "--batch", "16", "--cache", str(tmp_path))
    args = parsed(*words, "--start", str(trained), "--out", str(tmp_path / "model"))
    real = session.shutil.disk_usage

    def leave(free: int) -> None:
        monkeypatch.setattr(session.shutil, "disk_usage", lambda path: real(path)._replace(free=free))

    leave(4 * bytes_of(trained) - 1)
    with pytest.raises(BadInput, match="fewer places"):
        args.run(args, None)
    assert len(list(tmp_path.rglob("*.npy"))) == 77
    leave(4 * bytes_of(trained))
    assert args.run(args, None) == 0
    assert len(list(tmp_path.rglob("*.npy"))) == 80


def test_the_processes_of_a_machine_share_the_memory_that_features_take(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONFIGS, "toy", TOY)
    monkeypatch.setattr(session, "phantom_set", lambda *_args, **_wishes: toy_set(80, seed=0))
    free = 2 * 80 * bytes_of(trained) - 2
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    cpu = torch.device("cpu")
    assert memory.share_of_free(cpu, Ranks()) == free
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    words = ("--patients", "80", "--epochs", "1", "--batch", "16", "--cache", str(tmp_path))
    args = parsed(*words, "--start", str(trained), "--out", str(tmp_path / "model"))
    with pytest.raises(BadInput, match="fewer places"):
        args.run(args, None)
    assert not list(tmp_path.rglob("*.npy"))
    assert memory.share_of_free(cpu, Ranks(1, 4)) == free // 2
    assert memory.share_of_free(cpu, Ranks(1, 4), after_first=True) == free, "the first has taken its own"
    assert memory.share_of_free(cpu, Ranks(2, 4), after_first=True) == free // 2, "on another machine"
