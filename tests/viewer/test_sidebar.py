"""The panel as a radiologist uses it, on its page of its own."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from radir_pacs import anatomy
from radir_pacs.config import to_environment
from radir_pacs.reports.markup import plain_text
from radir_pacs.types import ImageKind
from radir_pacs.web.sidebar import routes as sidebar
from tests.services import ROOT
from tests.viewer.conftest import FOCUSED, HOSTILE_NAME, HOSTILE_REPORT, Archive, picture_of, serious_issues

UNSIDED = {
    "right_middle_lobe",
    "left_anterior_descending_artery",
}  # there is no other, and German does not say the side
PANEL_MS = 150  # from the server's last byte to the last case on the screen


def cases(page: Page):  # type: ignore[no-untyped-def]
    return page.locator("li.case")


def open_sidebar(page: Page, url: str) -> None:
    page.goto(url)
    expect(cases(page).first).to_be_visible()
    expect(page.get_by_role("list", name="Similar cases")).to_have_attribute("aria-busy", "false")


def ask(page: Page, text: str) -> None:
    """Type and press Enter; the new answer is there afterwards."""
    box = page.get_by_role("combobox", name="Region or finding")
    box.fill(text)
    with page.expect_response(re.compile(r"/api/studies/[^/]+/similar")):
        box.press("Enter")
    expect(page.get_by_role("list", name="Similar cases")).to_have_attribute("aria-busy", "false")


def chosen(page: Page):  # type: ignore[no-untyped-def]
    return page.locator(".chosen .strong")


def test_cases_are_listed_as_the_server_ranks_them(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar(anatomy="LLL"))
    head, *lines = archive.answer(archive.query, anatomy="left_lower_lobe")
    found = [line for line in lines if line["type"] == "case"]
    assert 5 <= len(found) == cases(page).count()
    assert page.locator(".score").all_inner_texts() == [f"{case['score']:.3f}" for case in found]
    expect(chosen(page)).to_have_text("left lower lobe")
    expect(page.locator(".count")).to_have_text(f"{len(found)} of {head['candidates']} cases, most alike first")
    first = cases(page).first
    expect(first.locator("svg.outline polygon")).to_have_count(2)
    assert first.locator("img").evaluate("img => img.decode().then(() => img.naturalWidth)") > 50
    assert page.evaluate("document.querySelector('radir-similar-cases').shadowRoot.querySelectorAll('.badge').length")


def test_no_identifier_of_another_patient_leaves_the_server(archive: Archive) -> None:
    text = str(archive.answer(archive.query, anatomy="chest", limit="50"))
    assert "PHANTOM-" not in text and "Phantom" not in text
    assert not re.search(r"'date|birth|accession|patient_(id|name)", text)


def test_a_region_is_found_by_its_synonym(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar())
    box = page.get_by_role("combobox")
    box.fill("pulmonary hil")
    offers = page.get_by_role("option")
    expect(offers.first).to_contain_text("hila")
    box.press("ArrowDown")
    expect(offers.first).to_have_attribute("aria-selected", "true")
    box.press("Enter")
    expect(chosen(page)).to_have_text("hila")


def test_a_typed_finding_conditions_the_answer(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar())
    ask(page, "consolidation left lower lobe")
    expect(chosen(page)).to_have_text("left lower lobe")
    expect(page.get_by_role("button", name="with consolidation")).to_be_visible()
    expect(page.locator(".count")).to_contain_text("with this finding")
    shown = cases(page).count()
    assert 0 < shown < len(archive.of_kind("CXR")) - 1
    assert cases(page).filter(has_text=re.compile("consolidation", re.IGNORECASE)).count() == shown
    page.get_by_role("button", name="with consolidation").click()
    expect(page.locator(".count")).to_contain_text("most alike first")


def test_words_that_name_nothing_offer_the_nearest(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar())
    page.get_by_role("combobox").fill("left lowr lobe")
    page.get_by_role("combobox").press("Enter")
    expect(page.get_by_text("No region is called “left lowr lobe”.")).to_be_visible()
    page.get_by_role("button", name="left lower lobe", exact=True).click()
    expect(chosen(page)).to_have_text("left lower lobe")
    expect(cases(page).first).to_be_visible()


def test_a_click_on_the_chest_picks_the_region_there(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar())
    page.get_by_role("button", name="Picture").click()
    chest = page.get_by_role("img", name="Chest, seen from the front")
    box = chest.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.78 * box["width"], box["y"] + 0.60 * box["height"])
    expect(chosen(page)).to_have_text("left lower lobe")
    first = chosen(page).inner_text()
    page.mouse.click(box["x"] + 0.78 * box["width"], box["y"] + 0.60 * box["height"])
    expect(chosen(page)).not_to_have_text(first)


def test_the_hierarchy_lists_every_region(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar())
    page.get_by_text("All regions").click()
    tree = page.locator(".tree")
    expect(tree.get_by_role("button", name="lungs", exact=True)).to_be_visible()
    assert tree.locator("button").count() > 60
    nested = tree.locator("li", has=page.get_by_role("button", name="lungs", exact=True)).last
    nested.get_by_role("button", name="right lower lobe", exact=True).click()
    expect(chosen(page)).to_have_text("right lower lobe")


def test_a_click_on_the_chest_picks_ct_regions_for_a_ct(page: Page, archive: Archive) -> None:
    """The model for CT knows organs below the lungs: the frontal view has them at their height."""
    study = archive.of_kind("CT")[0]
    page.goto(archive.sidebar(study))
    expect(page.locator(".notice, li.case").first).to_be_visible()
    page.get_by_role("button", name="Picture").click()
    section = page.get_by_role("img", name="Chest, seen from the front")
    box = section.bounding_box()
    assert box is not None
    known = {region.key: region for region in anatomy.trained(ImageKind.CT)}
    places = (("liver", 0.2, 0.9), ("stomach", 0.72, 0.9), ("trachea", 0.475, 0.2), ("heart", 0.66, 0.7), ("breasts",))
    x, y = 0.0, 0.0
    for key, *place in places:  # the last one by a second click at the same place
        x, y = place or (x, y)
        with page.expect_response(re.compile(f"/similar.*anatomy={key}")):
            page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        expect(chosen(page)).to_have_text(known[key].name)
    picture_of(page, "sidebar-ct-picture")
    assert page.locator("svg.chest polygon").count() <= len(known) + 1


@pytest.mark.parametrize(("value", "shown"), [("F", "female"), ("M", "male")])
def test_the_sex_filter_acts_inside_the_search(page: Page, archive: Archive, value: str, shown: str) -> None:
    open_sidebar(page, archive.sidebar())
    page.get_by_text("Filters").click()
    with page.expect_response(re.compile(f"PatientSex={value}")):
        page.get_by_label("Sex").select_option(value)
    expect(page.locator(".filterbox .badge")).to_have_text("1 on")
    expect(page.get_by_role("list", name="Similar cases")).to_have_attribute("aria-busy", "false")
    assert all(text.startswith(shown) for text in page.locator(".who").all_inner_texts())


def test_every_filter_reaches_the_server(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar())
    page.get_by_text("Filters").click()

    def age_from() -> None:
        page.get_by_label("Age from").fill("20")
        page.keyboard.press("Tab")

    wanted: dict[str, Callable[[], object]] = {
        "ModalitiesInStudy=DX": lambda: page.get_by_label("Modality").select_option("DX"),
        "PatientAge=020Y-": age_from,
        "StudyDate=20000101-": lambda: page.get_by_label("From", exact=True).fill("2000-01-01"),
        "samescanner=true": lambda: page.get_by_label("Same type of scanner").check(),
        "withreport=true": lambda: page.get_by_label("Only with a report").check(),
        "samepatient=true": lambda: page.get_by_label("Leave out this patient").uncheck(),
    }
    for query, act in wanted.items():
        with page.expect_response(re.compile(re.escape(query))) as answer:
            act()
        assert answer.value.status == 200
    expect(page.locator(".filterbox .badge")).to_have_text("6 on")
    page.get_by_role("button", name="Reset").click()
    expect(page.locator(".filterbox .badge")).to_be_hidden()


def test_the_same_scanner_is_one_of_the_same_model(archive: Archive) -> None:
    every = {line["study"] for line in archive.answer(archive.query, limit="50") if line["type"] == "case"}
    same = {
        line["study"]
        for line in archive.answer(archive.query, limit="50", samescanner="true")
        if line["type"] == "case"
    }
    numbers = {uid: number for number, uid in enumerate(archive.truth)}
    assert same == {uid for uid in every if numbers[uid] % 2 == numbers[archive.query] % 2} != every


def test_findings_are_marked_in_the_report(page: Page, archive: Archive) -> None:
    _, *lines = archive.answer(archive.query, limit="50")
    excerpts = [line for line in lines if line["type"] == "excerpt" and line["marks"]]
    assert {mark["mark"] for line in excerpts for mark in line["marks"]} == {"shared", "contradicting"}
    open_sidebar(page, archive.sidebar())
    shown = excerpts[0]
    card = page.locator(f'li.case[data-rank="{shown["rank"]}"]')
    words = [shown["text"][mark["start"] : mark["end"]] for mark in shown["marks"]]
    expect(card.locator("mark")).to_have_text(words)
    expect(card.locator("blockquote")).to_have_text(shown["text"])


def test_a_case_without_a_report_says_so(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar())
    lines = archive.answer(archive.query)
    bare = [line["rank"] for line in lines if line["type"] == "excerpt" and line["text"] is None]
    assert bare
    expect(page.locator(f'li.case[data-rank="{bare[0]}"]')).to_contain_text("No report")


def test_hostile_texts_stand_there_as_texts(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar(archive.hostile))
    expect(page.locator(".patient bdi")).to_have_text(HOSTILE_NAME.replace("\u202e", ""))  # the intake drops such marks
    open_sidebar(page, archive.sidebar(anatomy="LLL"))
    lines = archive.answer(archive.query, anatomy="left_lower_lobe")
    (rank,) = [line["rank"] for line in lines if line["type"] == "case" and line["study"] == archive.hostile]
    said = page.locator(f'li.case[data-rank="{rank}"] blockquote').text_content() or ""
    assert said and said in plain_text(HOSTILE_REPORT)
    assert page.locator("li.case img:not([src*='/dicom-web/'])").count() == 0


def test_a_case_opens_beside_the_current_study(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar(anatomy="LLL"))
    page.set_viewport_size({"width": 1200, "height": 800})
    cases(page).nth(1).get_by_role("button", name="Open beside", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name=re.compile(r"^OTHER PATIENT: SC-"))).to_be_visible()
    expect(dialog.get_by_role("heading", name="CURRENT STUDY")).to_be_visible()
    other = dialog.locator(".side.other")
    assert other.evaluate("side => getComputedStyle(side).borderTopColor") == "rgb(255, 90, 31)"
    for image in dialog.locator("img").all():
        assert image.evaluate("img => img.decode().then(() => img.naturalWidth)") > 100
    picture_of(page, "sidebar-beside")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_the_reference_names_nobody(page: Page, context: BrowserContext, archive: Archive) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_sidebar(page, archive.sidebar(anatomy="LLL"))
    cases(page).first.get_by_role("button", name="Copy an anonymous reference").click()
    expect(cases(page).first.locator(".said")).to_contain_text("Copied: SC-")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(r"SC-[0-9A-F]{5}-[0-9A-F]{5} · left lower lobe · \d\.\d{3} · cxr-viewer-test", copied)


def test_thumbs_are_kept_and_exported(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar(anatomy="LLL"))
    first, second = cases(page).nth(0), cases(page).nth(1)
    first.get_by_role("button", name="Not helpful").click()
    first.get_by_label("Why?").fill('=the "other" lobe, <b>')
    first.get_by_role("button", name="Keep").click()
    expect(first.locator(".said")).to_have_text("Thank you, kept.")
    second.get_by_role("button", name="Helpful", exact=True).click()
    expect(second.locator(".said")).to_have_text("Thank you, kept.")
    second.get_by_role("button", name="Helpful", exact=True).click()
    expect(second.locator(".said")).to_have_text("Withdrawn.")
    exported = subprocess.run(
        [sys.executable, "-m", "radir_pacs.cli", "feedback", "--csv"],
        env={"PATH": "/usr/bin:/bin"} | to_environment(archive.web.settings),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    (row,) = (row for row in csv.DictReader(io.StringIO(exported)) if row["verdict"] == "DOWN")
    case = archive.answer(archive.query, anatomy="left_lower_lobe")[1]
    assert (row["verdict"], row["reason"]) == ("DOWN", '=the "other" lobe, <b>')
    assert (row["query_study_uid"], row["case_study_uid"]) == (archive.query, case["study"])
    assert (row["region"], row["model_id"], row["rank"]) == ("left_lower_lobe", "cxr-viewer-test", "1")
    page.reload()
    expect(cases(page).first.get_by_role("button", name="Not helpful")).to_have_attribute("aria-pressed", "true")


def test_everything_by_keyboard(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar())
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "Region or finding"
    page.keyboard.type("RLL")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(chosen(page)).to_have_text("right lower lobe")
    expect(page.get_by_role("list", name="Similar cases")).to_have_attribute("aria-busy", "false")
    for _ in range(12):
        page.keyboard.press("Tab")
        if str(page.evaluate(FOCUSED)).startswith("Case 1"):
            break
    assert str(page.evaluate(FOCUSED)).startswith("Case 1, similarity 0.")
    page.keyboard.press("ArrowDown")
    assert str(page.evaluate(FOCUSED)).startswith("Case 2")
    page.keyboard.press("End")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate(FOCUSED) == "Helpful":
            break
    page.keyboard.press("Enter")
    expect(cases(page).first.get_by_role("button", name="Helpful", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    page.keyboard.press("Enter")
    expect(cases(page).first.locator(".said")).to_have_text("Withdrawn.")


def test_cases_stand_there_before_their_reports_have_been_read(
    page: Page, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is shown as it comes: here the server takes its time over the first excerpt."""
    release, real = threading.Event(), sidebar.excerpt_row

    def slow(*asked: Any) -> dict[str, Any] | None:
        assert release.wait(60)
        return real(*asked)

    monkeypatch.setattr(sidebar, "excerpt_row", slow)
    try:
        page.goto(archive.sidebar(anatomy="LLL"))
        expect(page.locator(".count")).to_contain_text("most alike first")
        total = int(page.locator(".count").inner_text().split()[0])
        expect(cases(page)).to_have_count(total)
        expect(page.get_by_role("list", name="Similar cases")).to_have_attribute("aria-busy", "true")
        assert page.locator("blockquote").count() == 0
        picture_of(page, "sidebar-streaming")
    finally:
        release.set()
    expect(page.get_by_role("list", name="Similar cases")).to_have_attribute("aria-busy", "false")
    expect(page.locator("blockquote").first).to_be_visible()


def test_the_panel_keeps_pace_with_the_server(page: Page, archive: Archive) -> None:
    """The list is complete within 150 ms of the server's last byte."""
    page.add_init_script(
        "document.addEventListener('radir-answered', () => { window.answeredAt = performance.now(); }, true);"
    )
    open_sidebar(page, archive.sidebar())
    page.evaluate(
        "document.querySelector('radir-similar-cases').addEventListener('radir-answered',"
        " () => { window.answeredAt = performance.now(); })"
    )
    took = []
    for text in ("LLL", "RLL", "heart", "lungs", "RUL"):
        ask(page, text)
        took.append(
            page.evaluate(
                "window.answeredAt - performance.getEntriesByType('resource')"
                ".filter((entry) => entry.name.includes('/similar?')).at(-1).responseEnd"
            )
        )
    assert sorted(took)[len(took) // 2] < PANEL_MS, took


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
    assert not re.search(r"\{\w+\}", page.locator(".panel").text_content() or ""), "a place that was not filled in"


def test_the_catalogues_of_strings_say_the_same_things() -> None:
    keys = {}
    for language in ("en", "de"):
        pairs = strings_of(f"{language}.js")
        keys[language] = {key: frozenset(re.findall(r"\{\w+\}", words)) for key, words in pairs.items()}
    assert len(keys["en"]) > 100
    assert keys["de"] == keys["en"]


def test_every_region_has_a_german_name_of_its_own() -> None:
    names = strings_of("regions-de.js")
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


@pytest.mark.parametrize(("width", "height"), [(320, 900), (420, 900), (900, 900), (1600, 1000)])
def test_it_fits_from_narrow_to_wide(page: Page, archive: Archive, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    open_sidebar(page, archive.sidebar(anatomy="LLL"))
    page.get_by_role("button", name="Picture").click()
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    picture_of(page, f"sidebar-{width}")
    cases(page).nth(1).scroll_into_view_if_needed()
    picture_of(page, f"sidebar-{width}-cases")


def test_axe_finds_nothing_serious(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar(anatomy="LLL"))
    for state in ("list", "open", "beside"):
        if state == "open":
            page.get_by_role("button", name="Picture").click()
            page.get_by_text("All regions").click()
            page.get_by_text("Filters").click()
            page.get_by_text("What the score means").click()
        if state == "beside":
            cases(page).first.get_by_role("button", name="Open beside", exact=True).click()
        assert serious_issues(page) == [], state
