"""Hundreds of messages with faults of twenty kinds, the listener killed at random: counts are exact, none counts twice.

The whole storm of 10,000 is benchmarks/speed/hl7.py.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from contextlib import ExitStack
from dataclasses import replace

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from tests import hl7_storm
from tests.conftest import free_port
from tests.hl7_material import Peer
from tests.integration.test_hl7_listener import connected, process


def test_a_storm_with_faults_and_kills(settings: Settings, catalogue: Catalogue) -> None:
    storm = hl7_storm.make(400, seed=7)
    assert len(storm.faults) == 20
    hl7_storm.prepare(storm, catalogue)
    settings = replace(settings, hl7_port=free_port())
    kills = set(random.Random(3).sample(range(400), 4))
    running: list[subprocess.Popen[bytes]] = []

    def kill_now(number: int) -> bool:
        if number not in kills:
            return False
        kills.discard(number)
        os.kill(running[0].pid, signal.SIGKILL)
        return True

    def connect() -> Peer:
        """The supervisor's part: what was killed starts again."""
        if not running or running[0].wait(30) is not None:
            running[:] = [holder.enter_context(process(settings))]
        return connected(settings.hl7_port)

    with ExitStack() as holder:
        answers = list(hl7_storm.send(storm.messages, connect, kill_now))
    assert not kills
    hl7_storm.check(storm, answers, catalogue)
