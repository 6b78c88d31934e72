"""Reports as a network reads them: the same at its training and afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from radir_pacs.types import F32

from .bundle import Bundle
from .network import RadirNetwork

REPORT_TOKENS = 128
BATCH = 32
_HEADINGS = ("FINDINGS:", "IMPRESSION:")


def body(report: str) -> str:
    """A report's findings and impression, where it has such headings; else all of it."""
    start = min((at for heading in _HEADINGS if (at := report.find(heading)) >= 0), default=0)
    return report[start:]


class ReportReader:
    """The text encoder of a bundle. ``threads`` (0: torch's choice) holds for the whole process."""

    def __init__(self, network: RadirNetwork, bundle: Bundle, threads: int = 0) -> None:
        if threads > 0:
            torch.set_num_threads(threads)
        self._network, self._tokenizer = network, bundle.tokenizer

    @classmethod
    def of(cls, bundle: Bundle, threads: int = 0) -> ReportReader | None:
        """None for a network from elsewhere, which has no text encoder."""
        return cls(bundle.network, bundle, threads) if isinstance(bundle.network, RadirNetwork) else None

    @torch.inference_mode()
    def __call__(self, reports: Sequence[str]) -> F32:
        """Unit vectors float32 [n, dim], to be compared with those of whole images."""
        texts, parts = [body(report) for report in reports], []
        for start in range(0, len(texts), BATCH):
            ids = torch.tensor(self._tokenizer.batch(texts[start : start + BATCH], limit=REPORT_TOKENS))
            parts.append(self._network.report_vectors(ids).float().numpy())
        found: F32 = np.concatenate(parts)
        return found
