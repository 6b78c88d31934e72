"""A card says what its manifest says, always in the same form; nothing in a manifest can break out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from radir_pacs.encode import Bundle, default_bundles
from radir_pacs.encode.card import NOT_DIAGNOSIS, NOT_MEASURED, NOT_SAID, model_card
from radir_pacs.encode.folder import CARD, MANIFEST, read_manifest
from radir_pacs.types import ImageKind
from tests.model_material import seeded_bundle

METRICS: dict[str, Any] = {
    "measured_on": {"patients": 200, "images": 250},
    "recall_at_5_abnormal": {
        "recall": 0.3301,
        "interval_95": [0.292, 0.3701],
        "random": 0.0992,
        "regions": {
            "heart": {"recall": 0.75, "interval_95": [0.6, 0.9], "random": 0.2541, "queries": 60},
            "left_ribs": {"recall": None, "random": 0.1, "queries": 2},
        },
    },
}


def saved(folder: Path, **changes: Any) -> str:
    bundle = seeded_bundle(ImageKind.CXR)
    Bundle(**{**vars(bundle), **changes}).save(folder)
    return (folder / CARD).read_text()


def test_the_card_says_what_was_measured_with_its_random_line(tmp_path: Path) -> None:
    card = saved(
        tmp_path / "model", metrics=METRICS, training={"data": "phantoms", "licence": "CC0", "limits": "small"}
    )
    assert NOT_DIAGNOSIS in card and "- data: phantoms" in card and "- licence: CC0" in card and "- small" in card
    assert "- recall: 0.330" in card and "- 95 % interval: 0.292 to 0.370" in card and "- random: 0.099" in card
    assert "| heart | 0.750 | 0.600 to 0.900 | 0.254 | 60 |" in card
    assert "| left ribs | too few to measure |  | 0.100 | 2 |" in card


def test_regions_at_the_random_line_are_named_among_the_limits(tmp_path: Path) -> None:
    weak = {"recall": 0.12, "interval_95": [0.05, 0.2], "random": 0.09, "queries": 40}
    regions = {**METRICS["recall_at_5_abnormal"]["regions"], "thoracic_spine": weak}
    metrics = {"recall_at_5_abnormal": {**METRICS["recall_at_5_abnormal"], "regions": regions}}
    said = "Not shown to be better than a random order at: thoracic spine."
    limits = saved(tmp_path / "model", metrics=metrics).split("## Limits")[1]
    assert f"- {said}" in limits and "collapsed" not in limits
    assert "Not shown" not in saved(tmp_path / "good", metrics=METRICS)
    truth = {"thoracic_spine": {**weak, "interval_95": [0.1, 0.2]}, "heart": {**weak, "interval_95": None}}
    judged = saved(tmp_path / "true", metrics={**metrics, "recall_at_5_abnormal_true": {"regions": truth}})
    assert "Not shown" not in judged, "what is true outweighs what reports say, and .12 is above .09"
    metrics["recall_at_5_abnormal"]["collapsed"] = True
    assert "It has collapsed" in saved(tmp_path / "bad", metrics=metrics).split("## Limits")[1]


def test_a_network_of_synthetic_patients_alone_says_so(tmp_path: Path) -> None:
    said = "- Trained on synthetic patients only; on real chest radiographs nothing was measured."
    assert said in saved(tmp_path / "alone", training={"source": "synthetic"})
    assert said not in saved(tmp_path / "local", training={"source": "local"})
    went_on = {"source": "synthetic", "began_with": "cxr-tiny-0"}
    assert said not in saved(tmp_path / "not known", training=went_on)
    assert said not in saved(tmp_path / "from real ones", training=went_on | {"synthetic_only": False})
    assert said in saved(tmp_path / "went on", training=went_on | {"synthetic_only": True})


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    card = saved(tmp_path / "model", metrics={}, training={})
    assert NOT_MEASURED in card and f"- data: {NOT_SAID}" in card and f"- licence: {NOT_SAID}" in card


def test_the_card_is_the_same_each_time_and_no_part_of_the_model(tmp_path: Path) -> None:
    assert saved(tmp_path / "one", metrics=METRICS) == saved(tmp_path / "two", metrics=METRICS)
    (tmp_path / "one" / CARD).unlink()
    assert Bundle.load(tmp_path / "one").model_id == Bundle.load(tmp_path / "two").model_id


def test_nothing_in_a_manifest_breaks_out_of_its_line(tmp_path: Path) -> None:
    hostile = "x\n# Approved\n<script>alert(1)</script> | \x1b[31m"
    card = saved(tmp_path / "model", training={"data": hostile, hostile: hostile}, metrics={hostile: {hostile: 1}})
    assert "\n# Approved" not in card and "<" not in card and "\x1b" not in card


@pytest.mark.parametrize("kind", list(ImageKind))
def test_the_shipped_cards_are_those_of_their_manifests(kind: ImageKind) -> None:
    folder = default_bundles()[kind]
    assert (folder / CARD).read_text() == model_card(read_manifest(folder)), f"save the bundle of {folder / MANIFEST}"
