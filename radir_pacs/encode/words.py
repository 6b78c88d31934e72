"""A network's answers to a question in any words, also ones it was never trained on, from kept image tokens.

The text encoder reads the words as it reads the name of a region. The names that a network was trained on have
statistics of their own in its head; of other words these are the mean and spread of the answers that are compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from radir_pacs.errors import BadInput
from radir_pacs.types import F32, KeptTokens

from .bundle import Bundle
from .local_text import MISSING, UnreadText
from .network import RadirNetwork, spread
from .tokenizer import UNKNOWN

WORD_TOKENS = 64  # of a question that are read
BATCH = 32  # images at a time


def reader_of(bundle: Bundle) -> RadirNetwork:
    """The bundle's network, which must have a text encoder. Raises BadInput."""
    if not isinstance(bundle.network, RadirNetwork):
        raise BadInput(f"{bundle.model_id} is an imported model without a text encoder: it cannot be queried in words")
    if isinstance(bundle.network.text, UnreadText):
        raise BadInput(MISSING)
    return bundle.network.eval()


@torch.inference_mode()
def vectors_in_words(bundle: Bundle, kept: Sequence[KeptTokens], text: str) -> F32:
    """Unit vectors float32 [n, dim] of these images, asked for a region in words; centred on their own mean and spread.

    Raises BadInput.
    """
    network = reader_of(bundle)
    return centred(network, network.head.raw(_features(network, bundle, kept, text)))[:, 0].numpy()


def centred(network: RadirNetwork, raw: Tensor) -> Tensor:
    """Unit vectors [n, q, dim] of raw answers to q texts, measured from the mean and spread of these n."""
    mean = raw.mean(0)
    return network.head.measured_from(mean, spread(raw, mean), raw)[1]


@torch.inference_mode()
def presence_in_words(bundle: Bundle, kept: Sequence[KeptTokens], text: str) -> F32:
    """From 0 to 1, float32 [n]: how much each image says that what the words name is there ("mass in the left lung").

    Raises BadInput.
    """
    network = reader_of(bundle)
    found: F32 = network.presence(_features(network, bundle, kept, text))[:, 0].float().sigmoid().numpy()
    return found


def _features(network: RadirNetwork, bundle: Bundle, kept: Sequence[KeptTokens], text: str) -> Tensor:
    """Each image's answer, float32 [n, 1, width]."""
    ids = bundle.tokenizer.batch([text], WORD_TOKENS)
    if all(token == UNKNOWN for token in ids[0]):
        raise BadInput("the question holds no word that the model can read")
    query = network.text(torch.tensor(ids))
    parts = []
    for start in range(0, len(kept), BATCH):
        tokens = np.stack([one.tokens.values for one in kept[start : start + BATCH]])
        parts.append(network.decode(torch.from_numpy(tokens).float(), query).float())
    return torch.cat(parts)
