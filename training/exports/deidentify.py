"""DICOM data sets without the identity of their patient (PS3.15 Annex E), for images that are exported.

The actions are those of Table E.1-1's basic profile, as the package dicom-anonymizer keeps them, applied here to nested
data sets too. Beyond the table, every private attribute goes, every text that is not on a short list of technical
ones, and every code of a scheme of its own or of none. Dates are shifted, all of a patient by the same number of days.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import date, timedelta

from dicomanonymizer import simpledicomanonymizer as table
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

from radir_pacs.errors import BadInput

TABLE = "dicomfields_2026c"  # the edition of PS3.15
_MOST_DAYS = 3650
_WELL_KNOWN = "1.2.840.10008."  # classes, transfer syntaxes: they name nobody
_TEXT = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT"})
_KEPT_TEXT = frozenset(
    {"Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "FilterType", "LUTExplanation"}
    | {"CodeValue", "CodingSchemeDesignator", "CodeMeaning", "DeidentificationMethod", "PatientID", "PatientName"}
)
_SCHEMES = frozenset({"DCM", "SCT", "SRT", "SNM3", "99SDM", "UCUM", "RADLEX", "FMA"})
_CODED = frozenset({"CodeValue", "LongCodeValue", "URNCodeValue", "CodingSchemeDesignator", "CodeMeaning"})
_BULK = frozenset({"OB", "OD", "OF", "OL", "OV", "OW"})
_KEPT_BULK = frozenset({"PixelData", "RedPaletteColorLookupTableData", "LUTData"})
_PATIENT_GROUP = 0x0010
_CURVES, _OVERLAYS = 0x5000, 0x6000  # repeating groups: annotations drawn beside or over the image
_BIT_POSITION, _OVERLAY_DATA = 0x0102, 0x3000
_METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
}


def _actions() -> dict[int, str]:
    """By tag, the letter of Table E.1-1: X removes, Z empties, D replaces, U maps a UID; the strictest of several."""
    letters = {
        table.delete: "X",
        table.empty: "Z",
        table.replace_UID: "U",
        table.replace: "D",
        table.empty_or_replace: "Z",
        table.delete_or_empty: "Z",
        table.delete_or_replace: "D",
        table.delete_or_empty_or_replace: "D",
        table.delete_or_empty_or_replace_UID: "Z",
    }
    found = {}
    for tag, action in table.initialize_actions(TABLE).items():
        if len(tag) == 2:  # the others are repeating groups
            found[tag[0] << 16 | tag[1]] = letters[action]
    return found


ACTIONS = _actions()


class Deidentifier:
    """With the same key a UID or patient becomes the same pseudonym; without it nobody finds the way back.

    A key is made for one export and kept nowhere.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def uid(self, uid: str) -> str:
        """A UID of a UUID (PS3.5 B.2) in place of one that names an instance, series or study."""
        if uid.startswith(_WELL_KNOWN) or not uid:
            return uid
        return f"2.25.{int.from_bytes(self._hash('uid', uid)[:16], 'big')}"

    def patient(self, name: str) -> str:
        return f"P{self._hash('patient', name).hex()[:16].upper()}"

    def days(self, name: str) -> int:
        """By how many days a patient's dates are moved back, 1 to 3650."""
        return 1 + int.from_bytes(self._hash("days", name)[:8], "big") % _MOST_DAYS

    def apply(self, ds: Dataset, patient: str, *, meta: bool = True) -> None:
        """Change ``ds`` in place; ``patient``: who it is about, as the export knows patients apart.

        Raises BadInput for an image that says, or whose class says, that persons may be read or recognized in its
        pixels: they are not cleaned here.
        """
        if reason := shows_person(ds):
            raise BadInput(reason)
        for keyword in _CODED & set(ds.dir()):  # a code stands in an item of a sequence
            del ds[keyword]
        self._clean(ds, self.days(patient))
        ds.PatientID = ds.PatientName = self.patient(patient)
        ds.PatientIdentityRemoved = "YES"
        ds.LongitudinalTemporalInformationModified = "MODIFIED"
        ds.DeidentificationMethod = f"RadIR-PACS, PS3.15 Table E.1-1 ({TABLE.removeprefix('dicomfields_')})"
        ds.DeidentificationMethodCodeSequence = Sequence([_code(*method) for method in _METHODS.items()])
        if meta:
            ds.file_meta = self._meta(ds)
            ds.preamble = bytes(128)

    def _meta(self, ds: Dataset) -> FileMetaDataset:
        """File meta information anew: the old one may name who sent it."""
        made = FileMetaDataset()
        made.MediaStorageSOPClassUID = ds.SOPClassUID
        made.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        made.TransferSyntaxUID = ds.file_meta.TransferSyntaxUID
        made.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
        return made

    def _clean(self, ds: Dataset, days: int) -> None:
        for tag in list(ds.keys()):
            element = ds[tag]
            if self._is_dropped(element):
                del ds[tag]
                continue
            action = ACTIONS.get(int(tag))
            is_shifted = element.VR in ("DA", "DT") and element.tag.group != _PATIENT_GROUP
            if action == "X" and not is_shifted:
                del ds[tag]
            elif element.VR == "SQ":
                self._sequence(element, action, days)
            elif is_shifted:
                _set(ds, element, [_moved(str(value), days) for value in _values(element)])
            elif element.VR == "UI":
                _set(ds, element, [self.uid(str(value)) for value in _values(element)])
            elif action == "D" and element.VR not in ("TM", "DA", "DT"):
                table.replace_element(element)
            elif action is not None:
                element.value = None

    def _is_dropped(self, element: DataElement) -> bool:
        group = element.tag.group
        if element.tag.is_private or group & 0xFF00 in (_CURVES, _OVERLAYS):
            return True
        if element.VR in _BULK:
            return element.keyword not in _KEPT_BULK
        return element.VR in _TEXT and element.keyword not in _KEPT_TEXT and ACTIONS.get(int(element.tag)) != "Z"

    def _sequence(self, element: DataElement, action: str | None, days: int) -> None:
        if action is not None:
            element.value = Sequence([])
        else:
            items = [item for item in element.value if not _is_foreign_code(item)]
            for item in items:
                self._clean(item, days)
            element.value = Sequence(items)

    def _hash(self, purpose: str, text: str) -> bytes:
        return hmac.new(self._key, f"{purpose}\0{text}".encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


def shows_person(ds: Dataset) -> str | None:
    """Why the pixels of an image may show who the patient is; None where nothing says so."""
    if str(ds.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        return "its pixels are said to hold burned-in annotation"
    if str(ds.get("RecognizableVisualFeatures", "")).strip().upper() == "YES":
        return "its pixels are said to hold recognizable visual features"
    if str(ds.get("SOPClassUID", "")).startswith("1.2.840.10008.5.1.4.1.1.7"):
        return "it is a secondary capture"
    if _has_overlay_in_pixels(ds):
        return "an overlay is in unused bits of its pixels"
    return None


def _has_overlay_in_pixels(ds: Dataset) -> bool:
    """Whether an overlay has no data of its own, or a bit position other than 0: retired since PS3.3-2004 C.9.2, but
    still in archives."""
    groups = {tag.group for tag in list(ds.keys()) if tag.group & 0xFF01 == _OVERLAYS}
    return any(
        (group, _OVERLAY_DATA) not in ds or ((group, _BIT_POSITION) in ds and ds[group, _BIT_POSITION].value != 0)
        for group in groups
    )


def _is_foreign_code(item: Dataset) -> bool:
    """A code of a scheme that is not on the list, or of none."""
    return any(keyword in item for keyword in _CODED) and str(item.get("CodingSchemeDesignator")) not in _SCHEMES


def _code(value: str, meaning: str) -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, "DCM", meaning
    return made


def _values(element: DataElement) -> list[object]:
    if element.value is None or element.value == "":
        return []
    return list(element.value) if isinstance(element.value, MultiValue) else [element.value]


def _set(ds: Dataset, element: DataElement, values: list[str]) -> None:
    ds[element.tag] = DataElement(element.tag, element.VR, values[0] if len(values) == 1 else values or None)


def _moved(written: str, days: int) -> str:
    """A date, or the date of a date and time, moved back; empty where it is none. The time of day goes."""
    try:
        day = date(int(written[:4]), int(written[4:6]), int(written[6:8]))
        return f"{day - timedelta(days=days):%Y%m%d}"
    except (ValueError, OverflowError):
        return ""
