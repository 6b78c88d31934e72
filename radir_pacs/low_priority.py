"""Work for which nobody waits yields the processor to work for which somebody does."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

NICE = 10  # beside a thread of the usual priority on the same core, it gets about a tenth of the time


def after_others(nice: int = NICE) -> None:
    """Lower the priority of this thread, and of the threads and processes that it starts; it stays so.

    On Linux, where each thread has its own (sched(7)); elsewhere nothing changes. It counts within one container.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):  # the process is at a lower one already
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
