"""The coded concepts of our structured report.

Standard ones from PS3.16; no standard code means "similar case" or "similarity", so those are of our private scheme,
which every report declares in Coding Scheme Identification Sequence (0008,0110).
"""

from __future__ import annotations

from highdicom.sr.coding import CodedConcept

from radir_pacs.anatomy import PRIVATE_SCHEME
from radir_pacs.types import Code


def concept(code: Code) -> CodedConcept:
    """``code`` as a Code Sequence item (PS3.3 table 8.8-1)."""
    return CodedConcept(code.value, code.scheme, code.meaning)


def _dcm(value: str, meaning: str) -> Code:
    return Code(value=value, scheme="DCM", meaning=meaning)


def own(value: str, meaning: str) -> Code:
    """A code of our private scheme; beyond 16 characters it is written as Long Code Value (0008,0119)."""
    return Code(value=value, scheme=PRIVATE_SCHEME, meaning=meaning)


IMAGING_MEASUREMENT_REPORT = _dcm("126000", "Imaging Measurement Report")
IMAGE_LIBRARY = _dcm("111028", "Image Library")
IMAGE_LIBRARY_GROUP = _dcm("126200", "Image Library Group")
IMAGING_MEASUREMENTS = _dcm("126010", "Imaging Measurements")
MEASUREMENT_GROUP = _dcm("125007", "Measurement Group")
IMAGE_REGION = _dcm("111030", "Image Region")
OBSERVER_TYPE = _dcm("121005", "Observer Type")
DEVICE = _dcm("121007", "Device")
DEVICE_OBSERVER_UID = _dcm("121012", "Device Observer UID")
DEVICE_OBSERVER_NAME = _dcm("121013", "Device Observer Name")
DEVICE_OBSERVER_MANUFACTURER = _dcm("121014", "Device Observer Manufacturer")
DEVICE_OBSERVER_MODEL_NAME = _dcm("121015", "Device Observer Model Name")
PROCEDURE_REPORTED = _dcm("121058", "Procedure reported")
TRACKING_IDENTIFIER = _dcm("112039", "Tracking Identifier")
TRACKING_UID = _dcm("112040", "Tracking Unique Identifier")
FINDING = _dcm("121071", "Finding")
ALGORITHM_NAME = _dcm("111001", "Algorithm Name")
ALGORITHM_PARAMETERS = _dcm("111002", "Algorithm Parameters")
ALGORITHM_VERSION = _dcm("111003", "Algorithm Version")
MODALITY = _dcm("121139", "Modality")
FRAME_OF_REFERENCE_UID = _dcm("112227", "Frame of Reference UID")
PIXEL_DATA_ROWS = _dcm("110910", "Pixel Data Rows")
PIXEL_DATA_COLUMNS = _dcm("110911", "Pixel Data Columns")
PATIENT_ORIENTATION_ROW = _dcm("111044", "Patient Orientation Row")
PATIENT_ORIENTATION_COLUMN = _dcm("111043", "Patient Orientation Column")
HORIZONTAL_PIXEL_SPACING = _dcm("111026", "Horizontal Pixel Spacing")
VERTICAL_PIXEL_SPACING = _dcm("111066", "Vertical Pixel Spacing")
SLICE_THICKNESS = _dcm("112225", "Slice Thickness")
FINDING_SITE = Code(value="363698007", scheme="SCT", meaning="Finding Site")
LATERALITY = Code(value="272741003", scheme="SCT", meaning="Laterality")
SEVERITY = Code(value="246112005", scheme="SCT", meaning="Severity")
SOURCE = Code(value="260753009", scheme="SCT", meaning="Source")
IMAGING_PROCEDURE = Code(value="363679005", scheme="SCT", meaning="Imaging procedure")  # PixelMed rejects others

SIMILAR_CASE = own("SIMILAR-CASE", "Similar case")
SIMILARITY_SCORE = own("SIMILARITY", "Similarity score")
RANK = own("RANK", "Rank among similar cases")
SIMILAR_IMAGE = own("SIMILAR-IMAGE", "Representative image of similar case")
SHARED_FINDING = own("SHARED-FINDING", "Finding shared with the query")
CONTRADICTING_FINDING = own("CONTRA-FINDING", "Finding contradicting the query")
FINDING_AFFIRMED = own("FINDING-AFFIRMED", "Finding affirmed in the report of the similar case")
FINDING_DENIED = own("FINDING-DENIED", "Finding denied in the report of the similar case")

SEVERITIES = {
    "minimal": own("MINIMAL", "Minimal"),  # DICOM's lists call the SNOMED CT code of "minimal" Minimum
    "mild": Code(value="255604002", scheme="SCT", meaning="Mild"),
    "moderate": Code(value="6736007", scheme="SCT", meaning="Moderate"),
    "severe": Code(value="24484000", scheme="SCT", meaning="Severe"),
}

NO_UNITS = Code(value="1", scheme="UCUM", meaning="no units")
MILLIMETRE = Code(value="mm", scheme="UCUM", meaning="millimeter")
PIXELS = Code(value="{pixels}", scheme="UCUM", meaning="pixels")

MODALITIES = {
    "CT": _dcm("CT", "Computed Tomography"),
    "CR": _dcm("CR", "Computed Radiography"),
    "DX": _dcm("DX", "Digital Radiography"),
    "RG": _dcm("RG", "Radiographic imaging"),
}
OTHER_MODALITY = _dcm("OT", "Other")
