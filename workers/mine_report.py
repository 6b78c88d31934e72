"""Report job: a report that arrived, as a structured report, a document or text, becomes findings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from radir_pacs.catalogue import Catalogue, MinedRow, StoredInstance, report_id_of
from radir_pacs.dicom.bulk_data import Span, find_bulk_data
from radir_pacs.dicom.json_model import text
from radir_pacs.dicom.loop_guard import is_own_object
from radir_pacs.documents import MOST_BYTES, media_type, text_of
from radir_pacs.errors import NotFound, TooLarge
from radir_pacs.reports import PARSER, findings_from_json, findings_to_json, mine
from radir_pacs.reports.kind import kind_of
from radir_pacs.reports.language import READ
from radir_pacs.reports.lexicon import load
from radir_pacs.reports.markup import plain_text
from radir_pacs.reports.newest import only_adds, superseded
from radir_pacs.reports.sr_text import sr_text, standing
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Job

log = logging.getLogger(__name__)

_DOCUMENT = "00420011"  # Encapsulated Document


class MineReport:
    """The use case of JobKind.REPORT; the key is the SOP Instance UID of an SR or document, or names a text."""

    def __init__(self, catalogue: Catalogue, blobs: BlobStore | None = None) -> None:
        """``blobs``: where encapsulated documents are read from; without it they have no text."""
        self._catalogue, self._blobs = catalogue, blobs

    def __call__(self, job: Job) -> None:
        """Ends the job with findings kept; reports that are gone, our own or without text end it with a note."""
        report_id = report_id_of(job.key)
        try:
            if report_id is None:
                self._mine_sr(job)
            else:
                report = self._catalogue.reports.get(report_id)
                self._mine_text(job, report_id, report.study_uid, report.body)
        except NotFound:
            self._catalogue.jobs.finish(job, "the report is gone")

    def _mine_sr(self, job: Job) -> None:
        """Text and findings of a structured report or encapsulated document. Raises NotFound, LeaseLost, BadInput."""
        instance = self._catalogue.instances.get(job.key)
        if is_own_object(instance.attributes):
            self._catalogue.jobs.finish(job, "our own report")
            return
        body = self._document_text(instance) if _DOCUMENT in instance.attributes else sr_text(instance.attributes)
        if not body:
            self._catalogue.jobs.finish(job, "no text in it")
            return
        place = standing(instance.attributes)
        report_id = self._catalogue.reports.add(
            instance.study_uid,
            body=body,
            source="document" if _DOCUMENT in instance.attributes else "sr",
            sop_uid=instance.sop_uid,
            predecessors=place.predecessors,
            draft=place.draft,
        )
        self._mine_text(job, report_id, instance.study_uid, body)

    def _document_text(self, instance: StoredInstance) -> str:
        """The text of an encapsulated PDF or CDA (PS3.3 A.45). Raises BadInput, BlobDamaged, StorageFailed."""
        if self._blobs is None:
            return ""
        path = self._blobs.path(instance.content_sha256)
        found = find_bulk_data(path, _DOCUMENT)
        if isinstance(found, Span):
            if found.length > MOST_BYTES:
                raise TooLarge("the document is larger than a report can be")
            with path.open("rb") as file:
                file.seek(found.offset)
                found = file.read(found.length)
        said = text(instance.attributes, "MIMETypeOfEncapsulatedDocument")
        body = plain_text(text_of(found, media_type(said, "", found))).strip()
        title = text(instance.attributes, "DocumentTitle")
        return f"ADDENDUM:\n{body}" if body and "addendum" in title.lower() and not only_adds(body) else body

    def _mine_text(self, job: Job, report_id: int, study_uid: str, body: str) -> None:
        """Findings of a text in the catalogue, and what then holds of the study's reports beside one another.

        Raises NotFound, LeaseLost.
        """
        log.info("report is mined", extra={"job": job.id, "study_uid": study_uid})
        mined = mine(body, kind_of(self._catalogue.studies.get(study_uid).modalities))
        unread = None if mined.language in READ else mined.language
        self._catalogue.reports.save_findings(
            report_id,
            findings_to_json(mined.findings),
            PARSER,
            job,
            adds=only_adds(mined.text),
            settle=settled,
            unread_language=unread,
            note=f"not read: its language is {unread!r}" if unread else None,
        )


def settled(reports: Sequence[MinedRow]) -> dict[int, Any]:
    """Findings that hold, as JSON, by report; ``reports`` oldest first. What an addendum contradicts is history."""
    found = {report.id: report.mined for report in reports}
    addenda = [report for report in reports if report.adds]
    for addendum in addenda:
        later = findings_from_json(addendum.mined)
        for report in reports:
            if not report.adds or report.id < addendum.id:
                earlier = findings_from_json(found[report.id])
                found[report.id] = findings_to_json(superseded(earlier, later, load()))
    return found
