"""An untrained bundle, the same for the same seed: enough where it only matters that a network is there."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch

from radir_pacs.encode import CONFIGS, Bundle, ModelRegion, NetworkConfig, Preprocessing
from radir_pacs.encode.config import ProgramConfig
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.encode.tokenizer import Tokenizer
from radir_pacs.types import ImageKind

REGIONS = (
    ("chest", "chest", False),
    ("right_lung", "right lung", True),
    ("left_lung", "left lung", True),
    ("heart", "heart", False),
)


def seeded_bundle(kind: ImageKind, seed: int = 0) -> Bundle:
    return _seeded(CONFIGS["tiny"].only(kind), kind, seed)


def seeded_bundle_over_a_program() -> Bundle:
    """Of radiographs, with a program from elsewhere in place of the stem: ``onnx_toy``, by 4 x 4 places."""
    from tests.onnx_material import DIM, SHAPE, onnx_toy

    content = onnx_toy(16).SerializeToString()
    program = ProgramConfig(
        shape=SHAPE, clip=(0.5, 99.5), grid=(4, 4), channels=DIM, sha256=hashlib.sha256(content).hexdigest()
    )
    config = replace(CONFIGS["tiny"].only(ImageKind.CXR), stems={ImageKind.CXR: program}, blocks=0)
    return _seeded(config, ImageKind.CXR, 0, content)


def _seeded(config: NetworkConfig, kind: ImageKind, seed: int, program: bytes = b"") -> Bundle:
    tokenizer = Tokenizer.fitted(name for _, name, _ in REGIONS)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = RadirNetwork(
            config,
            vocabulary_size=len(tokenizer.vocabulary),
            regions=[key for key, _, _ in REGIONS],
            findings=["effusion"],
            program=program,
        ).eval()
    return Bundle(
        kind=kind,
        network=network,
        tokenizer=tokenizer,
        preprocessing=Preprocessing.of(config, kind),
        regions=tuple(ModelRegion(key=key, name=name, sided=sided) for key, name, sided in REGIONS),
        training={"data": "none", "licence": "none"},
    )
