"""Rules of what is encoded: the built-in ones decide as before, others are read, explained and tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from radir_pacs.catalogue import Catalogue, instances
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.dicom.eligibility import plan_study
from radir_pacs.dicom.rules import load_rules
from radir_pacs.errors import SettingError, Skipped
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import ImageKind, InstanceHeader
from tests.catalogue_material import add, header

CT = "1.2.840.10008.5.1.4.1.1.2"
ALL = 'modality = ["CR", "DX", "RG", "CT"]\n'


def ct(study: int = 2, **attributes: Any) -> InstanceHeader:
    stated = {key: {"vr": vr, "Value": [said]} for key, (vr, said) in attributes.items()}
    return header(study, study, modality="CT", sop_class_uid=CT, body_part="CHEST", attributes=stated)


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    load_rules.cache_clear()
    return str(path)


@pytest.mark.parametrize(
    ("condition", "stated"),
    [
        ("slice_thickness_mm = {above = 3.0}", {"00180050": ("DS", 5.0)}),
        ('kernel = "^b7"', {"00181210": ("SH", "B70f")}),
        ('site = "north"', {"00080080": ("LO", "Clinic North")}),
        (f'sop_class = ["{CT}"]', {}),
        ('view = ["unknown"]\nbody_part = ["chest"]\nmodality = ["CT"]', {}),
    ],
)
def test_a_condition_skips_what_meets_it_and_nothing_else(
    tmp_path: Path, condition: str, stated: dict[str, Any]
) -> None:
    rules = load_rules(
        written(
            tmp_path,
            f'[[rule]]\nname = "not-these"\n{condition}\nencode = false\n[[rule]]\nname = "all"\n{ALL}encode = true\n',
        )
    )
    with pytest.raises(Skipped, match="excluded by the rule not-these") as skipped:
        plan_study([ct(**stated)], rules)
    assert skipped.value.reason_code is ReasonCode.EXCLUDED
    other = header(1, 1, body_part="CHEST")
    assert set(plan_study([other], rules).candidates) == {ImageKind.CXR}, "a radiograph states none of these"
    if stated:
        assert set(plan_study([ct()], rules).candidates) == {ImageKind.CT}, "what is not stated meets no condition"


def test_the_first_rule_decides_and_an_image_without_one_is_not_encoded(tmp_path: Path) -> None:
    knee = header(1, 1, body_part="KNEE")
    with pytest.raises(Skipped) as skipped:
        plan_study([knee])
    assert skipped.value.reason_code is ReasonCode.NOT_CHEST
    allows = load_rules(written(tmp_path, f'[[rule]]\nname = "all"\n{ALL}encode = true\n'))
    assert set(plan_study([knee], allows).candidates) == {ImageKind.CXR}
    only_ct = load_rules(written(tmp_path, '[[rule]]\nname = "ct"\nmodality = ["CT"]\nencode = true\n'))
    with pytest.raises(Skipped, match="no rule covers it"):
        plan_study([knee], only_ct)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rule]\n", "is not TOML"),
        ("x = 1\n", "something else"),
        ("[[rule]]\nencode = true\n", "rule 1 needs a name"),
        ('[[rule]]\nname = "a"\nencode = 1\n', "rule a: encode must be"),
        ('[[rule]]\nname = "a"\nencode = true\nage = 3\n', "rule a: age is not a condition"),
        ('[[rule]]\nname = "a"\nencode = true\nmodality = ["MR"]\n', "'MR' is none of"),
        ('[[rule]]\nname = "a"\nencode = true\nbody_part = "chest"\n', "must be a list"),
        ('[[rule]]\nname = "a"\nencode = true\nkernel = "("\n', "regular expression"),
        ('[[rule]]\nname = "a"\nencode = true\nslice_thickness_mm = {over = 1}\n', "above"),
        ('[[rule]]\nname = "a"\nencode = true\nslice_thickness_mm = {above = "1"}\n', "takes numbers"),
        ('[[rule]]\nname = "a"\nencode = false\nreason = "BAD"\n', "reason code"),
        ('[[rule]]\nname = "a"\nencode = true\n' * 2, "same name"),
    ],
)
def test_a_faulty_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingError, match=f"rules_file: .*{said}"):
        load_rules(written(tmp_path, text))


def test_a_study_is_explained_and_other_rules_are_tried(
    catalogue: Catalogue,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    add(catalogue, header(1, 1, body_part="KNEE"))
    add(catalogue, header(2, 2, body_part="CHEST"))
    knee, chest = header(1).study_uid, header(2).study_uid

    def said(*words: str) -> Any:
        capsys.readouterr()
        assert main(["rules", *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    shown = said("explain", knee)
    assert shown["outcome"].startswith("NOT_CHEST: a radiograph of another body part") and shown["kinds"] == []
    assert [one["rule"] for one in shown["series"]] == ["radiograph-of-another-body-part"]
    assert said("explain", chest)["kinds"] == ["CXR"]
    assert main(["rules", "explain", knee]) == 0
    assert "rule radiograph-of-another-body-part, skip" in capsys.readouterr().out

    assert said("dry-run")["changes"] == [], "the built-in rules against themselves"
    other = written(tmp_path, f'[[rule]]\nname = "all"\n{ALL}encode = true\n')
    by_other = said("explain", knee, "--rules", other)
    assert (by_other["kinds"], [one["rule"] for one in by_other["series"]]) == (["CXR"], ["all"])
    tried = said("dry-run", "--rules", written(tmp_path, f'[[rule]]\nname = "all"\n{ALL}encode = true\n'))
    assert (tried["studies"], tried["changes"]) == (
        2,
        [{"now": "NOT_CHEST", "then": "encode CXR", "studies": 1, "examples": [knee]}],
    )
    assert main(["rules", "show"]) == 0
    text = capsys.readouterr().out
    assert load_rules(written(tmp_path, text)) == load_rules()


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_headers_of_many_studies_are_those_of_each(
    catalogue: Catalogue, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial of rules reads a million studies, a page of them by one statement, few headers at a time."""
    for study in range(1, 5):
        for number in range(study):
            add(catalogue, header(study, 10 * study + number))
    uids = [f"2.25.{study}" for study in range(1, 5)]
    monkeypatch.setattr(instances, "_MOST_HEADERS", most)
    found = dict(catalogue.instances.headers_of_each(["2.25.9", *uids]))
    assert found.pop("2.25.9") == []
    assert found == {uid: [one for one, _ in catalogue.instances.headers_of(uid)] for uid in uids}
    assert [len(headers) for headers in found.values()] == [1, 2, 3, 4]
