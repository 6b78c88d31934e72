"""How commands speak: tables and progress on a terminal, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

errors = Console(stderr=True, highlight=False)
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, default=str)
    print()


class _Note(ProgressColumn):
    """What a task says beside its bar, by its field ``note``."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("note", "")))


def progress(*, transient: bool = False, console: Console = errors) -> Progress:
    """A progress bar on standard error, which leaves one line behind.

    A transient one leaves nothing, and is not shown where nobody watches. A task may have a ``note``.
    """
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        _Note(),
        console=console,
        transient=transient,
        disable=console.quiet or (transient and not console.is_terminal),
    )


@contextmanager
def bars() -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """Gives a function that opens a bar of so many steps (0: not known) and returns what moves it."""
    with progress(transient=True) as shown:

        def start_bar(title: str, total: int) -> Callable[[int], None]:
            task = shown.add_task(title, total=total or None)
            return lambda done: shown.update(task, completed=done)

        yield start_bar
