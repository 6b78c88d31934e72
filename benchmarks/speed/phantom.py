"""Synthetic patients per second on one core, including drawing, projecting, reporting and writing DICOM.

`python -m benchmarks.speed.phantom [--patients N] [--sizes tiny,small,medium]`. Processor time is what an idle
core would take.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from radir_pacs.types import ImageKind
from radir_training.phantoms import SIZES
from radir_training.phantoms.hospital import HospitalRequest, build_patient


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=10)
    parser.add_argument("--sizes", default="tiny,small")
    args = parser.parse_args()
    table = Table(title="radir phantom, one process")
    for column in ("size", "pixels", "files", "patients per s of processor time", "patients per s of wall clock"):
        table.add_column(column, justify="right")
    for name in args.sizes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            order = HospitalRequest(
                out=Path(folder), patients=args.patients + 1, seed=1, size=SIZES[name], kinds=frozenset(ImageKind)
            )
            build_patient(order, args.patients)  # imports and caches
            cpu, wall = time.process_time(), time.perf_counter()
            studies = [study for index in range(args.patients) for study in build_patient(order, index)]
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        files = sum(len(study["files"]) for study in studies)
        pixels = f"{SIZES[name].pixels}²"
        table.add_row(name, pixels, str(files), f"{args.patients / cpu:.1f}", f"{args.patients / wall:.1f}")
    Console(width=110).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
