"""What each process counts and times, in Prometheus' terms. docs/how-to/watch.md says what each figure is for.

No label holds anything about a patient, nor text that a peer chooses: routes are templates, reasons are codes, and
what is neither is "other". So the number of series is bounded (P6, P7).

The processes that one supervisor starts write into files of one folder in memory, from which any of them answers for
all (`radir_pacs.monitoring`); a process by itself keeps its own figures.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, values

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # the library's own variable: it reads the folder there
_MEMORY = Path("/dev/shm")  # writing to a mapped file of a full disk would end the process

_name: list[str] = []


def _identity() -> str:
    """What tells the files of one process from another's: by name, so that a process that was restarted counts on."""
    return _name[0] if _name else str(os.getpid())


def alone(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command that a role begins: what it counts is not the role's, and no file of it stays."""
    return {name: value for name, value in environment.items() if name != SHARED}


if SHARED in os.environ:
    values.ValueClass = values.MultiProcessValue(_identity)  # type: ignore[no-untyped-call]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)

# Every figure has a label: the library makes a file for one without as soon as this module is imported.
ASSOCIATIONS = Counter("radir_associations", "Association requests by outcome.", ["outcome"])
REJECTIONS = Counter(
    "radir_associations_rejected", "A-ASSOCIATE-RJ by its result, source and reason (PS3.8 table 9-21).", ["reason"]
)
OPEN_ASSOCIATIONS = Gauge("radir_associations_open", "Associations open now.", ["service"], multiprocess_mode="livesum")
INSTANCES = Counter("radir_instances", "Instances that were stored, by what became of them.", ["outcome"])
INSTANCE_BYTES = Counter("radir_instance_bytes", "Bytes of instances that were stored.", ["outcome"])
INSTANCES_REFUSED = Counter("radir_instances_refused", "Instances that were refused, by reason code.", ["reason"])
STORE_SECONDS = Histogram(
    "radir_store_seconds", "From the last byte of an instance to its commit.", ["outcome"], buckets=_SECONDS
)
HL7_MESSAGES = Counter("radir_hl7_messages", "HL7 messages by acknowledgement code.", ["answer"])
HTTP_REQUESTS = Counter("radir_http_requests", "Requests by route template and status.", ["method", "route", "status"])
HTTP_SECONDS = Histogram("radir_http_request_seconds", "Time of a request.", ["route"], buckets=_SECONDS)
SEARCH_SECONDS = Histogram("radir_search_seconds", "Time of a stage of a search.", ["stage"], buckets=_SECONDS)
STAGE_SECONDS = Histogram("radir_stage_seconds", "Time of a stage of encoding.", ["stage"], buckets=_LONG_SECONDS)
BATCH_IMAGES = Histogram(
    "radir_batch_images", "Images in one pass of the network.", ["kind"], buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
JOBS = Counter("radir_jobs", "Attempts at jobs by kind and outcome.", ["kind", "outcome"])
JOB_SECONDS = Histogram("radir_job_seconds", "Time of an attempt at a job.", ["kind"], buckets=_LONG_SECONDS)
INDEX_RECALL = Gauge(
    "radir_index_recall",
    "Recall at 10 of the last graph of a partition, measured against exact search before it was published.",
    ["model", "region"],
    multiprocess_mode="mostrecent",
)
ENGINE_SECONDS = Histogram(
    "radir_engine_seconds", "Time of a search in an outside vector engine, failed ones too.", ["engine"]
)
ENGINE_FAILURES = Counter("radir_engine_failures", "Searches that an outside vector engine did not answer.", ["engine"])
ENGINE_CHANGES = Counter(
    "radir_engine_changes", "Vectors handed to an outside vector engine, or taken from it.", ["engine", "change"]
)
GPU_FREE_BYTES = Gauge(
    "radir_gpu_free_bytes", "GPU memory that a pass may take.", ["device"], multiprocess_mode="livemin"
)


def begin(name: str) -> None:
    """This process counts under its name from now on; called first thing by what a supervisor starts."""
    _name[:] = [name.replace("_", "-")]  # the library divides file names at underscores


def shared_folder() -> Path | None:
    """Where the processes of this machine count together; None: this process counts for itself."""
    folder = os.environ.get(SHARED)
    return Path(folder) if folder else None


def make_folder(home: Path, name: str) -> Path:
    """An empty folder for the figures of the processes about to start; those of an earlier start are removed."""
    has_memory = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)
    folder = _MEMORY if has_memory else home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"radir-{os.getuid()}-{zlib.crc32(str(home).encode()):x}-{name.replace('.', '_')}."
    for earlier in folder.glob(f"{prefix}*"):
        shutil.rmtree(earlier, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=folder))


def forget_process(folder: Path, name: str) -> None:
    """A process has ended: what was true only of it while it lived is not counted any more."""
    for file in folder.glob(f"gauge_live*_{name.replace('_', '-')}.db"):
        file.unlink(missing_ok=True)


@contextmanager
def timed(histogram: Histogram, label: str) -> Iterator[None]:
    """Time the body, also where it raises."""
    began = time.perf_counter()
    try:
        yield
    finally:
        histogram.labels(label).observe(time.perf_counter() - began)
