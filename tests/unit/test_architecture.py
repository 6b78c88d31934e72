"""ARCHITECTURE.md shows the layers that .importlinter holds."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_picture_of_the_layers_is_the_contract() -> None:
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter")
    layers = contracts["importlinter:contract:layers"]["layers"].split("\n")
    held = [line.replace("radir_pacs.", "").replace("radir_", "") for line in layers if line]
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8").split("\n")
    start = page.index(f"    {held[0]}")
    assert [line.strip() for line in page[start : start + len(held)]] == held, "copy the layers from .importlinter"
