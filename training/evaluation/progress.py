"""Progress bars on stderr, where somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def bars() -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """Gives a function that opens a bar of so many steps (0: not known) and returns what moves it."""
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:

        def start_bar(title: str, total: int) -> Callable[[int], None]:
            task = progress.add_task(title, total=total or None)
            return lambda done: progress.update(task, completed=done)

        yield start_bar
