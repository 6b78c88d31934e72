"""Pull job: a PACS handed over a reference, and the study's instances are fetched from it by WADO-RS (PS3.18 10.4).

The answer goes to disk as it comes, one instance at a time, within bounds of bytes, rate and time: whatever the PACS
does, a pull takes a fixed memory and ends (P6).
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from email.message import Message

from radir_pacs.catalogue import Catalogue
from radir_pacs.dicom.header import read_header
from radir_pacs.errors import DicomRefused, LeaseLost, NotFound, PeerFailed, SettingError, StorageFailed, TooLarge
from radir_pacs.intake.instances import MISMATCH, OUT_OF_RESOURCES, PULLED, Intake
from radir_pacs.multipart import BrokenMultipart, MultipartReader, TooManyParts
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Job

from .bounded_answer import AnswerBounds, BoundedAnswer, bounded_get

DICOM = "application/dicom"
_ACCEPT = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
_CHUNK_BYTES = 256 * 1024
_MOST_INSTANCES = 100_000  # of one study, which no PACS sends in several answers


@dataclass(frozen=True, kw_only=True)
class Pacs:
    """``url`` is its DICOMweb service root, ``authorization`` the header that it wants, if any."""

    url: str
    authorization: str = ""


class PullStudy:
    """The use case of JobKind.PULL; the key is a study UID.

    A job that ended half-way starts again; what is here already is known by its content.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        blobs: BlobStore,
        intake: Intake,
        pacs: Pacs,
        bounds: AnswerBounds,
        *,
        most_instance_bytes: int,
        site: str = PULLED,
    ) -> None:
        """site: the label of studies that come by a pull; one that is here already keeps its sites."""
        self._catalogue, self._blobs, self._intake = catalogue, blobs, intake
        self._pacs, self._bounds, self._most_instance_bytes = pacs, bounds, most_instance_bytes
        self._site = site

    def __call__(self, job: Job) -> None:
        """Ends the job with the study complete, as failed where not every instance could be kept.

        Raises PeerFailed, StorageFailed: worth another attempt.
        """
        if not self._pacs.url:
            raise SettingError("pull_url: not set, studies cannot be pulled")
        kept = refused = 0
        try:
            with contextlib.closing(self._instances(job.key)) as instances:
                for body in instances:
                    if self._keep(body, job):
                        kept += 1
                    else:
                        refused += 1
        except (BrokenMultipart, TooManyParts) as error:
            raise PeerFailed(
                f"the PACS's answer is malformed: {error}", reason_code=ReasonCode.PEER_BAD_ANSWER
            ) from None
        if kept:
            self._catalogue.studies.complete_now(job.key)
        said = f"{kept} instances kept, {refused} refused"
        if refused:  # the same ones would be refused again; radir problems lists them
            self._catalogue.jobs.fail(job, said, retry=False, reason_code=ReasonCode.PEER_INCOMPLETE)
        else:
            self._catalogue.jobs.finish(job, said)

    def _require_held(self, job: Job) -> None:
        """Raise LeaseLost where the job is gone: what was erased meanwhile must not come back."""
        held = self._catalogue.jobs.get(job.id)
        if held is None or held.token != job.token:
            raise LeaseLost(f"job {job.id} is another's by now")

    def _instances(self, study_uid: str) -> Generator[Iterable[bytes], None, None]:
        """The body of each part; it is to be read before the next one is asked for."""
        headers = {"Accept": _ACCEPT, "Accept-Encoding": "identity"}
        if self._pacs.authorization:
            headers["Authorization"] = self._pacs.authorization
        url = f"{self._pacs.url.rstrip('/')}/studies/{study_uid}"
        with bounded_get(url, headers, self._bounds) as answer:
            if answer.status == 404:
                raise NotFound("the PACS has no such study")
            if answer.status == 204:
                return
            if answer.status != 200:
                raise PeerFailed(f"the PACS answers with status {answer.status}", reason_code=ReasonCode.PEER_REFUSED)
            yield from _parts(answer)

    def _keep(self, body: Iterable[bytes], job: Job) -> bool:
        self._intake.check_room()
        with self._blobs.incoming() as incoming:
            for chunk in body:
                incoming.write(chunk)
                if incoming.size_bytes > self._most_instance_bytes:
                    large = TooLarge(f"larger than {self._most_instance_bytes >> 20} MiB")
                    self._intake.refuse(large, source=PULLED, sop_uid=None)
                    return False  # the rest of the part is skipped
            try:
                header = read_header(incoming.path)
                if header.study_uid != job.key:
                    raise DicomRefused("the PACS sent an instance of another study", dimse_status=MISMATCH)
            except DicomRefused as error:
                self._intake.refuse(error, source=PULLED, sop_uid=None)
                return False
            self._require_held(job)
            outcome = self._intake.store(incoming, source=PULLED, site=self._site_of(job.key), own_only=False)
        if outcome.status == OUT_OF_RESOURCES:
            raise StorageFailed(outcome.reason)
        return outcome.ok

    def _site_of(self, study_uid: str) -> str:
        """Where the study is from: a pull brings what its PACS has of it, and adds no sender."""
        with contextlib.suppress(NotFound):
            return next(iter(self._catalogue.studies.get(study_uid).sites), self._site)
        return self._site


def _parts(answer: BoundedAnswer) -> Iterator[Iterable[bytes]]:
    """Of a multipart answer, or the one instance of a plain one. Raises PeerFailed, BrokenMultipart, TooManyParts."""
    said = Message()
    said["Content-Type"] = answer.headers.get("Content-Type", "")
    kind = said.get_content_type()
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise PeerFailed("the PACS compresses its answer unasked", reason_code=ReasonCode.PEER_BAD_ANSWER)
    if kind == DICOM:
        yield _chunks(answer)
    elif kind == "multipart/related":
        for part in MultipartReader(answer, str(said.get_param("boundary", "")), most_parts=_MOST_INSTANCES):
            yield part.body
    else:
        raise PeerFailed("the PACS answers with something else than DICOM", reason_code=ReasonCode.PEER_BAD_ANSWER)


def _chunks(answer: BoundedAnswer) -> Iterator[bytes]:
    while chunk := answer.read(_CHUNK_BYTES):
        yield chunk
