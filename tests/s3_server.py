"""An S3 server on a port of its own, with an empty bucket "radir"; any key and secret are taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests

from tests.conftest import free_port


@contextmanager
def s3_server() -> Iterator[str]:
    """The endpoint of moto's server, which answers as AWS does, errors included."""
    from moto.server import ThreadedMotoServer  # half a second, which few test processes need to spend

    server = ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        requests.post(f"{endpoint}/moto-api/reset", timeout=10).raise_for_status()  # what another test left
        requests.put(f"{endpoint}/radir", timeout=10).raise_for_status()
        yield endpoint
    finally:
        server.stop()
