"""``python -m radir_pacs.web [--name NAME]``: a web process, with its settings from the environment."""

from __future__ import annotations

import logging
import signal
import tempfile

from radir_pacs import config, metrics, traces
from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue import Catalogue
from radir_pacs.logs import set_up_logging
from radir_pacs.process_end import run_to_the_end
from radir_pacs.process_heartbeat import process_heartbeat
from radir_pacs.query import Searcher
from radir_pacs.storage import open_blobs
from radir_pacs.web.app import create_app
from radir_pacs.web.server import make_server

log = logging.getLogger(__name__)


def main() -> int:
    """Serve until SIGTERM; requests in progress get ``drain_s`` to finish."""
    parser = config.Parser(prog="python -m radir_pacs.web", description=__doc__)
    parser.add_argument("--name", default="web", help="as radir status shows it")
    name: str = parser.parse_args().name
    metrics.begin(name)
    settings = config.load()
    set_up_logging(settings, name)
    traces.begin(settings, name)
    with Catalogue.open(settings) as catalogue:
        blobs = open_blobs(settings, catalogue.backups.installation())
        # Large bodies wait here in files: /tmp may be memory, while this disk's free space is checked.
        tempfile.tempdir = str(blobs.incoming_folder)
        searcher = Searcher(catalogue, settings)
        app = create_app(settings, catalogue, searcher, blobs)
        server = make_server(app, settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        log.info("serving", extra={"address": f"{settings.web_host}:{settings.web_port}"})
        catalogue.audit.note(AuditEvent.STARTED, Caller(name=name, role=Role.SERVICE))
        detail = f"{settings.web_host}:{settings.web_port}"
        with process_heartbeat(catalogue.processes, name, detail=detail), searcher.index_check():
            server.run()
        log.info("ends")
        app.extensions["radir"].decoder.close()
        searcher.close()
    return 0


if __name__ == "__main__":
    run_to_the_end(main)
