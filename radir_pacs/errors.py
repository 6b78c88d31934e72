"""One error tree. The docstring of a class is its default message; ``code`` names it in JSON answers and logs.

Messages may name UIDs, settings and regions. They never name a patient. Programs decide by ``reason_code``:
the class has one, and the code that raises may give a more precise one.
"""

from __future__ import annotations

import math

from radir_pacs.reasons import ReasonCode


class RadirError(Exception):
    """Something went wrong."""

    code = "error"
    http_status = 500
    exit_code = 1
    reason_code = ReasonCode.OTHER

    def __init__(self, message: str | None = None, *, reason_code: ReasonCode | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])
        if reason_code is not None:
            self.reason_code = reason_code


class SettingError(RadirError):
    """A setting has a value that cannot be used."""

    code = "bad_setting"
    exit_code = 78  # EX_CONFIG: starting again would not help
    reason_code = ReasonCode.WRONG_SETTING


class BadInput(RadirError):
    """The input breaks the standard or our limits."""

    code = "bad_input"
    http_status = 400


class DicomRefused(BadInput):
    """The DICOM object cannot be read safely."""

    code = "dicom_refused"
    reason_code = ReasonCode.UNREADABLE

    def __init__(
        self, message: str | None = None, *, dimse_status: int = 0xC000, reason_code: ReasonCode | None = None
    ) -> None:
        super().__init__(message, reason_code=reason_code)
        self.dimse_status = dimse_status  # PS3.4 table B.2-1


class TooLarge(BadInput):
    """The input is larger than the limit allows."""

    code = "too_large"
    reason_code = ReasonCode.TOO_LARGE
    http_status = 413


class NotAcceptable(RadirError):
    """None of the media types asked for can be produced."""

    code = "not_acceptable"
    http_status = 406


class NotFound(RadirError):
    """There is no such thing here."""

    code = "not_found"
    reason_code = ReasonCode.NOT_FOUND
    http_status = 404


class NotInThisLink(RadirError):
    """This link opens one study and the pictures of cases like it."""

    code = "forbidden"
    http_status = 403


class SignInFailed(RadirError):
    """The name or the password is wrong."""

    code = "sign_in_failed"
    http_status = 401


class TooManyRequests(RadirError):
    """Too many requests; ask again later."""

    code = "too_many_requests"
    http_status = 429

    def __init__(self, message: str | None = None, *, wait_s: float = 1.0) -> None:
        super().__init__(message)
        self.wait_s = max(1, math.ceil(wait_s))


class RoleMayNot(RadirError):
    """The role of this token or account does not include that."""

    code = "forbidden"
    http_status = 403


class UnknownRegion(BadInput):
    """The region is not known."""

    code = "unknown_region"

    def __init__(self, text: str, nearest: tuple[str, ...] = ()) -> None:
        self.text, self.nearest = text, nearest
        hint = f"; nearest: {', '.join(nearest)}" if nearest else "; regions: /api/regions or `radir regions`"
        super().__init__(f"unknown region {text!r}{hint}")


class Conflict(RadirError):
    """The object is stored already with other pixels, or in another series."""

    code = "conflict"
    reason_code = ReasonCode.CONFLICT
    http_status = 409


class NotCovered(Conflict):
    """The model has encoded too few of the studies to answer."""

    code = "not_covered"

    def __init__(self, model_id: str, encoded: int, total: int, least: float) -> None:
        super().__init__(
            f"{model_id} has encoded {encoded} of {total} studies, {100 * encoded / max(total, 1):.2f} %: it answers"
            f" from {100 * least:g} % on (model_coverage)"
        )
        self.encoded, self.total = encoded, total


class ModelGone(RadirError):
    """The model encodes no more."""

    code = "model_gone"
    http_status = 409


class Differs(Conflict):
    """The instance is stored already with another file."""

    def __init__(self, stored_sha256: str) -> None:
        super().__init__()
        self.stored_sha256 = stored_sha256


class NotReady(RadirError):
    """The answer does not exist yet; ask again later."""

    code = "not_ready"
    http_status = 503


class StorageFailed(RadirError):
    """The disk or the database refused to keep the data."""

    code = "storage_failed"
    reason_code = ReasonCode.OUT_OF_RESOURCES
    http_status = 507


class BlobDamaged(RadirError):
    """A stored file is not what was stored; send the instance again."""

    code = "blob_damaged"
    http_status = 410
    reason_code = ReasonCode.BLOB_DAMAGED

    def __init__(self, sha256: str, message: str | None = None, *, reason_code: ReasonCode | None = None) -> None:
        super().__init__(message, reason_code=reason_code)
        self.sha256 = sha256  # the hash that it should have, its name


class BlobAway(BlobDamaged):
    """The file made room for others; its study is pulled from the PACS again: ask again in a while."""

    code = "blob_away"
    http_status = 503
    reason_code = ReasonCode.BLOB_AWAY


class PictureAway(BlobAway):
    """The file is kept by the source PACS alone, which does not give it now; ask again in a while."""

    code = "picture_away"


class BackupDamaged(RadirError):
    """An object of a backup is not what was written."""

    code = "backup_damaged"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} of the backup is damaged, or was written with another key")
        self.name = name


class DatabaseRefuses(StorageFailed):
    """The database does not let us in. ``what``: which and why, without the advice that the message ends with."""

    def __init__(self, which: str, why: str) -> None:
        self.what = f"{which} cannot be used: {why}"
        super().__init__(f"{self.what}; start it, or correct database_url")


class DatabaseAway(StorageFailed):
    """The database does not answer; it is asked again every second."""

    code = "database_away"
    http_status = 503


class EngineAway(RadirError):
    """The vector engine does not answer; ask again later."""

    code = "engine_away"
    http_status = 503
    reason_code = ReasonCode.OUT_OF_RESOURCES


class Skipped(RadirError):
    """The study is not one we encode."""

    code = "skipped"
    http_status = 409


class Quarantined(RadirError):
    """The study could not be encoded."""

    code = "quarantined"
    http_status = 409


class BundleRefused(RadirError):
    """The model bundle is incomplete, altered or of another format."""

    code = "bundle_refused"
    exit_code = 78
    reason_code = ReasonCode.WRONG_MODEL


class IndexRefused(RadirError):
    """The index generation is incomplete, altered or of another model."""

    code = "index_refused"
    reason_code = ReasonCode.WRONG_INDEX


class SegmentAltered(IndexRefused):
    """A segment of the generation that answers is no longer what was built: a merge must not seal its bytes anew."""


class EngineEmptied(IndexRefused):
    """An outside engine holds nothing of a place that a generation lists there; ``place``: model id and region key."""

    def __init__(self, text: str, place: tuple[str, str]) -> None:
        super().__init__(text)
        self.place = place


class LeaseLost(RadirError):
    """Another worker holds this job now; our result is dropped."""

    code = "lease_lost"


class PeerFailed(RadirError):
    """The other DICOM system did not take the object.

    ``what`` and ``advice``: the message in its two parts; the second is empty where nothing is advised.
    """

    code = "peer_failed"
    reason_code = ReasonCode.PEER_FAILED
    http_status = 502

    def __init__(self, message: str | None = None, *, advice: str = "", reason_code: ReasonCode | None = None) -> None:
        super().__init__(f"{message}: {advice}" if advice else message, reason_code=reason_code)
        self.what, self.advice = message or str(self), advice
