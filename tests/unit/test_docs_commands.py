"""Commands in the documentation exist, with the flags that they are shown with."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from functools import cache

import pytest

from radir_pacs.cli import parser
from tests.doc_blocks import is_shell, pages, radir_commands, shell_blocks, spans

_SYNOPSIS = "docs/reference/"  # pages that show what may be written, in brackets
_parser = cache(parser)  # of one command: every setting is a flag of many, which takes time to make


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found.choices)


def flags(command: argparse.ArgumentParser) -> set[str]:
    """Of a command and of its actions."""
    found: set[str] = set()
    for action in command._actions:
        found |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                found |= flags(sub)
    return found


@pytest.mark.parametrize("page", [page for page in pages() if not page.startswith(_SYNOPSIS)])
def test_every_command_of_a_block_is_taken_by_the_parser(page: str) -> None:
    for block in shell_blocks(page):
        for words in radir_commands(block.text):
            said = io.StringIO()
            try:
                with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                    _parser(words[0]).parse_args(words)
            except SystemExit:
                pytest.fail(f"{block}: radir {' '.join(words)}: {said.getvalue().splitlines()[-1]}")


def test_every_command_in_running_text_exists_with_its_flags() -> None:
    known = commands()
    seen = 0
    for page in pages():
        for span in [*spans(page), *(line for block in shell_blocks(page) for line in block.text.splitlines())]:
            found = re.match(r"radir ([a-z][a-z0-9-]*)", span)
            if not found:
                continue
            seen += 1
            assert found[1] in known, f"{page}: {span}"
            said = set(re.findall(r"(?<![\w-])--[a-z0-9-]+", span.partition(" #")[0]))
            assert said <= flags(known[found[1]]), f"{page}: {span}: {said - flags(known[found[1]])}"
    assert seen > 100


def test_a_command_that_does_not_exist_is_found() -> None:
    text = "for x in 1; do\n  sudo -u r A=1 .venv/bin/radir status --jsn | head  # radir no\ndone\nradir x 'a b' > f\n"
    assert list(radir_commands(text)) == [["status", "--jsn"], ["x", "a b"]]
    assert list(radir_commands("docker compose exec radir radir doctor")) == [], "the name of a service"
    assert is_shell(text.replace("for", "until")) and not is_shell("hl7_port = 1\n") and not is_shell("GET /x\n")
