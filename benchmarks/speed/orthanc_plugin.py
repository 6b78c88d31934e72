"""The cost of our plugin for Orthanc while our service misbehaves: instances per second, beside an Orthanc without it.

    python -m benchmarks.speed.orthanc_plugin [--pairs 300] [--block 10] [--folder /dev/shm]

For each misbehaviour two Orthancs run, one without the plugin. They store blocks of CT slices (512 x 512, 0.5 MB) in
turn by POST /instances; the one not being measured is stopped (SIGSTOP), so that neither costs the other anything, and
load on the machine affects both alike. Each block is a study that becomes stable and cannot be handed over, while a
viewer asks for similar cases five times a second. The plugin's work beside storing is timed by the clock, so being
stopped half of the time doubles its share here.

Two ratios, with the plugin over without it, each the median over neighbouring blocks with the 95 % interval of a
bootstrap: instances per second of wall clock, and processor time per instance, of all of Orthanc's threads
together, to the nanosecond. Other load disturbs the first and hardly the second; waiting shows in the first alone. The
exit status is 0 when both intervals lie within 5 % of 1, or the plugin costs less than that.
"""

from __future__ import annotations

import argparse
import http.client
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.conftest import free_port
from tests.dicom_files import radiograph, save
from tests.integration.orthanc import DICOM_WEB, PYTHON, Orthanc, running_orthanc

SCRIPT = Path(__file__).parents[2] / "orthanc_plugin" / "radir_orthanc.py"
CT = "1.2.840.10008.5.1.4.1.1.2"
PLACEHOLDERS = tuple(f"2.25.{number}{'0' * 34}" for number in (1, 2, 3))
QUESTION_S = 0.2
TOLERANCE = 0.05
Misbehaviour = Callable[[socket.socket], None]


def silent(connection: socket.socket) -> None:
    connection.settimeout(60)
    while connection.recv(65536):
        pass


def garbage(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(random.randbytes(4096))


def large(connection: socket.socket) -> None:
    """10 MB of valid JSON, which is garbage to a DICOM peer."""
    connection.recv(65536)
    body = b"[" + b"0," * (5 << 20) + b"0]"
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )


MISBEHAVIOURS: dict[str, Misbehaviour | None] = {"down": None, "slow, 60 s": silent, "garbage": garbage, "10 MB": large}


@contextmanager
def peer(behaviour: Misbehaviour | None) -> Iterator[int]:
    """A port whose server behaves like that; without a behaviour nothing listens there."""
    if behaviour is None:
        yield free_port()
        return

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                behaviour(connection)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@contextmanager
def orthanc(folder: Path, behaviour: Misbehaviour | None, *, plugin: bool) -> Iterator[Orthanc]:
    with ExitStack() as stack:
        settings: dict[str, object] = {}
        if plugin:
            ports = [stack.enter_context(peer(behaviour)) for _ in range(2)]
            settings = {
                "PythonScript": str(SCRIPT),
                "DicomModalities": {"radir": ["RADIR", "127.0.0.1", ports[0]]},
                "DicomModalitiesInDatabase": False,
                "RadIR": {"Url": f"http://127.0.0.1:{ports[1]}"},
            }
        plugins = (DICOM_WEB, PYTHON) if plugin else (DICOM_WEB,)
        yield stack.enter_context(running_orthanc(folder, plugins=plugins, **settings))


class Block(NamedTuple):
    """Instances per second, and Orthanc's processor time per instance."""

    rate: float
    cpu_ms: float


class Interval(NamedTuple):
    """The median of a ratio, and its 95 % bootstrap interval over the pairs."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, ratios: list[float]) -> Interval:
        chance = np.random.default_rng(0)
        medians = np.median(chance.choice(ratios, (2000, len(ratios))), axis=1)
        return cls(float(np.median(ratios)), *(float(np.quantile(medians, q)) for q in (0.025, 0.975)))

    def __str__(self) -> str:
        return f"{self.middle:.3f} ({self.low:.3f} to {self.high:.3f})"


class Sender:
    """Stores blocks in one Orthanc, and queries it meanwhile."""

    def __init__(self, orthanc: Orthanc, question: str) -> None:
        self.orthanc, self._question = orthanc, question
        self.blocks: list[Block] = []
        self._clock = (~orthanc.process.pid << 3) | 2  # Linux: what all threads of that process have used
        self.slowest_answer_s = 0.0
        self._since_question_s = 0.0

    def store(self, block: list[bytes]) -> None:
        self.orthanc.process.send_signal(signal.SIGCONT)
        asking = threading.Thread(target=self._ask)
        if self._since_question_s >= QUESTION_S:
            self._since_question_s = 0.0
            asking.start()
        connection = self._connect()
        began, cpu_s = time.perf_counter(), self._cpu_s()
        for content in block:
            connection.request("POST", "/instances", content)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
        taken_s, cpu_s = time.perf_counter() - began, self._cpu_s() - cpu_s
        connection.close()
        self._since_question_s += taken_s
        if asking.ident is not None:
            asking.join()
        self.orthanc.process.send_signal(signal.SIGSTOP)
        self.blocks.append(Block(rate=len(block) / taken_s, cpu_ms=cpu_s * 1000 / len(block)))

    def _cpu_s(self) -> float:
        return time.clock_gettime(self._clock)

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.orthanc.port, timeout=120)

    def _ask(self) -> None:
        connection = self._connect()
        began = time.perf_counter()
        connection.request("GET", self._question)
        connection.getresponse().read()
        connection.close()
        self.slowest_answer_s = max(self.slowest_answer_s, time.perf_counter() - began)


@lru_cache(maxsize=1)
def template() -> bytes:
    """A CT slice whose study, series and instance have UIDs to be replaced."""
    pixels = np.random.default_rng(0).integers(0, 2000, (512, 512)).astype(np.uint16).tobytes()
    study, series, instance = PLACEHOLDERS
    ds = radiograph(
        SOPClassUID=CT,
        SOPInstanceUID=instance,
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        Modality="CT",
        Rows=512,
        Columns=512,
        PixelData=pixels,
    )
    with tempfile.TemporaryDirectory() as folder:
        return save(ds, Path(folder) / "slice.dcm").read_bytes()


def slices(count: int) -> list[bytes]:
    """One series of CT slices as files; every call makes a new study."""
    made = template()
    for placeholder in PLACEHOLDERS[:2]:
        made = made.replace(placeholder.encode(), new_uid())
    return [made.replace(PLACEHOLDERS[2].encode(), new_uid()) for _ in range(count)]


def new_uid() -> bytes:
    return b"2.25.%d" % random.randrange(10**34, 10**35)


@dataclass
class Pair:
    """Two Orthancs, each stopped except while it stores."""

    without: Sender
    with_plugin: Sender

    def store(self, block: int, first_without: bool) -> None:
        senders = (self.without, self.with_plugin)
        for sender in senders if first_without else senders[::-1]:
            sender.store(slices(block))

    def ratio(self, value: Callable[[Block], float]) -> Interval:
        blocks = zip(self.without.blocks, self.with_plugin.blocks, strict=True)
        return Interval.of([value(other) / value(bare) for bare, other in blocks])


@contextmanager
def running_pair(folder: Path, behaviour: Misbehaviour | None) -> Iterator[Pair]:
    with ExitStack() as stack:
        bare = stack.enter_context(orthanc(folder / "without", behaviour, plugin=False))
        other = stack.enter_context(orthanc(folder / "with", behaviour, plugin=True))
        for one in (bare, other):
            stack.callback(one.process.send_signal, signal.SIGCONT)
        pair = Pair(Sender(bare, "/system"), Sender(other, "/radir/similar/1.2.3?anatomy=chest"))
        pair.store(10, first_without=True)  # warm
        for sender in (pair.without, pair.with_plugin):
            sender.blocks.clear()
        yield pair


def row(name: str, pair: Pair) -> tuple[list[str], bool]:
    """(the row of the table, whether the plugin's cost is certainly below the tolerance)."""
    rate, cpu = pair.ratio(lambda block: block.rate), pair.ratio(lambda block: block.cpu_ms)
    sides = (pair.without.blocks, pair.with_plugin.blocks)
    rates = " / ".join(f"{np.median([block.rate for block in side]):.0f}" for side in sides)
    cpu_ms = " / ".join(f"{np.median([block.cpu_ms for block in side]):.2f}" for side in sides)
    holds = rate.low >= 1 - TOLERANCE and cpu.high <= 1 + TOLERANCE
    return [name, rates, str(rate), cpu_ms, str(cpu), f"{pair.with_plugin.slowest_answer_s:.1f} s"], holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=300, help="pairs of blocks per misbehaviour")
    parser.add_argument("--block", type=int, default=10, help="instances a block")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("/dev/shm"),
        help="where they store; in memory, so that the disk's variation does not hide the cost",
    )
    parser.add_argument("--only", choices=MISBEHAVIOURS, help="one misbehaviour")
    args = parser.parse_args()
    console, rows = Console(stderr=True), []
    for name, behaviour in MISBEHAVIOURS.items():
        if args.only not in (None, name):
            continue
        with (
            tempfile.TemporaryDirectory(prefix="radir-bench-", dir=args.folder) as folder,
            running_pair(Path(folder), behaviour) as pair,
        ):
            for number in track(range(args.pairs), name, console=console, transient=True):
                pair.store(args.block, first_without=number % 2 == 0)
            rows.append(row(name, pair))
    table = Table(box=None, title="Orthanc without / with the plugin, by what our service does")
    for column in ("service", "stored/s", "ratio", "CPU ms", "ratio", "slowest answer"):
        table.add_column(column, justify="left" if column == "service" else "right")
    for cells, _ in rows:
        table.add_row(*cells)
    Console(width=120).print(table)
    return 0 if all(holds for _, holds in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
