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

from radir_pacs.errors import BadInput
from radir_pacs.printable import counted as counted

errors = Console(stderr=True, highlight=False)
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def check_terminal(action: str) -> None:
    """Raise BadInput where nobody can be asked whether ``action`` may begin."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise BadInput(f"{action} asks before it begins, and there is no terminal: add --yes (--dry-run says how many)")


def is_agreed(action: str) -> bool:
    """What the person at the terminal says to ``ACTION? [y/N]``."""
    try:
        return input(f"{action}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def say_progress(line: str) -> None:
    """A line on standard error where no bar can move, as in a log: whoever waits there sees that something happens."""
    if not errors.is_terminal and not errors.quiet:
        errors.print(line, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, default=str)
    print()


def say(value: Any, line: str, *, as_json: bool) -> None:
    """What a command did: the value for machines, or the line for people."""
    if as_json:
        print_json(value)
    else:
        out.print(line, markup=False, soft_wrap=True)


class _Note(ProgressColumn):
    """The ``note`` of a task, beside its bar."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("note", "")))


def progress(*, transient: bool = False, console: Console = errors) -> Progress:
    """A progress bar on standard error, which leaves one line behind.

    A transient one leaves nothing and is shown on a terminal only. A task may have a ``note``.
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
    """Yields a function that opens a bar of so many steps (0: not known) and returns the function that moves it."""
    with progress(transient=True) as shown:

        def start_bar(title: str, total: int) -> Callable[[int], None]:
            task = shown.add_task(title, total=total or None)
            return lambda done: shown.update(task, completed=done)

        yield start_bar
