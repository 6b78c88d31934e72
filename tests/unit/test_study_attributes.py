"""A study's attributes are described once; this test names every place that must know one and does not."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from pydicom.datadict import dictionary_VR, keyword_for_tag

from radir_pacs.catalogue.index_rows import CASE_FIELDS
from radir_pacs.catalogue.queries import QUERIES
from radir_pacs.study_attributes import STUDY_ATTRIBUTES, StudyAttribute
from radir_pacs.types import CatalogueStudy, InstanceHeader

KEPT = [attribute for attribute in STUDY_ATTRIBUTES if not attribute.counted and attribute.name != "study_uid"]
FROM_SERIES = {"modalities": "modality"}  # gathered from the series, under another name


@pytest.mark.parametrize("attribute", STUDY_ATTRIBUTES, ids=lambda attribute: attribute.keyword)
def test_an_answer_can_show_it(attribute: StudyAttribute) -> None:
    assert attribute.name in CatalogueStudy.__dataclass_fields__
    tag = int(attribute.tag, 16)
    assert attribute.tag == f"{tag:08X}"
    assert (attribute.keyword, attribute.vr) == (keyword_for_tag(tag), dictionary_VR(tag))


@pytest.mark.parametrize("attribute", KEPT, ids=lambda attribute: attribute.keyword)
def test_every_place_that_keeps_it_knows_it(attribute: StudyAttribute) -> None:
    name = FROM_SERIES.get(attribute.name, attribute.name)
    assert name in InstanceHeader.__dataclass_fields__, "the header does not read it"
    assert f"r.{name}" in QUERIES["receive"].decode(), "receive does not store it"
    assert f".{name}" in QUERIES["headers_of"].decode(), "headers_of does not give it back"
    table = files("radir_pacs.catalogue").joinpath("schema.sql").read_text("utf-8").partition("CREATE TABLE study (")[2]
    assert f" {attribute.name} " in table.partition(");")[0], "the table study has no column for it"


@pytest.mark.parametrize("attribute", KEPT, ids=lambda attribute: attribute.keyword)
def test_it_is_searched(attribute: StudyAttribute) -> None:
    folded = {name: f"{name}_folded" for name in ("patient_name", "referring_physician")}
    schema = files("radir_pacs.catalogue").joinpath("schema.sql").read_text("utf-8")
    table, trigger = (
        schema.partition(start)[2].partition(end)[0]
        for start, end in (("CREATE TABLE study_search (", ");"), ("FUNCTION study_is_searched()", "END $$;"))
    )
    kept = folded.get(attribute.name, attribute.name)
    name = "newest_first" if kept == "study_date" else kept
    assert f" {name} " in table, "the table study_search has no column for it"
    assert f"{name} = excluded.{name}" in trigger, "study_is_searched does not keep it"
    watched = schema.partition("TRIGGER study_search_on_update")[2].partition("EXECUTE")[0]
    assert f"OLD.{kept}" in watched and f"NEW.{kept}" in watched, "the trigger on update does not watch it"


# Columns of a case in memory (`CASE_FIELDS`) that have another name in the table study, or none there.
STUDY_COLUMN = {"day": "study_date", "age": "patient_age_years", "sex": "patient_sex"}
NOT_OF_STUDY = {"id", "scanner"}  # of the encoding, whose own changes are read


@pytest.mark.parametrize(
    "column",
    sorted({one.name for one in KEPT} | {STUDY_COLUMN.get(name, name) for name in CASE_FIELDS.keys() - NOT_OF_STUDY}),
)
def test_the_feed_tells_of_its_changes(column: str) -> None:
    """Masks of filters are kept in memory until the feed tells of a change."""
    schema = files("radir_pacs.catalogue").joinpath("schema.sql").read_text("utf-8")
    trigger = schema.partition("TRIGGER study_changed_on_update")[2].partition("EXECUTE")[0]
    for row in ("OLD", "NEW"):
        assert re.search(rf"\b{row}\.{column}\b", trigger), "study_changed_on_update does not watch it"


def test_the_texts_behind_the_hashes_of_a_case_can_be_read() -> None:
    statement = QUERIES["case_words"].decode()
    for name, kind in CASE_FIELDS.items():
        if kind == "i8" and name != "id":
            assert f"('{name}'," in statement, "case_words does not give its text"
