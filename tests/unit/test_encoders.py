"""The models that a worker serves: one of each kind, and a warning where one answers nothing."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from radir_pacs.catalogue import Models
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError
from radir_pacs.types import ImageKind
from radir_workers.encoders import Encoders
from tests.model_material import seeded_bundle


def served(*folders: Path) -> Encoders:
    settings = Settings(models=tuple(str(folder) for folder in folders), device="cpu")
    return Encoders(settings, Mock(spec=Models))


def test_a_collapsed_model_is_served_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, collapsed in (("well", False), ("ill", True)):
        measured = {"recall_at_5_abnormal": {"recall": 0.1, "collapsed": collapsed}}
        replace(seeded_bundle(ImageKind.CT), metrics=measured).save(tmp_path / name)
        with caplog.at_level(logging.WARNING):
            assert served(tmp_path / name).encoder(ImageKind.CT) is not None
        assert ("every study the same vector" in caplog.text) is collapsed


def test_two_models_of_one_kind_are_refused(tmp_path: Path) -> None:
    seeded_bundle(ImageKind.CT).save(tmp_path / "model")
    with pytest.raises(SettingError, match="two bundles for CT"):
        served(tmp_path / "model", tmp_path / "model")
