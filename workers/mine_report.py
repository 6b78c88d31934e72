"""Report job: a report that arrived, as a structured report or as text, becomes findings."""

from __future__ import annotations

from radir_pacs.catalogue import Catalogue, report_id_of
from radir_pacs.dicom.loop_guard import is_own_object
from radir_pacs.errors import NotFound
from radir_pacs.reports import PARSER, Finding, MinedReport, findings_to_json, mine
from radir_pacs.reports.kind import kind_of
from radir_pacs.reports.language import READ
from radir_pacs.reports.lexicon import load
from radir_pacs.reports.newest import only_adds, superseded
from radir_pacs.reports.sr_text import sr_text, standing
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
                report = self._catalogue.reports.get(report_id)
                self._mine_text(job, report_id, report.study_uid, report.body)
        except NotFound:
            self._catalogue.jobs.finish(job, "the report is gone")

    def _mine_sr(self, job: Job) -> None:
        """Text and findings of a structured report. Raises NotFound, LeaseLost."""
        instance = self._catalogue.instances.get(job.key)
        if is_own_object(instance.attributes):
            self._catalogue.jobs.finish(job, "our own report")
            return
        body = sr_text(instance.attributes)
        if not body:
            self._catalogue.jobs.finish(job, "no text in it")
            return
        place = standing(instance.attributes)
        report_id = self._catalogue.reports.add(
            instance.study_uid,
            body=body,
            source="sr",
            sop_uid=instance.sop_uid,
            predecessors=place.predecessors,
            draft=place.draft,
        )
        self._mine_text(job, report_id, instance.study_uid, body)

    def _mine_text(self, job: Job, report_id: int, study_uid: str, body: str) -> None:
        """Findings of a text in the catalogue, after those of the study's other reports that it changes.

        Each is read from its own text again, so that the order in which reports come, and a job that is run twice,
        change nothing. Raises NotFound, LeaseLost.
        """
        kind = kind_of(self._catalogue.studies.get(study_uid).modalities)
        current = self._catalogue.reports.of_study(study_uid)
        read = {report.id: mine(report.body, kind) for report in current}
        settled = _settled(read)
        for report in current:
            findings = findings_to_json(settled[report.id])
            if report.id != report_id and (report.findings is not None and report.findings != findings):
                self._catalogue.reports.save_findings(
                    report.id, findings, PARSER, unread_language=_unread(read[report.id])
                )
        mined = read.get(report_id) or mine(body, kind)  # one that is replaced already
        unread = _unread(mined)
        self._catalogue.reports.save_findings(
            report_id,
            findings_to_json(settled.get(report_id, mined.findings)),
            PARSER,
            job,
            unread_language=unread,
            note=f"not read: its language is {unread!r}" if unread else None,
        )


def _settled(reports: dict[int, MinedReport]) -> dict[int, tuple[Finding, ...]]:
    """Findings by report, oldest first; what an addendum contradicts in the others is history."""
    addenda = [number for number, report in reports.items() if only_adds(report.text)]
    found = {number: report.findings for number, report in reports.items()}
    for addendum in addenda:
        for number in found:
            if number not in addenda or number < addendum:
                found[number] = superseded(found[number], reports[addendum].findings, load())
    return found


def _unread(report: MinedReport) -> str | None:
    return None if report.language == READ else report.language
