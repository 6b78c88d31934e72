"""A page of results says where, when and how its figures were measured, and names no folder of the machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import performance, results
from benchmarks.speed import three_machines

ROOT = Path(__file__).parents[2]
PAGES = sorted((performance.DOCS / "results").glob("*.md"))
ORIGIN = re.compile(r"Measured (on|from) 20\d\d-\d\d-\d\d.* commit [0-9a-f]{7,10}.* \d+ cores.*, by .*`[^`]+`")
SCRIPT = """
import sys
from pathlib import Path
from benchmarks import results
sys.argv = ["benchmark", "--work", "/somewhere/private/here", "--jobs", "2"]
results.write(Path({folder!r}), "page", {{"value": 1.5}}, "# Title\\n\\nText.")
"""


def test_a_page_says_how_it_was_made(tmp_path: Path) -> None:
    script = SCRIPT.format(folder=str(tmp_path))
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)
    page, figures = (tmp_path / "page.md").read_text(), json.loads((tmp_path / "page.json").read_text())
    assert page.startswith("# Title\n\nMeasured on 2") and page.endswith("\n\nText.\n")
    assert figures["value"] == 1.5
    assert {"machine", "date", "commit", "command"} == set(figures["made"])
    assert figures["made"]["command"].endswith("--work here --jobs 2") and figures["made"]["command"] in page
    assert figures["made"]["machine"]["cores"] and figures["made"]["machine"]["processor"] in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_page_begins_with_its_origin(page: Path) -> None:
    title, blank, origin, *_ = page.read_text().splitlines()
    assert title.startswith("# ") and not blank and ORIGIN.match(origin), (
        f"{page.name}: date, commit, machine and command (benchmarks.results.origin) below the title"
    )


@pytest.mark.parametrize("name", ["page", None])
def test_what_a_benchmark_writes_or_prints_is_an_origin(name: str | None) -> None:
    line = results.origin(results.made() | {"commit": "0123456789"}, name)
    assert ORIGIN.match(line) and ("`page.json`" in line) == (name is not None)


def test_the_page_of_performance_is_made_of_the_results() -> None:
    assert (performance.DOCS / "performance.md").read_text() == performance.page(performance.DOCS / "results"), (
        "run: python -m benchmarks.performance"
    )


def test_titles_are_one_level_down_and_missing_pages_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "soak.md").write_text("# Soak\n\n## Part\n\nNo # title.\n")
    assert performance.page(tmp_path).endswith("\n\n## Soak\n\n### Part\n\nNo # title.\n")


def test_the_page_of_three_machines_says_what_its_figures_say() -> None:
    folder = performance.DOCS / "results"
    figures = json.loads((folder / "three-machines.json").read_text())
    title, _, rest = three_machines.page(figures).partition("\n")
    page = (folder / "three-machines.md").read_text()
    assert page.startswith(title) and page.endswith(f"\n\n{rest.strip()}\n")
    assert len(figures["failures"]) >= 20
    assert figures["answered_by_engine"] > 0 and all(one["by_engine_s"] is not None for one in figures["failures"])
