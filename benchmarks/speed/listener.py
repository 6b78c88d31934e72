"""Receiving by C-STORE: our listener beside Orthanc and DCMTK's storescp, with DCMTK's storescu as the client of all.

`python -m benchmarks.speed.listener [--associations 1,4,16] [--out docs/results]` prints instances per second, each
association sending its own study. The receivers are started together and take turns, so that a busy machine slows all
of them alike. Ours reports success only when file, folder and catalogue row are durable; Orthanc runs as Debian sets it
up (SQLite index, files synced one by one); storescp writes a file and syncs nothing: an upper bound, not a peer.
A second table says how much processor time each instance took, the sender's share apart: which bounds the rate.
`--memory 100000` adds the memory of our listener while it receives as many small instances.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from rich.console import Console
from rich.table import Table

from benchmarks import results
from benchmarks.speed.listener_page import page, table
from radir_pacs.catalogue import embedded_pid, stop_embedded
from radir_pacs.config import Settings
from tests.conftest import free_port
from tests.services import of_system

_START_S = 60.0
_FILES = 8  # per study; the client sends them again and again under new SOP Instance UIDs
_WITHOUT_DELAY = {"TCP_NODELAY": "1"}  # else Debian's DCMTK waits 40 ms per instance
_SMALL_PX = 128
_MEMORY_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is sent. share: how many instances are sent, of those that ``--instances`` asks for."""

    name: str
    sop_class: str
    modality: str
    side_px: int
    share: float = 1.0


CT = Kind(name="CT slice, 0.5 MB", sop_class=CTImageStorage, modality="CT", side_px=512)
XRAY = Kind(
    name="X-ray, 8 MB", sop_class=DigitalXRayImageStorageForPresentation, modality="DX", side_px=2048, share=0.125
)
KINDS = {"ct": CT, "xray": XRAY}


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """A running receiver; ``enter`` is put before a command that must run in its network namespace.

    pids: its processes. database_pid: the server of its database, where that is another process.
    """

    port: int
    pids: tuple[int, ...] = ()
    enter: tuple[str, ...] = ()
    database_pid: int | None = None

    def processor_s(self) -> tuple[float, float]:
        """Processor seconds so far: of its processes, of its database."""
        return _processor_s(self.pids), _processor_s(() if self.database_pid is None else (self.database_pid,))


def study(folder: Path, kind: Kind) -> list[Path]:
    """The files of one study of noise, as hard to compress as an image can be."""
    study_uid, series_uid, rng = generate_uid(), generate_uid(), np.random.default_rng(0)
    paths = []
    for number in range(_FILES):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.SOPClassUID, ds.SOPInstanceUID = kind.sop_class, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = study_uid, series_uid, kind.modality
        ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20200102", "101112", "A1"
        ds.PatientID, ds.PatientName, ds.InstanceNumber = "BENCH", "Bench^Mark", number + 1
        ds.PatientSex, ds.PatientBirthDate, ds.StudyDescription = "F", "19600102", "Thorax"
        ds.Manufacturer, ds.ManufacturerModelName, ds.SeriesDescription = "Bench", "Mark", "Lung"
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.RescaleSlope, ds.RescaleIntercept = [0.7, 0.7], 1, 0
        ds.StudyID, ds.SeriesNumber = "1", 1
        ds.Rows = ds.Columns = kind.side_px
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.PixelData = rng.integers(-1000, 1000, kind.side_px**2, np.int16).tobytes()
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{study_uid[-12:]}-{number}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def await_answer(receiver: Receiver) -> None:
    """Until the receiver answers an echo."""
    deadline = time.monotonic() + _START_S
    echo = [*receiver.enter, dcmtk("echoscu"), "-to", "2", "127.0.0.1", str(receiver.port)]
    while subprocess.run(echo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        if time.monotonic() > deadline:
            raise SystemExit("error: a receiver does not start")
        time.sleep(0.1)


@contextmanager
def running(*commands: list[str], log: Path, **environment: str) -> Iterator[tuple[int, ...]]:
    """These programs, until the end of the body; yields their process ids."""
    with log.open("wb") as file:
        processes = [
            subprocess.Popen(command, env=os.environ | _WITHOUT_DELAY | environment, stdout=file, stderr=file)
            for command in commands
        ]
    try:
        yield tuple(process.pid for process in processes)
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait()


def dcmtk(program: str) -> str:
    """Path of a program of DCMTK."""
    found = of_system(program)
    if found is None:
        raise SystemExit("error: DCMTK is missing (Debian: apt-get install dcmtk)")
    return found


@contextmanager
def storescp(folder: Path) -> Iterator[Receiver]:
    """DCMTK's receiver with one process per association, as it recommends (--fork), and unchanged bytes (+B)."""
    port, kept = free_port(), folder / "kept"
    kept.mkdir()
    command = [dcmtk("storescp"), "--fork", "+B", "-od", str(kept), "-pdu", "131072", str(port)]
    with running(command, log=folder / "log") as pids:
        yield Receiver(port=port, pids=pids)


@contextmanager
def orthanc(folder: Path) -> Iterator[Receiver]:
    """Orthanc in a network namespace of its own, since it binds all addresses whatever its settings say."""
    port = free_port()
    configuration = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "HttpServerEnabled": False,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    program = shutil.which("Orthanc", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    script = f"ip link set lo up && exec {program} {folder / 'orthanc.json'}"
    with running(["unshare", "--net", "sh", "-c", script], log=folder / "log") as (pid,):
        yield Receiver(port=port, pids=(pid,), enter=("nsenter", f"--net=/proc/{pid}/ns/net"))


@contextmanager
def radir(folder: Path, processes: int | None = None) -> Iterator[Receiver]:
    """Our listener on its own embedded Postgres; as many processes as the default asks for, unless said otherwise."""
    port, home = free_port(), folder / "home"
    count = processes or Settings(home=home).listener_process_count
    command = [sys.executable, "-m", "radir_pacs.listener"]
    try:
        with running(
            *[[*command, "--name", f"listener-{number}"] for number in range(count)],
            log=folder / "log",
            RADIR_HOME=str(home),
            RADIR_LISTENER_PORT=str(port),
            RADIR_LISTENER_PROCESSES=str(count),
            RADIR_LISTENER_MAX_ASSOCIATIONS="64",  # one address sends all of them
        ) as pids:
            await_answer(Receiver(port=port))
            yield Receiver(port=port, pids=pids, database_pid=embedded_pid(home))
    finally:
        stop_embedded(home)


def send(receiver: Receiver, studies: list[list[Path]], each: int) -> float:
    """Seconds that it takes to send ``each`` instances of every study, at the same time, one association each."""
    began = time.monotonic()
    command = [*receiver.enter, dcmtk("storescu"), "-pdu", "131072", "+II", "--repeat", str(max(each // _FILES, 1))]
    command += ["-aec", "RADIR", "127.0.0.1", str(receiver.port)]
    clients = [
        subprocess.Popen(
            [*command, *map(str, paths)],
            env=os.environ | _WITHOUT_DELAY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for paths in studies
    ]
    if sum(client.wait() for client in clients):
        raise SystemExit("error: storescu failed")
    return time.monotonic() - began


def rates(
    kind: Kind, associations: list[int], receivers: dict[str, Callable[[Path], object]], args: argparse.Namespace
) -> list[dict[str, object]]:
    """A row per receiver and number of associations: instances per second of each round."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as top, ExitStack() as stack:
        sent = Path(top) / "sent"
        sent.mkdir()
        studies = [study(sent, kind) for _ in range(max(associations))]
        started: dict[str, Any] = {}
        for number, (name, start) in enumerate(receivers.items()):
            folder = Path(top) / str(number)
            folder.mkdir()
            started[name] = stack.enter_context(start(folder))  # type: ignore[arg-type]
            await_answer(started[name])
        for receiver in started.values():  # what is done once: connections, folders, code
            send(receiver, studies[:1], _FILES)
        for count in associations:
            each = max(int(args.instances * kind.share / count), _FILES) // _FILES * _FILES
            found: dict[str, list[float]] = {name: [] for name in started}
            spent: dict[str, list[tuple[float, ...]]] = {name: [] for name in started}
            for turn in range(args.rounds):
                names = list(started)[:: -1 if turn % 2 else 1]
                for name in names:
                    before = (*started[name].processor_s(), _senders_s())
                    found[name].append(each * count / send(started[name], studies[:count], each))
                    behind = (*started[name].processor_s(), _senders_s())
                    parts = zip(before, behind, strict=True)
                    spent[name].append(tuple(1000 * (after - had) / (each * count) for had, after in parts))
            for name, values in found.items():
                print(f"{kind.name}, {count} associations, {name}: {values}", file=sys.stderr)
                row = {"kind": kind.name, "associations": count, "receiver": name, "per_second": values}
                rows.append(row | {"processor_ms": spent[name]})  # of the receiver, its database, the sender
    return rows


def memory(instances: int, args: argparse.Namespace) -> list[dict[str, object]]:
    """Resident MiB of our listener's processes, while it receives small slices on four associations."""
    small = Kind(name="small", sop_class=CTImageStorage, modality="CT", side_px=_SMALL_PX)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as top:
        sent, home = Path(top) / "sent", Path(top) / "radir"
        sent.mkdir()
        home.mkdir()
        studies = [study(sent, small) for _ in range(4)]
        with radir(home) as receiver:
            await_answer(receiver)
            each = instances // _MEMORY_STEPS // len(studies)
            for step in range(_MEMORY_STEPS + 1):
                if step:
                    send(receiver, studies, each)
                resident = [_resident_mib(pid) for pid in receiver.pids]
                rows.append({"instances": step * each * len(studies), "resident_mib": resident})
                print(rows[-1], file=sys.stderr)
    return rows


def _processor_s(pids: tuple[int, ...]) -> float:
    """Of these processes and their children, those that ended included."""
    total = 0.0
    for pid in pids:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])  # user, system, and both of children that were waited for
    return total


def _senders_s() -> float:
    """Of this process's children that ended: while receivers run, its senders."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="ct,xray", help="ct, xray or both")
    parser.add_argument("--instances", type=int, default=800, help="CT slices a round; an eighth as many X-rays")
    parser.add_argument("--associations", default="1,4,16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=None, help="of our listener; as it is set up by default")
    parser.add_argument("--only", default="", help="receivers to measure, by a part of their name")
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="also: memory over N small instances")
    parser.add_argument("--folder", type=Path, help="where all receivers keep their files; the system's by default")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for listener.json and listener.md")
    args = parser.parse_args()
    dcmtk("storescu")
    receivers: dict[str, Callable[[Path], object]] = {
        "DCMTK storescp": storescp,
        "Orthanc": orthanc,
        "RadIR-PACS": lambda folder: radir(folder, args.processes),
    }
    receivers = {name: start for name, start in receivers.items() if args.only.lower() in name.lower()}
    kinds = [KINDS[name] for name in args.kinds.split(",") if name]
    rows: list[dict[str, object]] = []
    for kind in kinds:
        rows += rates(kind, [int(count) for count in args.associations.split(",")], receivers, args)
        shown = Table(title=f"{kind.name}: received per second ({os.cpu_count()} cores, sender included)")
        head, *body = table(rows, kind.name)
        for column in head:
            shown.add_column(column, justify="right")
        for line in body:
            shown.add_row(*line)
        Console(width=100).print(shown)
    held = memory(args.memory, args) if args.memory else []
    if args.out is not None:
        results.write(
            args.out,
            "listener",
            {"rows": rows, "memory": held},
            page(rows, held, [kind.name for kind in kinds], rounds=args.rounds, small_px=_SMALL_PX),
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
