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


def reader_of(bundle: Bundle) -> RadirNetwork:
    """The bundle's network, which must have a text encoder. Raises BadInput."""
    if not isinstance(bundle.network, RadirNetwork):
        raise BadInput(f"{bundle.model_id} is an imported model without a text encoder: it cannot be queried in words")
    if isinstance(bundle.network.text, UnreadText):
        raise BadInput(MISSING)
    return bundle.network.eval()


def centred(network: RadirNetwork, raw: Tensor) -> Tensor:
    """Unit vectors [n, q, dim] of raw answers to q texts, measured from the mean and spread of these n."""
    mean = raw.mean(0)
    return network.head.measured_from(mean, spread(raw, mean), raw)[1]


class Asked:
    """A text put to a bundle's network, which answers for as many images as the caller holds tokens of at a time.

    ``threads`` (0: torch's choice) holds for the whole process. Raises BadInput.
    """

    def __init__(self, bundle: Bundle, text: str, threads: int = 0) -> None:
        if threads > 0:
            torch.set_num_threads(threads)
        self._network = reader_of(bundle)
        ids = bundle.tokenizer.batch([text], WORD_TOKENS)
        if all(token == UNKNOWN for token in ids[0]):
            raise BadInput("the question holds no word that the model can read")
        with torch.inference_mode():
            self._query = self._network.text(torch.tensor(ids))

    @torch.inference_mode()
    def raw(self, kept: Sequence[KeptTokens]) -> F32:
        """Float32 [n, dim]: the answers for a region, to be ``compared``."""
        found: F32 = self._network.head.raw(self._features(kept))[:, 0].numpy()
        return found

    @torch.inference_mode()
    def compared(self, raw: F32) -> F32:
        """Unit vectors float32 [n, dim] of raw answers, centred on their own mean and spread."""
        found: F32 = centred(self._network, torch.from_numpy(raw)[:, None])[:, 0].numpy()
        return found

    @torch.inference_mode()
    def presence(self, kept: Sequence[KeptTokens]) -> F32:
        """From 0 to 1, float32 [n]: how much each image says that what the text names is there ("mass in the left
        lung")."""
        found: F32 = self._network.presence(self._features(kept))[:, 0].float().sigmoid().numpy()
        return found

    def _features(self, kept: Sequence[KeptTokens]) -> Tensor:
        """Each image's answer, float32 [n, 1, width]."""
        tokens = np.stack([one.tokens.values for one in kept])
        return self._network.decode(torch.from_numpy(tokens).float(), self._query).float()
