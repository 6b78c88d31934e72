"""What is asked in the panel: regions, findings and filters."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from radir_pacs import anatomy
from radir_pacs.types import ImageKind
from tests.viewer.conftest import Archive, picture_of, serious_issues
from tests.viewer.test_sidebar import ask, cases, chosen, open_sidebar


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
    expect(page.locator(".count")).to_contain_text("most similar first")


def test_findings_are_offered_and_kept_where_the_reader_looks(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar(anatomy="LLL"))
    box = page.get_by_role("combobox")
    box.fill("consol")
    offer = page.get_by_role("listbox").get_by_role("option").first
    expect(offer).to_contain_text("consolidation")
    expect(offer).to_contain_text("finding")
    box.press("ArrowDown")
    expect(offer).to_have_attribute("aria-selected", "true")
    assert box.get_attribute("aria-activedescendant") == offer.get_attribute("id")
    assert serious_issues(page) == []
    box.press("Enter")
    expect(chosen(page)).to_have_text("left lower lobe")
    expect(page.get_by_role("button", name="with consolidation")).to_be_visible()
    box.fill("effusion")  # no lobe of the lung has one
    box.press("ArrowDown")
    box.press("Enter")
    expect(chosen(page)).to_have_text("pleura")


@pytest.mark.parametrize("typed", ["consol left low", "LLL consolidation", "left lower consol"])
def test_a_finding_and_its_region_are_offered_together(page: Page, archive: Archive, typed: str) -> None:
    open_sidebar(page, archive.sidebar())
    page.get_by_role("combobox").fill(typed)
    page.get_by_role("listbox").get_by_role("option", name="consolidation · left lower lobe").click()
    expect(chosen(page)).to_have_text("left lower lobe")
    expect(page.get_by_role("button", name="with consolidation")).to_be_visible()


def test_where_no_report_affirms_a_finding_the_nearest_are_offered(page: Page, archive: Archive) -> None:
    archive_of_one = next(uid for uid, study in archive.truth.items() if said_of(study, "nodule", "left_lower_lobe"))
    assert archive_of_one != archive.query
    open_sidebar(page, archive.sidebar(anatomy="right_lower_lobe"))
    ask(page, "right lower lobe nodule")
    expect(page.locator(".messages")).to_contain_text("No matching case has a report that affirms this finding here.")
    offers = archive.answer(archive.query, anatomy="right_lower_lobe", finding="nodule")[0]["offers"]
    assert {offer["region"]["key"] for offer in offers} >= {"left_lower_lobe", "right_lower_lobe"}
    for offer in offers:
        asked = {"anatomy": offer["region"]["key"], "limit": "50"}
        if offer["finding"]:
            asked["finding"] = offer["finding"]["key"]
        assert len(archive.answer(archive.query, **asked)) > 2, offer
    picture_of(page, "sidebar-nearest")
    page.get_by_role("button", name="nodule · left lower lobe").click()
    expect(chosen(page)).to_have_text("left lower lobe")
    expect(cases(page).first).to_be_visible()


def said_of(study: dict[str, Any], concept: str, region: str) -> bool:
    return any((row["concept"], row["region"]) == (concept, region) for row in study["findings"])


def test_where_filters_leave_no_case_they_can_be_taken_away(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar())
    page.get_by_text("Filters").click()
    page.get_by_label("Sex").select_option("O")
    expect(cases(page)).to_have_count(0)
    page.get_by_role("button", name="without filters").click()
    expect(cases(page).first).to_be_visible()
    expect(page.get_by_label("Sex")).to_have_value("")


def test_words_that_name_nothing_offer_the_nearest(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar())
    page.get_by_role("combobox").fill("left lowr lobe")
    page.get_by_role("combobox").press("Enter")
    expect(page.get_by_text("No region or finding is called “left lowr lobe”.")).to_be_visible()
    page.get_by_role("button", name="left lower lobe", exact=True).click()
    expect(chosen(page)).to_have_text("left lower lobe")
    expect(cases(page).first).to_be_visible()


def test_a_click_on_the_chest_picks_the_region_there(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar())
    page.get_by_role("button", name="Picture").click()
    chest = page.get_by_role("img", name="Chest, seen from the front")
    chest.scroll_into_view_if_needed()
    box = chest.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.78 * box["width"], box["y"] + 0.60 * box["height"])
    expect(chosen(page)).to_have_text("left lower lobe")
    first = chosen(page).inner_text()
    page.mouse.click(box["x"] + 0.78 * box["width"], box["y"] + 0.60 * box["height"])
    expect(chosen(page)).not_to_have_text(first)


@pytest.mark.parametrize("at", [(0.78, 0.6), (0.2, 0.3), (0.5, 0.7), (0.5, 0.2), (0.25, 0.75), (0.8, 0.35)])
@pytest.mark.parametrize("before", ["chest", "left_lower_lobe"])
def test_the_first_click_chooses_what_was_named_under_the_pointer(
    page: Page, archive: Archive, at: tuple[float, float], before: str
) -> None:
    open_sidebar(page, archive.sidebar(anatomy=before))
    page.get_by_role("button", name="Picture").click()
    chest = page.get_by_role("img", name="Chest, seen from the front")
    chest.scroll_into_view_if_needed()
    box = chest.bounding_box()
    assert box is not None
    x, y = box["x"] + at[0] * box["width"], box["y"] + at[1] * box["height"]
    page.mouse.move(x, y)
    named = page.locator(".picture figcaption").inner_text()
    page.mouse.click(x, y)
    expect(chosen(page)).to_have_text(named)
    page.mouse.click(x + 1, y + 1)  # a hand is not steady
    expect(chosen(page)).not_to_have_text(named)
    expect(page.locator(".picture figcaption")).to_have_text(chosen(page).inner_text())


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
    section.scroll_into_view_if_needed()
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
