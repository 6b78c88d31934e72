"""A model bundle: a folder with ``weights.safetensors``, ``manifest.json`` and a model card, and no program.

A network from elsewhere (``external``) lies in ``encoder.onnx`` instead of the weights; all else is the same.

The manifest says how to build the network, how to prepare an image, which regions it knows, what it was trained on and
how well it did. Its own hash, the hash of the weights, the model id made from both, and vectors of a made-up image
(golden outputs) are checked before anything is served: whatever was altered or runs differently here is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from radir_pacs.errors import BundleRefused
from radir_pacs.types import F32, ImageKind

from .card import model_card
from .config import NetworkConfig
from .external import ENGINE, ExternalConfig, ExternalNetwork
from .network import GLOBAL_REGION, RadirNetwork, view_index
from .preprocess import Preprocessing
from .tokenizer import Tokenizer

FORMAT = 1
WEIGHTS, MANIFEST, CARD, ONNX = "weights.safetensors", "manifest.json", "MODEL_CARD.md", "encoder.onnx"
MOST_WEIGHTS_BYTES, MOST_MANIFEST_BYTES = 4 * 2**30, 8 * 2**20
GOLDEN_NUMBERS = 8  # of each region's vector; the hashes guard the rest
GOLDEN_TOLERANCE = 5e-3  # between processors; a wrong weight or a wrong operator is far outside


@dataclass(frozen=True, kw_only=True)
class ModelRegion:
    """A region the model has a vector for. ``sided``: a lateral view cannot show it apart from its twin."""

    key: str
    name: str
    sided: bool


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A verified model. ``network`` is in evaluation mode on the CPU. ``manifest`` is what the folder says of itself.

    A network from elsewhere is asked the same way, reads no text, and leaves ``tokenizer`` without words.

    ``name`` is the configuration's ("tiny"); ``training`` holds the data, their licence and the settings; ``metrics``
    what was measured on held-out patients.
    """

    kind: ImageKind
    network: RadirNetwork | ExternalNetwork
    tokenizer: Tokenizer
    preprocessing: Preprocessing
    regions: tuple[ModelRegion, ...]
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    model_id: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read and verify. Raises BundleRefused naming what is wrong."""
        weights, manifest = _read(folder)
        try:
            bundle = _assembled(manifest, weights)
        except BundleRefused as error:
            raise BundleRefused(f"{folder.name}: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
            raise BundleRefused(f"{folder.name}: the manifest and the weights do not fit together: {error}") from None
        if bundle.model_id != manifest.get("model_id"):
            raise BundleRefused(f"{folder.name}: the model id does not belong to these weights and settings")
        _check_golden(folder, bundle, manifest.get("golden"))
        return bundle

    def save(self, folder: Path) -> Bundle:
        """Write the folder (made, or its files replaced) and load it again. Raises BundleRefused, OSError."""
        if isinstance(self.network, ExternalNetwork):
            weights = self.network.content
        else:
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
            weights = save_tensors(tensors)
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "kind": self.kind.value,
            "name": self.network.config.name,
            "network": self.network.config.to_json(),
            "regions": [vars(region) for region in self.regions],
            "findings": list(self.network.findings),
            "preprocessing": self.preprocessing.to_json(),
            "text_vocabulary": list(self.tokenizer.vocabulary),
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "training": dict(self.training),
            "metrics": dict(self.metrics),
            "golden": golden_outputs(self).round(5).tolist(),
        }
        manifest["model_id"] = _model_id(manifest)
        manifest["manifest_sha256"] = _manifest_hash(manifest)
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / _weights_name(manifest), weights)
        _replace(folder / MANIFEST, _pretty(manifest).encode())
        _replace(folder / CARD, model_card(manifest).encode())
        return Bundle.load(folder)

    @torch.no_grad()
    def queries(self) -> torch.Tensor:
        """The region names as the network's queries, [regions, width]; no numbers where it reads no text."""
        if isinstance(self.network, ExternalNetwork):
            return torch.zeros(len(self.regions), 0)
        ids = torch.tensor(self.tokenizer.batch([region.name for region in self.regions]))
        out: torch.Tensor = self.network.text(ids)
        return out


def _read(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """Both files; those of a manifest that was altered are not read any further. Raises BundleRefused."""
    manifest = read_manifest(folder)
    try:
        name = _weights_name(manifest)
        if (folder / name).stat().st_size > MOST_WEIGHTS_BYTES:
            raise BundleRefused(f"{folder.name}: {name} is larger than a bundle's may be")
        weights = (folder / name).read_bytes()
    except OSError as error:
        raise BundleRefused(f"{folder.name}: {Path(error.filename or '').name} cannot be read") from None
    if manifest.get("weights_sha256") != hashlib.sha256(weights).hexdigest():
        raise BundleRefused(f"{folder.name}: {name} was altered")
    return weights, manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a bundle says of itself, without its weights. Raises BundleRefused."""
    try:
        if (folder / MANIFEST).stat().st_size > MOST_MANIFEST_BYTES:
            raise BundleRefused(f"{folder.name}: {MANIFEST} is larger than a bundle's may be")
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise BundleRefused(f"{folder.name}: {Path(error.filename or '').name} cannot be read") from None
    except (ValueError, RecursionError):
        raise BundleRefused(f"{folder.name}: {MANIFEST} is not JSON") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleRefused(f"{folder.name}: not a bundle of format {FORMAT}")
    if manifest.get("manifest_sha256") != _manifest_hash(manifest):
        raise BundleRefused(f"{folder.name}: {MANIFEST} was altered")
    return manifest


def _is_external(manifest: Mapping[str, Any]) -> bool:
    network = manifest.get("network")
    return isinstance(network, dict) and network.get("engine") == ENGINE


def _weights_name(manifest: Mapping[str, Any]) -> str:
    return ONNX if _is_external(manifest) else WEIGHTS


def _assembled(manifest: Mapping[str, Any], weights: bytes) -> Bundle:
    kind = ImageKind(manifest["kind"])
    preprocessing = Preprocessing.from_json(manifest["preprocessing"])
    if preprocessing.kind is not kind:
        raise ValueError("the kinds of image disagree")
    tokenizer = Tokenizer(tuple(manifest["text_vocabulary"]))
    regions = tuple(ModelRegion(**region) for region in manifest["regions"])
    keys = [region.key for region in regions]
    if len(set(keys)) != len(keys) or GLOBAL_REGION not in keys:
        raise ValueError(f"regions repeat, or {GLOBAL_REGION!r} is missing")
    network: RadirNetwork | ExternalNetwork
    if _is_external(manifest):
        external = ExternalConfig.from_json(manifest["network"])
        network, shape = ExternalNetwork(external, weights, keys), external.shape
    else:
        config = NetworkConfig.from_json(manifest["network"])
        if tuple(config.stems) != (kind,):
            raise ValueError("the kinds of image disagree")
        network, shape = _own_network(config, manifest, keys, len(tokenizer.vocabulary)), config.stems[kind].shape
        _fill(network, weights)
    if preprocessing.shape != shape:
        raise ValueError("the preprocessing's shape is not the network's")
    return Bundle(
        kind=kind,
        network=network.eval(),
        tokenizer=tokenizer,
        preprocessing=preprocessing,
        regions=regions,
        training=manifest["training"],
        metrics=manifest["metrics"],
        model_id=_model_id(manifest),
        manifest=manifest,
    )


def _own_network(config: NetworkConfig, manifest: Mapping[str, Any], keys: list[str], words: int) -> RadirNetwork:
    return RadirNetwork(config, vocabulary_size=words, regions=keys, findings=manifest["findings"])


def _fill(network: RadirNetwork, weights: bytes) -> None:
    tensors = load_tensors(weights)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ValueError("a weight is not a finite number")
    network.load_state_dict(tensors, strict=True)


def golden_image(shape: Sequence[int]) -> F32:
    """A made-up network input [1, *shape], the same on every machine: waves that differ along each axis."""
    axes = np.meshgrid(*(np.linspace(0, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    waves = [np.sin((7 + 5 * i) * axis + i) for i, axis in enumerate(axes)]
    image: F32 = np.add.reduce(waves).astype(np.float32)[None]
    return image


@torch.no_grad()
def golden_outputs(bundle: Bundle) -> F32:
    """The first numbers of each region's vector for the golden image, [regions, GOLDEN_NUMBERS]."""
    bundle.network.eval()
    image = torch.from_numpy(golden_image(bundle.preprocessing.shape))[None]
    views = torch.tensor([view_index(bundle.kind, None)])
    rows = torch.arange(len(bundle.regions))
    vectors = bundle.network(image, views, bundle.kind, bundle.queries(), rows).vectors[0]
    numbers: F32 = vectors[:, :GOLDEN_NUMBERS].numpy()
    return numbers


def _check_golden(folder: Path, bundle: Bundle, expected: Any) -> None:
    try:
        golden = np.asarray(expected, np.float32)
        off = float(np.abs(golden_outputs(bundle) - golden).max())
    except (TypeError, ValueError, RuntimeError) as error:
        raise BundleRefused(f"{folder.name}: the golden outputs cannot be compared: {error}") from None
    if not off <= GOLDEN_TOLERANCE:
        raise BundleRefused(f"{folder.name}: the network answers its golden image otherwise here (off by {off:.3g})")


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _manifest_hash(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical({k: v for k, v in manifest.items() if k != "manifest_sha256"})).hexdigest()


_IDENTITY = ("format", "kind", "name", "network", "regions", "preprocessing", "text_vocabulary", "weights_sha256")


def _model_id(manifest: Mapping[str, Any]) -> str:
    """kind-name-hash8 of all that decides a vector; lower case, safe as the name of a folder."""
    digest = hashlib.sha256(_canonical({key: manifest[key] for key in _IDENTITY})).hexdigest()[:8]
    name = "".join(c for c in str(manifest["name"]).lower() if c.isalnum() and c.isascii())[:32]
    return f"{ImageKind(manifest['kind']).value.lower()}-{name}-{digest}"


def _pretty(manifest: Mapping[str, Any]) -> str:
    """One line an item of the long lists, so that a person can read the file."""
    lines = []
    for key, value in manifest.items():
        if isinstance(value, list) and value and isinstance(value[0], list | dict):
            rows = ",\n".join(f"    {json.dumps(item)}" for item in value)
            lines.append(f"  {json.dumps(key)}: [\n{rows}\n  ]")
        elif isinstance(value, dict):
            lines.append(f"  {json.dumps(key)}: {json.dumps(value, indent=2)}".replace("\n", "\n  "))
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
