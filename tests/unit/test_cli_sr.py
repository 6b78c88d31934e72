"""`radir sr check` passes our own report and names what is wrong with another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from radir_pacs.cli import main
from tests.dicom_files import radiograph, save
from tests.sr_material import report


def test_our_report_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sr.dcm"
    report().save_as(path, enforce_file_format=True)
    assert main(["sr", "check", str(path)]) == 0
    assert capsys.readouterr().out.strip().endswith("sound")


def test_faults_are_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, text = save(radiograph(), tmp_path / "image.dcm"), tmp_path / "note.txt"
    text.write_text("no DICOM")
    assert main(["sr", "check", str(picture), str(text), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert "not a Comprehensive or Comprehensive 3D SR" in found[str(picture)]
    assert [fault.startswith("cannot be read: ") for fault in found[str(text)]] == [True]
