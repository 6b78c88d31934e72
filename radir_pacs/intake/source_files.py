"""Images whose files are not kept here, from the source PACS, to be shown: one at a time, by WADO-RS (PS3.18 10.4).

Whoever asks has checked that the caller may see the study. What comes is shown only where it is the very instance that
was asked for. A PACS that does not answer is left alone for a while, so that no reader waits for it picture by picture.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from radir_pacs.catalogue import Catalogue, StoredInstance
from radir_pacs.config import Settings
from radir_pacs.dicom.header import read_header
from radir_pacs.errors import DicomRefused, NotFound, PeerFailed, PictureAway, StorageFailed
from radir_pacs.multipart import BrokenMultipart, TooManyParts
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.fetched import Fetched
from radir_pacs.types import InstanceHeader

from .bounded_answer import SILENT, AnswerBounds
from .sources import Pacs, Sources
from .wado_rs import instances_at

_MOST_AT_ONCE = 8
_QUEUE_S = 2.0  # of a thread that waits for its turn: a slow PACS must not hold up what needs no PACS
LEFT_ALONE_S = 30.0
_LEAST_BYTES_S = 16 * 1024
_LOOK_BYTES = 8 << 20  # after so many, whether there is still room


class SourceFiles:
    def __init__(
        self,
        catalogue: Catalogue,
        sources: Sources,
        fetched: Fetched,
        settings: Settings,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalogue, self._sources, self._fetched, self._clock_s = catalogue, sources, fetched, clock_s
        most_bytes = min(settings.max_instance_mib, settings.source_cache_mib) << 20
        self._most_bytes = most_bytes
        self._bounds = AnswerBounds(
            most_bytes=most_bytes + (1 << 20),  # what surrounds the instance in the answer
            least_bytes_s=_LEAST_BYTES_S,
            deadline_s=settings.source_timeout_s,
            first_byte_s=settings.source_timeout_s,
        )
        self._lines = threading.BoundedSemaphore(min(max(settings.web_threads // 2, 1), _MOST_AT_ONCE))
        self._lock = threading.Lock()
        self._failed_s: dict[str, float] = {}  # when a PACS did not answer, by its URL

    def file_of(self, instance: StoredInstance) -> Path | None:
        """A Part-10 file with the instance, for `give_back`; None where no source PACS is named for its study.

        Raises PictureAway where the PACS does not give it, NotFound where it is deleted meanwhile, StorageFailed.
        """
        if not self._sources:
            return None
        kept = self._fetched.get(instance.content_sha256)
        if kept is not None and (lent := self._fetched.lend(kept)) is not None:
            return lent
        sites, patient_keys = self._catalogue.disk.whose(instance.study_uid)
        pacs = self._sources.of(sites)
        if pacs is None:
            return None
        if self._is_left_alone(pacs):
            raise PictureAway(instance.content_sha256, reason_code=ReasonCode.PEER_UNREACHABLE)
        if not self._lines.acquire(timeout=_QUEUE_S):
            raise PictureAway(instance.content_sha256, reason_code=ReasonCode.PEER_TOO_SLOW)
        try:
            return self._fetch(instance, pacs, patient_keys)
        finally:
            self._lines.release()

    def _fetch(self, instance: StoredInstance, pacs: Pacs, patient_keys: frozenset[str]) -> Path:
        path = f"studies/{instance.study_uid}/series/{instance.series_uid}/instances/{instance.sop_uid}"
        if not self._fetched.has_room():
            raise PictureAway(instance.content_sha256, reason_code=ReasonCode.OUT_OF_RESOURCES)
        with self._fetched.coming() as coming:
            try:
                with contextlib.closing(instances_at(pacs, path, self._bounds, most=1)) as bodies:
                    self._write(next(iter(bodies), ()), coming)
                    if next(iter(bodies), None) is not None:
                        raise PeerFailed("the PACS sends more than one", reason_code=ReasonCode.PEER_BAD_ANSWER)
                header = read_header(coming)
            except (NotFound, DicomRefused, BrokenMultipart, TooManyParts):
                raise PictureAway(instance.content_sha256, reason_code=ReasonCode.PEER_BAD_ANSWER) from None
            except PeerFailed as failed:
                if failed.reason_code in SILENT:
                    self._leave_alone(pacs)
                raise PictureAway(instance.content_sha256, reason_code=failed.reason_code) from None
            if not _is_it(header, instance, patient_keys):
                raise PictureAway(instance.content_sha256, reason_code=ReasonCode.PEER_BAD_ANSWER)
            kept = self._fetched.keep(coming, instance.content_sha256)
        self._require_there(instance)
        if (lent := self._fetched.lend(kept)) is None:  # others came, and it made room for them
            raise PictureAway(instance.content_sha256, reason_code=ReasonCode.OUT_OF_RESOURCES)
        return lent

    def give_back(self, path: Path) -> None:
        """A file of `file_of` has been read."""
        self._fetched.give_back(path)

    def _write(self, body: Iterable[bytes], path: Path) -> None:
        size, looked_at = 0, 0
        try:
            with path.open("xb") as file:
                path.chmod(0o600)
                for chunk in body:
                    size += len(chunk)
                    if size > self._most_bytes:
                        raise PeerFailed("the PACS sends too much", reason_code=ReasonCode.PEER_TOO_LARGE)
                    file.write(chunk)
                    if size - looked_at >= _LOOK_BYTES:
                        looked_at = size
                        if not self._fetched.has_room():
                            raise PeerFailed("there is no room for it", reason_code=ReasonCode.OUT_OF_RESOURCES)
        except OSError as error:
            raise StorageFailed(f"the disk refused the file: {error.strerror}") from error

    def _require_there(self, instance: StoredInstance) -> None:
        """What was erased meanwhile must not stay: the erasure may have looked before the file was there."""
        try:
            self._catalogue.instances.get(instance.sop_uid)
        except NotFound:
            self._fetched.drop([instance.content_sha256])
            raise

    def _is_left_alone(self, pacs: Pacs) -> bool:
        with self._lock:
            return self._clock_s() - self._failed_s.get(pacs.url, float("-inf")) < LEFT_ALONE_S

    def _leave_alone(self, pacs: Pacs) -> None:
        with self._lock:
            self._failed_s[pacs.url] = self._clock_s()


def _is_it(header: InstanceHeader, instance: StoredInstance, patient_keys: frozenset[str]) -> bool:
    """Whether what came is the instance that was asked for, of the patient whose it is."""
    asked = (instance.study_uid, instance.series_uid, instance.sop_uid, instance.sop_class_uid)
    came = (header.study_uid, header.series_uid, header.sop_uid, header.sop_class_uid)
    shape = (header.rows_px, header.columns_px, header.frames)
    return (
        came == asked
        and shape == (instance.rows_px, instance.columns_px, instance.frames)
        and _is_same_patient(frozenset(header.patient_keys), patient_keys)
    )


def _is_same_patient(came: frozenset[str], known: frozenset[str]) -> bool:
    """By issuer and id; by the id alone where one of them names no issuer."""
    if came & known or not (came or known):
        return True
    pairs = [(one.rpartition("\\"), other.rpartition("\\")) for one in came for other in known]
    return any(a[2] and a[2] == b[2] and not (a[0] and b[0]) for a, b in pairs)
