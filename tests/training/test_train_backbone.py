"""``radir train --backbone``: a model from elsewhere that answers features of places, read by a decoder of ours."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radir_pacs.encode import CONFIGS, Bundle, Encoder, Preprocessing
from radir_pacs.encode.config import NetworkConfig, ProgramConfig
from radir_pacs.encode.folder import CARD, MANIFEST, ONNX, WEIGHTS
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.encode.program import ProgramStem
from radir_pacs.encode.words import Asked
from radir_pacs.errors import BadInput, BundleRefused
from radir_pacs.models.bundles import copy_bundle, is_intact
from radir_pacs.types import ImageKind, KeptTokens
from radir_training.commands import train as command
from radir_training.data.program_features import feature_bytes, with_features
from radir_training.evaluation.embeddings import encoded
from radir_training.learning import memory
from radir_training.learning.batch_sharding import Ranks
from radir_training.runs import session
from tests.services import need_module
from tests.training.toy import TOY, toy_set
from tests.unit.test_network import picture

from .program_material import (
    CHANNELS,
    SIDE,
    bundle_of_a_map,
    exported,
    prepared,
)

need_module("onnx")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return bundle_of_a_map(tmp_path_factory.mktemp("trained"), studies=64, epochs=1)


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
        (("--backbone", "{file}", "--recipe", "published-staged"), "not trained"),
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
    real = shutil.disk_usage

    def leave(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=free))

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
