"""An untrained bundle, the same for the same seed: enough where it only matters that a network is there."""

from __future__ import annotations

import torch

from radir_pacs.encode import CONFIGS, Bundle, ModelRegion, Preprocessing
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
    config = CONFIGS["tiny"].only(kind)
    tokenizer = Tokenizer.fitted(name for _, name, _ in REGIONS)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = RadirNetwork(
            config,
            vocabulary_size=len(tokenizer.vocabulary),
            regions=[key for key, _, _ in REGIONS],
            findings=["effusion"],
        ).eval()
    return Bundle(
        kind=kind,
        network=network,
        tokenizer=tokenizer,
        preprocessing=Preprocessing.of(config, kind),
        regions=tuple(ModelRegion(key=key, name=name, sided=sided) for key, name, sided in REGIONS),
        training={"data": "none", "licence": "none"},
    )
