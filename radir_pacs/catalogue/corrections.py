"""An instance that comes again with another header: which one counts, and the record that remains.

The later header replaces the earlier one or is kept aside, as the caller says. In the study and the series it changes
the attributes in which it differs from the earlier header; an attribute that it leaves empty erases nothing. The newest
correction speaks for the whole study, even while the other instances are not corrected yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.instances import REPORT_SOP_CLASSES, Overtaken, folded_names, values_of
from radir_pacs.catalogue.jobs import enqueue
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import Correction, Stored
from radir_pacs.reasons import MENDED_BY_SENDING
from radir_pacs.types import InstanceHeader, JobKind

_SERIES = ("modality", "series_number", "series_description", "body_part")
_STUDY = (
    *("patient_key", "patient_id", "patient_name", "patient_sex", "patient_birth_date", "patient_age_years"),
    *("study_date", "study_time", "accession_number", "study_description", "referring_physician", "study_id"),
    *("body_part", "modality"),
)


class Corrections(CataloguePart):
    def apply(
        self,
        header: InstanceHeader,
        before: InstanceHeader,
        *,
        changed: Sequence[str],
        replaces_sha256: str,
        content_sha256: str,
        size_bytes: int,
        source: str,
        site: str | None = None,
        reopens: bool,
        aside: bool = False,
    ) -> Stored:
        """Let ``header`` and its file take the place of ``before``, or keep the file ``aside``.

        replaces_sha256: the file with which the new one was compared. site: the label of the sender's site, which is
        added to those of the study. reopens: the study is encoded again. A file that was replaced or kept aside never
        counts again. Raises Overtaken when another file counts by now.
        """
        values = values_of(header, content_sha256, size_bytes, source)
        trace = {"aside": aside, "changed": list(changed), "source": source, "sop_uid": header.sop_uid}
        with self._database.transaction() as connection:
            run(connection, "lock_study", values)
            row = run(connection, "lock_instance", values).fetchone()
            if row is not None and row["content_sha256"] == content_sha256:
                return Stored.SAME
            if row is None or row["content_sha256"] != replaces_sha256:
                raise Overtaken
            other = content_sha256 if aside else replaces_sha256
            run(connection, "add_correction", trace, other_sha256=other)
            if aside:
                return Stored.ASIDE
            run(connection, "correct_instance", values)
            run(connection, "correct_series", _said_anew(header, before, _SERIES), series_uid=header.series_uid)
            of_study = _said_anew(header, before, _STUDY)
            of_study |= folded_names(of_study)
            of_study["site"] = site
            run(connection, "correct_study", of_study, study_uid=header.study_uid, reopens=reopens)
            run(connection, "received_again", values, reason_codes=sorted(MENDED_BY_SENDING))
            if header.sop_class_uid in REPORT_SOP_CLASSES:
                run(connection, "drop_report_of", sop_uid=header.sop_uid)
                run(connection, "note_report", study_uid=header.study_uid)
                enqueue(connection, JobKind.REPORT, header.sop_uid, self._settings.job_max_attempts)
        return Stored.CORRECTED

    def recent(self, limit: int = 100) -> tuple[Correction, ...]:
        """The newest corrections first."""
        with self._database.transaction() as connection:
            rows = run(connection, "corrections", limit=limit).fetchall()
        return tuple(Correction(**(row | {"changed": tuple(row["changed"])})) for row in rows)


def _said_anew(header: InstanceHeader, before: InstanceHeader, names: Sequence[str]) -> dict[str, Any]:
    """The named attributes as ``header`` has them; None where it agrees with ``before`` or says nothing."""
    pairs = {name: (getattr(header, name), getattr(before, name)) for name in names}
    return {name: None if now == then or now == "" else now for name, (now, then) in pairs.items()}
