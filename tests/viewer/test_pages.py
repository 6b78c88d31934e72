"""The plain pages in a browser: narrow, in each language, for assistive technology."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from radir_pacs.cli.viewer import install
from radir_pacs.web import language
from tests.services import need
from tests.viewer.conftest import HOSTILE_DESCRIPTION, Archive, picture_of, serious_issues

PATHS = {
    "start": "/",
    "found": "/?find=nobody",
    "study": "/studies/{query}",
    "similar": "/similar?study={query}&anatomy=left_lower_lobe",
    "nearest": "/similar?study={query}&anatomy=right_lower_lobe&finding=nodule",
    "misspelt": "/similar?study={query}&anatomy=left lowr lobe",
    "missing": "/studies/9.9",
    "developers": "/developers",
}
# Words that stand in the English pages and in no German one.
ENGLISH = re.compile(
    r"\b(the|and|with|study|studies|find|cases|both|reports|region|answered|newest|state|ready|more|search|ask|age)\b"
)


@pytest.fixture
def german(browser: Browser) -> Iterator[Page]:
    context: BrowserContext = browser.new_context(viewport={"width": 360, "height": 780}, locale="de-DE")
    yield context.new_page()
    context.close()


def visit(page: Page, archive: Archive, name: str) -> None:
    page.goto(archive.web.root + PATHS[name].format(query=archive.query))
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("name", PATHS)
def test_it_fits_a_narrow_screen_and_axe_finds_nothing_serious(page: Page, archive: Archive, name: str) -> None:
    page.set_viewport_size({"width": 360, "height": 780})
    visit(page, archive, name)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert serious_issues(page) == []
    picture_of(page, f"page-{name}")


@pytest.mark.parametrize("name", PATHS)
def test_it_is_german_in_a_german_browser(german: Page, archive: Archive, name: str) -> None:
    visit(german, archive, name)
    expect(german.locator("html")).to_have_attribute("lang", "de")
    assert german.evaluate("document.documentElement.scrollWidth") <= 360
    text = german.locator("body").inner_text()
    outside = german.locator("[lang=en], a[title], code").all_inner_texts()  # in English, or from outside
    for own in sorted(outside, key=len, reverse=True):
        text = text.replace(own, "")
    assert not ENGLISH.search(text), ENGLISH.findall(text)
    assert "Entscheidungshilfe, keine Diagnose" in text
    german.get_by_role("link", name="English").click()
    expect(german.locator("html")).to_have_attribute("lang", "en")
    german.goto(archive.web.root + "/")
    expect(german.locator("html")).to_have_attribute("lang", "en")  # a choice is kept


def test_words_are_typed_in_german_and_offered(german: Page, archive: Archive) -> None:
    visit(german, archive, "similar")
    field = german.get_by_label("oder in eigenen Worten")
    offered = german.locator("datalist option").evaluate_all("options => options.map((option) => option.value)")
    assert {"linker Unterlappen", "Konsolidierung", "Pleuraerguss"} <= set(offered)
    assert field.evaluate("field => field.list.id") == "words"
    field.fill("Konsolidierung im linken Unterlappen")
    german.get_by_role("button", name="Suchen", exact=True).click()
    expect(german.get_by_role("heading", level=1)).to_have_text("Ähnliche Fälle: linker Unterlappen")
    expect(german.locator(".warning").first).to_contain_text("„Konsolidierung“ wurde als Befund gelesen")
    field = german.get_by_label("oder in eigenen Worten")
    field.fill("linker Unterlapen")
    german.get_by_role("button", name="Suchen", exact=True).click()
    expect(german.get_by_role("alert")).to_have_text("Keine Region und kein Befund heißt „linker Unterlapen“.")
    german.get_by_role("link", name="linker Unterlappen").click()
    expect(german.get_by_role("heading", level=1)).to_have_text("Ähnliche Fälle: linker Unterlappen")


def test_the_list_names_patients_and_leads_to_ohif(page: Page, archive: Archive, serve: Callable[..., Archive]) -> None:
    need("npm")
    install(archive.web.settings)
    page.set_viewport_size({"width": 1200, "height": 900})
    visit(page, archive, "start")
    row = page.get_by_role("row", name=re.compile("Phantom, Synthetic 00000")).first
    expect(row).to_be_visible()
    expect(page.locator(".studies")).to_contain_text(HOSTILE_DESCRIPTION.replace("\u202e", ""))
    link = page.locator(f".studies a[href$='/ohif/viewer?StudyInstanceUIDs={archive.query}']")
    expect(link).to_have_text("OHIF")
    expect(page.get_by_text("/dicom-web")).to_have_count(0)
    discreet = serve(sidebar_shows=())
    visit(page, discreet, "start")
    expect(page.locator(".studies")).not_to_contain_text("Phantom")


def test_where_nothing_answers_a_page_offers_the_nearest(page: Page, archive: Archive) -> None:
    visit(page, archive, "nearest")
    expect(page.get_by_text("No case matches.")).to_be_visible()
    page.get_by_role("link", name="left lower lobe, with nodule").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cases like this one: left lower lobe")
    expect(page.locator(".cases figure")).not_to_have_count(1)


def test_every_language_is_offered_by_its_own_name(page: Page, archive: Archive) -> None:
    visit(page, archive, "similar")
    for tag, name in language.LANGUAGES.items():
        if tag != "en":
            page.get_by_role("link", name=name, exact=True).click()
            expect(page.locator("html")).to_have_attribute("lang", tag)
            assert "anatomy=left_lower_lobe" in page.url, "the question stays"
