"""Report job: a report that arrived, as a structured report or as text, becomes findings."""

from __future__ import annotations

from radir_pacs.catalogue import Catalogue, report_id_of
from radir_pacs.dicom.loop_guard import is_own_object
from radir_pacs.errors import NotFound
from radir_pacs.reports import PARSER, findings_to_json, mine
from radir_pacs.reports.kind import kind_of
from radir_pacs.reports.sr_text import sr_text
from radir_pacs.types import Job


class MineReport:
    """The use case of JobKind.REPORT; the key is the SOP Instance UID of an SR, or names a text in the catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def __call__(self, job: Job) -> None:
        """Ends the job with findings kept; reports that are gone, our own or without text end it with a note."""
        report_id = report_id_of(job.key)
        try:
            if report_id is None:
                self._mine_sr(job)
            else:
                self._mine_text(job, report_id)
        except NotFound:
            self._catalogue.jobs.finish(job, "the report is gone")

    def _mine_sr(self, job: Job) -> None:
        """Text and findings of a structured report. Raises NotFound, LeaseLost."""
        instance = self._catalogue.instances.get(job.key)
        modalities = self._catalogue.studies.get(instance.study_uid).modalities
        if is_own_object(instance.attributes):
            self._catalogue.jobs.finish(job, "our own report")
            return
        body = sr_text(instance.attributes)
        if not body:
            self._catalogue.jobs.finish(job, "no text in it")
            return
        self._catalogue.reports.add(
            instance.study_uid,
            body=body,
            source="sr",
            sop_uid=instance.sop_uid,
            findings=findings_to_json(mine(body, kind_of(modalities)).findings),
            parser=PARSER,
            job=job,
        )

    def _mine_text(self, job: Job, report_id: int) -> None:
        """Findings of a text that stands in the catalogue. Raises NotFound, LeaseLost."""
        report = self._catalogue.reports.get(report_id)
        modalities = self._catalogue.studies.get(report.study_uid).modalities
        findings = mine(report.body, kind_of(modalities)).findings
        self._catalogue.reports.save_findings(report_id, findings_to_json(findings), PARSER, job)
