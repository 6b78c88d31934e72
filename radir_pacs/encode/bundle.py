"""A model bundle: a folder with ``weights.safetensors``, ``manifest.json`` and a model card, and no code.

A network from elsewhere (``external``) has ``encoder.onnx`` instead of the weights; everything else is the same. A
network of ours that reads a program from elsewhere (``program``) has both.

The manifest says how to build the network, how to prepare an image, which regions it knows, what it was trained on and
how well it did. Its own hash, the hash of the weights, the model id made from both, and vectors of a made-up image
(golden outputs) are checked before anything is served: one that was altered or computes differently is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from radir_pacs import durable
from radir_pacs.errors import BundleRefused
from radir_pacs.types import F32, ImageKind

from .card import model_card
from .config import NetworkConfig
from .external import ExternalNetwork
from .external_config import ExternalConfig
from .folder import (
    CARD,
    ENCODER,
    FORMAT,
    MANIFEST,
    ONNX,
    TEXT_TOWER,
    StoredFile,
    is_external,
    manifest_hash,
    model_id_of,
    pretty,
    read_files,
    weights_name,
)
from .golden import golden_image
from .local_text import MISSING, LocalTextEncoder, LocalTokenizer, UnreadText, restored, stored
from .network import GLOBAL_REGION, RadirNetwork, view_index
from .onnx_file import OnnxFile
from .preprocess import Preprocessing
from .tokenizer import TextTokenizer, Tokenizer
from .tokens import encoder_id

REGION_QUERIES = "region_queries"  # a tensor beside those of a network whose text model may be missing
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
    ``region_queries`` [regions, width] are kept where a text model of the hospital's own made them.

    ``name`` is the configuration's ("tiny"); ``training`` holds the data, their licence and the settings; ``metrics``
    what was measured on held-out patients.
    """

    kind: ImageKind
    network: RadirNetwork | ExternalNetwork
    tokenizer: TextTokenizer
    preprocessing: Preprocessing
    regions: tuple[ModelRegion, ...]
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    region_queries: torch.Tensor | None = None
    model_id: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, *, program: bool = True) -> Bundle:
        """Read and verify. Raises BundleRefused naming what is wrong.

        program: False where no image will be shown: an ONNX file is then hashed, but never opened, and the golden
        outputs of a bundle that has one are not compared.
        """
        contents, manifest = read_files(folder)
        try:
            bundle = _assembled(manifest, contents)
            if program and bundle.onnx is not None:
                bundle.onnx.open()
        except BundleRefused as error:
            raise BundleRefused(f"{folder.name}: {error}") from None
        except (
            KeyError,
            TypeError,
            ValueError,
            ArithmeticError,
            AttributeError,
            RuntimeError,
            SafetensorError,
        ) as error:
            raise BundleRefused(f"{folder.name}: the manifest and the weights do not fit together: {error}") from None
        if bundle.model_id != manifest.get("model_id"):
            raise BundleRefused(f"{folder.name}: the model id does not belong to these weights and settings")
        if program or bundle.onnx is None:
            _check_golden(folder, bundle, manifest.get("golden"))
        return bundle

    @property
    def onnx(self) -> OnnxFile | None:
        """The ONNX file that its network runs, where there is one."""
        if isinstance(self.network, ExternalNetwork):
            return self.network.file
        return None if self.network.program is None else self.network.program.file

    def save(self, folder: Path) -> Bundle:
        """Write the folder (made, or its files replaced) and load it again. Raises BundleRefused, OSError."""
        if isinstance(self.network, ExternalNetwork):
            weights = self.network.file.content
        else:
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
            if isinstance(self.network.text, UnreadText):
                raise BundleRefused(MISSING)
            if isinstance(self.network.text, LocalTextEncoder):
                tensors[REGION_QUERIES] = self.queries().contiguous()
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
        if isinstance(self.tokenizer, LocalTokenizer) and isinstance(self.network.text, LocalTextEncoder):
            manifest[TEXT_TOWER] = stored(self.network.text, self.tokenizer)
        if (encoder := encoder_id(self)) is not None:
            manifest[ENCODER] = encoder
        manifest["model_id"] = model_id_of(manifest)
        manifest["manifest_sha256"] = manifest_hash(manifest)
        folder.mkdir(parents=True, exist_ok=True)
        durable.replace(folder / weights_name(manifest), weights)
        if isinstance(self.network, RadirNetwork) and self.network.program is not None:
            durable.replace(folder / ONNX, self.network.program.file.content)
        durable.replace(folder / MANIFEST, pretty(manifest).encode())
        durable.replace(folder / CARD, model_card(manifest).encode())
        return Bundle.load(folder)

    @torch.no_grad()
    def queries(self) -> torch.Tensor:
        """The region names as the network's queries, [regions, width]; empty where it reads no text."""
        if isinstance(self.network, ExternalNetwork):
            return torch.zeros(len(self.regions), 0)
        if self.region_queries is not None:
            return self.region_queries
        ids = torch.tensor(self.tokenizer.batch([region.name for region in self.regions]))
        out: torch.Tensor = self.network.text(ids)
        return out


def _assembled(manifest: Mapping[str, Any], contents: Mapping[str, bytes | StoredFile]) -> Bundle:
    weights = contents[weights_name(manifest)]
    kind = ImageKind(manifest["kind"])
    preprocessing = Preprocessing.from_json(manifest["preprocessing"])
    if preprocessing.kind is not kind:
        raise ValueError("the kinds of image disagree")
    regions = tuple(ModelRegion(**region) for region in manifest["regions"])
    keys = [region.key for region in regions]
    if len(set(keys)) != len(keys) or GLOBAL_REGION not in keys:
        raise ValueError(f"regions repeat, or {GLOBAL_REGION!r} is missing")
    network: RadirNetwork | ExternalNetwork
    tokenizer: TextTokenizer = Tokenizer(tuple(manifest["text_vocabulary"]))
    region_queries = None
    if is_external(manifest):
        external = ExternalConfig.from_json(manifest["network"])
        network, shape = ExternalNetwork(external, weights, keys), external.shape
    else:
        config = NetworkConfig.from_json(manifest["network"])
        if tuple(config.stems) != (kind,):
            raise ValueError("the kinds of image disagree")
        text = None
        if TEXT_TOWER in manifest:
            text, reader = restored(manifest[TEXT_TOWER], config.width)
            tokenizer = reader or tokenizer
        words, findings = len(tokenizer.vocabulary), manifest["findings"]
        program = contents.get(ONNX, b"")
        network = RadirNetwork(
            config, vocabulary_size=words, regions=keys, findings=findings, text=text, program=program
        )
        assert isinstance(weights, bytes)
        region_queries = _filled(network, weights, text)
        shape = config.input_shape(kind)
    if not isinstance(manifest["training"], dict) or not isinstance(manifest["metrics"], dict):
        raise ValueError("training and metrics are tables")
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
        region_queries=region_queries,
        model_id=model_id_of(manifest),
        manifest=manifest,
    )


def _filled(network: RadirNetwork, weights: bytes, text: LocalTextEncoder | UnreadText | None) -> torch.Tensor | None:
    """Give a network its weights; returns the queries that lie beside those of a local text model."""
    tensors = load_tensors(weights)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ValueError("a weight is not a finite number")
    queries = None
    if text is not None:
        queries = tensors.pop(REGION_QUERIES)
        if queries.shape != (len(network.regions), network.config.width):
            raise ValueError("the regions' queries have another shape")
    if isinstance(text, UnreadText):
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("text.")}
    network.load_state_dict(tensors, strict=True)
    return queries


@torch.no_grad()
def golden_outputs(bundle: Bundle) -> F32:
    """The first numbers of each region's vector for the golden image, [regions, GOLDEN_NUMBERS]; then, of what a
    backbone adds, as many of the last."""
    bundle.network.eval()
    image = torch.from_numpy(golden_image(bundle.preprocessing.shape))[None]
    views = torch.tensor([view_index(bundle.kind, None)])
    rows = torch.arange(len(bundle.regions))
    vectors = bundle.network(image, views, bundle.kind, bundle.queries(), rows).vectors[0]
    shown = [vectors[:, :GOLDEN_NUMBERS]]
    if isinstance(bundle.network, RadirNetwork) and bundle.network.appearance is not None:
        shown.append(vectors[:, -GOLDEN_NUMBERS:])
    numbers: F32 = torch.cat(shown, dim=1).numpy()
    return numbers


def _check_golden(folder: Path, bundle: Bundle, expected: Any) -> None:
    try:
        golden = np.asarray(expected, np.float32)
        off = float(np.abs(golden_outputs(bundle) - golden).max())
    except (TypeError, ValueError, RuntimeError) as error:
        raise BundleRefused(f"{folder.name}: the golden outputs cannot be compared: {error}") from None
    if not off <= GOLDEN_TOLERANCE:
        raise BundleRefused(f"{folder.name}: the network answers its golden image differently here (off by {off:.3g})")
