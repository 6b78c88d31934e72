"""How the processes that serve others end: with their exit status, whatever their threads still do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from radir_pacs import traces
from radir_pacs.errors import RadirError


def run_to_the_end(main: Callable[[], int]) -> NoReturn:
    """Run ``main`` and end the process with its exit status; an error of ours is one line on standard error.

    Threads of open connections and unfinished requests do not keep the process alive, and no exit handler runs.
    """
    try:
        code = main()
    except RadirError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    traces.end()
    sys.stdout.flush()
    os._exit(code)
