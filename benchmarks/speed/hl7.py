"""HL7 v2: messages per second over MLLP, each committed before its AA, and a storm of 10,000 with faults and kills.

``python -m benchmarks.speed.hl7 [--count 10000] [--messages 1000]`` writes docs/results/hl7.md. One Postgres with its
usual durability (fsync on), one listener process, senders in this one.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks import results
from radir_pacs.catalogue import Catalogue, stop_embedded
from radir_pacs.config import Settings
from tests import hl7_storm
from tests.conftest import free_port
from tests.hl7_material import Peer, code
from tests.integration.test_hl7_listener import connected, process

_FOLDER = Path(__file__).parents[2] / "docs" / "results"
_KILLS = 10


def speed(settings: Settings, connections: int, messages: int) -> float:
    """Messages per second, over connections that each wait for their answer."""
    with process(settings), connected(settings.hl7_port):
        peers = [connected(settings.hl7_port) for _ in range(connections)]

        def send(place: int) -> None:
            for number in range(place, messages, connections):
                assert code(peers[place].ask(hl7_storm.report(number, control=f"S{connections}.{number}"))) == "AA"

        threads = [threading.Thread(target=send, args=(place,)) for place in range(connections)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return messages / (time.perf_counter() - began)


def storm(settings: Settings, catalogue: Catalogue, count: int) -> tuple[hl7_storm.Storm, float, int]:
    """The storm, its seconds and how often the listener was killed; raises AssertionError for a wrong count."""
    told = hl7_storm.make(count, seed=11)
    hl7_storm.prepare(told, catalogue)
    kills = set(random.Random(5).sample(range(count), _KILLS))
    running: list[subprocess.Popen[bytes]] = []

    def kill_now(number: int) -> bool:
        if number not in kills:
            return False
        kills.discard(number)
        os.kill(running[0].pid, signal.SIGKILL)
        return True

    with ExitStack() as holder:

        def connect() -> Peer:
            if not running or running[0].wait(30) is not None:
                running[:] = [holder.enter_context(process(settings))]
            return connected(settings.hl7_port)

        began = time.perf_counter()
        answers = list(hl7_storm.send(told.messages, connect, kill_now))
        took_s = time.perf_counter() - began
    hl7_storm.check(told, answers, catalogue)
    return told, took_s, _KILLS - len(kills)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=1_000, help="for the speed")
    parser.add_argument("--out", type=Path, default=_FOLDER)
    args = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="radir-hl7-"))
    settings = replace(Settings(home=home), hl7_port=free_port())
    try:
        with Catalogue.open(settings) as catalogue:
            told, took_s, kills = storm(settings, catalogue, args.count)
            rates = {n: speed(settings, n, args.messages) for n in (1, 4)}
            counts = {str(outcome): n for outcome, n in catalogue.overview().messages.items()}
    finally:
        stop_embedded(home)
    lines = [
        "# HL7 v2",
        "",
        f"A storm of {len(told.messages):,} messages over one connection, {sum(told.faults.values()):,} of them faulty"
        f" in {len(told.faults)} ways, the listener killed {kills} times with SIGKILL between receipt and answer:"
        f" {took_s:.0f} s. Each message ended stored, waiting or kept with its reason, counts exact, none twice.",
        "",
        "| fault | messages |",
        "|---|---|",
        *(f"| {fault} | {n} |" for fault, n in sorted(told.faults.items())),
        "",
        "| connections, each waiting for its answer | messages/s |",
        "|---|---|",
        *(f"| {n} | {rate:.0f} |" for n, rate in rates.items()),
    ]
    figures = {
        "storm_s": round(took_s, 1),
        "kills": kills,
        "faults": dict(told.faults),
        "rates": rates,
        "after": counts,
    }
    print(results.write(args.out, "hl7", figures, "\n".join(lines)).read_text())


if __name__ == "__main__":
    main()
