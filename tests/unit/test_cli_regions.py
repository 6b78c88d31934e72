"""`radir regions`: the tree, what words mean, and what a miss says."""

from __future__ import annotations

import json

import pytest

from radir_pacs import anatomy
from radir_pacs.cli import main


def test_words_name_a_region(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regions", "lower", "lobe", "of", "left", "lung", "--json"]) == 0
    (region,) = json.loads(capsys.readouterr().out)
    assert (region["key"], region["laterality"]) == ("left_lower_lobe", "Left")


def test_the_tree_has_every_region(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regions"]) == 0
    shown = capsys.readouterr().out
    assert all(region.name in shown for region in anatomy.regions())


def test_a_miss_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regions", "left lowr lobe"]) == 1
    assert "left lower lobe" in capsys.readouterr().err
