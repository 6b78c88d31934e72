"""Result pages: figures as JSON and Markdown, with the machine, the date, the commit and the command."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")


def made() -> dict[str, Any]:
    """Where and when this process measures its figures, and the command that measures them again."""
    return {
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1)},
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "command": _command(),
    }


def origin(about: Mapping[str, Any], name: str | None = None) -> str:
    """What ``made`` tells, as the line with which the page ``name`` begins, below its title; without a name: a page
    that is kept by hand, from what a benchmark prints."""
    machine = about["machine"]
    return (
        f"Measured on {about['date']} at commit {about['commit']} on {machine['processor']}, {machine['cores']} cores "
        f"(load average {machine['load_average']}), by `{about['command']}`"
        + ("." if name is None else f"; the figures stand in `{name}.json` too.")
    )


def write(folder: Path, name: str, figures: Mapping[str, Any], page: str) -> Path:
    """Write ``name``.json and ``name``.md into ``folder``; the page begins with its ``#`` title. Returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    about = made()
    text = json.dumps({"made": about, **figures}, separators=(",", ":"), default=str)
    (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
    path = folder / f"{name}.md"
    path.write_text(headed(page, origin(about, name)), encoding="utf-8")
    return path


def headed(page: str, line: str) -> str:
    """The page with ``line`` below its title. A page of figures that were measured before keeps their origin by it."""
    title, _, rest = page.strip().partition("\n")
    return f"{title}\n\n{line}\n\n{rest.strip()}\n"


def _processor() -> str:
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    try:
        asked = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
        return subprocess.run(
            asked, cwd=Path(__file__).parent, check=True, capture_output=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _command() -> str:
    """The command that started this process, as ``python -m benchmarks.…``, without folders of this machine."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name if spec is not None else Path(sys.argv[0]).stem
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return shlex.join(["python", "-m", module, *words])
