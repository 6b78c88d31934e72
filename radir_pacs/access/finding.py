"""Studies by what a person types: a UID, an accession number, a patient ID, a date, the reference of a similar case."""

from __future__ import annotations

import contextlib
import re

from radir_pacs.access.references import reference_in, resolve
from radir_pacs.callers import Caller
from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue.qido import QidoLevel, QidoQuery
from radir_pacs.config import Settings
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.reasons import ReasonCode
from radir_pacs.similar_cases import Match
from radir_pacs.types import CatalogueStudy

FIND_CHARACTERS = 200
_DATE = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})")
_STUDY_DATE, _ACCESSION_NUMBER, _PATIENT_ID = "00080020", "00080050", "00100020"


def found(
    text: str, catalogue: Catalogue, settings: Settings, *, by: Caller, most: int, by_reference: bool = True
) -> tuple[CatalogueStudy, ...]:
    """The newest studies that match and that ``by`` may see, at most ``most``; the newest of all for an empty text.

    by_reference: whether a reference may be looked up, which is recorded; else it finds nothing. That studies were
    listed is for whoever shows them to record. Raises BadInput for what can be none of these.
    """
    text = text.strip()
    if len(text) > FIND_CHARACTERS or not text.isprintable():
        raise BadInput("this is no accession number, patient ID, date or reference")
    if reference_in(text):
        uids = resolve(text, catalogue, settings, by=by) if by_reference else ()
        return tuple(catalogue.studies.get(uid) for uid in uids)
    if "." in text and is_valid_uid(text):
        with contextlib.suppress(NotFound):
            study = catalogue.studies.get(text)
            if by.scope.admits(study):
                return (study,)
        # An accession number may look like one; and a study out of scope takes the time of one that is nowhere.
    date = _DATE.fullmatch(text)
    keys: list[tuple[Match, ...]]
    if not text:
        keys = [()]
    elif date:
        keys = [(Match(path=(_STUDY_DATE,), vr="DA", values=("".join(date.groups()),)),)]
    else:
        keys = [(Match(path=(tag,), vr="LO", values=(text,)),) for tag in (_ACCESSION_NUMBER, _PATIENT_ID)]
    queries = [QidoQuery(level=QidoLevel.STUDY, limit=most, matches=key, scope=by.scope) for key in keys]
    pages = [catalogue.qido.search(query) for query in queries]
    return tuple({row.study.study_uid: row.study for page in pages for row in page.rows}.values())[:most]


def code_of(text: str) -> ReasonCode:
    """A reason code as a person types it. Raises BadInput."""
    if text.upper() not in ReasonCode.__members__:
        raise BadInput(f"{text!r} is not a reason code; radir problems lists those that occur")
    return ReasonCode(text.upper())
