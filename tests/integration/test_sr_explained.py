"""From mined reports to the structured report, by every way in which it leaves: it contains the explanation."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
import requests
from pydicom.dataset import Dataset

from radir_pacs.cli import main
from radir_pacs.config import to_environment
from radir_pacs.delivery import codes
from radir_pacs.delivery.check import content_tree as tree
from radir_pacs.delivery.check.template import violations
from radir_pacs.reports import PARSER, findings_to_json, mine
from radir_pacs.types import Code
from tests.integration.conftest import Web
from tests.integration.test_web_similar import archive, uid

QUERY = "Moderate right pleural effusion. No pneumothorax."
CASES = {
    1: "Mild right pleural effusion as in Mrs Elsewhere. Small right apical pneumothorax.",
    2: "No pleural effusion.",
}
SHARED = {1: ["mild pleural effusion, right pleura"], 2: [], 3: []}
CONTRADICTING = {1: ["mild pneumothorax, right pleura"], 2: ["no pleural effusion, pleura"], 3: []}


@pytest.fixture
def mined(web: Web) -> Web:
    """An archive in which the query and the first two cases have mined reports."""
    archive(web)
    for number, text in {0: QUERY, **CASES}.items():
        report = web.catalogue.reports.add(uid(number), body=text, source="csv")
        web.catalogue.reports.save_findings(report, findings_to_json(mine(text).findings), PARSER)
    return web


def is_explained(sr: Dataset) -> None:
    assert violations(sr, foreign_texts=["Elsewhere", "Name1", "Name2"]) == []
    measurements = tree.children(sr, codes.IMAGING_MEASUREMENTS)[0]
    for rank, group in enumerate(tree.children(measurements, codes.MEASUREMENT_GROUP)[:3], start=1):
        assert said(group, codes.SHARED_FINDING) == SHARED[rank]
        assert said(group, codes.CONTRADICTING_FINDING) == CONTRADICTING[rank]


def said(group: Dataset, name: Code) -> list[str]:
    return [tree.meaning(item, "ConceptCodeSequence") for item in tree.children(group, name)]


def test_a_posted_report_is_kept_with_its_explanation(mined: Web) -> None:
    answer = mined.ask("POST", f"/studies/{uid(0)}/similar?anatomy=chest", "application/dicom")
    assert answer.status_code == 201
    sr = pydicom.dcmread(BytesIO(answer.content))
    is_explained(sr)
    is_explained(mined.client.retrieve_instance(uid(0), sr.SeriesInstanceUID, sr.SOPInstanceUID))


def test_what_the_panel_saves_is_explained(mined: Web) -> None:
    answer = requests.post(f"{mined.root}/api/studies/{uid(0)}/report?anatomy=chest", timeout=30)
    assert answer.status_code == 201, answer.text
    (row,) = mined.client.search_for_instances(uid(0), search_filters={"Modality": "SR"})
    is_explained(mined.client.retrieve_instance(uid(0), row["0020000E"]["Value"][0], row["00080018"]["Value"][0]))


def test_the_command_writes_the_explanation(mined: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in to_environment(mined.settings).items():
        monkeypatch.setenv(name, value)
    assert main(["similar", uid(0), "--sr", str(tmp_path / "sr.dcm")]) == 0
    is_explained(pydicom.dcmread(tmp_path / "sr.dcm"))


def test_without_other_uids_the_findings_stand(mined: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in to_environment(mined.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RADIR_SR_OTHER_UIDS", "false")
    assert main(["similar", uid(0), "--sr", str(tmp_path / "sr.dcm")]) == 0
    sr = pydicom.dcmread(tmp_path / "sr.dcm")
    is_explained(sr)
    assert "PertinentOtherEvidenceSequence" not in sr
