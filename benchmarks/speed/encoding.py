"""Encoding studies: the worker's whole pipeline beside the bare forward pass of the same network.

`python -m benchmarks.speed.encoding [--configs tiny,small,base] [--kinds cxr,ct] [--threads 1,2] [--out docs/results]`

The pipeline is `Runner` over `EncodeStudy` on the embedded Postgres: claim, read the catalogue, decode in the bounded
child, resample, forward, store the vectors, end the job; only the broker's message is left out. The bare pass gets the
same inputs as ready tensors, with the same threads, one study per batch as in the worker. Both, and the pipeline
without reading ahead, take turns in one process; each row runs in its own process, so that memory is measured
per row. Passes of more than SLOW_S are measured in SLOW_ROUNDS turns of one study each.
The networks are untrained and have all trained regions: time and memory do not depend on the weights.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pydicom
import torch
from pydicom.uid import JPEG2000Lossless, RLELossless, generate_uid
from rich.console import Console
from rich.table import Table
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import results
from radir_pacs.anatomy import trained
from radir_pacs.catalogue import Catalogue, stop_embedded
from radir_pacs.catalogue.embedded import server_pid
from radir_pacs.cli.supervisor import ONE_BLAS_THREAD
from radir_pacs.config import Settings
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.encode import CONFIGS, Bundle, Encoder, ModelRegion, Preprocessing
from radir_pacs.encode.network import GLOBAL_REGION, RadirNetwork, view_index
from radir_pacs.encode.tokenizer import Tokenizer
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import ImageKind, JobKind, StudyState
from radir_training.phantoms.canvas import SIZES
from radir_training.phantoms.hospital import HospitalRequest, build
from radir_workers.decoding_room import DecodingRoom
from radir_workers.encode_study import EncodeStudy
from radir_workers.runner import Runner
from radir_workers.study_reader import StudyReader

SYNTAXES = {"native": None, "rle": RLELossless, "j2k": JPEG2000Lossless}
STUDIES = {ImageKind.CXR: 12, ImageKind.CT: 5}
FINDINGS = 40
SLOW_S, SLOW_ROUNDS = 5.0, 2  # a longer pass is measured once per turn, in so many turns
STUDY_LIST = "studies.json"
WANTED = 0.85  # share of the bare rate
GPU, GPU_FLOPS, GPU_SHARE = "H100", 67e12, 0.25  # fp32 without tensor cores, and the share of it that is assumed


class Shelf:
    """Provides one encoder."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def encoder(self, kind: ImageKind) -> Encoder | None:
        return self._encoder if kind is self._encoder.kind else None


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
            for number in range(STUDIES[kind])
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


def flops(kind: ImageKind, name: str) -> float:
    """Floating point operations of one forward pass, counted on shapes alone."""
    config = CONFIGS[name].only(kind)
    count = len({region.key for region in trained(kind)} | {GLOBAL_REGION})
    with FakeTensorMode():
        network = RadirNetwork(
            config, vocabulary_size=100, regions=[str(n) for n in range(count)], findings=["f"] * FINDINGS
        ).eval()
        inputs = torch.empty(1, 1, *config.stems[kind].shape), torch.zeros(1, dtype=torch.int64)
        queries, rows = torch.empty(count, config.width), torch.zeros(count, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(*inputs, kind, queries, rows)
    return float(counter.get_total_flops())


class Clock:
    """Wall and processor seconds of this process, its living children and the database server."""

    def __init__(self, home: Path) -> None:
        self._me, pid = psutil.Process(), server_pid(home)
        self._server = psutil.Process(pid) if pid is not None else None

    def time(self, work: Callable[[], object]) -> np.ndarray:
        began = self._now()
        work()
        return self._now() - began

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


def measure(home: Path, kind: ImageKind, name: str, threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    """One row: turns of bare passes, of the pipeline, and of the pipeline without reading ahead."""
    settings = Settings(home=home, device="cpu", torch_threads=threads)
    with contextlib.ExitStack() as stack:
        catalogue = stack.enter_context(Catalogue.open(settings))
        blobs, bundle = BlobStore(home / "blobs"), untrained(kind, name)
        encoder = Encoder(bundle, device="cpu", threads=threads)
        catalogue.models.register(bundle.model_id, kind, bundle.network.config.embedding_dim, {})
        reader = StudyReader(blobs, Shelf(encoder), DecodeLimits(), DecodingRoom(blobs.root))
        stack.callback(reader.close)
        clock, studies = Clock(home), json.loads((home / STUDY_LIST).read_text())[kind]
        contents = [catalogue.instances.headers_of(uid) for uid in studies]
        reader.read(contents[0])
        reading = clock.time(lambda: [reader.read(content) for content in contents[1:]]) / (len(contents) - 1)

        image = torch.randn(1, 1, *bundle.preprocessing.shape)
        views, rows = torch.tensor([view_index(kind, None)]), torch.arange(len(bundle.regions))
        queries = bundle.queries()

        def bare(count: int) -> None:
            with torch.inference_mode():
                for _ in range(count):
                    bundle.network(image, views, kind, queries, rows)

        bare(1)
        once_s = float(clock.time(lambda: bare(1))[0])
        slow = once_s > SLOW_S
        count = 1 if slow else max(2, min(len(studies) - 2, round(seconds / once_s)))
        arms = {}
        for arm, ahead in (("pipeline", True), ("without_reading_ahead", False)):
            encode = EncodeStudy(
                catalogue, blobs, Shelf(encoder), decode_timeout_s=60, decode_memory_mib=4096, look_ahead=ahead
            )
            stack.callback(encode.close)
            runner = Runner(catalogue, {JobKind.ENCODE: encode}, worker=arm, lease_s=settings.job_lease_s)
            arms[arm] = stream(catalogue, clock, runner, studies[: count + 2])
            if not slow:
                arms[arm]()  # children start, caches fill
        times: dict[str, list[np.ndarray]] = {"bare": [], **{arm: [] for arm in arms}}
        for _ in range(min(rounds, SLOW_ROUNDS) if slow else rounds):
            times["bare"].append(clock.time(lambda: bare(count)) / count)
            for arm, turn in arms.items():
                times[arm].append(turn() / count)
        encoded = sum(catalogue.studies.get(uid).state in (StudyState.ENCODED, StudyState.INDEXED) for uid in studies)
        if encoded < count + 2:
            raise SystemExit(f"error: only {encoded} studies were encoded")
        own = psutil.Process()
        children = [peak_mib(child) for child in own.children()]
        return row(kind, name, threads, times, reading, count) | {
            "slices": len(contents[0]),
            "worker_mib": peak_mib(own),
            "decoders_mib": max(children) * 2,  # one for the current study, one for the next
        }


def stream(catalogue: Catalogue, clock: Clock, runner: Runner, studies: Sequence[str]) -> Callable[[], np.ndarray]:
    """One turn over these studies: seconds (wall, processor) of all but the first and the last, in steady state."""

    def run_all(jobs: Sequence[int]) -> None:
        for job in jobs:
            runner.run(job)

    def turn() -> np.ndarray:
        while (waiting := catalogue.jobs.next_study_to_encode()) is not None:
            job = catalogue.jobs.claim(catalogue.jobs.enqueue(JobKind.ENCODE, waiting), "clearing")
            if job is not None:
                catalogue.jobs.finish(job)
        jobs = [catalogue.jobs.enqueue(JobKind.ENCODE, uid) for uid in studies]
        runner.run(jobs[0])
        spent = clock.time(lambda: run_all(jobs[1:-1]))
        runner.run(jobs[-1])
        return spent

    return turn


def row(
    kind: ImageKind, name: str, threads: int, times: dict[str, list[np.ndarray]], reading: np.ndarray, count: int
) -> dict[str, Any]:
    """The figures of one row from (wall, processor) seconds per study and round."""
    each = {arm: np.stack(found) for arm, found in times.items()}
    mean = {arm: found.mean(0) for arm, found in each.items()}
    work = flops(kind, name)
    gpu_s, read_s = work / (GPU_FLOPS * GPU_SHARE), float(reading[1])
    return {
        "kind": kind.value,
        "config": name,
        "threads": threads,
        "studies_per_round": count,
        "rounds": len(each["bare"]),
        "forward_ms": 1e3 * mean["bare"][0],
        "forward_cpu_ms": 1e3 * mean["bare"][1],
        "pipeline_ms": 1e3 * mean["pipeline"][0],
        "pipeline_cpu_ms": 1e3 * mean["pipeline"][1],
        "read_cpu_ms": 1e3 * read_s,
        "ratio": interval(each["bare"][:, 0], each["pipeline"][:, 0]),
        "ratio_without_reading_ahead": interval(each["bare"][:, 0], each["without_reading_ahead"][:, 0]),
        "ratio_cpu": interval(each["bare"][:, 1], each["pipeline"][:, 1]),
        "studies_per_hour": 3600 / mean["pipeline"][0],
        "gflop": work / 1e9,
        "gflops_reached": work / 1e9 / mean["bare"][0],
        "gpu_estimate_studies_per_hour_forward": 3600 / gpu_s,
        "gpu_estimate_studies_per_hour": 3600 / max(gpu_s, read_s),
    }


def interval(bare: np.ndarray, whole: np.ndarray) -> list[float]:
    """The ratio of bare to total time, and its 95 % bootstrap interval over the rounds."""
    picks = np.random.default_rng(0).integers(0, len(bare), (2000, len(bare)))
    ratios = bare[picks].sum(1) / whole[picks].sum(1)
    return [float(bare.sum() / whole.sum()), *map(float, np.percentile(ratios, [2.5, 97.5]))]


COLUMNS = (
    *("image", "config", "threads", "forward ms", "pipeline ms", "bare / pipeline", "not reading ahead"),
    *("of CPU time", "studies/h", "MiB worker + decoders", "GFLOP", f"studies/h {GPU} (estimate)"),
)


def cells(found: dict[str, Any]) -> list[str]:
    """One row of the table, in the order of COLUMNS."""
    low_high = "{:.2f} ({:.2f} to {:.2f})".format
    return [
        *(found["kind"], found["config"], str(found["threads"])),
        *(f"{found['forward_ms']:.1f}", f"{found['pipeline_ms']:.1f}", low_high(*found["ratio"])),
        *(low_high(*found["ratio_without_reading_ahead"]), f"{found['ratio_cpu'][0]:.2f}"),
        *(f"{found['studies_per_hour']:.0f}", f"{found['worker_mib']:.0f} + {found['decoders_mib']:.0f}"),
        *(f"{found['gflop']:.1f}", f"{found['gpu_estimate_studies_per_hour']:.0f}"),
    ]


def title(args: argparse.Namespace) -> str:
    return f"Encoding on {os.cpu_count()} cores, {args.size} phantoms, {args.syntax} pixels, one worker"


ESTIMATE = (
    f"Estimate for {GPU}: {GPU_SHARE:.0%} of {GPU_FLOPS / 1e12:.0f} TFLOP/s, and no faster than one core of this "
    "machine reads studies; not measured."
)


def show(rows: Sequence[dict[str, Any]], args: argparse.Namespace) -> None:
    table = Table(title=title(args))
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for found in rows:
        table.add_row(*cells(found))
    Console(width=200 if not sys.stdout.isatty() else None).print(table)
    print(ESTIMATE)


def page(rows: Sequence[dict[str, Any]], args: argparse.Namespace) -> str:
    """The same in Markdown."""
    kept = [found for found in rows if found["ratio"][0] >= WANTED]
    short = [found for found in rows if found["ratio"][0] < WANTED]
    names = [
        ", ".join(f"{one['kind']} {one['config']} on {one['threads']} ({one['ratio'][0]:.2f})" for one in some)
        or "none"
        for some in (kept, short)
    ]
    return "\n".join(
        [
            f"# {title(args)}",
            "",
            "`benchmarks/speed/encoding.py` says how it is measured. *bare / pipeline* is the share "
            "of the network's own rate that the whole pipeline keeps (decode, resample, forward, store), with its 95 % "
            "interval over rounds; *of CPU time* the share of the processor's time that the network has.",
            "",
            "| " + " | ".join(COLUMNS) + " |",
            "|---" * len(COLUMNS) + "|",
            *("| " + " | ".join(cells(found)) + " |" for found in rows),
            "",
            f"At least {WANTED:.0%} is kept by: {names[0]}. Less by: {names[1]}. What the network waits for is the "
            f"reading, decoding and resampling of a study, in time of one core: {_reading(rows)}."
            + (f" Left out: {', '.join(args.without)}." if args.without else ""),
            "",
            ESTIMATE,
        ]
    )


def _reading(rows: Sequence[dict[str, Any]]) -> str:
    """The time to read a study, by kind of image and size of its input."""
    told = {(one["kind"], one["config"]): one["read_cpu_ms"] for one in rows}
    return ", ".join(f"{ms:.0f} ms ({kind} {config})" for (kind, config), ms in told.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--configs", type=lambda text: text.split(","), default=["tiny", "small", "base"])
    parser.add_argument(
        "--kinds", type=lambda text: [ImageKind(word.upper()) for word in text.split(",")], default=list(ImageKind)
    )
    parser.add_argument("--threads", type=lambda text: [int(word) for word in text.split(",")], default=[1, 2])
    parser.add_argument("--size", choices=list(SIZES), default="medium", help="resolution of the phantoms")
    parser.add_argument("--syntax", choices=list(SYNTAXES), default="native", help="transfer syntax of the pixels")
    parser.add_argument("--patients", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of bare passes per round, at most")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for encoding.json and encoding.md")
    parser.add_argument(
        "--without",
        type=lambda text: text.split(","),
        default=[],
        metavar="KIND-CONFIG",
        help="configurations to leave out, such as ct-base",
    )
    parser.add_argument("--one", nargs=4, metavar=("HOME", "KIND", "CONFIG", "THREADS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        home, kind, name, threads = args.one
        print(json.dumps(measure(Path(home), ImageKind(kind), name, int(threads), args.rounds, args.seconds)))
        return 0
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        try:
            with Catalogue.open(Settings(home=home)) as catalogue:
                fill(catalogue, BlobStore(home / "blobs"), Path(folder) / "phantoms", args)
            for kind in args.kinds:
                for name in (name for name in args.configs if f"{kind.lower()}-{name}" not in args.without):
                    rows += measured(home, kind, name, args)
        finally:
            stop_embedded(home)
    show(rows, args)
    if args.out is not None:
        about = {"size": args.size, "syntax": args.syntax, "torch": torch.__version__}
        results.write(args.out, "encoding", {**about, "rows": rows}, page(rows, args))
    return 0


def measured(home: Path, kind: ImageKind, name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one configuration, each from its own process."""
    rows = []
    for threads in args.threads:
        one = ["--one", str(home), kind.value, name, str(threads)]
        command = [
            sys.executable,
            "-m",
            "benchmarks.speed.encoding",
            *one,
            "--rounds",
            str(args.rounds),
            "--seconds",
            str(args.seconds),
        ]
        print(f"{kind.value} {name}, {threads} threads", file=sys.stderr)
        environment = ONE_BLAS_THREAD | os.environ
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        rows.append(json.loads(out.splitlines()[-1]))
        print(out.splitlines()[-1], file=sys.stderr)  # an interrupted long run has printed its figures so far
    return rows


if __name__ == "__main__":
    sys.exit(main())
