"""Retrieval data sets: the layouts of MIMIC-CXR and CT-RATE are read, that of MIMIC-IR is written and read."""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from radir_pacs import config
from radir_pacs.errors import BadInput, UnknownRegion
from radir_pacs.types import ImageKind
from radir_training.commands.dataset import register
from radir_training.data.retrieval_set import RetrievalSet, read_table
from radir_training.datasets import sources
from radir_training.datasets.build import build
from radir_training.datasets.show import explain_pair
from radir_training.datasets.sources import Case, split_of

TEXTS = [
    "Small left pleural effusion. Heart is enlarged.",
    "No pleural effusion. Heart size is normal.",
    "Large left pleural effusion. Heart is enlarged.",
    "Right lower lobe pneumonia. No effusion.",
    "",
]


def mimic(root: Path) -> Path:
    rows, views = [], []
    for number, text in enumerate(TEXTS):
        subject, study = f"1{number:07}", f"5{number:07}"
        folder = root / "mimic-cxr-reports" / "files" / f"p{subject[:2]}" / f"p{subject}"
        folder.mkdir(parents=True)
        (folder / f"s{study}.txt").write_text(f"                 FINAL REPORT\n FINDINGS:\n {text}\n")
        for view, name in (("PA", f"d{number}a"), ("LATERAL", f"d{number}b")):
            rows.append({"dicom_id": name, "study_id": study, "subject_id": subject, "split": "train"})
            views.append({"dicom_id": name, "ViewPosition": view})
    rows[-1]["split"] = rows[-2]["split"] = "validate"
    for name, table in (("split", rows), ("metadata", views)):
        with gzip.open(root / f"mimic-cxr-2.0.0-{name}.csv.gz", "wt", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    return root


def test_mimic_cxr_gives_frontal_images_with_their_study_report(tmp_path: Path) -> None:
    cases = list(sources.mimic_cxr(mimic(tmp_path)))
    assert [case.path for case in cases][:2] == [
        "files/p10/p10000000/s50000000/d0a.jpg",
        "files/p10/p10000001/s50000001/d1a.jpg",
    ]
    assert [case.split for case in cases] == ["train"] * 4 + ["val"]
    assert "pneumonia" in cases[3].text and cases[3].patient == "p10000003"


def test_mimic_cxr_without_tables_is_split_by_patient(tmp_path: Path) -> None:
    mimic(tmp_path)
    for path in tmp_path.glob("*.gz"):
        path.unlink()
    cases = list(sources.mimic_cxr(tmp_path))
    assert len(cases) == 5
    assert all(case.split == split_of(case.patient) for case in cases)


def test_ct_rate_keeps_its_validation_apart(tmp_path: Path) -> None:
    header = "VolumeName,ClinicalInformation_EN,Technique_EN,Findings_EN,Impressions_EN\n"
    folder = tmp_path / "dataset" / "radiology_text_reports"
    folder.mkdir(parents=True)
    (folder / "train_reports.csv").write_text(header + "train_1_a_1.nii.gz,,,Nodule.,\ntrain_1_a_2.nii.gz,,,Nodule.,\n")
    (folder / "validation_reports.csv").write_text(header + "valid_7_b_1.nii.gz,,,Cyst.,None.\n")
    cases = list(sources.ct_rate(tmp_path))
    assert [case.path for case in cases] == [
        "train/train_1/train_1_a/train_1_a_1.nii.gz",
        "train/train_1/train_1_a/train_1_a_2.nii.gz",
        "valid/valid_7/valid_7_b/valid_7_b_1.nii.gz",
    ]
    assert cases[0].patient == cases[1].patient == "train_1"
    assert cases[2].split == "test" and cases[2].kind is ImageKind.CT


@pytest.mark.parametrize("read", [sources.mimic_cxr, sources.ct_rate])
def test_a_folder_of_something_else_is_refused(read: Callable[[Path], Iterable[object]], tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        list(read(tmp_path))


def cases() -> list[Case]:
    return [
        Case(path=f"i{n}.jpg", patient=f"p{n}", split="train", text=text, kind=ImageKind.CXR)
        for n, text in enumerate(TEXTS)
    ]


def test_a_built_set_reads_back_and_explains_its_pairs(tmp_path: Path) -> None:
    built = build(cases(), tmp_path, source="test", least_images=2)
    assert built.images == {"train": 5} and built.silent == 1
    dataset = RetrievalSet(folder=tmp_path, split="train")
    assert dataset.paths("pleura") == ("i0.jpg", "i1.jpg", "i2.jpg", "i3.jpg")
    assert dataset.paths("PLEURAL space") == dataset.paths("pleura")
    table = dataset.table("pleura")
    assert table.dtype == np.uint8 and (np.diag(table) == 100).all() and (table == table.T).all()
    assert table[0, 2] > table[0, 1]
    assert len(dataset.table()) == len(dataset.paths()) == 4
    assert set(dataset.paths("left pleura")) <= set(dataset.paths("pleura"))
    alike = explain_pair(dataset, "pleura", 0, 2)
    assert [note.concept for note in alike.shared] == ["pleural_effusion"] and not alike.contradicting
    against = explain_pair(dataset, "pleura", 1, 0)
    assert [note.concept for note in against.contradicting] == ["pleural_effusion"] and not against.shared
    page = (tmp_path / "statistics.html").read_text()
    assert "<svg" in page and "effusion." not in page
    with pytest.raises(BadInput, match="rows 0 to 3"):
        explain_pair(dataset, "pleura", 0, 9)
    with pytest.raises(UnknownRegion):
        dataset.paths("elbow")


def test_large_regions_get_top_lists(tmp_path: Path) -> None:
    build(cases(), tmp_path, source="test", least_images=2, matrix_rows=3)
    lists = np.load(tmp_path / "train_ratescore" / "pleura.top.npz")
    assert lists["rows"].shape == (4, 3)
    assert lists["rows"][0][0] == 2
    with pytest.raises(BadInput, match="top"):
        RetrievalSet(folder=tmp_path, split="train").table("pleura")


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    one, two = cases()[:2]
    torn = [one, Case(path=two.path, patient=one.patient, split="test", text=two.text, kind=two.kind)]
    with pytest.raises(BadInput, match="two splits"):
        build(torn, tmp_path, source="test")


def official(folder: Path, table: np.ndarray) -> RetrievalSet:
    """A set as MIMIC-IR's authors write it: floats, one direction each."""
    for name in ("test_entity", "test_ratescore"):
        (folder / name).mkdir(parents=True)
    (folder / "test_entity" / "lungs.csv").write_text("File Path\na.jpg\nb.jpg\n")
    (folder / "test_entity" / "ventricle of ours.csv").write_text("File Path\na.jpg\n")
    np.save(folder / "test_ratescore" / "lungs.npy", table)
    return RetrievalSet(folder=folder, split="test")


def test_official_floats_become_symmetric_hundredths(tmp_path: Path) -> None:
    dataset = official(tmp_path, np.array([[1.0, 0.304], [0.716, 1.2]]))
    assert dataset.table("lungs").tolist() == [[100, 72], [72, 100]]
    assert not explain_pair(dataset, "lungs", 0, 1).mined


@pytest.mark.parametrize(
    "table",
    [np.zeros((2, 3)), np.full((2, 2), np.nan), np.zeros((3, 3)), np.zeros((2, 2), "<U4"), np.zeros(2)],
)
def test_matrices_that_cannot_be_right_are_refused(table: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        official(tmp_path, table).table("lungs")


def test_a_matrix_file_of_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"not numpy")
    with pytest.raises(BadInput):
        read_table(tmp_path / "x.npy")


def radir(*words: str) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    args = parser.parse_args(["dataset", *words])
    code: int = args.run(args, None)
    return code


def order(folder: Path, texts: list[str]) -> list[str]:
    """What builds a set of these texts, of seven patients."""
    table = folder / "reports.csv"
    table.write_text("id,who,text\n" + "".join(f"i{n},p{n % 7},{text}\n" for n, text in enumerate(texts)))
    return ["build", "--source", "csv", "--root", str(table), "--id", "id", "--text", "text", "--out", f"{folder}/set"]


def test_the_command_builds_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "set")
    assert radir(*order(tmp_path, TEXTS * 12), "--patient", "who", "--least-images", "3", "--json") == 0
    said = capsys.readouterr()
    assert sum(json.loads(said.out)["images"].values()) == 60 and not said.err
    assert radir("show", "--root", out, "--split", "train", "--region", "pleura", "--pair", "0", "1") == 0
    assert "relevance under pleura" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (TEXTS * 2, "--least-images asks for 20 images .* most there are is [1-9]"),
        ([""] * 8, "the texts of all 8 reports are empty"),
        (["Please correlate.", ""] * 4, r"no finding was read in 8 reports \(4 are empty\)"),
    ],
)
def test_a_set_without_a_region_says_why(
    texts: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert radir(*order(tmp_path, texts), "--patient", "who") == 1
    assert re.search(f"^error: no region was written: .*{why}", capsys.readouterr().err)
    assert radir("show", "--root", f"{tmp_path}/set", "--split", "train") == 0
    assert "train: no region had enough images" in capsys.readouterr().err
    with pytest.raises(BadInput, match="no region of 'train' had enough images"):
        radir("show", "--root", f"{tmp_path}/set", "--split", "train", "--region", "pleura", "--pair", "0", "1")


def test_a_split_that_is_not_there_is_told_from_a_folder_of_something_else(tmp_path: Path) -> None:
    build(cases(), tmp_path / "set", source="test", least_images=2)
    with pytest.raises(BadInput, match="no split 'test'; it has train"):
        RetrievalSet(folder=tmp_path / "set", split="test")
    with pytest.raises(BadInput, match="no data set in the MIMIC-IR layout"):
        RetrievalSet(folder=tmp_path, split="test")


def test_rows_without_a_patient_may_stand_in_two_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert radir(*order(tmp_path, TEXTS * 12), "--least-images", "3") == 0
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1 and warnings[0].startswith("warning: without --patient")
    with pytest.raises(BadInput, match="no column 'nobody'"):
        radir(*order(tmp_path, TEXTS), "--patient", "nobody")


def test_the_help_shows_the_settings_that_the_command_uses() -> None:
    """Those of the installation that --source archive reads, not the forty of the service."""
    root = argparse.ArgumentParser()
    register(root.add_subparsers())
    args = root.parse_args(["dataset", "build", "--home", "/somewhere"])
    assert {name for name in vars(args) if name.startswith("setting_")} == {
        "setting_home",
        "setting_database_url",
        "setting_database_url_file",
    }
    assert config.load(args, environ={}).home == Path("/somewhere")
