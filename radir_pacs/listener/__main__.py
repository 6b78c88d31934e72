"""``python -m radir_pacs.listener [--name NAME]``: the listener process, with its settings from the environment."""

from __future__ import annotations

import gc
import signal
import threading

from radir_pacs import config, metrics, traces
from radir_pacs.catalogue import Catalogue
from radir_pacs.listener.server import make_server
from radir_pacs.logs import set_up_logging
from radir_pacs.process_end import run_to_the_end
from radir_pacs.process_heartbeat import process_heartbeat
from radir_pacs.storage import open_blobs

_COLLECTED_AT = 20_000


def main() -> int:
    """Serve until SIGTERM; newcomers are then rejected, and open associations get ``drain_s`` to finish."""
    parser = config.Parser(prog="python -m radir_pacs.listener", description=__doc__)
    parser.add_argument("--name", default="listener", help="as radir status shows it")
    name: str = parser.parse_args().name
    metrics.begin(name)
    settings = config.load()
    set_up_logging(settings, name)
    traces.begin(settings, name)
    with Catalogue.open(settings) as catalogue:
        blobs = open_blobs(settings, catalogue.backups.installation())
        server = make_server(settings, catalogue, blobs)
        gc.freeze()  # what was made so far stays; headers are short-lived trees that would be looked through too often
        gc.set_threshold(_COLLECTED_AT, 20, 20)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())

        def serve() -> None:
            try:
                server.serve_forever(poll_interval=0.2)
            finally:
                stop.set()  # a process that no longer listens must not report itself as up

        threading.Thread(target=serve, name="accept", daemon=True).start()
        with process_heartbeat(catalogue.processes, name, detail=f"{settings.listener_host}:{settings.listener_port}"):
            stop.wait()
            server.drain(settings.drain_s)
    return 0


if __name__ == "__main__":
    run_to_the_end(main)
