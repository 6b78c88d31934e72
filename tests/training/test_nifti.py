"""CT in NIfTI: the same volume as from DICOM, CT-RATE's own files and tables, and files that nobody should believe."""

from __future__ import annotations

import argparse
import csv
import gzip
import math
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radir_pacs.dicom.ct_series import CtRules
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.encode import CONFIGS, Bundle
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind, Volume
from radir_training.commands import dataset, train
from radir_training.data import nifti
from radir_training.data.ct_rate import find_volume, read_metadata
from radir_training.data.dicom_studies import dicom_studies
from radir_training.data.folder_set import folder_set
from radir_training.data.nifti import NiftiContent, Told, read_nifti
from radir_training.phantoms import SIZES
from radir_training.phantoms.hospital import HospitalRequest, build
from radir_training.phantoms.sample import sample
from tests.services import need_module

nibabel: Any = need_module("nibabel")

CT = ImageKind.CT
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
PATIENTS = 3
SLOPE, INTERCEPT = 1.0, -1024.0
UNTOLD = (  # what no row of the metadata can mean
    {"ZSpacing": "unknown"},
    {"ZSpacing": "-1.5"},
    {"XYSpacing": "[0.7]"},
    {"RescaleSlope": ""},
    {"ImageOrientationPatient": "[9, 0, 0, 0, 1, 0]"},
    {"ImageOrientationPatient": "[1, 0, 0, 1, 0, 0]"},
)
Study = tuple[str, str, Volume]  # a patient, the report, the CT


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hospital") / "hospital"
    order = HospitalRequest(out=out, patients=PATIENTS, seed=5, size=SIZES["tiny"], kinds=frozenset({CT}))
    assert len(list(build(order))) == PATIENTS
    return out


@pytest.fixture(scope="module")
def studies(hospital: Path) -> list[Study]:
    """As read from DICOM."""
    with PixelDecoder() as decoder:
        return [
            (study.patient, study.report, study.content.volumes(CT, decoder)[0])
            for study in dicom_studies(hospital, CT).studies
        ]


@pytest.fixture
def volume(studies: list[Study]) -> Volume:
    return studies[0][2]


def drawn(patient: int) -> Study:
    """Without going through DICOM."""
    study = sample(7, patient, size=SIZES["tiny"], radiographs=False)
    z, y, x = study.ct_spacing_mm
    affine = np.diag([x, y, z, 1.0])
    volume = Volume(
        kind=CT,
        voxels=np.rint(study.ct).astype(np.float32),
        spacing_mm=study.ct_spacing_mm,
        affine=affine,
        study_uid="",
        series_uid="",
        sop_instance_uids=("",) * len(study.ct),
    )
    return str(patient), study.ct_report, volume


def image_of(volume: Volume, codes: str = "LPS", kind: Any = nibabel.Nifti1Image) -> Any:
    """As converters write it, its axes along ``codes``."""
    image = kind(volume.voxels.transpose(2, 1, 0).astype(np.int16), TO_RAS @ volume.affine)
    of = nibabel.orientations
    turn = of.ornt_transform(of.io_orientation(image.affine), of.axcodes2ornt(codes))
    return image.as_reoriented(turn)


def assert_same(found: Volume, wanted: Volume) -> None:
    np.testing.assert_allclose(found.voxels, wanted.voxels, atol=0.01)
    np.testing.assert_allclose(found.spacing_mm, wanted.spacing_mm, rtol=1e-5)
    np.testing.assert_allclose(found.affine, wanted.affine, rtol=1e-5, atol=1e-3)
    assert found.voxels.flags.c_contiguous and found.kind is CT


@pytest.mark.parametrize("codes", ["LPS", "RAS", "RAI", "PIR", "SLA"])
def test_a_file_is_the_volume_that_its_dicom_series_is(codes: str, volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "volume.nii.gz"
    nibabel.save(image_of(volume, codes), path)
    assert_same(read_nifti(path), volume)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.nii", "Nifti1Image"), ("a.nii.gz", "Nifti2Image"), ("a.nii", "Nifti2Image")]
)
def test_packed_or_not_and_of_either_version(name: str, kind: str, volume: Volume, tmp_path: Path) -> None:
    nibabel.save(image_of(volume, kind=getattr(nibabel, kind)), tmp_path / name)
    assert_same(read_nifti(tmp_path / name), volume)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, -1024.0), (0.5, 100.0)])
def test_the_headers_own_scaling_gives_hounsfield_units(
    slope: float, intercept: float, volume: Volume, tmp_path: Path
) -> None:
    image = image_of(replace(volume, voxels=(volume.voxels - np.float32(intercept)) / np.float32(slope)))
    image.header.set_slope_inter(slope, intercept)  # what is stored stays as it is
    nibabel.save(image, tmp_path / "a.nii")
    assert_same(read_nifti(tmp_path / "a.nii"), volume)


def test_big_endian_files_and_units_of_metres(volume: Volume, tmp_path: Path) -> None:
    image = image_of(volume)
    image.header.set_xyzt_units("meter")
    metres = np.diag([0.001, 0.001, 0.001, 1.0]) @ image.affine
    header = image.header.as_byteswapped(">")
    nibabel.save(nibabel.Nifti1Image(image.get_fdata().astype(">i2"), metres, header), tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == (348).to_bytes(4, "big")
    assert_same(read_nifti(tmp_path / "a.nii"), volume)


def test_more_voxels_than_the_rules_allow_are_thinned_out(volume: Volume, tmp_path: Path) -> None:
    nibabel.save(image_of(volume), tmp_path / "a.nii.gz")
    found = read_nifti(tmp_path / "a.nii.gz", rules=replace(CtRules(), most_voxels=volume.voxels.size // 2))
    np.testing.assert_array_equal(found.voxels, volume.voxels[::2])
    assert found.spacing_mm[0] == pytest.approx(2 * volume.spacing_mm[0])
    np.testing.assert_allclose(found.affine[:3, 3], volume.affine[:3, 3], atol=1e-3)


# CT-RATE's own files


def told_of(volume: Volume) -> dict[str, str]:
    """Its row in the table of metadata, without its name."""
    z, y, x = volume.spacing_mm
    position = ", ".join(f"{value:.6f}" for value in volume.affine[:3, 3])
    return {
        "XYSpacing": f"[{x}, {y}]",
        "ZSpacing": f"{z}",
        "ImageOrientationPatient": "[1, 0, 0, 0, 1, 0]",
        "ImagePositionPatient": f"[{position}]",
        "RescaleSlope": f"{SLOPE}",
        "RescaleIntercept": f"{INTERCEPT}",
    }


def ct_rate_folder(root: Path, studies: list[Study], *, fixed: bool = False) -> Path:
    """The collection as it comes: stored values under a blank header (or, in its later form, Hounsfield units under
    a whole one), reports and metadata in tables."""
    names: dict[str, str] = {}
    metadata: list[dict[str, str]] = []
    reports: list[dict[str, str]] = []
    for patient, report, volume in studies:
        name = names.setdefault(patient, f"train_{len(names) + 1}")
        scan = f"{name}_a" if all(row["VolumeName"] != f"{name}_a_1.nii.gz" for row in metadata) else f"{name}_b"
        folder = root / "dataset" / ("train_fixed" if fixed else "train") / name / scan
        folder.mkdir(parents=True)
        stored = ((volume.voxels - INTERCEPT) / SLOPE).transpose(2, 1, 0).astype(np.float32)
        image = image_of(volume) if fixed else nibabel.Nifti1Image(stored, np.eye(4))
        nibabel.save(image, folder / f"{scan}_1.nii.gz")
        metadata.append({"VolumeName": f"{scan}_1.nii.gz", **told_of(volume)})
        findings, _, impression = report.partition("IMPRESSION:")
        texts = {
            "ClinicalInformation_EN": "",
            "Technique_EN": "",
            "Findings_EN": findings,
            "Impressions_EN": impression,
        }
        reports.append({"VolumeName": f"{scan}_1.nii.gz", **texts})
    tables = (("metadata", "train_metadata", metadata), ("radiology_text_reports", "train_reports", reports))
    for below, table, rows in tables:
        (root / "dataset" / below).mkdir(parents=True, exist_ok=True)
        with (root / "dataset" / below / f"{table}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return root


def radir(command: Any, *words: str) -> int:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    args = parser.parse_args(list(words))
    code: int = args.run(args, None)
    return code


def built(root: Path, out: Path) -> Path:
    words = ("--source", "ct-rate", "--root", str(root), "--out", str(out), "--least-images", "2")
    assert radir(dataset, "dataset", "build", *words) == 0
    return out


@pytest.mark.parametrize("coded", [True, False])
def test_a_blank_header_is_filled_from_the_metadata(coded: bool, volume: Volume, tmp_path: Path) -> None:
    stored = ((volume.voxels - INTERCEPT) / SLOPE).transpose(2, 1, 0).astype(np.float32)
    image = nibabel.Nifti1Image(stored, np.eye(4))
    if not coded:
        image.header.set_sform(None, 0)
        image.header.set_qform(None, 0)
        image = nibabel.Nifti1Image(stored, None, image.header)
    nibabel.save(image, tmp_path / "train_1_a_1.nii.gz")
    row = {"VolumeName": "train_1_a_1.nii.gz", **told_of(volume)}
    for place in ("metadata", "dataset/metadata"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
    with (tmp_path / "metadata" / "train_metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerows(
            [row, *({**row, "VolumeName": f"train_{n}_a_1.nii.gz", **bad} for n, bad in enumerate(UNTOLD, 2))]
        )
    told = read_metadata(tmp_path)
    assert set(told) == {"train_1_a_1.nii.gz"}, "a row that cannot be right tells nothing"
    assert_same(read_nifti(tmp_path / "train_1_a_1.nii.gz", told["train_1_a_1.nii.gz"]), volume)
    with pytest.raises(BadInput, match=r"not Hounsfield units|does not say how the volume lies"):
        read_nifti(tmp_path / "train_1_a_1.nii.gz")


def test_a_prone_patient_of_the_metadata_is_turned(volume: Volume, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(volume.voxels.transpose(2, 1, 0), np.eye(4)), tmp_path / "a.nii")
    z, y, x = volume.spacing_mm
    told = Told(
        spacing_mm=(x, y, z), orientation=(-1, 0, 0, 0, -1, 0), position=(0.0, 0.0, 0.0), slope=1.0, intercept=0.0
    )
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii", told).voxels, volume.voxels[:, ::-1, ::-1])


@pytest.mark.parametrize("fixed", [False, True])
def test_training_sees_the_same_in_nifti_as_in_dicom(
    fixed: bool, hospital: Path, studies: list[Study], tmp_path: Path
) -> None:
    """In both forms of the collection, of which the second keeps its values although the metadata is there."""
    root = ct_rate_folder(tmp_path / "ct-rate", studies, fixed=fixed)
    set_of = built(root, tmp_path / "set")
    found = [
        folder_set(CONFIGS["tiny"], CT, set_of, images=root, split=split, cache=tmp_path / "cache")
        for split in ("train", "val")
        if (set_of / f"{split}_caption.csv").is_file()
    ]
    images = np.concatenate([one.images for one in found]).astype(np.float32)
    wanted = folder_set(CONFIGS["tiny"], CT, hospital, cache=tmp_path / "cache").images.astype(np.float32)
    apart = np.abs(images[:, None] - wanted[None]).max(axis=tuple(range(2, images.ndim + 1)))
    assert (apart.min(axis=1) < 0.005).all(), apart.min(axis=1)
    assert len(set(apart.argmin(axis=1))) == len(images) > 1
    assert sum(len(set(one.patients)) for one in found) == len({patient for patient, _, _ in studies})


def test_ct_rates_own_files_are_built_and_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the collection's folder to a bundle, two steps long; one file is corrupt, and the rest goes on."""
    root = ct_rate_folder(tmp_path / "ct-rate", [drawn(patient) for patient in range(24)])
    set_of = built(root, tmp_path / "set")
    spoilt = find_volume(root, "train/train_3/train_3_a/train_3_a_1.nii.gz")
    spoilt.write_bytes(spoilt.read_bytes()[:-2000])
    words = ["--kind", "ct", "--data", str(set_of), "--images", str(root), "--cache", str(tmp_path / "cache")]
    words += ["--epochs", "1", "--batch", "8", "--threads", "1", "--device", "cpu", "--out", str(tmp_path / "model")]
    assert radir(train, "train", *words) == 0
    bundle = Bundle.load(tmp_path / "model")
    assert bundle.kind is CT and 16 <= bundle.training["images"] < 24
    said = capsys.readouterr()
    assert "truncated or corrupt" in said.out + said.err
    assert "train_3" not in said.out + said.err


def test_volumes_are_found_as_the_collection_names_its_folders(tmp_path: Path) -> None:
    path = "train/train_1/train_1_a/train_1_a_1.nii.gz"
    for place in (path, f"dataset/{path}", path.replace("train/", "train_fixed/", 1), path.removesuffix(".gz")):
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        assert find_volume(tmp_path, path) == file
        file.unlink()
    with pytest.raises(BadInput, match="not found"):
        find_volume(tmp_path, path)
    with pytest.raises(BadInput, match="outside the folder"):
        find_volume(tmp_path / "dataset", "../../etc/passwd.nii")


def test_a_volume_is_read_again_when_the_metadata_changes(volume: Volume, tmp_path: Path) -> None:
    told = Told(spacing_mm=(1, 1, 1), orientation=(1, 0, 0, 0, 1, 0), position=(0, 0, 0), slope=1, intercept=0)
    file = tmp_path / "a.nii"
    keys = {NiftiContent(file=file, told=each).reading for each in (None, told, replace(told, intercept=-1024))}
    assert len(keys) == 3


def test_without_nibabel_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nifti, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install -e '\.\[nifti\]'"):
        nifti.check_installed()


# files that nobody should believe


def small() -> Any:
    voxels = np.full((16, 12, 10), -1000, np.float32)
    return nibabel.Nifti1Image(voxels, np.diag([-2.0, -2.0, 3.0, 1.0]))


def raw(change: Callable[[Any], None], voxels: bytes = b"") -> bytes:
    image = small()
    image.header.set_qform(image.affine, 1)
    image.header["vox_offset"] = 352
    image.header["magic"] = b"n+1"
    change(image.header)
    return bytes(image.header.binaryblock) + b"\0" * 4 + (voxels or image.get_fdata().astype("<f4").tobytes("F"))


def setting(**values: object) -> Callable[[Any], None]:
    def change(header: Any) -> None:
        for name, value in values.items():
            header[name] = value

    return change


def affine(matrix: np.ndarray) -> Callable[[Any], None]:
    def change(header: Any) -> None:
        header.set_sform(matrix, 1)
        header["pixdim"][1:4] = np.linalg.norm(matrix[:3, :3], axis=0)

    return change


TURN = np.array([[math.sqrt(0.5), -math.sqrt(0.5), 0, 0], [math.sqrt(0.5), math.sqrt(0.5), 0, 0], [0, 0, 1, 0]])
OBLIQUE = np.vstack([2 * TURN, [0, 0, 0, 1]])
NOT_A_NUMBER = np.diag([-2.0, np.nan, 3.0, 1.0])
HOSTILE: list[tuple[bytes, str]] = [
    (b"", "not a NIfTI file"),
    (b"no NIfTI at all" * 100, "not a NIfTI file"),
    (raw(setting(magic=b"ni1")), "not a NIfTI file with its voxels in it"),
    (raw(setting())[:-1], "truncated or corrupt"),
    (gzip.compress(raw(setting()))[:-20], "truncated or corrupt"),
    (gzip.compress(raw(setting()))[:40] + b"\xff" * 200, "truncated or corrupt"),
    (b"\x1f\x8bnot packed", "truncated or corrupt"),
    (raw(setting(dim=[4, 16, 12, 10, 5, 1, 1, 1])), "4 dimensions"),
    (raw(setting(dim=[2, 16, 12, 1, 1, 1, 1, 1])), "2 dimensions"),
    (raw(setting(dim=[-3, 16, 12, 10, 1, 1, 1, 1])), "dimensions"),
    (raw(setting(dim=[3, -1, 12, 10, 1, 1, 1, 1])), "-1 x 12 x 10 voxels"),
    (raw(setting(dim=[3, 16, 12, 3, 1, 1, 1, 1])), "16 x 12 x 3 voxels"),
    (raw(setting(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])), "larger than the limit"),
    (raw(setting(dim=[3, 20000, 20000, 8, 1, 1, 1, 1], datatype=2)), "larger than the limit"),
    (raw(setting(datatype=128)), "no single numbers"),
    (raw(setting(datatype=32)), "no single numbers"),
    (raw(setting(datatype=9999)), "not valid"),
    (raw(setting(vox_offset=1e12)), "not valid"),
    (raw(setting(vox_offset=np.nan)), "not valid"),
    (raw(setting(vox_offset=8)), "not valid"),
    (raw(affine(NOT_A_NUMBER)), "contradict|possible spacing"),
    (raw(affine(np.diag([-2.0, 0.0, 3.0, 1.0]))), "possible spacing"),
    (raw(affine(np.diag([-2.0, -2.0, 900.0, 1.0]))), "possible spacing"),
    (raw(setting(pixdim=[1, 2, 2, 5, 0, 0, 0, 0])), "contradict"),
    (raw(setting(xyzt_units=7)), "contradict|possible spacing"),
    (raw(affine(OBLIQUE)), "oblique"),
    (raw(setting(sform_code=0, qform_code=0)), "does not say how the volume lies"),
    (raw(setting(sform_code=0, quatern_b=3.0)), "no valid affine"),
    (raw(setting(scl_slope=1e38, scl_inter=0)), "not numbers"),
    (raw(setting(scl_slope=1, scl_inter=np.nan)), "no valid affine or scaling"),
    (raw(setting(scl_slope=1, scl_inter=np.inf)), "no valid affine or scaling"),
    (raw(setting(), np.full(1920, np.nan, "<f4").tobytes()), "not numbers"),
    (raw(setting(), np.full(1920, 40, "<f4").tobytes()), "not Hounsfield units"),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("content", "why"), HOSTILE, ids=[f"{n}: {why}" for n, (_, why) in enumerate(HOSTILE)])
def test_a_file_that_cannot_be_right_is_refused(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "Smith.nii.gz"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=why) as refused:
        read_nifti(path)
    assert "Smith" not in str(refused.value)


def test_what_is_not_spoilt_is_read(tmp_path: Path) -> None:
    """The material of the test above, so that each case fails by its own change."""
    (tmp_path / "a.nii").write_bytes(raw(setting(scl_slope=1, scl_inter=0)))
    assert read_nifti(tmp_path / "a.nii").spacing_mm == pytest.approx((3, 2, 2))


def test_a_packed_file_grows_to_no_more_than_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(raw(setting(scl_slope=1, scl_inter=0)) + bytes(64 << 20), compresslevel=1))
    read_nifti(path)  # what is loaded once is not counted
    tracemalloc.start()
    try:
        read_nifti(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_a_nifti_file_is_no_radiograph(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(raw(setting()))
    with PixelDecoder() as decoder, pytest.raises(BadInput, match="not a radiograph"):
        NiftiContent(file=tmp_path / "a.nii").volumes(ImageKind.CXR, decoder)
