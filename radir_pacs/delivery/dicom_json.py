"""A similar-case answer as QIDO-RS study rows in the DICOM JSON model (PS3.18 annex F).

Values without a standard attribute go into a private block with its creator (PS3.5 7.8.1), never into a public tag.
"""

from __future__ import annotations

from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from radir_pacs.similar_cases import FindingNote, SimilarCase, SimilarCaseList
from radir_pacs.study_attributes import STUDY_ATTRIBUTES
from radir_pacs.types import CatalogueStudy, Code, Region, date_value

Attributes = dict[str, Any]

PRIVATE_GROUP = "0099"
PRIVATE_CREATOR = "RADIR SIMILAR CASES 1"
PRIVATE_TAGS = {
    "score": "00991001",  # FD: cosine of the two region vectors, -1 to 1
    "rank": "00991002",  # UL: from 1
    "region_answered": "00991003",  # SQ: code of the region that answered, laterality as modifier
    "region_answered_key": "00991004",  # LO
    "region_answered_name": "00991005",  # LO
    "region_asked_key": "00991006",  # LO: differs when a parent answered
    "model_id": "00991007",  # LO
    "generation": "00991008",  # LO: empty when the partition is all tail
    "as_of": "00991009",  # DT
    "search": "0099100A",  # CS: EXACT or APPROXIMATE
    "series_uid": "0099100B",  # UI: representative series
    "sop_uid": "0099100C",  # UI: representative instance
    "shared": "0099100D",  # UC: findings that both reports state, "concept|region|polarity|severity" each
    "contradicting": "0099100E",  # UC: findings that the reports state differently
    "regions": "0099100F",  # SQ: an item per region, where there are several: score, the region's keys, weight
    "weight": "00991010",  # FD: how much the region counts
}
_CREATOR_TAG = PRIVATE_GROUP + "0010"
_MODIFIERS_TAG = "00082220"  # Anatomic Region Modifier Sequence
_MAX_LO_CHARS = 64


def element(vr: str, *values: Any) -> Attributes:
    """An attribute. Values that are None or empty are left out; without any value there is no ``Value``."""
    kept = [value for value in values if value is not None and value != ""]
    return {"vr": vr, "Value": kept} if kept else {"vr": vr}


_UTF_8, _ONLINE = element("CS", "ISO_IR 192"), element("CS", "ONLINE")
_TAGS = tuple((attribute.tag, attribute.vr) for attribute in STUDY_ATTRIBUTES)
_values_of = attrgetter(*(attribute.name for attribute in STUDY_ATTRIBUTES))


def similar_cases_rows(answer: SimilarCaseList, base_url: str = "") -> list[Attributes]:
    """One study row per case, in order of rank, keys ascending. ``base_url``: DICOMweb service, for Retrieve URLs."""
    ordered = sorted(answer.cases, key=lambda case: case.rank)
    same = _of_answer(answer)
    rows = (_of_study_at(case.study, base_url) | same | _of_case(answer, case) for case in ordered)
    return [dict(sorted(row.items())) for row in rows]  # items of sequences are in order already


def study_row(study: CatalogueStudy, base_url: str = "") -> Attributes:
    """The attributes that a study-level answer always has (PS3.18 table 10.6.3-3), keys ascending."""
    return _ascending(_of_study_at(study, base_url))


def _of_study_at(study: CatalogueStudy, base_url: str) -> Attributes:
    row = {"00080005": _UTF_8, "00080056": _ONLINE}
    for (tag, vr), value in zip(_TAGS, _values_of(study), strict=True):
        if value is None or value == "":
            row[tag] = {"vr": vr}
        elif type(value) is str and vr != "PN" and "\\" not in value:  # most: a call less for each
            row[tag] = {"vr": vr, "Value": [value]}
        else:
            row[tag] = _of_study(vr, value)
    if base_url:
        row["00081190"] = element("UR", f"{base_url.rstrip('/')}/studies/{study.study_uid}")
    return row


def _of_study(vr: str, value: Any) -> Attributes:
    """An attribute with a value."""
    if vr == "PN":
        return _person_name(value)
    if vr == "DA":
        value = date_value(value)
    if isinstance(value, str) and "\\" in value:
        value = tuple(value.split("\\"))
    return element(vr, *value) if isinstance(value, tuple) else {"vr": vr, "Value": [value]}


def _of_answer(answer: SimilarCaseList) -> Attributes:
    """What stands in the private block of every row: which model answers for which region, as of when (promise P5)."""
    tags = PRIVATE_TAGS
    return {
        _CREATOR_TAG: element("LO", PRIVATE_CREATOR),
        tags["region_answered"]: {"vr": "SQ", "Value": [_coded_region(answer.region_answered)]},
        tags["region_answered_key"]: element("LO", answer.region_answered.key[:_MAX_LO_CHARS]),
        tags["region_answered_name"]: element("LO", answer.region_answered.name[:_MAX_LO_CHARS]),
        tags["region_asked_key"]: element("LO", answer.region_asked.key[:_MAX_LO_CHARS]),
        tags["model_id"]: element("LO", answer.model_id[:_MAX_LO_CHARS]),
        tags["generation"]: element("LO", (answer.generation or "")[:_MAX_LO_CHARS]),
        tags["as_of"]: element("DT", _dt(answer.as_of)),
        tags["search"]: element("CS", "EXACT" if answer.exact else "APPROXIMATE"),
    }


def _of_case(answer: SimilarCaseList, case: SimilarCase) -> Attributes:
    """The rest of the private block: how similar the case is, and in what."""
    tags = PRIVATE_TAGS
    return {
        tags["score"]: {"vr": "FD", "Value": [float(case.score)]},
        tags["rank"]: {"vr": "UL", "Value": [case.rank]},
        tags["series_uid"]: element("UI", case.series_uid),
        tags["sop_uid"]: element("UI", case.sop_uid),
        tags["shared"]: element("UC", *map(_finding, case.shared)),
        tags["contradicting"]: element("UC", *map(_finding, case.contradicting)),
        **_by_region(answer, case),
    }


def _by_region(answer: SimilarCaseList, case: SimilarCase) -> Attributes:
    """What each region gave, where several were asked for."""
    if len(answer.regions) < 2:
        return {}
    items = [
        {
            _CREATOR_TAG: element("LO", PRIVATE_CREATOR),  # keys ascend
            PRIVATE_TAGS["score"]: element("FD", score),
            PRIVATE_TAGS["region_answered_key"]: element("LO", region.answered.key[:_MAX_LO_CHARS]),
            PRIVATE_TAGS["region_asked_key"]: element("LO", region.asked.key[:_MAX_LO_CHARS]),
            PRIVATE_TAGS["weight"]: element("FD", region.weight),
        }
        for region, score in zip(answer.regions, case.by_region, strict=True)
    ]
    return {PRIVATE_TAGS["regions"]: {"vr": "SQ", "Value": items}}


def _ascending(attributes: Attributes) -> Attributes:
    """Keys in ascending order, also in sequence items; pydicom's empty Value of an empty sequence is dropped."""
    ordered = {}
    for tag in sorted(attributes):
        found = attributes[tag]
        if found["vr"] == "SQ":
            found = element("SQ", *(_ascending(item) for item in found.get("Value", ())))
        ordered[tag] = found
    return ordered


def _person_name(text: str | None) -> Attributes:
    """A PN object from component groups joined by "=" (PS3.18 F.2.2)."""
    if text and "=" not in text:
        return {"vr": "PN", "Value": [{"Alphabetic": text}]}
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), (text or "").split("="), strict=False)
    return element("PN", {name: group for name, group in groups if group} or None)


def _coded_region(region: Region) -> Attributes:
    """An item of a coded sequence, keys ascending."""
    coded = _coded(region.code)
    if region.laterality is not None:
        coded[_MODIFIERS_TAG] = {"vr": "SQ", "Value": [_coded(region.laterality)]}
    return coded


def _coded(code: Code) -> Attributes:
    return {
        "00080100": element("SH", code.value),
        "00080102": element("SH", code.scheme),
        "00080104": element("LO", code.meaning),
    }


def _finding(note: FindingNote) -> str:
    return "|".join((note.concept.replace("_", " "), note.region, note.polarity, note.severity or "")).replace(
        "\\", "/"
    )


def _dt(moment: datetime) -> str:
    """A DT value, with its offset when the time zone is known (PS3.5 6.2)."""
    if moment.tzinfo is None:
        return moment.strftime("%Y%m%d%H%M%S.%f")
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f+0000")
