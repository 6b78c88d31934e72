"""An encoder from elsewhere is served like ours or refused with the reason; its file can do nothing else."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radir_pacs import anatomy
from radir_pacs.encode import CONFIGS, Bundle, Encoder, Preprocessing
from radir_pacs.encode.folder import CARD, MANIFEST, ONNX, manifest_hash, model_id_of
from radir_pacs.encode.import_model import ImportRequest, format_of, import_model
from radir_pacs.encode.onnx_check import check_onnx
from radir_pacs.encode.trial import measure
from radir_pacs.errors import BadInput, BundleRefused
from radir_pacs.types import ImageKind
from tests.onnx_material import DIM, SHAPE, onnx_toy, torch_toy
from tests.services import need_module
from tests.unit.test_network import picture

onnx = need_module("onnx")
need_module("onnxruntime")
REGIONS = ("chest", "right_lung", "heart")


def request(regions: tuple[str, ...] = ("chest",), **changes: Any) -> ImportRequest:
    values: dict[str, Any] = {
        "name": "Toy",
        "kind": ImageKind.CXR,
        "preprocessing": Preprocessing.of(CONFIGS["tiny"], ImageKind.CXR),
        "regions": [anatomy.region(key) for key in regions],
        "training": {"data": "none", "licence": "CC0"},
    }
    return ImportRequest(**{**values, **changes})


def tried_with(model: Any, regions: tuple[str, ...] = ("chest",), **changes: Any) -> dict[str, Any]:
    task = {"name": "toy", "shape": SHAPE, "view": 0, "regions": regions, "slowest_s": 5.0, "threads": 1, **changes}
    content = model.SerializeToString()
    check_onnx(content)
    return measure(content, task)


def test_a_vector_for_the_whole_chest_is_served_under_chest(tmp_path: Path) -> None:
    file = tmp_path / "toy.onnx"
    file.write_bytes(onnx_toy().SerializeToString())
    saved = import_model(file, request()).save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [CARD, ONNX, MANIFEST]
    bundle = Bundle.load(tmp_path / "model")
    assert bundle.model_id == saved.model_id and bundle.model_id.startswith("cxr-toy-")
    encoding = Encoder(bundle, device="cpu", threads=1).encode(picture(ImageKind.CXR))
    assert encoding.regions == ("chest",) and encoding.vectors.shape == (1, DIM)
    assert np.allclose(np.linalg.norm(encoding.vectors, axis=1), 1, atol=1e-5), "made unit"
    with pytest.raises(BadInput, match="reads no reports"):
        bundle.network.report_vectors(torch.ones(1, 1, dtype=torch.int64))


@pytest.mark.parametrize("form", ["traced", "scripted", "exported"])
def test_programs_become_onnx_and_answer_as_before(form: str, tmp_path: Path) -> None:
    toy, image = torch_toy(len(REGIONS)), torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1))
    file = tmp_path / "toy.model"
    match form:
        case "traced":
            torch.jit.trace(toy, image).save(str(file))  # type: ignore[no-untyped-call]
        case "scripted":
            torch.jit.script(toy).save(str(file))
        case "exported":
            torch.export.save(torch.export.export(toy, (image,)), file)
    bundle = import_model(file, request(REGIONS)).save(tmp_path / "model")
    assert [region.key for region in bundle.regions] == list(REGIONS) and bundle.regions[1].sided
    rows = torch.tensor([2, 0])
    found = bundle.network(image, torch.zeros(1, dtype=torch.int64), ImageKind.CXR, bundle.queries(), rows).vectors
    with torch.no_grad():
        assert torch.allclose(found, toy(image)[:, rows], atol=1e-5)
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {CARD, MANIFEST, ONNX}, "nothing of the program is kept"


def test_a_model_may_ask_for_the_view() -> None:
    assert tried_with(onnx_toy(view=True))["dim"] == DIM


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "NaN": (lambda: onnx_toy(after=(("Mul", {"fed": ("nan",)}),)), "NaN or infinity"),
    "zeros": (lambda: onnx_toy(after=(("Mul", {"fed": ("zero",)}),)), "zeros"),
    "blind": (lambda: onnx_toy(after=(("Mul", {"fed": ("zero",)}), ("Add", {"fed": ("one",)}))), "every image alike"),
    "at random": (lambda: onnx_toy(after=(("Dropout", {"fed": ("half", "yes")}),)), "twice differently"),
    "drawn": (lambda: onnx_toy(after=(("RandomNormalLike", {}),)), "by chance"),
    "two regions": (lambda: onnx_toy(2), r"answers \[1, 2, 8\], not \[1, 1, dim\] or \[1, dim\].*--regions"),
    "of two axes": (lambda: onnx_toy(after=(("ReduceSum", {"keepdims": 0}),)), r"answers \[\], not"),
    "another shape": (lambda: onnx_toy(shape=(64, 64)), r"takes images of \[1, 1, 64, 64\].*--preprocessing"),
    "three axes": (lambda: onnx_toy(shape=(32, 32, 32)), "--preprocessing"),
    "double": (lambda: _double(), "float32"),
    "of another house": (lambda: onnx_toy(after=(("Evil", {}),), domain="com.evil"), "Evil of com.evil is not served"),
    "outside": (lambda: _outside(), "one file"),
    "endless": (lambda: _endless(), "might never end"),
    "two outputs": (lambda: _two_outputs(), "2 outputs"),
}


def _double() -> Any:
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Flatten", ["image"], ["v"]), helper.make_node("Cast", ["v"], ["w"], to=1)]
    image = helper.make_tensor_value_info("image", TensorProto.DOUBLE, [1, 1, *SHAPE])
    graph = helper.make_graph(nodes, "double", [image], [helper.make_tensor_value_info("w", 1, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _outside() -> Any:
    model = onnx_toy()
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    weights.ClearField("raw_data")
    weights.data_location = weights.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"
    return model


def _endless() -> Any:
    """The loop lies in a branch: nested graphs are read as well."""
    from onnx import TensorProto, helper

    model = onnx_toy()
    go_on = helper.make_tensor_value_info("go_on", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["still"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), go_on],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, [])],
    )
    branch = helper.make_graph(
        [helper.make_node("Loop", ["", "yes"], [], body=body), helper.make_node("Identity", ["one"], ["x"])],
        "branch",
        [],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [])],
    )
    model.graph.node.append(helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch))
    return model


def _two_outputs() -> Any:
    model = onnx_toy()
    model.graph.output.append(onnx.helper.make_tensor_value_info("row", 1, None))
    return model


@pytest.mark.parametrize("fault", REFUSED)
def test_a_model_that_is_not_fit_is_refused_in_one_line(fault: str) -> None:
    made, said = REFUSED[fault]
    with pytest.raises(BundleRefused, match=said) as caught:
        tried_with(made())
    assert "\n" not in str(caught.value) and ": " in str(caught.value), "a reason, and what to do"


def test_a_slow_model_is_refused() -> None:
    with pytest.raises(BundleRefused, match=r"s an image, more than 1e-09 s.*--slowest-s"):
        tried_with(onnx_toy(), slowest_s=1e-9)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\x80\x05K\x01.", b"PK\x03\x04 no archive"])
def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(content)
    with pytest.raises(BundleRefused):
        import_model(file, request())


def test_weights_alone_are_refused_unread(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(BundleRefused, match="pickles are never opened"):
        format_of((tmp_path / "weights.pt").read_bytes())


class Payload:
    """Unpickled, it writes a file, by itself and by a shell."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, (
            "import os\n"
            f"for act in (lambda: open({self.marker!r}, 'w').close(), lambda: os.system('touch {self.marker}')):\n"
            "    try: act()\n"
            "    except Exception: pass\n",
        )


def _hostile_export(marker: Path) -> bytes:
    """A real .pt2 whose first weight is said to be a pickle, and is one."""
    good, bad = io.BytesIO(), io.BytesIO()
    torch.export.save(torch.export.export(torch_toy(), (torch.zeros(1, 1, *SHAPE),)), good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("model_weights_config.json"):
                said = json.loads(content)
                first = next(iter(said["config"].values()))
                first["use_pickle"], hostile = True, first["path_name"]
                content = json.dumps(said).encode()
            target.writestr(name, content)
    with zipfile.ZipFile(bad) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    done = io.BytesIO()
    with zipfile.ZipFile(done, "w") as target:
        for name, content in entries.items():
            target.writestr(name, pickle.dumps(Payload(marker)) if name.endswith(f"/{hostile}") else content)
    return done.getvalue()


class Writer(torch.nn.Module):
    """TorchScript has operators that write files."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker = marker

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mapped = torch.from_file(self.marker, shared=True, size=4)
        return image.flatten(1)[:, :8] + mapped.sum() * 0


def test_a_pickle_inside_an_exported_program_does_nothing(tmp_path: Path) -> None:
    marker, file = tmp_path / "was_here", tmp_path / "hostile.pt2"
    file.write_bytes(_hostile_export(marker))
    with pytest.raises(BundleRefused):
        import_model(file, request())
    assert not marker.exists()
    with pytest.raises(Exception, match=r".*"):
        torch.export.load(file)
    assert marker.exists(), "torch alone would have run it"


def test_a_script_that_writes_files_does_not(tmp_path: Path) -> None:
    marker, file = tmp_path / "was_here", tmp_path / "hostile.pt"
    torch.jit.script(Writer(str(marker))).save(str(file))
    with pytest.raises(BundleRefused):
        import_model(file, request())
    assert not marker.exists()
    torch.jit.load(str(file))(torch.zeros(1, 1, *SHAPE))  # type: ignore[no-untyped-call]
    assert marker.exists(), "torch alone would have run it"


def test_a_model_that_does_not_come_back_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "toy.onnx"
    file.write_bytes(onnx_toy().SerializeToString())
    monkeypatch.setattr("radir_pacs.encode.import_model.OPEN_S", 0.0)
    with pytest.raises(BundleRefused, match="did not answer within"):
        import_model(file, request(slowest_s=0.01))


def test_a_bundle_whose_onnx_was_altered_is_refused(tmp_path: Path) -> None:
    """An attacker who alters the file can update every hash; the golden outputs and the checks of the file remain."""
    file, folder = tmp_path / "toy.onnx", tmp_path / "model"
    file.write_bytes(onnx_toy().SerializeToString())
    import_model(file, request()).save(folder)
    for other, said in ((onnx_toy(after=(("Neg", {}),)), "golden"), (_outside(), "one file")):
        _write_hashed(folder, other.SerializeToString())
        with pytest.raises(BundleRefused, match=said):
            Bundle.load(folder)
    (folder / ONNX).write_bytes(b"")
    with pytest.raises(BundleRefused, match=r"encoder\.onnx was altered"):
        Bundle.load(folder)


def _write_hashed(folder: Path, content: bytes) -> None:
    import hashlib

    (folder / ONNX).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["weights_sha256"] = hashlib.sha256(content).hexdigest()
    manifest["model_id"] = model_id_of(manifest)
    manifest["manifest_sha256"] = manifest_hash(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.onnx").write_bytes(onnx_toy().SerializeToString())
    saved = import_model(tmp_path / "toy.onnx", request()).save(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BundleRefused, match=r"\[onnx\]"):
        Bundle.load(tmp_path / "model")
    monkeypatch.setattr("radir_pacs.encode.import_model.find_spec", lambda name: None)
    with pytest.raises(BundleRefused, match=r"\[onnx\]"):
        import_model(tmp_path / "toy.onnx", request())
    assert saved.model_id


def test_regions_without_the_chest_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "toy.onnx"
    file.write_bytes(onnx_toy(1).SerializeToString())
    with pytest.raises(BundleRefused, match="chest"):
        import_model(file, request(("heart",)))
