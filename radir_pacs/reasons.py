"""Why something did not happen, as a code: programs decide by it, people read the sentence beside it.

Codes stay in the catalogue for years: none is renamed, and an unknown one reads as OTHER.
"""

from __future__ import annotations

from enum import StrEnum


class ReasonCode(StrEnum):
    """Why a study was skipped or quarantined, an instance or message refused, or an attempt at a job failed."""

    # A study that we do not encode (SKIPPED)
    NO_IMAGE = "NO_IMAGE"
    UNSUPPORTED_MODALITY = "UNSUPPORTED_MODALITY"
    UNSUPPORTED_IMAGE = "UNSUPPORTED_IMAGE"  # colour, several frames, a localizer, a secondary capture, too small
    NOT_CHEST = "NOT_CHEST"
    EXCLUDED = "EXCLUDED"  # by a rule of the site (`radir rules`)
    TOO_FEW_SLICES = "TOO_FEW_SLICES"
    OBLIQUE = "OBLIQUE"
    NO_HOUNSFIELD = "NO_HOUNSFIELD"
    NO_CODEC = "NO_CODEC"  # no installed codec reads its transfer syntax; such an image is also refused
    NO_MODEL = "NO_MODEL"  # until a model of its kind is served

    # A study that should have been encoded and could not be (QUARANTINED)
    MISSING_SLICES = "MISSING_SLICES"
    MIXED_SLICES = "MIXED_SLICES"
    BLANK_IMAGE = "BLANK_IMAGE"
    NO_VECTOR = "NO_VECTOR"  # the network answers no finite number
    DECODE_FAILED = "DECODE_FAILED"
    DECODE_MEMORY = "DECODE_MEMORY"
    DECODE_TIMEOUT = "DECODE_TIMEOUT"
    DECODER_CRASHED = "DECODER_CRASHED"
    DECODER_KILLED = "DECODER_KILLED"  # from outside, as by a kernel short of memory
    WORKER_KILLED = "WORKER_KILLED"
    WORKER_FAILED = "WORKER_FAILED"  # an error of our own
    BLOB_DAMAGED = "BLOB_DAMAGED"  # the file on our disk is not what was stored
    BLOB_AWAY = "BLOB_AWAY"  # the file was removed on purpose; where a PACS is named, it is pulled again
    DROPPED = "DROPPED"  # quarantined, and an administrator decided to leave it (SKIPPED)

    # An instance that was refused
    UNREADABLE = "UNREADABLE"  # not DICOM, or not safe to read
    MISMATCH = "MISMATCH"  # not what the message or the path announced
    CONFLICT = "CONFLICT"  # stored already with other pixels, or in another series
    TOO_LARGE = "TOO_LARGE"
    OUT_OF_RESOURCES = "OUT_OF_RESOURCES"
    REFUSED_PEER = "REFUSED_PEER"  # an association that was not accepted or was aborted

    # An HL7 message that was kept, or a report that was refused
    MESSAGE_UNREADABLE = "MESSAGE_UNREADABLE"
    MESSAGE_UNSUPPORTED = "MESSAGE_UNSUPPORTED"  # type, version or processing id
    MESSAGE_INCOMPLETE = "MESSAGE_INCOMPLETE"  # what it is about is not named
    NO_TEXT = "NO_TEXT"
    DOCUMENT_UNREADABLE = "DOCUMENT_UNREADABLE"  # a PDF, CDA or the like inside it

    # A job that failed
    NOT_FOUND = "NOT_FOUND"
    PEER_FAILED = "PEER_FAILED"
    PEER_UNREACHABLE = "PEER_UNREACHABLE"
    PEER_REJECTED = "PEER_REJECTED"  # the association: A-ASSOCIATE-RJ (PS3.8 9.3.4)
    PEER_NOT_SUPPORTED = "PEER_NOT_SUPPORTED"  # it accepted no presentation context for the object
    PEER_REFUSED = "PEER_REFUSED"  # a failure status, of DIMSE (PS3.4 table B.2-1) or of HTTP
    PEER_UNTRUSTED = "PEER_UNTRUSTED"  # its certificate is not valid here
    PEER_NO_ANSWER = "PEER_NO_ANSWER"  # or one that broke off
    PEER_TOO_SLOW = "PEER_TOO_SLOW"
    PEER_TOO_LARGE = "PEER_TOO_LARGE"  # its answer
    PEER_BAD_ANSWER = "PEER_BAD_ANSWER"
    PEER_INCOMPLETE = "PEER_INCOMPLETE"  # some of what it sent was refused here
    WRONG_SETTING = "WRONG_SETTING"
    WRONG_MODEL = "WRONG_MODEL"
    WRONG_INDEX = "WRONG_INDEX"

    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> ReasonCode:
        """A code written by a later version."""
        return cls.OTHER


KILLED = frozenset({ReasonCode.DECODER_KILLED, ReasonCode.WORKER_KILLED})
"""Most likely for lack of memory: the next attempt decodes with nothing running beside it."""

WORTH_ANOTHER_DECODE = frozenset({ReasonCode.DECODER_KILLED, ReasonCode.DECODER_CRASHED, ReasonCode.DECODE_TIMEOUT})
"""Failures of a decoding child that say little about the file."""

MENDED_BY_SENDING = KILLED | {
    ReasonCode.BLOB_AWAY,
    ReasonCode.BLOB_DAMAGED,
    ReasonCode.DECODER_CRASHED,
    ReasonCode.DECODE_TIMEOUT,
    ReasonCode.OUT_OF_RESOURCES,
    ReasonCode.WORKER_FAILED,
}
"""Quarantines in which the same bytes, sent again, may succeed: the machine failed, not the image."""
