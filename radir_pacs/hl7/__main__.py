"""``python -m radir_pacs.hl7 [--name NAME]``: the HL7 listener process, with its settings from the environment."""

from __future__ import annotations

import asyncio
import signal

from radir_pacs import config, metrics
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError
from radir_pacs.hl7.server import MllpServer
from radir_pacs.logs import set_up_logging
from radir_pacs.process_end import run_to_the_end
from radir_pacs.process_heartbeat import process_heartbeat


async def serve(settings: Settings, catalogue: Catalogue, name: str) -> None:
    """Until SIGTERM; the messages in hand then get ``drain_s`` to be answered."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = MllpServer(settings, catalogue)
    await server.start()
    with process_heartbeat(catalogue.processes, name, detail=f"{settings.hl7_host}:{settings.hl7_port}"):
        await stop.wait()
        await server.drain(settings.drain_s)
        await server.stop()


def main() -> int:
    parser = config.Parser(prog="python -m radir_pacs.hl7", description=__doc__)
    parser.add_argument("--name", default="hl7", help="as radir status shows it")
    name: str = parser.parse_args().name
    metrics.begin(name)
    settings = config.load()
    set_up_logging(settings, name)
    if not settings.hl7_port:
        raise SettingError("hl7_port: no port is set")
    with Catalogue.open(settings) as catalogue:
        asyncio.run(serve(settings, catalogue, name))
    return 0


if __name__ == "__main__":
    run_to_the_end(main)
