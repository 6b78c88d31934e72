"""docs/reference/ says what the code says."""

from __future__ import annotations

import importlib.util
from dataclasses import fields

import pytest

from radir_pacs.config import Settings
from tests.services import ROOT

_spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
assert _spec and _spec.loader
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)


@pytest.mark.parametrize("name", sorted(reference.PAGES))
def test_the_page_is_what_the_code_says(name: str) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text() == reference.PAGES[name](), "run: make reference"


def test_every_setting_says_what_it_is_for() -> None:
    assert all(f.metadata["doc"].endswith(".") for f in fields(Settings))


def test_every_route_says_what_it_does() -> None:
    rows = [line for line in reference.routes_page().splitlines() if line.startswith("| `/")]
    assert rows and not [row for row in rows if row.endswith("|  |")]
