"""The tables of open collections of radiographs are understood as they come."""

from __future__ import annotations

from pathlib import Path

import pytest

from radir_pacs.cli.import_images import import_images
from tests.services import data_dir


@pytest.mark.parametrize(
    ("name", "file", "images", "reports"),
    [("cxr_cohen", "metadata.csv", 183, 160), ("cxr_hannover", "data.csv", 208, 0), ("cxr_nih", "labels.csv", 62, 62)],
)
def test_known_collections_need_no_mapping(tmp_path: Path, name: str, file: str, images: int, reports: int) -> None:
    collection = data_dir(name)
    outcome = import_images(collection / file, collection / "images", tmp_path)
    assert (outcome.images, outcome.reports, outcome.refused) == (images, reports, [])
    assert len(list(tmp_path.rglob("*.dcm"))) == images + reports
