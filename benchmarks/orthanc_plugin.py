"""What our plugin costs Orthanc while our service misbehaves: instances stored a second, beside an Orthanc without it.

    python -m benchmarks.orthanc_plugin [--pairs 300] [--block 10] [--folder /dev/shm]

For each misbehaviour two Orthancs run, one without the plugin. They store blocks of CT slices (512 x 512, 0.5 MB) in
turn by POST /instances; who is not being measured is stopped (SIGSTOP), so that neither pays for the other, and a busy
machine meets both alike. Each block is a study that becomes stable and is handed over to nobody, and a viewer asks
for similar cases five times a second. The ratio is that of neighbouring blocks, its median with the 95 % interval of a
bootstrap; CPU is Orthanc's own, which others on the machine change little.
"""

from __future__ import annotations

import argparse
import http.client
import random
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.conftest import free_port
from tests.dicom_files import radiograph, save
from tests.integration.orthanc import DICOM_WEB, PYTHON, Orthanc, running_orthanc

SCRIPT = Path(__file__).parents[1] / "orthanc_plugin" / "radir_orthanc.py"
CT = "1.2.840.10008.5.1.4.1.1.2"
PLACEHOLDERS = tuple(f"2.25.{number}{'0' * 34}" for number in (1, 2, 3))
QUESTION_S = 0.2
Misbehaviour = Callable[[socket.socket], None]


def silent(connection: socket.socket) -> None:
    connection.settimeout(60)
    while connection.recv(65536):
        pass


def garbage(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(random.randbytes(4096))


def large(connection: socket.socket) -> None:
    """10 MB of good JSON; to a DICOM peer it is garbage."""
    connection.recv(65536)
    body = b"[" + b"0," * (5 << 20) + b"0]"
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )


MISBEHAVIOURS: dict[str, Misbehaviour | None] = {"down": None, "slow, 60 s": silent, "garbage": garbage, "10 MB": large}


@contextmanager
def peer(behaviour: Misbehaviour | None) -> Iterator[int]:
    """A port where somebody behaves so; nobody listens there where there is no behaviour."""
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
    """Instances a second, and Orthanc's processor time an instance."""

    rate: float
    cpu_ms: float


class Sender:
    """Stores blocks in one Orthanc, and asks it questions meanwhile."""

    def __init__(self, orthanc: Orthanc, question: str) -> None:
        self.orthanc, self._question = orthanc, question
        self._process = psutil.Process(orthanc.process.pid)
        self.slowest_answer_s = 0.0
        self._since_question_s = 0.0

    def store(self, block: list[bytes]) -> Block:
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
        return Block(rate=len(block) / taken_s, cpu_ms=cpu_s * 1000 / len(block))

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

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


def measure(
    behaviour: Misbehaviour | None, pairs: int, block: int, where: Path, name: str
) -> tuple[list[Block], list[Block], float]:
    """(blocks without, blocks with the plugin, slowest answer to a viewer in s)."""
    with tempfile.TemporaryDirectory(prefix="radir-bench-", dir=where) as temporary, ExitStack() as stack:
        folder = Path(temporary)
        without = Sender(stack.enter_context(orthanc(folder / "without", behaviour, plugin=False)), "/system")
        with_plugin = Sender(
            stack.enter_context(orthanc(folder / "with", behaviour, plugin=True)), "/radir/similar/1.2.3?anatomy=chest"
        )
        stack.callback(lambda: [s.orthanc.process.send_signal(signal.SIGCONT) for s in (without, with_plugin)])
        for sender in (without, with_plugin):
            sender.store(slices(block))  # warm
        blocks: tuple[list[Block], list[Block]] = ([], [])
        for number in track(range(pairs), name, console=Console(stderr=True), transient=True):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            for which in order:
                blocks[which].append((without, with_plugin)[which].store(slices(block)))
        return *blocks, with_plugin.slowest_answer_s


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """(median, low, high) of a bootstrap over the pairs, 95 %."""
    chance = np.random.default_rng(0)
    medians = [np.median(chance.choice(ratios, len(ratios))) for _ in range(2000)]
    return float(np.median(ratios)), float(np.quantile(medians, 0.025)), float(np.quantile(medians, 0.975))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=300, help="pairs of blocks a misbehaviour")
    parser.add_argument("--block", type=int, default=10, help="instances a block")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("/dev/shm"),
        help="where they store; memory, lest a disk's moods hide the cost",
    )
    parser.add_argument("--only", choices=MISBEHAVIOURS, help="one misbehaviour")
    args = parser.parse_args()
    table = Table(box=None, title="Orthanc's instances stored a second, by what our service does")
    for column in (
        "service",
        "without plugin",
        "with plugin",
        "ratio",
        "CPU ms without / with",
        "slowest answer",
    ):
        table.add_column(column, justify="left" if column == "service" else "right")
    for name, behaviour in MISBEHAVIOURS.items():
        if args.only and name != args.only:
            continue
        without, with_plugin, slowest_s = measure(behaviour, args.pairs, args.block, args.folder, name)
        rates = [[block.rate for block in blocks] for blocks in (without, with_plugin)]
        middle, low, high = interval([b / a for a, b in zip(*rates, strict=True)])
        table.add_row(
            name,
            *(f"{np.mean(side):.0f} ± {np.std(side):.0f}" for side in rates),
            f"{middle:.3f} ({low:.3f} to {high:.3f})",
            " / ".join(f"{np.mean([block.cpu_ms for block in blocks]):.2f}" for blocks in (without, with_plugin)),
            f"{slowest_s:.1f} s",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
