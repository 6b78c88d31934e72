"""Transfer syntaxes (PS3.5 annexes A and 10) and which of them we can decode.

Imports no pydicom: ``decode_child`` says first what pydicom shall not load.
"""

from __future__ import annotations

from radir_pacs.errors import DicomRefused, Skipped
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import InstanceHeader, kind_of_modality

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"  # Deflated Image Frame Compression, unknown to pydicom 3.0
RLE = "1.2.840.10008.1.2.5"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG})

# JPEG, JPEG-LS, JPEG 2000 and high-throughput JPEG 2000, as far as our codecs support them (a test compares).
_WITH_CODEC = ("50", "51", "57", "70", "80", "81", "90", "91", "201", "202", "203")
DECODABLE = NATIVE | {RLE, DEFLATED_FRAMES} | {f"1.2.840.10008.1.2.4.{number}" for number in _WITH_CODEC}

NO_CODEC = (
    0xC122  # Referenced Transfer Syntax Not Supported (PS3.18 table I.2-2), within "cannot understand" of C-STORE
)


def undecodable(header: InstanceHeader) -> Skipped | None:
    """Why the pixels of this image can never be decoded here; None when they can, or when it has none."""
    if not header.rows_px or header.transfer_syntax_uid in DECODABLE:
        return None
    reason = f"no codec here reads the transfer syntax {header.transfer_syntax_uid}"
    return Skipped(reason, reason_code=ReasonCode.NO_CODEC)


def require_decodable(header: InstanceHeader) -> None:
    """Raise DicomRefused for a radiograph or CT image that no codec here reads.

    The sender learns it at once and can send another transfer syntax. Objects that we never encode, such as videos, are
    kept as they are.
    """
    reason = undecodable(header)
    if reason is not None and kind_of_modality(header.modality) is not None:
        raise DicomRefused(str(reason), dimse_status=NO_CODEC, reason_code=ReasonCode.NO_CODEC)
