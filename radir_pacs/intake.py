"""One instance in: the use case that the DICOM listener and STOW share.

Success is said only when the bytes are on the disk (file, then folder) and the catalogue row is committed (P1). What is
refused is recorded with its reason, by ids only, and nothing of it is kept.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from dataclasses import dataclass

from radir_pacs.blobs import BlobStore, IncomingBlob
from radir_pacs.catalogue import Catalogue, Stored
from radir_pacs.config import Settings
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.loop_guard import is_own_header
from radir_pacs.dicom.same_content import same_content
from radir_pacs.errors import Conflict, DicomRefused, NotFound, RadirError, StorageFailed, TooLarge
from radir_pacs.types import InstanceHeader

log = logging.getLogger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700  # PS3.4 table B.2-1: refused, out of resources
MISMATCH = 0xA900  # data set does not match SOP class
CANNOT_UNDERSTAND = 0xC000
CONFLICT = 0xC002  # ours within Cxxx: stored already with other content

_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class StoreOutcome:
    """What became of one instance. ``status`` is a C-STORE status; ``reason`` is empty on success."""

    status: int
    sop_class_uid: str = ""
    sop_uid: str = ""
    study_uid: str = ""
    series_uid: str = ""
    reason: str = ""
    same: bool = False  # the same content was here already

    @property
    def ok(self) -> bool:
        return self.status == SUCCESS


class Intake:
    """Takes instances into blobs and catalogue."""

    def __init__(self, catalogue: Catalogue, blobs: BlobStore, settings: Settings) -> None:
        self._catalogue, self._blobs, self._settings = catalogue, blobs, settings

    def check_room(self) -> None:
        """Raise StorageFailed when the disk is fuller than the settings allow; asked before bytes are taken."""
        free_mib = shutil.disk_usage(self._blobs.root).free // _MIB
        if free_mib < self._settings.min_free_disk_mib:
            raise StorageFailed(f"{free_mib} MiB of disk left, {self._settings.min_free_disk_mib} are kept free")

    def store(
        self, incoming: IncomingBlob, *, source: str, sop_class_uid: str | None = None, sop_uid: str | None = None
    ) -> StoreOutcome:
        """Keep the Part-10 file in ``incoming``; the UIDs are those that the sender announced. Raises no RadirError."""
        header: InstanceHeader | None = None
        try:
            self.check_room()
            header = read_header(incoming.path)
            if (sop_class_uid or header.sop_class_uid, sop_uid or header.sop_uid) != (
                header.sop_class_uid,
                header.sop_uid,
            ):
                raise DicomRefused("the data set is not the instance that was announced", dimse_status=MISMATCH)
            sha256, size_bytes = incoming.commit()
            stored = self._add(header, sha256, size_bytes, source)
        except RadirError as error:
            return self.refuse(error, source=source, sop_uid=header.sop_uid if header else sop_uid, header=header)
        return StoreOutcome(
            status=SUCCESS,
            sop_class_uid=header.sop_class_uid,
            sop_uid=header.sop_uid,
            study_uid=header.study_uid,
            series_uid=header.series_uid,
            same=stored is Stored.SAME,
        )

    def _add(self, header: InstanceHeader, sha256: str, size_bytes: int, source: str) -> Stored:
        """The catalogue tells the same bytes; what another sender wrote anew is told by its content (P2)."""
        try:
            return self._catalogue.instances.add(
                header,
                content_sha256=sha256,
                size_bytes=size_bytes,
                source=source,
                wakes=not is_own_header(header),  # what we returned to a PACS comes back and must not start us again
            )
        except Conflict:
            with contextlib.suppress(NotFound):
                stored = self._catalogue.instances.get(header.sop_uid)
                if same_content(self._blobs.path(stored.content_sha256), self._blobs.path(sha256)):
                    return Stored.SAME
            raise

    def refuse(
        self, error: RadirError, *, source: str, sop_uid: str | None, header: InstanceHeader | None = None
    ) -> StoreOutcome:
        """Record the refusal and give its outcome; the outcome counts even where it cannot be recorded."""
        status = _status(error)
        try:
            self._catalogue.refusals.add(sop_uid=sop_uid, reason=str(error), dimse_status=status, source=source)
        except RadirError as missed:  # as when the catalogue's absence is why we refuse
            log.error("refusal not recorded", extra={"sop_uid": sop_uid, "reason": error.code, "error": missed.code})
        return StoreOutcome(
            status=status,
            reason=str(error),
            sop_uid=sop_uid or "",
            sop_class_uid=header.sop_class_uid if header else "",
            study_uid=header.study_uid if header else "",
        )


def _status(error: RadirError) -> int:
    match error:
        case DicomRefused():
            return error.dimse_status
        case StorageFailed() | TooLarge():
            return OUT_OF_RESOURCES
        case Conflict():
            return CONFLICT
        case _:
            return CANNOT_UNDERSTAND
