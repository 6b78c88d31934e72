"""Real files of many makers and transfer syntaxes through every route: each answer is complete or a clear refusal."""

from __future__ import annotations

import csv
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
import requests
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.integration.conftest import Web
from tests.services import data_dir


def chosen(folder: Path) -> list[Path]:
    """One file of each transfer syntax, and one of each SOP class."""
    with (folder / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if (folder / row["path"]).is_file()]
    of_each = {row["ts"]: row["path"] for row in rows} | {row["sop"]: row["path"] for row in rows}
    return [folder / path for path in sorted(set(of_each.values()))]


def test_every_answer_about_real_files_is_whole_or_a_clear_refusal(shared_web: Web) -> None:
    stored = 0
    for path in chosen(data_dir("dicom")):
        data = path.read_bytes()
        headers = {"Content-Type": "application/dicom", "Accept": "*/*"}
        answer = requests.post(shared_web.base + "/studies", data, headers=headers, timeout=60)
        assert answer.status_code in (200, 409), path.name
        if answer.status_code == 409:
            continue
        stored += 1
        url: str = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
        assert get(url + "/metadata", "application/dicom+json", {200}, path).json()
        whole = get(url, "application/dicom; transfer-syntax=*", {200}, path).content
        # Implicit and big endian are rewritten for the web, and an incomplete head is kept as a right one.
        same = whole == data or whole.endswith(data[len(data) // 2 :])
        sent = pydicom.dcmread(path, force=True, stop_before_pixels=True).file_meta.get("TransferSyntaxUID")
        if not same:
            assert sent in (None, ImplicitVRLittleEndian, ExplicitVRBigEndian), path.name
            assert pydicom.dcmread(BytesIO(whole)).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian, path.name
        get(url, "application/dicom", {200, 400, 406}, path)
        get(url + "/rendered?viewport=64,64", "image/png", {200, 400, 404, 406}, path)
        get(url + "/frames/1", "application/octet-stream; transfer-syntax=*", {200, 400, 404}, path)
    assert stored > 20


def get(url: str, accept: str, expected: set[int], path: Path) -> requests.Response:
    answer = requests.get(url, headers={"Accept": accept}, timeout=90)
    if answer.status_code not in expected:
        pytest.fail(f"{path.name}: {answer.status_code} for {accept}: {answer.text[:200]}")
    if answer.status_code >= 400:
        assert set(answer.json()["error"]) == {"code", "message"}
    return answer
