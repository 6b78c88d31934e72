"""The Celery application. Its broker only announces jobs: by default pgmq in the catalogue's own Postgres.

A message carries a job id and nothing else. It is acknowledged before the work begins: the job row, its lease and the
relay bring work back when a worker dies, so no broker's redelivery, early or hours late, matters.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import Celery, signals
from celery.platforms import SecurityWarning

from radir_pacs import traces
from radir_pacs.catalogue import Catalogue, install_pgmq
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError, StorageFailed
from radir_pacs.types import Urgency

log = logging.getLogger(__name__)

QUEUE = "radir"  # reports
ENCODE_QUEUES: Mapping[Urgency, str] = {
    Urgency.URGENT: "radir_encode_urgent",
    Urgency.NEW: "radir_encode",
    Urgency.ARCHIVE: "radir_encode_archive",
    Urgency.BESIDE: "radir_encode_beside",
    Urgency.BACKGROUND: "radir_encode_background",
}
INDEX_QUEUE = "radir_index"  # a merge takes minutes, which no study should wait
TRANSFER_QUEUE = "radir_transfer"  # what waits for other machines must not hold up the network
VISIBILITY_S = 3600  # longer than the longest job: a message is not handed out twice while its reader lives
_POLL_S = 1.0
_CONNECT_S = 4
_OF_TCP = (("TCP_KEEPIDLE", 6), ("TCP_KEEPINTVL", 3), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 15_000))
_SOCKET = {  # 15 seconds until a broker is missed whose machine lost power, whether we wait for it or write to it
    getattr(socket, name): value for name, value in _OF_TCP if hasattr(socket, name)
}

_TRANSPORTS: Mapping[str, Mapping[str, Any]] = {
    "pgmq": {"init_extension": False, "wait_time_seconds": 0, "polling_interval": _POLL_S, "pool_size": 2},
    "redis": {
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
        "queue_order_strategy": "priority",
        "socket_connect_timeout": _CONNECT_S,
        "socket_keepalive": True,
        "socket_keepalive_options": _SOCKET,
    },
    "amqp": {"socket_settings": _SOCKET},
}


def make_app(settings: Settings, catalogue: Catalogue) -> Celery:
    """The application for these settings; installs pgmq when that is the broker and is not there yet.

    Whoever serves several queues hears the one first that comes first in ``serve``. Raises SettingError for a broker of
    another kind.
    """
    url = settings.broker_url or "pgmq://"
    scheme = {"rediss": "redis", "amqps": "amqp", "pyamqp": "amqp"}.get(_scheme(url), _scheme(url))
    if scheme not in _TRANSPORTS:
        raise SettingError(f"broker_url: {scheme}:// is not one of {', '.join(_TRANSPORTS)}")
    options: dict[str, Any] = {"visibility_timeout": VISIBILITY_S, **_TRANSPORTS[scheme]}
    if not settings.broker_url:
        install_pgmq(catalogue.conninfo)
        options["conn_string"] = catalogue.conninfo
    app = Celery("radir", broker=url)
    app.conf.update(
        broker_transport_options=options,
        broker_connection_retry_on_startup=True,
        broker_heartbeat=0,  # a solo worker cannot answer one while it works; the kernel answers instead
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        enable_utc=True,
    )
    if scheme == "pgmq":
        app.conf.broker_transport = "radir_workers.bell:Transport"
    return app


def serve(
    app: Celery,
    hostname: str,
    *,
    queues: Sequence[str] = (QUEUE,),
    threads: int = 1,
    drain_s: float,
    on_stop: Callable[[], None] = lambda: None,
    give_back: Callable[[], None] = lambda: None,
) -> None:
    """Work in this process until SIGTERM or SIGINT, which let the tasks in hand end first.

    on_stop: called by the signal's handler, for a task that goes on by itself. give_back: called when a task still
    runs ``drain_s`` later, before the process ends nevertheless.

    One task at a time, in the main thread: a forked child could not use CUDA, and whoever wants more workers starts
    more processes. ``threads`` are for tasks that wait for other machines.
    """
    signals.setup_logging.connect(_leave_logging_alone)

    def stopping(**_: object) -> None:
        on_stop()
        timer = threading.Timer(drain_s, leave, (give_back,))
        timer.daemon = True
        timer.start()

    signals.worker_shutting_down.connect(stopping, weak=False)
    hear(app)
    warnings.filterwarnings("ignore", category=SecurityWarning)  # root in a container; messages are JSON numbers
    worker = app.Worker(
        hostname=hostname,
        pool="solo" if threads == 1 else "threads",
        concurrency=threads,
        queues=list(queues),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()


def hear(app: Celery) -> None:
    """From now on a message wakes who waits at a queue of pgmq, which is looked at once a second besides.

    Ten times a second where the queue cannot be made to tell of its messages. Not for those who only send: they would
    LISTEN in Postgres, and never read what they hear.
    """
    if _scheme(app.conf.broker_url) == "pgmq":
        app.conf.broker_transport_options = {**app.conf.broker_transport_options, "use_notify": True}


def leave(give_back: Callable[[], None], end: Callable[[int], object] = os._exit) -> None:
    """End the process; its jobs are given back, or their leases run out where that fails."""
    try:
        give_back()
    except StorageFailed as error:
        log.error("jobs could not be given back", extra={"error": error.code})
    finally:
        traces.end()
        end(0)


def _leave_logging_alone(**_: object) -> None:
    """Celery sets up logging unless somebody listens to its signal: `radir_pacs.logs` did it already."""


def _scheme(url: str) -> str:
    return url.partition("://")[0].partition("+")[0]
