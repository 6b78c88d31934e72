"""Report job: a structured report that arrived becomes text, and the text becomes findings."""

from __future__ import annotations

from radir_pacs.catalogue import Catalogue
from radir_pacs.dicom.loop_guard import is_own_object
from radir_pacs.errors import NotFound
from radir_pacs.reports import PARSER, findings_to_json, mine
from radir_pacs.reports.sr_text import sr_text
from radir_pacs.types import ImageKind, Job

_KINDS = {"CT": ImageKind.CT, "CR": ImageKind.CXR, "DX": ImageKind.CXR}


class MineReport:
    """The use case of JobKind.REPORT; the key is the SOP Instance UID of the report."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def __call__(self, job: Job) -> None:
        """Ends the job with text and findings kept; our own reports and those without text end it with a note."""
        try:
            instance = self._catalogue.instance(job.key)
            modalities = self._catalogue.study(instance.study_uid).modalities
        except NotFound:
            self._catalogue.finish(job, "the report is gone")
            return
        if is_own_object(instance.attributes):
            self._catalogue.finish(job, "our own report")
            return
        body = sr_text(instance.attributes)
        if not body:
            self._catalogue.finish(job, "no text in it")
            return
        kinds = {_KINDS[modality] for modality in modalities if modality in _KINDS}
        findings = mine(body, kinds.pop() if len(kinds) == 1 else None).findings
        self._catalogue.add_report(
            instance.study_uid,
            body=body,
            source="sr",
            sop_uid=instance.sop_uid,
            findings=findings_to_json(findings),
            parser=PARSER,
            job=job,
        )
