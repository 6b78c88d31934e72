"""docs/adr/README.md lists every decision by its title."""

from __future__ import annotations

from tests.services import ROOT

FOLDER = ROOT / "docs" / "adr"


def test_the_index_lists_every_decision() -> None:
    listed = [line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("- ")]
    titles = {path.name: path.read_text().splitlines()[0] for path in sorted(FOLDER.glob("[0-9]*.md"))}
    assert listed == [f"- [{title[2:6]}]({name}) {title[7:]}" for name, title in titles.items()]
