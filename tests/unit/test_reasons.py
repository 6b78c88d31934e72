"""A reason is a code: what raises Skipped or Quarantined says which, and no text decides."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from radir_pacs.dicom.eligibility import plan_study
from radir_pacs.errors import Conflict, DicomRefused, Quarantined, RadirError, Skipped, StorageFailed
from radir_pacs.reasons import ReasonCode
from tests.catalogue_material import header

ROOT = Path(__file__).parents[2]


def test_an_error_has_the_code_of_its_class_unless_it_knows_better() -> None:
    assert (RadirError().reason_code, Conflict().reason_code) == (ReasonCode.OTHER, ReasonCode.CONFLICT)
    assert DicomRefused("x").reason_code is ReasonCode.UNREADABLE
    error = DicomRefused("x", dimse_status=0xA700, reason_code=ReasonCode.DECODE_TIMEOUT)
    assert (error.reason_code, error.dimse_status) == (ReasonCode.DECODE_TIMEOUT, 0xA700)
    assert StorageFailed("full").reason_code is ReasonCode.OUT_OF_RESOURCES


def test_a_code_of_a_later_version_is_other() -> None:
    assert ReasonCode("MADE_IN_2031") is ReasonCode.OTHER


@pytest.mark.parametrize("folder", ["radir_pacs", "workers", "training"])
def test_whoever_skips_or_quarantines_says_the_code(folder: str) -> None:
    silent = []
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Skipped", "Quarantined")
            if named and not any(keyword.arg == "reason_code" for keyword in node.keywords):  # type: ignore[attr-defined]
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno}")  # type: ignore[attr-defined]
    assert silent == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"modality": "MR", "attributes": {}}, ReasonCode.UNSUPPORTED_MODALITY),
        ({"modality": "SR", "attributes": {}, "rows_px": None}, ReasonCode.NO_IMAGE),
        ({"body_part": "KNEE"}, ReasonCode.NOT_CHEST),
        ({"frames": 3}, ReasonCode.UNSUPPORTED_IMAGE),
    ],
)
def test_a_study_is_skipped_by_code(changes: dict[str, Any], code: ReasonCode) -> None:
    with pytest.raises(Skipped) as skipped:
        plan_study([header(**changes)])
    assert skipped.value.reason_code is code


def test_of_several_reasons_the_telling_one_gives_the_code() -> None:
    with pytest.raises(Skipped) as skipped:
        plan_study([header(1, 1, 1, frames=3), header(1, 1, 2, rows_px=128, columns_px=128, body_part="KNEE")])
    assert skipped.value.reason_code is ReasonCode.NOT_CHEST
    assert Quarantined("x", reason_code=ReasonCode.MISSING_SLICES).reason_code is ReasonCode.MISSING_SLICES
