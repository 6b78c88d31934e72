"""The models that a worker loads: a warning where one answers nothing, and one of each kind in the settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from radir_pacs.catalogue import Catalogue, ModelRow
from radir_pacs.config import Settings
from radir_pacs.errors import ModelGone, SettingError
from radir_pacs.models import Registry
from radir_pacs.types import ImageKind, ModelState
from radir_workers.encoders import Encoders
from tests.model_material import seeded_bundle


def test_a_collapsed_model_is_served_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, collapsed in (("well", False), ("ill", True)):
        measured = {"recall_at_5_abnormal": {"recall": 0.1, "collapsed": collapsed}}
        bundle = replace(seeded_bundle(ImageKind.CT), metrics=measured).save(tmp_path / name)
        with caplog.at_level(logging.WARNING):
            encoders = Encoders(Settings(device="cpu"), _registry(bundle.manifest, tmp_path / name))
        assert encoders.encoder(bundle.model_id).kind is ImageKind.CT
        assert ("every study the same vector" in caplog.text) is collapsed
        assert encoders.preparing(None) == {ImageKind.CT: (bundle.model_id, bundle.preprocessing)}
        with pytest.raises(ModelGone):
            encoders.preparing("ct-none-0")


def test_a_model_that_came_since_the_last_look_is_no_reason_to_end_its_job(tmp_path: Path) -> None:
    bundle = seeded_bundle(ImageKind.CT).save(tmp_path / "model")
    registry = _registry(bundle.manifest, tmp_path / "model")
    known = registry.kept.return_value
    registry.kept.return_value = ()
    encoders = Encoders(Settings(device="cpu"), registry, clock_s=lambda: 0.0)
    assert encoders.preparing(None) == {}
    registry.kept.return_value = known
    how = {ImageKind.CT: (bundle.model_id, bundle.preprocessing)}
    assert encoders.preparing(bundle.model_id) == encoders.preparing(None) == how
    assert encoders.encoder(bundle.model_id).model_id == bundle.model_id
    with pytest.raises(ModelGone):
        encoders.preparing("ct-none-0")


def _registry(manifest: Mapping[str, Any], folder: Path) -> Mock:
    """Where the bundle of this folder serves."""
    model = ModelRow(
        model_id=manifest["model_id"],
        kind=ImageKind.CT,
        dim=1,
        manifest=manifest,
        state=ModelState.SERVING,
        bundle_sha256=manifest["manifest_sha256"],
        kept_until=None,
        coverage=1.0,
    )
    registry = Mock(spec=Registry)
    registry.kept.return_value = (model,)
    registry.folder.return_value = folder
    return registry


def test_two_models_of_one_kind_are_refused(tmp_path: Path) -> None:
    seeded_bundle(ImageKind.CT).save(tmp_path / "model")
    registry = Registry(Mock(spec=Catalogue, models=Mock()), Settings(home=tmp_path / "home"))
    registry._adopt = Mock()  # type: ignore[method-assign]
    with pytest.raises(SettingError, match="two bundles for CT"):
        registry.adopt([tmp_path / "model", tmp_path / "model"])
