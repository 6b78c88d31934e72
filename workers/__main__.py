"""``python -m radir_workers worker|indexer|transfer|relay [--name NAME]``: one process, set by the environment."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

from radir_pacs import config, metrics, traces
from radir_pacs.catalogue import ENCODES, Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import RadirError
from radir_pacs.intake.sources import load_sources
from radir_pacs.logs import set_up_logging
from radir_pacs.process_heartbeat import process_heartbeat
from radir_pacs.storage import bucket_of, open_blobs
from radir_pacs.types import JobKind

from .app import ENCODE_QUEUES, INDEX_QUEUE, QUEUE, TRANSFER_QUEUE, make_app, serve
from .leases import Leases
from .runner import Runner, UseCase
from .tasks import register, ring

# Each role imports what only it needs, so that its processes start sooner and hold less.

_GRACE_S = 60.0
READY_SHARE = 8  # of the machine's memory, as a divisor: for inputs that wait for the network


def worker(settings: Settings, name: str, number: int) -> None:
    """Encode until SIGTERM; the batch in hand is ended first, within ``drain_s``.

    The model is loaded before the first message is taken.
    """
    # They bring torch and scipy: seconds and 200 MB.
    import psutil

    from radir_pacs.dicom.limits import MIB, DecodeLimits
    from radir_pacs.dicom.rules import load_rules
    from radir_pacs.models import Registry

    from .encode_studies import EncodeStudies
    from .encoders import Encoders
    from .readers import Readers, how_many
    from .reading_child import ReadingSetup

    with Catalogue.open(settings) as catalogue, contextlib.ExitStack() as stack:
        registry = Registry(catalogue, settings)
        registry.adopt()
        encoders = Encoders(settings, registry, number)
        setup = ReadingSetup(
            blobs=settings.home / "blobs",
            bucket=bucket_of(settings),
            cache_bytes=settings.blob_cache_mib << 20,
            limits=DecodeLimits(
                memory_bytes=settings.decode_memory_mib * MIB,
                cpu_s=max(1, int(settings.decode_timeout_s)),
                wall_s=settings.decode_timeout_s,
            ),
            lut_shape_senders=settings.lut_shape_senders,
            rules=load_rules(settings.rules_file),
        )
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        encode = EncodeStudies(
            catalogue,
            encoders,
            Readers(setup, how_many(settings.readers, cores, settings.worker_processes)),
            stack.enter_context(Leases(catalogue, lease_s=settings.job_lease_s, longest_s=settings.job_longest_s)),
            worker=f"{name}:{os.getpid()}",
            ready_bytes=psutil.virtual_memory().total // READY_SHARE // settings.worker_processes,
            sources=load_sources(settings),
        )
        stack.callback(encode.close)
        app = make_app(settings, catalogue)
        register(app, encode.run)
        stack.enter_context(process_heartbeat(catalogue.processes, name, detail=f"{ENCODES}{encoders.device}"))
        serve(
            app,
            hostname=_hostname(name),
            queues=tuple(ENCODE_QUEUES.values()),
            drain_s=settings.drain_s,
            on_stop=encode.stop,
            give_back=encode.give_back,
        )


def indexer(settings: Settings, name: str) -> None:
    """Merge the partitions of the index until SIGTERM, one at a time; the build in hand ends or is given back."""
    from radir_pacs.index.engines import Engines

    from .index_partition import IndexPartition

    with Catalogue.open(settings) as catalogue:
        runner = Runner(
            catalogue,
            {JobKind.INDEX: IndexPartition(catalogue, settings.home, engines=Engines(catalogue, settings))},
            worker=f"{name}:{os.getpid()}",
            lease_s=settings.job_lease_s,
            longest_s=settings.job_longest_s,
        )
        app = make_app(settings, catalogue)
        register(app, runner.run)
        with process_heartbeat(catalogue.processes, name):
            serve(
                app,
                hostname=_hostname(name),
                queues=(INDEX_QUEUE,),
                drain_s=settings.drain_s,
                give_back=runner.give_back,
            )


def transfer(settings: Settings, name: str) -> None:
    """Until SIGTERM, several at a time: what waits for other machines, and reports to mine, which take no time."""
    from radir_pacs.intake.bounded_answer import AnswerBounds
    from radir_pacs.intake.instances import Intake
    from radir_pacs.intake.retention import retention_of

    from .evict_files import EvictFiles
    from .mine_report import MineReport
    from .pull_study import PullStudy
    from .report_commitment import ReportCommitment
    from .send_report import SendReport

    with Catalogue.open(settings) as catalogue:
        blobs = open_blobs(settings, catalogue.backups.installation())
        sources = load_sources(settings)
        use_cases: dict[JobKind, UseCase] = {
            JobKind.PULL: PullStudy(
                catalogue,
                blobs,
                Intake(catalogue, blobs, settings),
                sources,
                AnswerBounds(
                    most_bytes=settings.pull_max_mib << 20,
                    least_bytes_s=settings.pull_least_kib_s * 1024,
                    deadline_s=min(settings.pull_deadline_s, settings.job_longest_s),
                ),
                most_instance_bytes=settings.max_instance_mib << 20,
                site=settings.pull_site,
            ),
            JobKind.EVICT: EvictFiles(catalogue, blobs, sources, settings, retention_of(settings)),
            JobKind.SEND: SendReport(
                catalogue,
                blobs,
                destination=settings.return_destination,
                calling_ae_title=settings.ae_title,
                budget_s=settings.return_timeout_s,
            ),
            JobKind.COMMITMENT: ReportCommitment(catalogue, blobs, settings),
            JobKind.REPORT: MineReport(catalogue, blobs),
        }
        runner = Runner(
            catalogue,
            use_cases,
            worker=f"{name}:{os.getpid()}",
            lease_s=settings.job_lease_s,
            longest_s=settings.job_longest_s + _GRACE_S,  # a pull that its own deadline ends does not hang
        )
        app = make_app(settings, catalogue)
        register(app, runner.run)
        with process_heartbeat(catalogue.processes, name):
            serve(
                app,
                hostname=_hostname(name),
                queues=(TRANSFER_QUEUE, QUEUE),
                threads=settings.transfer_threads,
                drain_s=settings.drain_s,
                give_back=runner.give_back,
            )


def _hostname(name: str) -> str:
    """As Celery wants it, for each process its own."""
    return f"{name.replace('@', '-')}-{os.getpid()}@radir"


def relay(settings: Settings, name: str) -> None:
    """Relay until SIGTERM."""
    from radir_pacs.audit_feed import AuditFeeds

    from .relay import Relay

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Catalogue.open(settings) as catalogue:
        app = make_app(settings, catalogue)
        blobs = open_blobs(settings, catalogue.backups.installation())
        with process_heartbeat(catalogue.processes, name), AuditFeeds(catalogue, settings):
            Relay(catalogue, blobs, settings, lambda job_id, queue: ring(app, job_id, queue)).run(stop)


def main(arguments: list[str] | None = None) -> int:
    parser = config.Parser(prog="python -m radir_workers", description=__doc__)
    parser.add_argument("role", choices=("worker", "indexer", "transfer", "relay"))
    parser.add_argument("--name", help="as radir status shows it; default: the role")
    parser.add_argument("--number", type=int, default=0, help="of this worker on its machine, from 0: chooses its GPU")
    args = parser.parse_args(arguments)
    name = args.name or args.role
    metrics.begin(name)
    try:
        settings = config.load()
        set_up_logging(settings, name)
        traces.begin(settings, name)
        if args.role == "worker":
            worker(settings, name, args.number)
        else:
            {"indexer": indexer, "transfer": transfer, "relay": relay}[args.role](settings, name)
    except RadirError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        traces.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
