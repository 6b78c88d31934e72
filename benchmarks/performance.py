"""``python -m benchmarks.performance``: docs/performance.md from the pages of docs/results that are about speed.

The page holds no figure of its own: each table comes from a page of results, with the machine and the command.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PAGES = (
    *("query-http", "qido", "web-processes", "soak", "index-capacity", "index-partition-200000"),
    *("index-engines-1000000", "index-engines-200000", "index-search", "listener", "encoding", "hl7", "report-story"),
    "audit-record",
)
_INTRODUCTION = """# Performance

Each table below is a page of `docs/results` and begins with its day, commit, machine and command, and with what has
changed since where it is older than the code. The benchmarks write these pages, except that of exact search, graphs
and filters, which is copied from what its benchmark prints. Times of a table are comparable with one another, since
all its rows come from one run; on a machine that was busy (see its load average) they are longer than they need be,
and processor times tell more.
"""


def page(folder: Path) -> str:
    """All pages of ``folder`` that are about speed, one after another; those that were never measured are left out."""
    parts = [_INTRODUCTION]
    for name in PAGES:
        path = folder / f"{name}.md"
        if path.exists():
            deeper = re.sub(r"^#", "##", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            parts.append(re.sub(r"\]\(([\w./-]+\.md)", _from_docs, deeper))
    return "\n".join(parts)


def _from_docs(link: re.Match[str]) -> str:
    """A link of a page of results, as docs/ has to write it."""
    return "](" + posixpath.normpath(f"results/{link[1]}")


def main() -> int:
    (DOCS / "performance.md").write_text(page(DOCS / "results"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
