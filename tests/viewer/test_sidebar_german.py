"""The panel in German, and the words that it has for everything."""

from __future__ import annotations

import re

from playwright.sync_api import BrowserContext, Page, expect

from radir_pacs import anatomy
from radir_pacs.web import language
from tests.services import ROOT
from tests.viewer.conftest import Archive
from tests.viewer.test_sidebar import cases, chosen

UNSIDED = {
    "right_middle_lobe",
    "left_anterior_descending_artery",
}  # there is no other, and German does not say the side


def test_german(page: Page, archive: Archive, context: BrowserContext) -> None:
    page.goto(archive.sidebar(anatomy="LLL"))
    expect(cases(page).first).to_be_visible()
    page.evaluate("document.querySelector('radir-similar-cases').setAttribute('lang', 'de')")
    expect(page.get_by_role("heading", name="Ähnliche Fälle")).to_be_visible()
    expect(chosen(page)).to_have_text("linker Unterlappen")
    expect(cases(page).first.get_by_role("button", name="Daneben öffnen", exact=True)).to_be_visible()
    page.get_by_role("combobox").fill("Rechter Oberlappen")  # a name typed out, no offer chosen
    page.get_by_role("combobox").press("Enter")
    expect(chosen(page)).to_have_text("rechter Oberlappen")
    page.get_by_role("combobox").fill("Konsolidierung im linken Unterlappen")
    page.get_by_role("combobox").press("Enter")
    expect(chosen(page)).to_have_text("linker Unterlappen")
    expect(page.get_by_role("button", name="mit Konsolidierung")).to_be_visible()
    expect(cases(page).first.locator(".notes, blockquote").first).to_be_visible()
    page.get_by_role("combobox").fill("erguss")
    expect(page.get_by_role("listbox").get_by_role("option").first).to_contain_text("Pleuraerguss")
    page.get_by_role("combobox").press("Escape")
    page.get_by_text("Filter", exact=True).click()
    page.get_by_label("Geschlecht").select_option("F")
    expect(page.locator(".messages")).to_contain_text(
        re.compile("ein Fall vorhanden|Fälle vorhanden|Kein passender Fall")
    )
    assert not re.search(r"\{\w+\}", page.locator(".panel").text_content() or ""), "a place that was not filled in"


def test_the_catalogues_of_strings_say_the_same_things() -> None:
    keys = {}
    for tag in ("en", "de"):
        pairs = strings_of(f"{tag}.js")
        keys[tag] = {key: frozenset(re.findall(r"\{\w+\}", words)) for key, words in pairs.items()}
    assert len(keys["en"]) > 100
    assert keys["de"] == keys["en"]


def test_every_region_has_a_german_name_of_its_own() -> None:
    names = {key: name for key, (name, *_) in language.language("de").catalogue["regions"].items()}
    assert list(names) == [region.key for region in anatomy.regions()]
    assert len(set(names.values())) == len(names) > 150
    sides = {"left": re.compile(r"\blinke"), "right": re.compile(r"\brechte")}
    for key, name in names.items():
        for side, word in sides.items():
            if side in key.split("_") and key not in UNSIDED:
                assert word.search(name), f"{key} is called {name}"


def strings_of(name: str) -> dict[str, str]:
    """A catalogue of strings, by key."""
    text = (ROOT / "viewer" / "component" / "strings" / name).read_text()
    return dict(re.findall(r"^  (\w+):\s+'((?:[^'\\]|\\.)*)',$", text, re.MULTILINE))
