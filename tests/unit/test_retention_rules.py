"""How long pixels are kept, as a site writes it down: which rule decides, when a picture is due, what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from radir_pacs.catalogue import Evictable
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError
from radir_pacs.intake.retention import KEEP_ALL, RetentionRules, load_retention, retention_of
from radir_pacs.types import StudyState

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DX, CT = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.2"


def rules(tmp_path: Path, text: str) -> RetentionRules:
    path = tmp_path / "retention.toml"
    path.write_text(text)
    load_retention.cache_clear()
    return load_retention(str(path))


def study(**changes: object) -> Evictable:
    """Two pictures, a radiograph and a CT slice, of a study that came 30 days ago."""
    given = {
        "study_uid": "1.2.3",
        "last_instance_at": NOW - timedelta(days=30),
        "state": StudyState.INDEXED,
        "sites": ["North"],
        "held": [],
        "is_encoded": True,
        "hashes": ["a", "b"],
        "sop_uids": ["1.2.3.1", "1.2.3.2"],
        "modalities": ["DX", "CT"],
        "sop_classes": [DX, CT],
        "sizes": [10, 20],
    }
    return Evictable(**(given | changes))  # type: ignore[arg-type]


def test_without_a_file_all_is_kept() -> None:
    found = load_retention("")
    assert not found.removes
    assert found.of(["North"], "CT", CT).name == "keep"


def test_the_first_rule_whose_conditions_all_hold_decides(tmp_path: Path) -> None:
    found = rules(
        tmp_path,
        f"""
        [[rule]]
        name = "ct-of-north"
        site = ["North", "Annex"]
        modality = ["CT"]
        days = 30
        [[rule]]
        name = "radiographs"
        sop_class = ["{DX}"]
        until_encoded = true
        """,
    )
    assert found.removes and found.needs_source
    assert [(rule.name, list(one.hashes)) for rule, one in found.by_rule(study())] == [
        ("radiographs", ["a"]),
        ("ct-of-north", ["b"]),
    ]
    assert found.of(["North", "South"], "CT", CT).name == "no-rule", "South did not say that its slices may go"
    assert found.of([], "CT", CT).name == "no-rule"
    assert not found.of([], "CT", CT).removes


def test_when_a_picture_is_due(tmp_path: Path) -> None:
    found = rules(tmp_path, '[[rule]]\nname = "a"\ndays = 30\n')
    (rule,) = found.rules
    assert rule.is_due(study(), NOW)
    assert not rule.is_due(study(), NOW - timedelta(seconds=1))
    assert found.newest(NOW) == study().last_instance_at
    (rule,) = rules(tmp_path, '[[rule]]\nname = "a"\nuntil_encoded = true\n').rules
    assert rule.is_due(study(), NOW)
    assert not rule.is_due(study(is_encoded=False), NOW)
    (rule,) = load_retention("").rules
    assert not rule.is_due(study(), NOW)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('name = "a"', "one of keep, days and until_encoded"),
        ('name = "a"\nkeep = true\ndays = 3', "one of keep, days and until_encoded"),
        ('name = "a"\nkeep = false', "keep can only be true"),
        ('name = "a"\nuntil_encoded = false', "until_encoded can only be true"),
        ('name = "a"\ndays = 0', "days must be a number above 0"),
        ('name = "a"\ndays = true', "days must be a number above 0"),
        ('name = "a"\ndays = inf', "days must be a number above 0"),
        ('name = "a"\ndays = nan', "days must be a number above 0"),
        ('name = "a"\nkeep = true\nneeds_source = false', "needs_source"),
        ('name = "a"\ndays = 3\nsite = "North"', "site must be a list"),
        ('name = "a"\ndays = 3\nsite = []', "site must be a list"),
        ('name = "a"\ndays = 3\nbody_part = ["chest"]', "body_part is not known"),
        ('name = "A"\ndays = 3', "needs a name"),
        ('name = "a"\ndays = 3\n[[rule]]\nname = "a"\nkeep = true', "the same name"),
    ],
)
def test_a_wrong_rule_is_named(said: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=why):
        rules(tmp_path, "[[rule]]\n" + said)


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read"):
        load_retention(str(tmp_path / "missing.toml"))
    with pytest.raises(SettingError, match="not TOML"):
        rules(tmp_path, "[[rule")
    with pytest.raises(SettingError, match="something else"):
        rules(tmp_path, "[rules]")
    assert rules(tmp_path, KEEP_ALL).rules == load_retention("").rules, "what is printed is a file to begin with"


def test_what_the_pacs_must_have_needs_a_pacs(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "retention.toml"
    path.write_text('[[rule]]\nname = "a"\ndays = 1\n')
    load_retention.cache_clear()
    here = replace(settings, retention_file=str(path))
    with pytest.raises(SettingError, match="needs_source = false"):
        retention_of(here)
    assert retention_of(replace(here, pull_url="https://pacs")).removes
    path.write_text('[[rule]]\nname = "a"\ndays = 1\nneeds_source = false\n')
    load_retention.cache_clear()
    assert retention_of(here).removes
