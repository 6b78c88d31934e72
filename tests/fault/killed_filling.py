"""An index job that kills itself when an outside engine has some of the vectors: ``python -m tests.fault.killed_filling
JOB_ID``. Settings come from the environment. It is kill -9 of this process.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.index.engines import Engines
from radir_pacs.types import F32, I64
from radir_workers.index_partition import IndexPartition


def halfway(real: Callable[..., None]) -> Callable[..., None]:
    """Adds the first half, and dies."""

    def add(place: tuple[str, str], labels: I64, vectors: F32) -> None:
        half = len(labels) // 2
        real(place, labels[:half], vectors[:half])
        os.kill(os.getpid(), signal.SIGKILL)

    return add


def main() -> None:
    settings = config.load()
    with Catalogue.open(settings) as catalogue:
        engines = Engines(catalogue, settings)
        engine: Any = engines.named(catalogue.generations.engine())
        job = catalogue.jobs.claim(int(sys.argv[1]), "killed")
        assert job is not None
        with mock.patch.object(engine, "add", halfway(engine.add)):
            IndexPartition(catalogue, settings.home, engines=engines)(job)


if __name__ == "__main__":
    main()
