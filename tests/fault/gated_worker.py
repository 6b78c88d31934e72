"""A worker process whose network is a fake that can be held: ``python -m tests.fault.gated_worker GATE_FOLDER``.

Everything else is the real thing: settings, catalogue, blobs, pixels, broker, runner. In ``encode`` the fake writes
``<study uid>.<pid>`` into the gate folder and goes on once ``open`` stands there.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Encoding, ImageKind, Job, JobKind, Volume
from radir_workers.app import make_app, serve
from radir_workers.encode_study import EncodeStudy
from radir_workers.runner import Runner
from radir_workers.study_reader import Ready
from radir_workers.tasks import register
from tests.catalogue_material import DIM, MODEL, REGIONS


class GatedEncoder:
    """Unit vectors that follow from the study UID, after the gate."""

    def __init__(self, gate: Path) -> None:
        self._gate = gate

    def encoder(self, kind: ImageKind) -> GatedEncoder:
        return self

    def prepare(self, volume: Volume) -> Ready:
        return lambda: self.encode(volume)

    def encode(self, volume: Volume) -> Encoding:
        (self._gate / f"{volume.study_uid}.{os.getpid()}").touch()
        while not (self._gate / "open").exists():
            time.sleep(0.01)
        seed = int(volume.study_uid.rpartition(".")[2]) % 2**32
        vectors = np.random.default_rng(seed).normal(size=(len(REGIONS), DIM)).astype(np.float32)
        return Encoding(
            study_uid=volume.study_uid,
            series_uid=volume.series_uid,
            sop_uid=volume.sop_instance_uids[0],
            model_id=MODEL,
            regions=REGIONS,
            vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        )


def main(gate: Path) -> None:
    settings = config.load()
    with Catalogue.open(settings) as catalogue:
        catalogue.models.register(MODEL, ImageKind.CXR, DIM, {})
        blobs = BlobStore(settings.home / "blobs")
        encode = EncodeStudy(catalogue, blobs, GatedEncoder(gate), decode_timeout_s=60, decode_memory_mib=4096)
        use_cases: dict[JobKind, Callable[[Job], None]] = {JobKind.ENCODE: encode}
        app = make_app(settings, catalogue)
        register(app, Runner(catalogue, use_cases, worker=str(os.getpid()), lease_s=settings.job_lease_s).run)
        serve(app, hostname=f"gated-{os.getpid()}@test")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
