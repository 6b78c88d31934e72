"""A data set that names CT volumes in NIfTI is read from folders of DICOM slices in their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind
from radir_training.data.dicom_studies import DicomContent
from radir_training.data.nifti import NiftiContent
from radir_training.data.retrieval_images import _content, retrieval_studies
from radir_training.datasets.build import build
from radir_training.datasets.sources import ct_rate
from tests.dicom_material import ct_slices


def test_slices_stand_for_a_volume(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    rows = [f"train_{n}_a_1.nii.gz,Consolidation of the right lower lobe.,Pneumonia." for n in range(1, 4)]
    (reports / "train_reports.csv").write_text("\n".join(["VolumeName,Findings_EN,Impressions_EN", *rows]) + "\n")
    build(ct_rate(reports), tmp_path / "ctrate-ir", source="ct-rate", least_images=1)
    images = tmp_path / "dicom"
    for patient in (1, 2):
        folder = images / f"train/train_{patient}/train_{patient}_a/train_{patient}_a_1"
        folder.mkdir(parents=True)
        ct_slices(folder, origins_mm=[(0, 0, 5.0 * z) for z in range(4)])
    found = [retrieval_studies(tmp_path / "ctrate-ir", ImageKind.CT, images, "train")]
    read = {study.patient: study for one in found for study in one.studies}
    assert read.keys() == {"train_1", "train_2"}
    for study in read.values():
        assert isinstance(study.content, DicomContent) and len(study.content.files) == 4
        assert "Consolidation" in study.report
    assert sum(sum(one.left_out.values()) for one in found) == 1, "the third has no folder"


@pytest.mark.parametrize("name", ["a\0b_1.nii.gz", f"{'x' * 300}_1.nii.gz", "a\0b.png", f"{'x' * 300}.png"])
def test_a_name_that_no_file_can_have_leaves_out_one_image(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not found"):
        _content(name, ImageKind.CT, tmp_path, {})


def test_a_folder_of_something_else_does_not_hide_the_volume(tmp_path: Path) -> None:
    (tmp_path / "train_1_a_1").mkdir()
    (tmp_path / "train_1_a_1" / "mask").write_text("no slice")
    with pytest.raises(BadInput, match="DICOM"):
        _content("train_1_a_1.nii.gz", ImageKind.CT, tmp_path, {})
    (tmp_path / "train_1_a_1.nii.gz").write_bytes(b"")
    content, _ = _content("train_1_a_1.nii.gz", ImageKind.CT, tmp_path, {})
    assert isinstance(content, NiftiContent)
