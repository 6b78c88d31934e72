"""Of two files of one instance, only pixels that have to be decoded are compared one instance at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless

from radir_pacs.dicom import correction
from radir_pacs.dicom.header import read_attributes
from tests.dicom_files import radiograph, save


def test_a_corrected_header_waits_for_no_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []

    @contextmanager
    def turn() -> Iterator[None]:
        entered.append(1)
        yield

    monkeypatch.setattr(correction, "_DECODING", turn())
    stored = save(radiograph(PatientName="Doe^Jo"), tmp_path / "stored.dcm")
    sha256 = hashlib.sha256(stored.read_bytes()).hexdigest()
    corrected = dcmread(stored)
    corrected.PatientName = "Doe^Joan"
    later = save(corrected, tmp_path / "later.dcm")
    found = correction.difference(stored, later, sha256, read_attributes(stored))
    assert (found.pixels, found.changed, entered) == (correction.Pixels.SAME, ("PatientName",), [])

    corrected.compress(RLELossless, generate_instance_uid=False)
    later = save(corrected, tmp_path / "compressed.dcm")
    found = correction.difference(stored, later, sha256, read_attributes(stored))
    assert (found.pixels, found.changed, entered) == (correction.Pixels.SAME, ("PatientName",), [1])
