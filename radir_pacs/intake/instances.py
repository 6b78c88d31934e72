"""One instance in: the use case that the DICOM listener and STOW share.

Success is said only when the bytes are on the disk (file, then folder) and the catalogue row is committed (P1). What is
refused is recorded with its reason, by ids only, and nothing of it is kept.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from radir_pacs import metrics, traces
from radir_pacs.catalogue import Catalogue, Overtaken, Stored
from radir_pacs.config import Settings
from radir_pacs.dicom.correction import Pixels, difference
from radir_pacs.dicom.file_head import head_for, needs_head
from radir_pacs.dicom.header import header_of, read_header
from radir_pacs.dicom.loop_guard import is_own_header
from radir_pacs.dicom.same_content import same_content
from radir_pacs.dicom.transfer_syntaxes import require_decodable
from radir_pacs.errors import (
    BlobDamaged,
    Conflict,
    DicomRefused,
    Differs,
    NotFound,
    RadirError,
    StorageFailed,
    TooLarge,
)
from radir_pacs.intake.room import Room
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.blobs import BlobStore, IncomingBlob
from radir_pacs.types import InstanceHeader

log = logging.getLogger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700  # PS3.4 table B.2-1: refused, out of resources
MISMATCH = 0xA900  # data set does not match SOP class
CANNOT_UNDERSTAND = 0xC000
CONFLICT = 0xC002  # ours within Cxxx: stored already with other pixels, or elsewhere

PULLED = "pull"  # the source of what is fetched from the PACS
_MIB = 1 << 20
_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class StoreOutcome:
    """What became of one instance. ``status`` is a C-STORE status; ``reason`` is empty on success."""

    status: int
    sop_class_uid: str = ""
    sop_uid: str = ""
    study_uid: str = ""
    series_uid: str = ""
    reason: str = ""
    same: bool = False  # the same content was stored already

    @property
    def ok(self) -> bool:
        return self.status == SUCCESS


class Intake:
    """Stores instances as blobs and catalogue rows."""

    def __init__(self, catalogue: Catalogue, blobs: BlobStore, settings: Settings) -> None:
        self._catalogue, self._blobs, self._settings = catalogue, blobs, settings
        self._room = Room(catalogue, blobs, settings)

    def check_room(self) -> None:
        """Raise StorageFailed when the disk is fuller than the settings allow; asked before bytes are taken."""
        self._room.check()

    def store(
        self,
        incoming: IncomingBlob,
        *,
        source: str,
        site: str | None = None,
        own_only: bool = True,
        sop_class_uid: str | None = None,
        sop_uid: str | None = None,
    ) -> StoreOutcome:
        """Keep the Part-10 file in ``incoming``; the UIDs are those that the sender announced. Raises no RadirError.

        site: the label of the sender's site, where it has one: it may add to studies of its own only, unless
        ``own_only`` is False.
        """
        header: InstanceHeader | None = None
        began = time.perf_counter()
        try:
            self.check_room()
            header = read_header(incoming.path, fallback_character_set=self._settings.fallback_character_set)
            if (sop_class_uid or header.sop_class_uid, sop_uid or header.sop_uid) != (
                header.sop_class_uid,
                header.sop_uid,
            ):
                raise DicomRefused(
                    "the data set is not the instance that was announced",
                    dimse_status=MISMATCH,
                    reason_code=ReasonCode.MISMATCH,
                )
            require_decodable(header)
            if site is not None and own_only and not is_own_header(header):  # ours comes back through the PACS
                self._require_own(header.study_uid, {site, source})
            with self._with_head(header, incoming) as whole:
                sha256, size_bytes = whole.name()
                stored = self._add(header, whole, sha256, size_bytes, source, site)
        except RadirError as error:
            return self.refuse(error, source=source, sop_uid=header.sop_uid if header else sop_uid, header=header)
        outcome = stored.lower()
        metrics.INSTANCES.labels(outcome).inc()
        metrics.INSTANCE_BYTES.labels(outcome).inc(size_bytes)
        took_s = time.perf_counter() - began
        metrics.STORE_SECONDS.labels(outcome).observe(took_s)
        traces.record("store", took_s, header.study_uid, outcome=outcome, bytes=size_bytes)
        if header.notes:
            log.info("stored with notes", extra={"sop_uid": header.sop_uid, "notes": ",".join(header.notes)})
        return StoreOutcome(
            status=SUCCESS,
            sop_class_uid=header.sop_class_uid,
            sop_uid=header.sop_uid,
            study_uid=header.study_uid,
            series_uid=header.series_uid,
            same=stored is Stored.SAME,
        )

    @contextlib.contextmanager
    def _with_head(self, header: InstanceHeader, incoming: IncomingBlob) -> Iterator[IncomingBlob]:
        """The file as it is kept: with preamble and file meta information, which every reader of blobs relies on."""
        if not needs_head(header):
            yield incoming
            return
        head, data_set_at = head_for(header, incoming.path)
        with self._blobs.incoming() as whole, incoming.path.open("rb") as file:
            whole.write(head)
            file.seek(data_set_at)
            while chunk := file.read(_MIB):
                whole.write(chunk)
            yield whole

    def _require_own(self, study_uid: str, own: set[str]) -> None:
        """Raise Conflict for a study to which another site has sent: nobody looks into a study by adding to it.

        own: the sender's label, and its title, which stood for the label before it had one.
        """
        with contextlib.suppress(NotFound):
            if set(self._catalogue.studies.get(study_uid).sites) - own:
                raise Conflict("the study came from another site")

    def _add(
        self, header: InstanceHeader, file: IncomingBlob, sha256: str, size_bytes: int, source: str, site: str | None
    ) -> Stored:
        """The catalogue recognises the same bytes; what was rewritten or corrected is recognised by its content (P2).

        The file becomes durable while the catalogue is at work, and before it commits.
        Raises Conflict for other pixels, StorageFailed when the instance changes faster than it can be compared.
        """
        if self._blobs.is_remote:
            file.sync()  # before any row is locked: a server that is slow holds nobody else up
        wakes = not is_own_header(header)  # what we returned to a PACS comes back and must not start us again
        for _ in range(_TRIES):
            try:
                return self._catalogue.instances.add(
                    header,
                    content_sha256=sha256,
                    size_bytes=size_bytes,
                    source=source,
                    site=site,
                    wakes=wakes,
                    durable=file.sync,
                )
            except Differs as differs:
                with contextlib.suppress(Overtaken, NotFound):
                    return self._correct(header, differs.stored_sha256, sha256, size_bytes, source, site)
        raise StorageFailed("the instance keeps being stored by others")

    def _correct(
        self,
        header: InstanceHeader,
        stored_sha256: str,
        sha256: str,
        size_bytes: int,
        source: str,
        site: str | None,
    ) -> Stored:
        """The instance is stored with another file: rewritten, corrected, or a different image.

        Raises Conflict; Overtaken and NotFound when it is another file by now.
        """
        stored = self._catalogue.instances.get(header.sop_uid)
        paths = self._blobs.path(stored_sha256), self._blobs.path(sha256)
        if same_content(*paths) and self._is_intact(stored_sha256):
            self._catalogue.instances.came_again(header.study_uid, sha256)
            return Stored.SAME
        found = difference(*paths, stored_sha256, stored.attributes)
        if found.pixels is Pixels.OTHER:
            raise Conflict("the instance is stored already with other pixels")
        if found.pixels is Pixels.SAME and not found.changed:
            self._catalogue.instances.came_again(header.study_uid, sha256)
            return Stored.SAME  # recompressed without loss
        mended = found.pixels is Pixels.MENDED
        if mended and source != PULLED and self._catalogue.damage.note(stored_sha256):
            raise StorageFailed("the stored file made room and is fetched back: send again later")
        outcome = self._catalogue.corrections.apply(
            header,
            header_of(dict(stored.attributes), stored.transfer_syntax_uid),
            changed=found.changed,
            replaces_sha256=stored_sha256,
            content_sha256=sha256,
            size_bytes=size_bytes,
            source=source,
            site=None if is_own_header(header) else site or source,
            reopens=found.reencodes and header.rows_px is not None and not is_own_header(header),
            aside=self._settings.corrected_headers == "aside" and not mended,
        )
        log.info("corrected", extra={"sop_uid": header.sop_uid, "outcome": outcome, "changed": ",".join(found.changed)})
        return outcome

    def _is_intact(self, sha256: str) -> bool:
        """Whether the stored file is what was stored; its head may be damaged where its data set is not."""
        try:
            self._blobs.intact(sha256)
        except BlobDamaged:
            return False
        return True

    def refuse(
        self, error: RadirError, *, source: str, sop_uid: str | None, header: InstanceHeader | None = None
    ) -> StoreOutcome:
        """Record the refusal and give its outcome; the outcome holds even if it cannot be recorded."""
        status = _status(error)
        metrics.INSTANCES_REFUSED.labels(error.reason_code).inc()
        try:
            self._catalogue.refusals.add(
                sop_uid=sop_uid, reason=str(error), reason_code=error.reason_code, dimse_status=status, source=source
            )
        except RadirError as missed:  # for example when we refuse because the catalogue is away
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
