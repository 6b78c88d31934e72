"""``python -m radir_training.retraining RUN``: work at one run until it ends; settings come from the environment.

A process of its own, started by ``radir retrain``: when it ends, a GPU's memory is free again.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import RadirError
from radir_pacs.logs import set_up_logging


def stop(number: int, frame: FrameType | None) -> None:
    """By SIGTERM, as ``radir up`` and Ctrl-C send it: the run is let go of on the way out."""
    raise SystemExit(128 + number)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when the run has ended, whatever its verdict."""
    [number] = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, stop)
    try:
        settings = config.load()
        set_up_logging(settings, f"retraining-{int(number)}")
        from .pipeline import Pipeline

        with Catalogue.open(settings) as catalogue:
            state = Pipeline(catalogue, settings, int(number), worker=f"retraining:{os.getpid()}").work()
    except RadirError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 1 if state == "FAILED" else 0


if __name__ == "__main__":
    sys.exit(main())
