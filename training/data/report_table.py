"""A table of reports beside DICOM files, as written by ``radir phantom`` or exported by a PACS."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from radir_pacs.errors import BadInput
from radir_pacs.pictures.image_table import open_table
from radir_pacs.reports.tables import BadRow, read_reports

_STUDY = ("studyuid", "studyinstanceuid")
_ACCESSION = ("accession", "accessionnumber", "accessionno")
_TEXTS = (("report",), ("reporttext",), ("text",), ("findings", "impression"), ("findings",), ("impression",))


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """Texts by Study Instance UID and by accession number."""

    by_study: dict[str, str] = field(default_factory=dict)
    by_accession: dict[str, str] = field(default_factory=dict)


def read_report_table(folder: Path, left_out: Counter[str]) -> ReportTable:
    """``reports.csv``, else the first table in ``folder`` that has a study or an accession number and a text; an empty
    one where there is none. Rows that cannot be read are counted in ``left_out``."""
    found = ReportTable()
    tables = [path for path in folder.iterdir() if path.suffix.lower() == ".csv"]
    for path in sorted(tables, key=lambda path: (path.name.lower() != "reports.csv", path.name)):
        try:
            header, _ = open_table(path)
        except BadInput:
            continue
        columns = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(header)}
        texts = next((names for names in _TEXTS if all(name in columns for name in names)), None)
        study = next((columns[name] for name in _STUDY if name in columns), None)
        accession = next((columns[name] for name in _ACCESSION if name in columns), None)
        key = study or accession
        if texts is None or key is None:
            left_out["a table without a column of studies or accessions and one of reports"] += 1
            continue
        into = found.by_study if study else found.by_accession
        for row in read_reports(path, key, [columns[name] for name in texts]):
            if isinstance(row, BadRow):
                left_out[f"a row of the reports: {row.reason}"] += 1
            elif row.text.strip():
                into[row.id.strip()] = row.text
        break
    return found
