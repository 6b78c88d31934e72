"""The same object, rewritten, is the same; one with any other content is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, Sequence, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from radir_pacs.dicom.same_content import same_content
from tests.dicom_files import radiograph, save


def item(**values: str) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


@pytest.fixture
def ds() -> Dataset:
    made = radiograph(PatientName="Doe^Jo")
    made.AnatomicRegionSequence = Sequence([item(CodeValue="816094009"), item(CodeMeaning="chest")])
    made.add_new(0x00091010, "UN", b"private")
    return made


@pytest.fixture
def kept(ds: Dataset, tmp_path: Path) -> Path:
    return save(ds, tmp_path / "kept.dcm")


def test_other_meta_information_is_no_other_content(kept: Path, tmp_path: Path) -> None:
    ds = dcmread(kept)
    ds.file_meta.ImplementationVersionName = "OTHER"
    ds.file_meta.SourceApplicationEntityTitle = "PACS"
    assert same_content(kept, save(ds, tmp_path / "other.dcm"))


def test_sequences_may_have_their_lengths_said_or_not(kept: Path, tmp_path: Path) -> None:
    ds = dcmread(kept)
    ds["AnatomicRegionSequence"].is_undefined_length = True
    for entry in ds.AnatomicRegionSequence:
        entry.is_undefined_length_sequence_item = True
    other = save(ds, tmp_path / "other.dcm")
    assert other.stat().st_size != kept.stat().st_size
    assert same_content(kept, other)


def test_implicit_vr_and_trailing_padding_change_nothing(kept: Path, tmp_path: Path) -> None:
    ds = dcmread(kept)
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.add_new(0xFFFCFFFC, "OB", bytes(16))
    other = tmp_path / "other.dcm"
    ds.save_as(other, implicit_vr=True, little_endian=True)
    assert same_content(kept, other) and same_content(other, kept)


@pytest.mark.parametrize("change", ["value", "item", "missing", "more", "pixel", "length"])
def test_other_content_is_told(kept: Path, tmp_path: Path, change: str) -> None:
    ds = dcmread(kept)
    match change:
        case "value":
            ds.PatientName = "Doe^Joe"
        case "item":
            ds.AnatomicRegionSequence[1].CodeMeaning = "neck"
        case "missing":
            del ds.AnatomicRegionSequence[0]
        case "more":
            ds.ImageComments = "more"
        case "pixel":
            pixels = bytearray(ds.PixelData)
            pixels[-1] ^= 1
            ds.PixelData = bytes(pixels)
        case "length":
            ds.PixelData = ds.PixelData[:-2]
    assert not same_content(kept, save(ds, tmp_path / "other.dcm"))


def test_pixels_in_another_transfer_syntax_are_other_content(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (32, 32)).astype(np.uint16)
    ds = radiograph(PixelData=pixels.tobytes())
    plain = save(ds, tmp_path / "plain.dcm")
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    compressed = save(ds, tmp_path / "compressed.dcm")
    assert not same_content(plain, compressed)
    assert same_content(compressed, compressed)


def test_what_cannot_be_compared_is_not_the_same(kept: Path, tmp_path: Path) -> None:
    ds = dcmread(kept)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert not same_content(kept, save(ds, tmp_path / "deflated.dcm"))
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(kept.read_bytes()[:-10])
    assert not same_content(kept, broken)
    assert not same_content(kept, tmp_path / "missing.dcm")
