"""The words of pages, notices, regions and findings, language by language."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from flask import Flask

import radir_pacs.web as web_package
from radir_pacs import anatomy
from radir_pacs.errors import UnknownRegion
from radir_pacs.image_notes import ImageNoteCode
from radir_pacs.query.notices import ENGLISH, ENGLISH_OF_IMAGES, worded
from radir_pacs.query.words import measured
from radir_pacs.reports import read_question, read_typed
from radir_pacs.reports.lexicon import load
from radir_pacs.similar_cases import Notice, NoticeCode, WordsOf
from radir_pacs.types import ImageKind
from radir_pacs.web import language

TEMPLATES = Path(web_package.__file__).parent / "templates"
GERMAN = language.language("de")
MEASURED = {"count": 2, "widest_mm": 7.25, "every": 3, "degrees": 17.4, "field_mm": 400.0, "covered_mm": 99.6}
ASKED: dict[str, str | float] = {"words": "outer third of the left lung", "count": 40, "region": "left_lung"}
NOTICES = [
    Notice(code=NoticeCode.TOO_FEW_CASES, values={"asked": "left_lower_lobe", "answered": "left_lung"}),
    Notice(code=NoticeCode.NOT_A_REGION_OF_THE_MODEL, values={"asked": "left_lower_lobe", "answered": "left_lung"}),
    Notice(code=NoticeCode.FEW_CANDIDATES, values={"count": 1, "region": "left_lung"}),
    Notice(code=NoticeCode.PARTLY_ENCODED, values={"model": "m-1", "percent": 97}),
    Notice(code=NoticeCode.INTENDED_USE, values={"model": "m-1", "text": "trying the {software}"}),
    Notice(code=NoticeCode.IMAGE, values={"note": "earlier", "text": "the view is {unknown}"}),
    *(Notice(code=NoticeCode.IMAGE, values={"note": code, **MEASURED, "text": "a text"}) for code in ImageNoteCode),
    Notice(code=NoticeCode.FILTER_IGNORED, values={"keyword": "PatientName"}),
    Notice(code=NoticeCode.FINDING_FILTERS, values={"finding": "pleural_effusion", "region": "left_pleura"}),
    Notice(code=NoticeCode.WORDS_OF_A_REGION, values={**ASKED, **measured(WordsOf.REGION)}),
    Notice(code=NoticeCode.WORDS_OF_A_FINDING, values={**ASKED, **measured(WordsOf.FINDING)}),
    Notice(code=NoticeCode.WITHOUT_TOKENS, values={"count": 2}),
    Notice(code=NoticeCode.FINDING_DENIED, values={"finding": "pleural_effusion", "region": "left_pleura"}),
]


def test_every_notice_has_words_in_every_language() -> None:
    assert {notice.code for notice in NOTICES} == set(NoticeCode) == set(ENGLISH)
    assert set(ENGLISH_OF_IMAGES) == set(GERMAN.catalogue["image_notes"]) == set(ImageNoteCode)
    assert set(GERMAN.catalogue["notices"]) == {str(code) for code in NoticeCode}
    for notice in NOTICES:
        english, german = worded(notice), GERMAN.notice(notice)
        assert english != german, notice
        for sentence in (english, german):
            assert "left_" not in sentence and "pleural_" not in sentence, "a key is no word"
            values = [str(value) for name, value in notice.values.items() if name in ("text", "keyword", "model")]
            assert all(value in sentence for value in values) or len(notice.values) > 5


@pytest.mark.parametrize(("count", "english", "german"), [(1, "1 case", "ein Fall"), (3, "3 cases", "3 Fälle")])
def test_a_number_of_cases_agrees_with_its_noun(count: int, english: str, german: str) -> None:
    notice = Notice(code=NoticeCode.FEW_CANDIDATES, values={"count": count, "region": "left_lung"})
    assert english + " available" in worded(notice) and german in GERMAN.notice(notice)


def test_the_catalogues_say_the_same_things() -> None:
    english = language.language("en").catalogue
    for table, texts in english.items():
        places = {key: set(re.findall(r"\{\w+\}", text)) for key, text in texts.items()}
        assert places == {key: set(re.findall(r"\{\w+\}", text)) for key, text in GERMAN.catalogue[table].items()}, (
            table
        )


def test_no_template_has_words_of_its_own() -> None:
    """What a person reads comes from the catalogues; names of standards and routes are no words of a language."""
    allowed = re.compile("RadIR-PACS|GET|POST|OPTIONS|/[a-z/]+|{study}|anatomy=right[+]lower[+]lobe")
    for template in sorted(TEMPLATES.glob("*.html")):
        text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", template.read_text("utf-8"), flags=re.DOTALL)
        text = re.sub(r"<[^>]*>|&\w+;", " ", text)
        assert not re.search(r"[A-Za-z]{3,}", allowed.sub("", text)), template.name


def test_every_text_of_the_templates_is_in_the_catalogue() -> None:
    keys = set(language.language("en").catalogue["pages"])
    source = "".join(path.read_text("utf-8") for path in TEMPLATES.glob("*.html"))
    asked = set(re.findall(r"""say\(\s*["'](\w+)["']\s*[,)]""", source))
    assert len(asked) > 50 and asked <= keys


@pytest.mark.parametrize("key", [region.key for region in anatomy.regions()])
def test_every_german_name_of_a_region_is_read_as_that_region(key: str) -> None:
    for name in GERMAN.catalogue["regions"][key]:
        read = read_question(language.in_english(name, GERMAN))
        assert (read.region.key, read.concept) == (key, None), name


@pytest.mark.parametrize("key", language.offered_findings())
def test_every_german_name_of_a_finding_is_read_as_that_finding(key: str) -> None:
    for name in GERMAN.catalogue["findings"][key]:
        assert read_typed(language.in_english(name, GERMAN)).concept == key, name


def test_every_finding_has_a_german_name_of_its_own() -> None:
    names = {key: row[0] for key, row in GERMAN.catalogue["findings"].items()}
    assert set(names) == set(load().concepts)
    assert len(set(names.values())) == len(names)


def test_no_two_german_words_of_different_meaning_look_alike() -> None:
    meant = defaultdict(set)
    for table in ("regions", "findings"):
        for key, names in GERMAN.catalogue[table].items():
            for name in names:
                meant[tuple(map(language._stem, language._TOKEN.findall(name)))].add(key)
    assert {words: keys for words, keys in meant.items() if len(keys) > 1} == {}


@pytest.mark.parametrize(
    ("typed", "region", "finding", "present"),
    [
        ("Konsolidierung linker Unterlappen", "left_lower_lobe", "consolidation", True),
        ("KONSOLIDIERUNG LINKER UNTERLAPPEN", "left_lower_lobe", "consolidation", True),
        ("Konsolidation im linken Unterlappen", "left_lower_lobe", "consolidation", True),
        ("Verschattung des rechten Oberfelds", "right_upper_zone", "opacity", True),
        ("Pneumothorax rechts", "right_pleura", "pneumothorax", True),
        ("Erguß links", "left_pleura", "pleural_effusion", True),
        ("rechtsseitiger Pleuraerguss", "right_pleura", "pleural_effusion", True),
        ("kein Pleuraerguss", "pleura", "pleural_effusion", False),
        ("kein Pleuraerguss links", "left_pleura", "pleural_effusion", False),
        ("Rundherd Oberlappen rechts", "right_upper_lobe", "nodule", True),
        ("Infiltrat basal links", "left_lower_zone", "infiltrate", True),
        ("Herzvergrößerung", "heart", "cardiomegaly", True),
        ("LLL consolidation", "left_lower_lobe", "consolidation", True),  # English is understood as well
        ("Trachea", "trachea", None, True),
    ],
)
def test_what_a_german_reader_types(typed: str, region: str, finding: str | None, present: bool) -> None:
    with Flask("test").test_request_context(headers={"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"}):
        read = language.read(typed, ImageKind.CXR)
    assert (read.region.key, read.concept, read.present) == (region, finding, present)


@pytest.mark.parametrize(
    ("tag", "typed", "nearest"),
    [
        ("de", "linker Unterlapen", "linker Unterlappen"),
        ("de", "Pleuraerguz", "Pleuraerguss"),
        ("en", "left lowr lobe", "left lower lobe"),
        ("en", "pneumothrx", "pneumothorax"),
    ],
)
def test_what_is_misspelt_is_told_its_nearest_name(tag: str, typed: str, nearest: str) -> None:
    with Flask("test").test_request_context(f"/?lang={tag}"), pytest.raises(UnknownRegion) as raised:
        language.read(typed)
    assert raised.value.nearest[0] == nearest


@pytest.mark.parametrize(
    ("path", "headers", "tag"),
    [
        ("/", {}, "en"),
        ("/", {"Accept-Language": "de"}, "de"),
        ("/", {"Accept-Language": "fr, de-CH;q=0.8"}, "de"),
        ("/", {"Accept-Language": "en-US,de;q=0.8"}, "en"),
        ("/?lang=de", {"Accept-Language": "en"}, "de"),
        ("/?lang=de-AT", {}, "de"),
        ("/?lang=xx", {"Accept-Language": "de"}, "de"),
        ("/", {"Accept-Language": "en", "Cookie": f"{language.COOKIE}=de"}, "de"),
        ("/?lang=en", {"Cookie": f"{language.COOKIE}=de"}, "en"),
        ("/", {"Accept-Language": ";;q=x,\u00e4"}, "en"),
    ],
)
def test_which_language_is_spoken(path: str, headers: dict[str, str], tag: str) -> None:
    with Flask("test").test_request_context(path, headers=headers):
        assert language.current().tag == tag
