"""Report job: a structured report that came as DICOM becomes text and findings of its study."""

from __future__ import annotations

from radir_pacs.catalogue import Catalogue
from radir_pacs.dicom.loop_guard import is_own_object
from radir_pacs.errors import NotFound
from radir_pacs.reports import PARSER, findings_to_json, mine
from radir_pacs.reports.sr_text import sr_text
from radir_pacs.types import ImageKind, Job


class ReadReport:
    """The use case of JobKind.REPORT; the key is the SOP Instance UID of the report."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def __call__(self, job: Job) -> None:
        """Ends the job with the report kept, or with a note why it is none: gone, our own, without text."""
        try:
            instance = self._catalogue.instance(job.key)
            study = self._catalogue.study(instance.study_uid)
        except NotFound:
            self._catalogue.finish(job, "the report is gone")
            return
        text = "" if is_own_object(instance.attributes) else sr_text(instance.attributes)
        if not text:
            self._catalogue.finish(job, "our own object, or no text in it")
            return
        kinds = {
            ImageKind.CT if modality == "CT" else ImageKind.CXR for modality in study.modalities if modality != "SR"
        }
        mined = mine(text, kinds.pop() if len(kinds) == 1 else None)
        self._catalogue.add_report(
            study.study_uid,
            body=text,
            source="sr",
            sop_uid=instance.sop_uid,
            findings=findings_to_json(mined.findings),
            parser=PARSER,
            job=job,
        )
