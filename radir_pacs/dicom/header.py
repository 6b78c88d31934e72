"""Reading the header of one instance: bounded, validated, decoded, without pixels."""

from __future__ import annotations

import math
import mmap
import re
from datetime import date
from pathlib import Path

from radir_pacs.dicom.bulk_data import name_bulk_data
from radir_pacs.dicom.elements import PIXEL_DATA, Bulk, Part10, parse_part10
from radir_pacs.dicom.json_model import Attributes, number, text, to_json, value, values
from radir_pacs.dicom.limits import KIB, MIB, ReadLimits
from radir_pacs.dicom.transfer_syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import DicomRefused
from radir_pacs.types import HeaderNote, InstanceHeader

__all__ = ["InstanceHeader", "header_of", "parse_date", "read_attributes", "read_header", "read_part10"]

_LIMITS = ReadLimits()
_PIXEL_LIMITS = ReadLimits(elements=500_000, binary_bytes=256 * KIB, kept_bytes=32 * MIB)
_MOST_IDS = 8
_SUBSAMPLED = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})
_NATIVE = frozenset({EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG})


def read_header(
    path: Path, limits: ReadLimits = _LIMITS, *, fallback_character_set: str = "ISO_IR 100"
) -> InstanceHeader:
    """Read the file at ``path`` without its pixels.

    Runs in the caller's process: time and memory are bounded by ``limits`` (elements counted, inflation capped, no
    recursion beyond ``limits.depth``). Where the file meta information names another instance, the data set counts and
    a note says so. fallback_character_set: for text in a character set that is not named, or not the one named.
    Raises DicomRefused: 0xA700 when a limit is exceeded, 0xC000 for everything that cannot be understood.
    """
    parsed = read_part10(path, limits)
    attributes = to_json(parsed.elements, big_endian=parsed.big_endian, fallback_character_set=fallback_character_set)
    meta = to_json(parsed.meta)
    notes = list(parsed.notes)
    if any(text(meta, declared) not in ("", text(attributes, keyword)) for declared, keyword in _META_PAIRS):
        notes.append(HeaderNote.META_DIFFERS)
    if _pixels_truncated(parsed, attributes):
        notes.append(HeaderNote.PIXELS_TRUNCATED)
    name_bulk_data(attributes, parsed.elements)
    return header_of(attributes, parsed.transfer_syntax_uid, tuple(notes))


def header_of(attributes: Attributes, transfer_syntax_uid: str, notes: tuple[HeaderNote, ...] = ()) -> InstanceHeader:
    """What these attributes say about their instance. Raises DicomRefused."""
    uids = {keyword: _uid(attributes, keyword) for keyword in _UIDS}
    if not is_valid_uid(transfer_syntax_uid):
        raise DicomRefused("TransferSyntaxUID is not a valid UID")
    patient_keys = _patient_keys(attributes)
    study_date = parse_date(text(attributes, "StudyDate"))
    birth_date = parse_date(text(attributes, "PatientBirthDate"))
    return InstanceHeader(
        study_uid=uids["StudyInstanceUID"],
        series_uid=uids["SeriesInstanceUID"],
        sop_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        transfer_syntax_uid=transfer_syntax_uid,
        modality=text(attributes, "Modality")[:16].upper() or None,
        patient_key=patient_keys[0] if patient_keys else "",
        patient_keys=patient_keys,
        study_date=study_date,
        study_time=_short(attributes, "StudyTime"),
        accession_number=_short(attributes, "AccessionNumber"),
        study_description=_short(attributes, "StudyDescription"),
        referring_physician=_person(attributes, "ReferringPhysicianName"),
        study_id=_short(attributes, "StudyID"),
        patient_id="\\".join(_patient_ids(attributes))[:256] or None,
        patient_name=_person(attributes, "PatientName"),
        patient_sex=_sex(text(attributes, "PatientSex")),
        patient_birth_date=birth_date,
        patient_age_years=_age_years(text(attributes, "PatientAge"), birth_date, study_date),
        body_part=_short(attributes, "BodyPartExamined"),
        series_number=_int(attributes, "SeriesNumber"),
        series_description=_short(attributes, "SeriesDescription"),
        instance_number=_int(attributes, "InstanceNumber"),
        rows_px=_pixel_count(attributes, "Rows"),
        columns_px=_pixel_count(attributes, "Columns"),
        frames=max(_int(attributes, "NumberOfFrames") or 1, 1),
        notes=notes,
        attributes=attributes,
    )


def read_part10(path: Path, limits: ReadLimits = _LIMITS) -> Part10:
    """The elements of the file at ``path``. Raises DicomRefused."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return parse_part10(mapped, limits)
    except ValueError as error:  # an empty file cannot be mapped
        raise DicomRefused("the file is empty") from error


def read_attributes(path: Path) -> Attributes:
    """The data set at ``path`` with what pixels need: LUT tables and the functional groups of all frames."""
    parsed = read_part10(path, _PIXEL_LIMITS)
    return to_json(parsed.elements, big_endian=parsed.big_endian)


_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")

_META_PAIRS = (("MediaStorageSOPInstanceUID", "SOPInstanceUID"), ("MediaStorageSOPClassUID", "SOPClassUID"))


def _uid(attributes: Attributes, keyword: str) -> str:
    uid = text(attributes, keyword)
    if not uid:
        raise DicomRefused(f"{keyword} is missing")
    if not is_valid_uid(uid):
        raise DicomRefused(f"{keyword} is not a valid UID")
    return uid


def _short(attributes: Attributes, keyword: str) -> str | None:
    return text(attributes, keyword)[:256] or None


def _person(attributes: Attributes, keyword: str) -> str | None:
    """A person name in its DICOM form, component groups joined with "=" (PS3.5 6.2.1)."""
    name = value(attributes, keyword)
    if not isinstance(name, dict):
        return None
    groups = [str(name.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")]
    return "=".join(groups).rstrip("=")[:256] or None


def _int(attributes: Attributes, keyword: str) -> int | None:
    found = number(attributes, keyword)
    return None if found is None or abs(found) >= 2**31 else int(found)


def _pixel_count(attributes: Attributes, keyword: str) -> int | None:
    """Rows or Columns: a US value, whatever VR it was written with."""
    found = _int(attributes, keyword)
    return found if found is not None and 0 < found < 2**16 else None


def _patient_ids(attributes: Attributes) -> list[str]:
    """The values of Patient ID: one by PS3.3 C.7.1.1, but some systems write both ids of a patient who has two."""
    return [str(found) for found in values(attributes, "PatientID")[:_MOST_IDS] if found is not None]


def _patient_keys(attributes: Attributes) -> tuple[str, ...]:
    """For each id, issuer and id joined by the only character that neither can contain."""
    issuer = text(attributes, "IssuerOfPatientID")
    return tuple(dict.fromkeys(f"{issuer}\\{patient_id}"[:256] for patient_id in _patient_ids(attributes)))


def _pixels_truncated(parsed: Part10, attributes: Attributes) -> bool:
    """Whether uncompressed pixel data has fewer bytes than the other attributes require (PS3.5 8.1.1)."""
    bulk = next((e.value for tag, e in parsed.elements.items() if tag in PIXEL_DATA), None)
    needs = [number(attributes, keyword) for keyword in ("Rows", "Columns", "BitsAllocated")]
    if not isinstance(bulk, Bulk) or parsed.transfer_syntax_uid not in _NATIVE or None in needs:
        return False
    samples, frames = number(attributes, "SamplesPerPixel") or 1, number(attributes, "NumberOfFrames") or 1
    if text(attributes, "PhotometricInterpretation") in _SUBSAMPLED:
        samples = 2
    return bulk.length < math.floor(math.prod(need for need in needs if need is not None) * samples * frames / 8)


def _sex(sex: str) -> str | None:
    return sex[:1].upper() if sex[:1].upper() in {"M", "F", "O"} else None


_DATE = re.compile(r"\s*(\d{4})([.\-/]?)(\d{2})\2(\d{2})")


def parse_date(written: str) -> date | None:
    """A DA or DT value, also in the forms 1993.08.22 (old) and 1993-08-22 (foreign); None when it is not a date."""
    match = _DATE.match(written)
    if match is None:
        return None
    try:
        found = date(int(match[1]), int(match[3]), int(match[4]))
    except ValueError:
        return None
    return found if found.year >= 1800 else None


_AGE = re.compile(r"\s*(\d{1,3})\s*([YMWD]?)", re.IGNORECASE)
_UNITS_A_YEAR = {"Y": 1.0, "M": 12.0, "W": 52.1775, "D": 365.2425}


def _age_years(written: str, birth: date | None, study: date | None) -> float | None:
    """Age at the study from Patient's Age (AS, PS3.5 6.2), else from the birth date."""
    match = _AGE.match(written)
    if match is not None:
        return round(int(match[1]) / _UNITS_A_YEAR[match[2].upper() or "Y"], 3)
    if birth is not None and study is not None and 0 <= (study - birth).days < 150 * 366:
        return round((study - birth).days / 365.2425, 3)
    return None
