"""A network's answers to queries in any words: a region it was never trained on, a finding there.

The names a network was trained on have rows of statistics in its head. The statistics of any
other name are those of the gallery's answers to it, which a hospital can compute from its own images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from radir_pacs.encode import Bundle
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.encode.words import centred, reader_of
from radir_training.data.studies import StudySet
from radir_training.evaluation.embeddings import Progress, batches, check_fits
from radir_training.evaluation.measures import F32


@torch.no_grad()
def vectors(bundle: Bundle, data: StudySet, names: Sequence[str], progress: Progress = lambda done: None) -> F32:
    """Unit vectors float32 [n, names, dim] of regions named in words, centred on these images' own mean and spread.

    ``progress`` gets the number of images done. Raises BadInput.
    """
    network = reader_of(bundle)
    found: F32 = centred(network, network.head.raw(_features(network, bundle, data, names, progress))).numpy()
    return found


@torch.no_grad()
def presence(bundle: Bundle, data: StudySet, phrases: Sequence[str], progress: Progress = lambda done: None) -> F32:
    """Logits float32 [n, phrases] of what each phrase ("mass in the lungs", see ``material.phrase``) gives of being
    present.

    ``progress`` gets the number of images done. Raises BadInput.
    """
    network = reader_of(bundle)
    logits: F32 = network.presence(_features(network, bundle, data, phrases, progress)).numpy()
    return logits


def _features(
    network: RadirNetwork, bundle: Bundle, data: StudySet, texts: Sequence[str], progress: Progress
) -> Tensor:
    """Each image's answer to each text, float32 [n, texts, width]."""
    check_fits(bundle, data)
    queries = network.text(torch.tensor(bundle.tokenizer.batch(texts)))
    return torch.cat(
        [
            network.decode(network.image_tokens(images, views, data.kind), queries)
            for images, views in batches(data, progress)
        ]
    )
