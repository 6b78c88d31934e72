"""Shell commands of the documentation, as its pages hold them.

A block of code that a reader would paste into a shell is held against the parser by a test, and run on the pages that
tests/acceptance/test_docs_run.py names, unless ``<!-- not run: REASON -->`` stands just before it. Lines
of other blocks (settings, requests) are never commands.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from tests.services import ROOT

_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*$", re.DOTALL)
_PROGRAMS = frozenset(
    (
        *("apt-get", "buildah", "cat", "chmod", "curl", "docker", "echo", "exec", "export", "find", "helm", "read"),
        *("journalctl", "kubectl", "make", "mkdir", "pip", "printf", "python", "python3", "python3.11", "radir"),
        *("sudo", "systemctl", "tar", "torchrun", "until"),
    )
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]+=")
_COMMENT = re.compile(r"(^|\s)#(\s.*)?$")
_HERE = re.compile(r"<<'?(\w+)'?\n.*?^\1$", re.DOTALL | re.MULTILINE)
_LEADING = frozenset(("sudo", "exec", "do", "then", "until", "if", "$"))
_ENDS = frozenset(";|&()<>\n")


@dataclass(frozen=True, kw_only=True)
class Block:
    """``reason``: why it is not run; empty: it is."""

    page: str
    line: int
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Every page that tells a reader what to do; decisions and measurements do not."""
    found = ["README.md", "viewer/README.md", "orthanc_plugin/README.md", "CONTRIBUTING.md", "SECURITY.md"]
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = page.relative_to(ROOT).as_posix()
        if not name.startswith(("docs/adr/", "docs/results/")) and name != "docs/performance.md":
            found.append(name)
    return found


def shell_blocks(page: str) -> list[Block]:
    found = []
    reason = ""
    for token in MarkdownIt("commonmark").parse((ROOT / page).read_text("utf-8")):
        if token.type in ("code_block", "fence") and token.map and is_shell(token.content):
            found.append(Block(page=page, line=token.map[0] + 1, text=token.content, reason=reason))
        if token.nesting == 0:
            marked = _NOT_RUN.search(token.content) if token.type == "html_block" else None
            reason = marked[1] if marked else ""
    return found


def python_cells(page: str) -> list[str]:
    """Its examples in Python, in their order."""
    tokens = MarkdownIt("commonmark").parse((ROOT / page).read_text("utf-8"))
    return [token.content for token in tokens if token.type == "fence" and token.info == "python"]


def is_shell(text: str) -> bool:
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    word = first.split()[0] if first.split() else ""
    return Path(word).name in _PROGRAMS or (bool(_ASSIGNMENT.match(word)) and " = " not in first)


def radir_commands(text: str) -> Iterator[list[str]]:
    """The arguments of each call of radir in a shell text."""
    text = _HERE.sub("", text).replace("\\\n", " ")
    text = "\n".join(_COMMENT.sub("", line) for line in text.splitlines())
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";|&()<>\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    words: list[str] | None = None
    before = ""  # of a command only assignments, sudo with its user, and words of the shell may stand
    for word in [*lexer, "\n"]:
        if set(word) <= _ENDS:
            if words is not None:
                yield words
            words, before = None, ""
        elif words is not None:
            words.append(word)
        elif (word == "radir" or word.endswith("bin/radir")) and not before:
            words = []
        elif word == "-u":
            before = word
        elif before == "-u" or (not before and (word in _LEADING or _ASSIGNMENT.match(word))):
            before = ""
        else:
            before = word


def spans(page: str) -> Iterator[str]:
    """What stands between backticks in running text and begins with ``radir``."""
    for token in MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text("utf-8")):
        for child in token.children or ():
            if child.type == "code_inline" and child.content.startswith("radir "):
                yield child.content
