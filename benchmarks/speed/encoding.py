"""Encoding studies: the worker's whole pipeline beside the bare forward pass of the same network.

`python -m benchmarks.speed.encoding [--configs starter,tiny,small,base] [--kinds cxr,ct] [--out docs/results]`

The pipeline is `EncodeStudies` on the embedded Postgres: claim, read the catalogue, decode in bounded children,
resample, batch, forward, store the vectors, end the jobs; only the broker's message is left out. The bare pass gets
ready tensors in batches of the size at which it is fastest. The plain loop is what one writes by hand over the same
files: pydicom, resampling, network, one study after the other, no database. The three take turns in one process; each
row has a process of its own, so that memory is measured per row. A row's cores are all that its process and the
children may use; on a CPU the network has one thread, and readers have what is left. Rates are those of the steady
state: from the end of the first batch to the end of the last. Where there is a GPU its rows follow, with how busy it
was.
The starter is the bundle that is served by default; the other networks are untrained and have all trained regions: time
and memory do not depend on the weights.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pydicom
import torch
from pydicom.pixels.processing import apply_rescale
from pydicom.uid import JPEG2000Lossless, RLELossless, generate_uid

from benchmarks import results
from benchmarks.speed.encoding_page import page, show
from radir_pacs.anatomy import trained
from radir_pacs.catalogue import Catalogue, stop_embedded
from radir_pacs.catalogue.embedded import server_pid
from radir_pacs.cli.supervisor import ONE_BLAS_THREAD
from radir_pacs.config import Settings
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.encode import CONFIGS, Bundle, Encoder, EncoderInput, ModelRegion, Preprocessing, default_bundles
from radir_pacs.encode.network import GLOBAL_REGION, RadirNetwork, view_index
from radir_pacs.encode.preprocess import preprocess
from radir_pacs.encode.tokenizer import Tokenizer
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Encoding, ImageKind, JobKind, KeptTokens, StudyState, Volume
from radir_training.phantoms.canvas import SIZES
from radir_training.phantoms.hospital import HospitalRequest, build
from radir_workers.encode_studies import EncodeStudies
from radir_workers.leases import Leases
from radir_workers.readers import Readers
from radir_workers.reading_child import ReadingSetup
from tests.catalogue_material import serve_model

SYNTAXES = {"native": None, "rle": RLELossless, "j2k": JPEG2000Lossless}
STUDIES = {ImageKind.CXR: 192, ImageKind.CT: 16}
FEWEST = 4  # studies of a turn
BATCHES = (1, 2, 4, 8, 16, 32, 64)
FINDINGS = 40
SLOW_S, SLOW_ROUNDS = 2.0, 2  # longer passes are measured in so many turns, and no larger batch is tried
GAIN = 1.03  # a larger batch is better when it gains this much
STUDY_LIST = "studies.json"
STARTER = "starter"  # the bundle that is served by default, in place of an untrained configuration


class Shelf:
    """Provides one encoder, and notes when each batch of it is done."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.batches: list[tuple[float, int]] = []

    def look(self) -> None:
        """It is always the same encoder."""

    def preparing(self, model_id: str | None) -> Mapping[ImageKind, tuple[str, Preprocessing]]:
        return {self._encoder.kind: (self._encoder.model_id, self._encoder.bundle.preprocessing)}

    def tokens_of(self, model_id: str) -> str | None:
        return None

    def batch_limit(self, model_id: str) -> int:
        return self._encoder.batch_limit

    def encoder(self, model_id: str) -> Shelf:
        return self

    def encode_batch(self, inputs: Sequence[EncoderInput | KeptTokens]) -> list[Encoding | Exception]:
        found = self._encoder.encode_batch(inputs)
        self.batches.append((time.perf_counter(), len(inputs)))
        return found


def untrained(kind: ImageKind, name: str) -> Bundle:
    """A bundle of this configuration with seeded weights."""
    config = CONFIGS[name].only(kind)
    known = {region.key: region for region in trained(kind)}
    names = {key: region.name for key, region in known.items()} | {GLOBAL_REGION: "chest"}
    tokenizer = Tokenizer.fitted(names.values())
    torch.manual_seed(0)
    network = RadirNetwork(
        config,
        vocabulary_size=len(tokenizer.vocabulary),
        regions=list(names),
        findings=[f"finding {number}" for number in range(FINDINGS)],
    ).eval()
    return Bundle(
        kind=kind,
        network=network,
        tokenizer=tokenizer,
        preprocessing=Preprocessing.of(config, kind),
        regions=tuple(ModelRegion(key=key, name=text, sided=False) for key, text in names.items()),
        model_id=f"untrained-{kind.value.lower()}-{name}",
    )


def fill(catalogue: Catalogue, blobs: BlobStore, folder: Path, args: argparse.Namespace) -> None:
    """Studies of phantom patients of each kind, copied under new UIDs until there are enough."""
    studies: dict[ImageKind, list[str]] = {}
    for kind in args.kinds:
        order = HospitalRequest(
            out=folder / kind.value, patients=args.patients, seed=1, size=SIZES[args.size], kinds=frozenset({kind})
        )
        sources = [sorted(order.out / file for file in study["files"]) for all_ in build(order) for study in all_]
        studies[kind] = [
            _copy_study(catalogue, blobs, sources[number % len(sources)], f"{kind.value}-{number}", args.syntax)
            for number in range(min(args.studies or STUDIES[kind], STUDIES[kind]))
        ]
    catalogue.studies.complete_quiet(0)
    (blobs.root.parent / STUDY_LIST).write_text(json.dumps(studies))


def _copy_study(catalogue: Catalogue, blobs: BlobStore, files: Iterable[Path], patient: str, syntax: str) -> str:
    study_uid = generate_uid()
    series_uids: dict[str, str] = {}
    for file in files:
        ds = pydicom.dcmread(file)
        if "PixelData" not in ds:
            continue
        series_uid = series_uids.setdefault(ds.SeriesInstanceUID, generate_uid())
        if (compressed := SYNTAXES[syntax]) is not None:
            ds.compress(compressed, generate_instance_uid=False)
        ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = (
            patient,
            study_uid,
            series_uid,
            generate_uid(),
        )
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        with blobs.incoming() as incoming:
            ds.save_as(incoming.path, enforce_file_format=True)
            header = read_header(incoming.path)
            sha256, size_bytes = blobs.put(incoming.path.read_bytes())
        catalogue.instances.add(header, content_sha256=sha256, size_bytes=size_bytes, source="BENCH")
    return str(study_uid)


class Clock:
    """Wall and processor seconds of this process, its living children and the database server."""

    def __init__(self, home: Path) -> None:
        self._me, pid = psutil.Process(), server_pid(home)
        self._server = psutil.Process(pid) if pid is not None else None

    def each(self, work: Callable[[], object], count: int) -> list[float]:
        """Seconds of wall clock and of processor time per one of ``count``."""
        began = self._now()
        work()
        return [float(spent) / count for spent in self._now() - began]

    def _now(self) -> np.ndarray:
        roots = [self._me] if self._server is None else [self._me, self._server]
        total = 0.0
        for root in roots:
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    total += times.user + times.system
        return np.array([time.perf_counter(), total])


def peak_mib(process: psutil.Process) -> float:
    """Peak memory; present memory where the system does not record the peak."""
    with contextlib.suppress(OSError, ValueError):
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    return float(process.memory_info().rss) / 2**20


class Bare:
    """The network alone, on made-up images that are on its device already."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._queries = encoder.bundle.queries().to(encoder.device)
        self._rows = torch.arange(len(encoder.regions), device=encoder.device)
        self._view = view_index(encoder.kind, None)

    def inputs(self, size: int) -> torch.Tensor:
        return torch.randn(size, 1, *self.encoder.bundle.preprocessing.shape).to(self.encoder.device)

    @torch.inference_mode()
    def run(self, images: torch.Tensor) -> None:
        device = self.encoder.device
        views = torch.full((len(images),), self._view, device=device)
        mixed = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()
        with mixed:
            self.encoder.bundle.network(images, views, self.encoder.kind, self._queries, self._rows)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def seconds(self, images: torch.Tensor) -> float:
        began = time.perf_counter()
        self.run(images)
        return time.perf_counter() - began

    def best(self) -> tuple[int, dict[int, float]]:
        """The batch with the best rate, and the seconds per image of each size that was tried."""
        tried: dict[int, float] = {}
        for size in BATCHES:
            images = self.inputs(size)
            try:
                once_s = self.seconds(images)
            except torch.OutOfMemoryError:
                break
            times = [once_s] if once_s > SLOW_S else [self.seconds(images) for _ in range(5)]
            tried[size] = min(times) / size
            if once_s > SLOW_S:
                break
        best = 1
        for size, seconds in tried.items():
            if seconds * GAIN < tried[best]:
                best = size
        return best, tried


def plain_loop(files: Sequence[Sequence[Path]], encoder: Encoder) -> None:
    """What one writes by hand: no catalogue, no bounds, no doubts about the files."""
    bare = Bare(encoder)
    for study in files:
        slices = [pydicom.dcmread(path) for path in study]
        if encoder.kind is ImageKind.CT:
            slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
            step_mm = float(slices[1].ImagePositionPatient[2]) - float(slices[0].ImagePositionPatient[2])
            pixel_mm = slices[0].PixelSpacing
        else:
            slices, step_mm = slices[:1], 1.0
            pixel_mm = slices[0].get("ImagerPixelSpacing", slices[0].get("PixelSpacing", (1.0, 1.0)))
        volume = Volume(
            kind=encoder.kind,
            voxels=np.stack([apply_rescale(ds.pixel_array, ds) for ds in slices]).astype(np.float32),
            spacing_mm=(step_mm, float(pixel_mm[0]), float(pixel_mm[1])),
            affine=np.eye(4),
            study_uid="1",
            series_uid="1",
            sop_instance_uids=("1",) * len(slices),
        )
        image = preprocess(volume, encoder.bundle.preprocessing)
        bare.run(torch.from_numpy(image)[None].to(encoder.device))


@contextlib.contextmanager
def gpu_busy(device: torch.device) -> Iterator[list[float]]:
    """Per cent of the time that the GPU was busy, sampled while the body runs; nothing without one."""
    found: list[float] = []
    done = threading.Event()

    def sample() -> None:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", str(device.index)]
        while not done.wait(0.2):
            found.append(float(subprocess.run(query, check=True, capture_output=True, text=True).stdout))

    thread = threading.Thread(target=sample)
    if device.type == "cuda":
        thread.start()
    try:
        yield found
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()


def measure(
    home: Path, kind: ImageKind, name: str, cores: int, device: str, args: argparse.Namespace
) -> dict[str, Any]:
    """One row: turns of the bare pass, of the pipeline, and of the plain loop."""
    if device == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    settings = Settings(home=home)
    readers = max(1, cores if device != "cpu" else args.readers or cores)
    with contextlib.ExitStack() as stack:
        catalogue = stack.enter_context(Catalogue.open(settings))
        bundle = Bundle.load(default_bundles()[kind]) if name == STARTER else untrained(kind, name)
        encoder = Encoder(bundle, device=device, threads=1 if device == "cpu" else 0)
        serve_model(catalogue, bundle.model_id, kind, bundle.network.config.vector_dim, {})
        shelf, clock = Shelf(encoder), Clock(home)
        studies = json.loads((home / STUDY_LIST).read_text())[kind]
        line = stack.enter_context(_line(catalogue, shelf, home / "blobs", readers))
        bare = Bare(encoder)
        best, tried = bare.best()
        slow = tried[1] > SLOW_S
        count = min(len(studies), max(FEWEST, best if slow else 3 * best, round(args.seconds / tried[best])))
        files = [_files(catalogue, home / "blobs", uid) for uid in studies[: max(2, count // 4)]]
        images = bare.inputs(best)
        passes = max(1, round(count / best / (1 if slow else 2)))
        turns: dict[str, list[list[float]]] = {"bare": [], "pipeline": [], "plain": []}
        if not slow:
            stream(catalogue, clock, line, shelf, studies[:count])  # children start, caches fill
            plain_loop(files[:1], encoder)
        with gpu_busy(encoder.device) as busy:
            for _ in range(min(args.rounds, SLOW_ROUNDS) if slow else args.rounds):
                turns["bare"].append(clock.each(lambda: [bare.run(images) for _ in range(passes)], passes * best))
                del busy[:]
                turns["pipeline"].append(stream(catalogue, clock, line, shelf, studies[:count]))
                percent = float(np.mean(busy)) if busy else None
                turns["plain"].append(clock.each(lambda: plain_loop(files, encoder), len(files)))
        encoded = sum(catalogue.studies.get(uid).state in (StudyState.ENCODED, StudyState.INDEXED) for uid in studies)
        if encoded < count:
            raise SystemExit(f"error: only {encoded} studies were encoded")
        own = psutil.Process()
        spent = {arm: np.array(found) for arm, found in turns.items()}
        gpu = torch.cuda.max_memory_allocated(encoder.device) / 2**20 if encoder.device.type == "cuda" else None
        return {
            "kind": kind.value,
            "config": name,
            "device": str(encoder.device),
            "cores": cores,
            "readers": readers,
            "images": len(files[0]),
            "studies_per_turn": count,
            "rounds": len(spent["bare"]),
            "best_batch": best,
            "ms_by_batch": {size: 1e3 * seconds for size, seconds in tried.items()},
            "mean_batch": float(np.mean([size for _, size in shelf.batches])),
            **{f"{arm}_ms": 1e3 * float(found[:, 0].mean()) for arm, found in spent.items()},
            **{f"{arm}_cpu_ms": 1e3 * float(found[:, 1].mean()) for arm, found in spent.items()},
            "ratio": interval(spent["bare"][:, 0], spent["pipeline"][:, 0]),
            "to_plain": interval(spent["plain"][:, 0], spent["pipeline"][:, 0]),
            "studies_per_hour": 3600 / float(spent["pipeline"][:, 0].mean()),
            "gpu_busy_percent": percent,
            "gpu_mib": gpu,
            "worker_mib": peak_mib(own),
            "children_mib": sum(peak_mib(child) for child in own.children(recursive=True)),
        }


@contextlib.contextmanager
def _line(catalogue: Catalogue, shelf: Shelf, blobs: Path, readers: int) -> Iterator[EncodeStudies]:
    setup = ReadingSetup(blobs=blobs, limits=DecodeLimits())
    with Leases(catalogue, lease_s=60) as leases:
        line = EncodeStudies(catalogue, shelf, Readers(setup, readers), leases, worker="bench")
        try:
            yield line
        finally:
            line.close()


def _files(catalogue: Catalogue, blobs: Path, study_uid: str) -> list[Path]:
    return [BlobStore(blobs).path(sha256) for _, sha256 in catalogue.instances.headers_of(study_uid)]


def stream(
    catalogue: Catalogue, clock: Clock, line: EncodeStudies, shelf: Shelf, studies: Sequence[str]
) -> list[float]:
    """Seconds per study of one run over these: wall clock in the steady state, processor time over all."""
    for uid in studies:
        catalogue.jobs.enqueue(JobKind.ENCODE, uid)
    first = len(shelf.batches)
    _, processor_s = clock.each(line.run, len(studies))
    done = shelf.batches[first:]
    after_first = sum(size for _, size in done[1:])
    return [(done[-1][0] - done[0][0]) / after_first, processor_s]


def interval(bare: np.ndarray, whole: np.ndarray) -> list[float]:
    """The ratio of both totals, and its 95 % bootstrap interval over the rounds."""
    picks = np.random.default_rng(0).integers(0, len(bare), (2000, len(bare)))
    ratios = bare[picks].sum(1) / whole[picks].sum(1)
    return [float(bare.sum() / whole.sum()), *map(float, np.percentile(ratios, [2.5, 97.5]))]


def main() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--configs", type=lambda text: text.split(","), default=[STARTER, "tiny", "small", "base"])
    parser.add_argument(
        "--kinds", type=lambda text: [ImageKind(word.upper()) for word in text.split(",")], default=list(ImageKind)
    )
    parser.add_argument(
        "--cores",
        type=lambda text: [int(word) for word in text.split(",")],
        help="default: all; for tiny, of which reading takes the most, 1, 2, 4 … too",
    )
    parser.add_argument("--readers", type=int, default=0, help="on a CPU; default: one per core")
    parser.add_argument("--size", choices=list(SIZES), default="medium", help="resolution of the phantoms")
    parser.add_argument("--syntax", choices=list(SYNTAXES), default="native", help="transfer syntax of the pixels")
    parser.add_argument("--patients", type=int, default=2)
    parser.add_argument("--studies", type=int, default=0, help="of each kind, at most in one turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of the network in a turn, about")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for encoding.json and encoding.md")
    parser.add_argument(
        "--without",
        type=lambda text: text.split(","),
        default=[],
        metavar="KIND-CONFIG",
        help="configurations to leave out, such as ct-base",
    )
    parser.add_argument("--one", nargs=5, metavar=("HOME", "KIND", "CONFIG", "CORES", "DEVICE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        home, kind, name, number, device = args.one
        print(json.dumps(measure(Path(home), ImageKind(kind), name, int(number), device, args)))
        return 0
    rows: list[dict[str, Any]] = []
    doubled = [1 << power for power in range(cores.bit_length()) if 1 << power < cores]
    gpus = [("cuda:0", cores)] if torch.cuda.is_available() else []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        try:
            with Catalogue.open(Settings(home=home)) as catalogue:
                fill(catalogue, BlobStore(home / "blobs"), Path(folder) / "phantoms", args)
            for kind in args.kinds:
                for name in (name for name in args.configs if f"{kind.lower()}-{name}" not in args.without):
                    numbers = args.cores or [*(doubled if name == "tiny" else []), cores]
                    places = [*(("cpu", number) for number in numbers), *gpus]
                    rows += [measured(home, kind, name, number, device, args) for device, number in places]
        finally:
            stop_embedded(home)
    show(rows, args)
    if args.out is not None:
        about = {"size": args.size, "syntax": args.syntax, "torch": torch.__version__}
        results.write(args.out, "encoding", {**about, "rows": rows}, page(rows, args))
    return 0


def measured(
    home: Path, kind: ImageKind, name: str, cores: int, device: str, args: argparse.Namespace
) -> dict[str, Any]:
    """One row, from a process of its own."""
    one = ["--one", str(home), kind.value, name, str(cores), device]
    given = ["--rounds", str(args.rounds), "--seconds", str(args.seconds), "--readers", str(args.readers)]
    command = [sys.executable, "-m", "benchmarks.speed.encoding", *one, *given]
    print(f"{kind.value} {name}, {cores} cores, {device}", file=sys.stderr)
    environment = ONE_BLAS_THREAD | os.environ
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    print(out.splitlines()[-1], file=sys.stderr)  # an interrupted long run has printed its figures so far
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
