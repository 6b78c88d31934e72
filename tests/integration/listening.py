"""A listener on a free loopback port, as peers meet it: a real catalogue, real blobs."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pynetdicom import _config

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.delivery.destination import Destination
from radir_pacs.listener.server import Server, make_server
from radir_pacs.storage.blobs import BlobStore


@contextmanager
def listening(settings: Settings, catalogue: Catalogue, blobs: BlobStore) -> Iterator[tuple[Destination, Server]]:
    """A listener with these settings, until the end of the body."""
    before = tempfile.tempdir, _config.STORE_RECV_CHUNKED_DATASET, _config.LOG_HANDLER_LEVEL
    server = make_server(settings, catalogue, blobs)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield Destination(ae_title=settings.ae_title, host=settings.listener_host, port=settings.listener_port), server
    finally:
        server.shutdown()
        tempfile.tempdir, _config.STORE_RECV_CHUNKED_DATASET, _config.LOG_HANDLER_LEVEL = before


def refusals(catalogue: Catalogue) -> list[str]:
    return [row.reason for row in catalogue.refusals.recent()]


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the state did not come"
        time.sleep(0.01)
