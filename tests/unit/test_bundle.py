"""A bundle comes back as it was saved, and anything altered is refused with the reason."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from radir_pacs.encode import Bundle, Encoder, default_bundles
from radir_pacs.encode.folder import CARD, MANIFEST, ONNX, WEIGHTS, manifest_hash, model_id_of
from radir_pacs.errors import BundleRefused
from radir_pacs.types import ImageKind
from tests.model_material import seeded_bundle, seeded_bundle_over_a_program
from tests.services import need_module
from tests.unit.test_network import picture

MOST_SHIPPED_BYTES = 20 * 2**20


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    seeded_bundle(ImageKind.CXR).save(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A saved bundle, to be altered."""
    return shutil.copytree(saved, tmp_path / "model")


@pytest.mark.parametrize("kind", list(ImageKind))
def test_a_saved_bundle_answers_as_before(kind: ImageKind, tmp_path: Path) -> None:
    before = seeded_bundle(kind)
    saved = before.save(tmp_path / "model")
    loaded = Bundle.load(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [CARD, MANIFEST, WEIGHTS]
    assert saved.model_id == loaded.model_id
    assert loaded.model_id.startswith(f"{kind.lower()}-tiny-") and loaded.model_id.replace("-", "").isalnum()
    assert loaded.training == before.training and loaded.regions == before.regions
    assert torch.equal(loaded.queries(), before.queries())
    other = seeded_bundle(kind, seed=1).save(tmp_path / "other")
    assert other.model_id != saved.model_id


def test_the_same_model_gets_the_same_id(folder: Path, tmp_path: Path) -> None:
    assert seeded_bundle(ImageKind.CXR).save(tmp_path / "again").model_id == Bundle.load(folder).model_id


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
@pytest.mark.parametrize("alter", ["flip", "truncate", "remove", "empty", "folder"])
def test_an_altered_file_is_refused(folder: Path, name: str, alter: str) -> None:
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    match alter:
        case "flip":
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        case "truncate":
            path.write_bytes(content[:-1000])
        case "empty":
            path.write_bytes(b"")
        case "folder":
            path.mkdir()
    with pytest.raises(BundleRefused):
        Bundle.load(folder)


def set_region_name(m: dict[str, Any]) -> None:
    m["regions"][1]["name"] = "left lung"


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "format": lambda m: m.update(format=2),
    "kind": lambda m: m.update(kind="CT"),
    "region name": set_region_name,
    "regions swapped": lambda m: m["regions"].reverse(),
    "no chest": lambda m: m["regions"].pop(0),
    "region not a mapping": lambda m: m.update(regions=["chest"]),
    "shape": lambda m: m["preprocessing"].update(shape=[64, 64]),
    "clip": lambda m: m["preprocessing"].update(clip=[5, 1]),
    "vocabulary": lambda m: m["text_vocabulary"].pop(),
    "width": lambda m: m["network"].update(width=64),
    "too wide": lambda m: m["network"].update(width=1 << 30),
    "unknown network setting": lambda m: m["network"].update(more=1),
    "no network": lambda m: m.pop("network"),
    "model id": lambda m: m.update(model_id="cxr-tiny-00000000"),
    "path as model id": lambda m: m.update(model_id="../../etc"),
    "golden": lambda m: m.update(golden=(np.asarray(m["golden"]) + 0.01).tolist()),
    "golden NaN": lambda m: m.update(golden=[[float("nan")] * 8] * 4),
    "no golden": lambda m: m.pop("golden"),
    "golden of another length": lambda m: m["golden"].pop(),
    "a window without end": lambda m: m["network"]["stems"]["CXR"].update(windows=[[10**400, 1.0]]),
    "training is a list": lambda m: m.update(training=[]),
    "metrics are a list": lambda m: m.update(metrics=[]),
    "deep": lambda m: m.update(training=None, metrics="x", regions=None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_that_was_altered_and_hashed_again_is_refused(folder: Path, change: str) -> None:
    """Whoever alters the manifest can also renew its hash; what it says must still fit the weights."""
    manifest = json.loads((folder / MANIFEST).read_text())
    CHANGES[change](manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleRefused):
        Bundle.load(folder)
    manifest["manifest_sha256"] = manifest_hash(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleRefused):
        Bundle.load(folder)


@pytest.mark.parametrize("alter", ["other weights", "NaN", "missing", "additional", "reshaped"])
def test_other_weights_are_refused_even_when_every_hash_is_renewed(folder: Path, alter: str) -> None:
    tensors = load_file(folder / WEIGHTS)
    match alter:
        case "other weights":
            tensors["to_nothing"] = tensors.pop("severity.bias")
        case "NaN":
            tensors["severity.bias"][0] = float("nan")
        case "missing":
            tensors.pop("head.mean")
        case "additional":
            tensors["more"] = torch.zeros(1)
        case "reshaped":
            tensors["head.mean"] = tensors["head.mean"].T.contiguous()
    _write_hashed(folder, save(tensors))
    with pytest.raises(BundleRefused):
        Bundle.load(folder)


def test_golden_outputs_notice_weights_that_fit_but_are_others(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["head.project.1.weight"] += 0.05 * torch.randn(tensors["head.project.1.weight"].shape)
    _write_hashed(folder, save(tensors))
    with pytest.raises(BundleRefused, match="golden"):
        Bundle.load(folder)


def _write_hashed(folder: Path, weights: bytes) -> None:
    (folder / WEIGHTS).write_bytes(weights)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    manifest["model_id"] = model_id_of(manifest)
    manifest["manifest_sha256"] = manifest_hash(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_program_is_read_when_it_is_needed_and_is_then_what_its_hash_says(tmp_path: Path) -> None:
    need_module("onnxruntime")
    folder = tmp_path / "model"
    saved = seeded_bundle_over_a_program().save(folder)
    loaded = Bundle.load(folder, program=False)
    copy = loaded.save(tmp_path / "copy")
    assert copy.model_id == loaded.model_id == saved.model_id
    assert (tmp_path / "copy" / ONNX).read_bytes() == (folder / ONNX).read_bytes()
    assert copy.onnx is not None and copy.onnx.content == (folder / ONNX).read_bytes()
    unopened = Bundle.load(folder, program=False)
    (folder / ONNX).write_bytes((folder / ONNX).read_bytes()[:-1])
    for load in (lambda: Bundle.load(folder), lambda: Bundle.load(folder, program=False)):
        with pytest.raises(BundleRefused, match=r"encoder\.onnx was altered"):
            load()
    for use in (lambda: Encoder(unopened, "cpu").encode(picture(ImageKind.CXR)), lambda: unopened.save(folder)):
        with pytest.raises(BundleRefused, match=r"encoder\.onnx was altered"):
            use()
    assert Encoder(saved, "cpu").encode(picture(ImageKind.CXR)).model_id == saved.model_id, "it was opened before"
    assert saved.onnx is not None
    assert not [value for value in vars(saved.onnx._session).values() if isinstance(value, bytes)], "held twice"
    (folder / ONNX).unlink()
    with pytest.raises(BundleRefused, match=r"encoder\.onnx cannot be read"):
        unopened.save(tmp_path / "other")


def test_a_pickle_in_place_of_weights_is_never_opened(folder: Path) -> None:
    torch.save({"severity.bias": torch.zeros(3)}, folder / WEIGHTS)
    _write_hashed(folder, (folder / WEIGHTS).read_bytes())
    with pytest.raises(BundleRefused):
        Bundle.load(folder)


def test_no_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match=r"nowhere: manifest\.json cannot be read") as caught:
        Bundle.load(tmp_path / "nowhere")
    assert "\n" not in str(caught.value)


def test_a_bundle_that_a_hospital_trained_years_ago_loads() -> None:
    """A toy of version 0.1.0, never written again: loading it compares its answers with those of then."""
    bundle = Bundle.load(Path(__file__).parent / "bundle_of_version_0_1")
    assert bundle.model_id == "cxr-toy-59cfad26" and len(bundle.regions) == len(bundle.queries())


@pytest.mark.parametrize("kind", list(ImageKind))
def test_the_shipped_bundles_load_and_say_where_they_come_from(kind: ImageKind) -> None:
    path = default_bundles()[kind]
    bundle = Bundle.load(path)
    assert bundle.kind is kind and Encoder(bundle, device="cpu").model_id == bundle.model_id
    assert bundle.training["data"] and bundle.training["licence"]
    assert sum(file.stat().st_size for file in path.iterdir()) <= MOST_SHIPPED_BYTES
