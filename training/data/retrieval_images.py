"""A data set that ``radir dataset build`` wrote (the MIMIC-IR layout), joined with its images below a root.

A row names its image by a path (PNG, JPEG or DICOM, whatever its suffix in the list; NIfTI, or a folder of DICOM slices
in its place, by .nii or .nii.gz), or by the Study Instance UID of DICOM files anywhere below the root.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput, DicomRefused
from radir_pacs.pictures.image_table import Row, find_image
from radir_pacs.types import ImageKind

from .ct_rate import find_volume, read_metadata
from .dicom_studies import DicomContent, dicom_studies, files_below
from .found import Content, Found, FoundStudy, plain
from .nifti import NiftiContent, Told, check_installed, is_nifti
from .picture_table import PictureContent
from .retrieval_set import RetrievalSet

_PATIENT = re.compile(r"(?:^|/)(p\d{8}|(?:train|valid)_\d+)/")  # of MIMIC-CXR and CT-RATE


def is_retrieval_set(folder: Path) -> bool:
    return any(folder.glob("*_caption.csv"))


def retrieval_studies(folder: Path, kind: ImageKind, images: Path, split: str, *, processes: int = 1) -> Found:
    """The split's rows that have an image of ``kind`` below ``images``, with their captions.

    An image whose patient is in neither its path nor its header counts as a separate patient. Raises BadInput where
    nibabel is needed and missing.
    """
    captions = RetrievalSet(folder=folder, split=split).captions()
    if all(is_valid_uid(path) for path in captions):
        found = dicom_studies(images, kind, processes=processes)
        studies = [replace(study, report=captions[study.study]) for study in found.studies if study.study in captions]
        return Found(studies=studies, left_out=found.left_out, looked_for="DICOM files of the studies it names")
    left_out: Counter[str] = Counter()
    studies = []
    metadata: dict[str, Told] = {}
    if any(map(is_nifti, captions)):
        metadata = read_metadata(images)
    for path, caption in captions.items():
        try:
            content, patient = _content(path, kind, images, metadata)
        except BadInput as error:
            left_out[plain(error)] += 1
            continue
        known = _PATIENT.search(path)
        studies.append(
            FoundStudy(
                study=path,
                patient=known[1] if known else patient or path,
                content=content,
                report=caption,
            )
        )
    if any(isinstance(study.content, NiftiContent) for study in studies):
        check_installed()
    return Found(studies=studies, left_out=left_out, looked_for=f"the images that its split {split!r} names")


def _content(path: str, kind: ImageKind, images: Path, metadata: Mapping[str, Told]) -> tuple[Content, str]:
    """The image and its patient, "" where only the path has it. Raises BadInput."""
    if is_nifti(path):
        return _volume(path, images, metadata)
    try:
        image = find_image(images, path)
    except BadInput:
        image = find_image(images, str(Path(path).with_suffix(".dcm")))
    if image.suffix.lower() in {".png", ".jpg", ".jpeg"}:
        if kind is not ImageKind.CXR:
            raise BadInput("a picture is not a CT")
        return PictureContent(rows=(_row(image),)), ""
    return _dicom((image,))


def _volume(path: str, images: Path, metadata: Mapping[str, Told]) -> tuple[Content, str]:
    """Its slices in DICOM where they lie beside it, else the volume. Raises BadInput."""
    refused: BadInput | None = None
    if slices := _slices(path, images):
        try:
            return _dicom(slices)
        except BadInput as error:  # a folder of something else, or damaged slices
            refused = error
    try:
        return NiftiContent(file=find_volume(images, path), told=metadata.get(Path(path).name)), ""
    except BadInput as missing:
        raise (refused or missing) from None


def _dicom(files: tuple[Path, ...]) -> tuple[Content, str]:
    try:
        return DicomContent(files=files), read_header(files[0]).patient_key
    except DicomRefused as error:
        raise BadInput(plain(error)) from error


def _slices(path: str, images: Path) -> tuple[Path, ...]:
    """The files in the folder train_1_a_1 for a volume train_1_a_1.nii.gz; none where there is no such folder."""
    folder = images / path.removesuffix(".gz").removesuffix(".nii")
    try:
        if folder.resolve().is_relative_to(images.resolve()) and folder.is_dir():
            return tuple(files_below(folder))
    except (OSError, ValueError):  # a name that no folder can have
        pass
    return ()


def _row(image: Path) -> Row:
    return Row(
        line=0,
        image=image,
        patient="",
        study="",
        view="",
        sex="",
        age_years=None,
        report="",
        study_date=None,
        spacing_mm=None,
        original_width_px=None,
    )
