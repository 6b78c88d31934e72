"""Receiving CT slices: our listener beside DCMTK's storescp, with DCMTK's storescu as the client of both.

`python -m benchmarks.speed.listener [--instances N] [--associations 1,4]` prints instances per second. Ours reports
success only when file, folder and catalogue row are durable; storescp only writes a file: an upper bound, not a peer.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from rich.console import Console
from rich.table import Table


def slices(folder: Path, count: int) -> list[Path]:
    """Count CT slices of 512 x 512 (0.5 MB) of one series."""
    study, series, rng = generate_uid(), generate_uid(), np.random.default_rng(0)
    paths = []
    for number in range(count):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = study, series, "CT"
        ds.PatientID, ds.PatientName, ds.InstanceNumber = "BENCH", "Bench^Mark", number + 1
        ds.Rows = ds.Columns = 512
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.PixelData = rng.integers(-1000, 1000, 512 * 512, np.int16).tobytes()
        ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = (
            ds.SOPClassUID,
            ds.SOPInstanceUID,
        )
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{number:05d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_port(port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def storescp(folder: Path) -> Iterator[int]:
    """DCMTK's receiver with one process per association, as it recommends (--fork), and unchanged bytes (+B)."""
    port = free_port()
    command = ["storescp", "--fork", "+B", "-od", str(folder), "-pdu", "131072", str(port)]
    environment = os.environ | {"TCP_NODELAY": "1"}  # else Debian's DCMTK waits 40 ms per instance
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_port(port)
        yield port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def radir(folder: Path, processes: int) -> Iterator[int]:
    """Our listener alone, on its own embedded Postgres."""
    port = free_port()
    environment = os.environ | {
        "RADIR_HOME": str(folder),
        "RADIR_LISTENER_PORT": str(port),
        "RADIR_LISTENER_PROCESSES": str(processes),
        "RADIR_LOG_LEVEL": "ERROR",
    }
    command = [sys.executable, "-m", "radir_pacs.listener"]
    running = [subprocess.Popen(command, env=environment) for _ in range(processes)]
    try:
        await_port(port)
        yield port
    finally:
        for process in running:
            process.terminate()
            process.wait()
        from radir_pacs.catalogue import stop_embedded

        stop_embedded(folder)


def rate(port: int, parts: list[list[Path]]) -> float:
    """Instances per second, with the parts sent at the same time, one association each."""
    environment = os.environ | {"TCP_NODELAY": "1"}
    began = time.monotonic()
    clients = [
        subprocess.Popen(
            ["storescu", "-pdu", "131072", "-aec", "RADIR", "127.0.0.1", str(port), *map(str, part)],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        for part in parts
    ]
    for client in clients:
        if client.wait() != 0:
            raise SystemExit("storescu failed")
    return sum(map(len, parts)) / (time.monotonic() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--associations", default="1,4")
    args = parser.parse_args()
    if shutil.which("storescu") is None:
        raise SystemExit("error: DCMTK is missing (Debian: apt-get install dcmtk)")
    table = Table(title=f"CT slices of 0.5 MB received per second ({os.cpu_count()} cores, client included)")
    for column in ("receiver", *(f"{n} associations" for n in args.associations.split(","))):
        table.add_column(column, justify="right")
    receivers = {
        "DCMTK storescp": storescp,
        "radir, 1 process": lambda folder: radir(folder, 1),
        "radir, 2 processes": lambda folder: radir(folder, 2),
    }
    for name, receiver in receivers.items():
        cells = []
        for associations in map(int, args.associations.split(",")):
            with tempfile.TemporaryDirectory() as sent, tempfile.TemporaryDirectory() as kept:
                files = slices(Path(sent), args.instances)
                with receiver(Path(kept)) as port:
                    cells.append(f"{rate(port, [files[n::associations] for n in range(associations)]):.0f}")
        table.add_row(name, *cells)
    Console(width=100).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
