"""Image tokens that are kept: what the encoder, the part of a network that looks at pixels, made of a study's image.

From them decoder and region head answer without the image: an archive is encoded again without a pixel, and a head is
trained in minutes. Tokens of one encoder mean nothing to another, so they carry its hash.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from typing import Protocol

from torch.nn import Module

from radir_pacs.types import ImageKind

from .network import RadirNetwork
from .preprocess import Preprocessing

PARTS = ("stems", "view", "planes", "blocks", "memory_norm", "appearance")  # of a network, up to its image tokens
FORMAT = 1  # raise it when the same weights give other tokens


class _Encodes(Protocol):
    """A bundle, as far as its image tokens go."""

    @property
    def kind(self) -> ImageKind: ...
    @property
    def network(self) -> Module: ...
    @property
    def preprocessing(self) -> Preprocessing: ...


def encoder_id(bundle: _Encodes) -> str | None:
    """The hash of everything that decides a bundle's image tokens; None for a network from elsewhere."""
    network = bundle.network
    if not isinstance(network, RadirNetwork):
        return None
    config = network.config
    sizes = {name: getattr(config, name) for name in ("width", "heads", "blocks", "plane_blocks", "depth_blocks")}
    stem = asdict(config.stems[bundle.kind])
    about = [FORMAT, bundle.kind.value, sizes, stem, bundle.preprocessing.to_json()]
    if config.appearance is not None:
        about.append(asdict(config.appearance))
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        if name.split(".")[0] in PARTS:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def token_bytes(bundle: _Encodes) -> int:
    """How much a study's tokens take in half precision; 0 where none are kept, as in ``encoder_id``."""
    if not isinstance(bundle.network, RadirNetwork):
        return 0
    config, seen = bundle.network.config, bundle.network.appearance
    more = 0 if seen is None else math.ceil(len(seen.keys) * seen.config.dim / config.width)
    grid = config.stems[bundle.kind].grid
    height, across = grid[0], grid[-1]
    depth = grid[1] if len(grid) == 3 and not config.plane_blocks else 1
    return 2 * (height * depth * across + more) * config.width
