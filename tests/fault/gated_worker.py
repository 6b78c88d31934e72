"""A worker process whose network is a fake that can be held: ``python -m tests.fault.gated_worker GATE_FOLDER``.

Everything else is the real thing: settings, catalogue, blobs, pixels, broker, leases. The fake writes
``<study uid>.<pid>`` into the gate folder and goes on once ``open`` stands there.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.encode import EncoderInput
from radir_pacs.types import Encoding, ImageKind
from radir_workers.app import ENCODE_QUEUES, make_app, serve
from radir_workers.tasks import register
from tests.catalogue_material import DIM, MODEL, REGIONS, serve_model
from tests.encoding_material import FakeShelf, encoding_line


class GatedNetwork:
    """Unit vectors that follow from the study UID, after the gate."""

    def __init__(self, gate: Path) -> None:
        self._gate = gate

    def __call__(self, one: EncoderInput) -> Encoding:
        (self._gate / f"{one.study_uid}.{os.getpid()}").touch()
        while not (self._gate / "open").exists():
            time.sleep(0.01)
        seed = int(one.study_uid.rpartition(".")[2]) % 2**32
        vectors = np.random.default_rng(seed).normal(size=(len(REGIONS), DIM)).astype(np.float32)
        return Encoding(
            study_uid=one.study_uid,
            series_uid=one.series_uid,
            sop_uid=one.sop_uid,
            model_id=MODEL,
            regions=REGIONS,
            vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        )


def main(gate: Path) -> None:
    settings = config.load()
    with Catalogue.open(settings) as catalogue:
        serve_model(catalogue, MODEL, ImageKind.CXR, DIM, {})
        shelf = FakeShelf(GatedNetwork(gate))
        app = make_app(settings, catalogue)
        with encoding_line(
            catalogue,
            settings.home / "blobs",
            shelf,
            worker=str(os.getpid()),
            lease_s=settings.job_lease_s,
        ) as line:
            register(app, line.run)
            queues = tuple(ENCODE_QUEUES.values())
            serve(app, hostname=f"gated-{os.getpid()}@test", queues=queues, drain_s=settings.drain_s, on_stop=line.stop)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
