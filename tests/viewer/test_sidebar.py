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
from playwright.sync_api import BrowserContext, Page, Route, expect

from radir_pacs import anatomy
from radir_pacs.config import to_environment
from radir_pacs.reports.markup import plain_text
from radir_pacs.types import ImageKind
from radir_pacs.web.sidebar import routes as sidebar
from radir_pacs.web.sidebar.cases import excerpt_row
from tests.viewer.conftest import FOCUSED, HOSTILE_NAME, HOSTILE_REPORT, Archive, picture_of, serious_issues

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
    expect(page.locator(".count")).to_have_text(f"{len(found)} of {head['candidates']} cases, most similar first")
    first = cases(page).first
    expect(first.locator("svg.outline polygon")).to_have_count(2)
    assert first.locator("img").evaluate("img => img.decode().then(() => img.naturalWidth)") > 50
    assert page.evaluate("document.querySelector('radir-similar-cases').shadowRoot.querySelectorAll('.badge').length")


def test_no_identifier_of_another_patient_leaves_the_server(archive: Archive) -> None:
    text = str(archive.answer(archive.query, anatomy="chest", limit="50"))
    assert "PHANTOM-" not in text and "Phantom" not in text
    assert not re.search(r"'date|birth|accession|patient_(id|name)", text)


def test_the_page_of_its_own_shows_the_study_that_is_read(page: Page, archive: Archive) -> None:
    open_sidebar(page, archive.sidebar(anatomy="LLL"))
    read = page.get_by_role("figure", name="CURRENT STUDY").or_(page.locator("figure.read"))
    image = read.get_by_role("img", name="Picture of the current study")
    assert image.evaluate("img => img.decode().then(() => img.naturalWidth)") > 50
    assert archive.query in str(image.get_attribute("src"))
    before = read.locator("polygon").first.get_attribute("points")
    ask(page, "RUL")
    expect(read.locator("polygon").first).not_to_have_attribute("points", str(before))


def test_whole_reports_are_shown_only_where_that_is_allowed(page: Page, serve: Callable[..., Archive]) -> None:
    page_of = {}
    for rights in ((), ("whole_report",)):
        one = serve(sidebar_shows=("age", "report", *rights))
        page_of[rights] = one
        lines = [line for line in one.answer(one.query, limit="50") if line["type"] == "excerpt" and line["text"]]
        assert lines and all((line["whole"] is not None) == bool(rights) for line in lines)
    shown = next(line for line in lines if line["marks"] and line["whole"]["text"] != line["text"])
    open_sidebar(page, page_of["whole_report",].sidebar())
    card = page.locator(f'li.case[data-rank="{shown["rank"]}"]')
    card.get_by_text("Whole report").click()
    expect(card.locator(".whole blockquote")).to_have_text(shown["whole"]["text"])
    words = [shown["whole"]["text"][mark["start"] : mark["end"]] for mark in shown["whole"]["marks"]]
    expect(card.locator(".whole mark")).to_have_text(words)
    picture_of(page, "sidebar-whole-report")


def test_a_ct_is_compared_on_the_slice_and_in_the_window_of_the_region(page: Page, archive: Archive) -> None:
    study = archive.of_kind("CT")[0]
    seen = {}
    for region, window in (("liver", "40,400"), ("trachea", "-600,1500"), ("spine", "400,1800")):
        head, case, *_ = archive.answer(study, anatomy=region)
        assert case["type"] == "case"
        for shown in (head["query"], case, case["query"]):
            assert f"&window={window},linear" in shown["thumbnail"] and f"&window={window},linear" in shown["picture"]
        assert head["query"]["instance"] == case["query"]["instance"]
        seen[region] = case["instance"], case["query"]["instance"]
    assert not set(seen["liver"]) & set(seen["trachea"])
    page.set_viewport_size({"width": 1200, "height": 800})
    open_sidebar(page, archive.sidebar(study, anatomy="liver"))
    cases(page).first.get_by_role("button", name="Open beside", exact=True).click()
    for side, instance in zip((".other", ".current"), seen["liver"], strict=True):
        here = page.locator(f"dialog .side{side}")
        assert instance in str(here.get_by_role("img").first.get_attribute("src"))
        expect(here.locator("svg.outline")).to_be_visible()
        slider = here.get_by_role("slider", name="Slice")
        start = int(slider.input_value())
        slider.press("ArrowLeft")
        expect(here.locator("output")).to_have_text(f"{start} of 12")
        expect(here.locator("svg.outline")).to_be_hidden()
        assert instance not in str(here.get_by_role("img").first.get_attribute("src"))
        box = here.get_by_role("img").first.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 60, box["y"] + 60)
        page.mouse.wheel(0, 100)
        expect(here.locator("output")).to_have_text(f"{start + 1} of 12")
        expect(here.locator("svg.outline")).to_be_visible()
        assert here.get_by_role("img").first.evaluate("img => img.decode().then(() => img.naturalWidth)") > 100
    assert serious_issues(page) == []
    picture_of(page, "sidebar-beside-ct")


def test_a_picture_shows_the_finding_that_both_reports_have(archive: Archive) -> None:
    """Asked for the whole chest, a case that shares a finding of a lobe is shown at that lobe."""
    rows = [line for line in archive.answer(archive.query, limit="50") if line["type"] == "case"]
    found = [row for row in rows if any(not note["absent"] for note in row["shared"])]
    assert found
    for row in found:
        places = {note["region"] for note in row["shared"] if not note["absent"]}
        assert row["region"]["name"] in places
        outlines = anatomy.outlines(row["region"]["key"], ImageKind.CXR)
        assert row["outlines"] == [[[round(x, 4), round(y, 4)] for x, y in points] for points in outlines]


def test_findings_are_marked_in_the_report(page: Page, archive: Archive) -> None:
    _, *lines = archive.answer(archive.query, limit="50")
    excerpts = [line for line in lines if line["type"] == "excerpt" and line["marks"]]
    assert {mark["mark"] for line in excerpts for mark in line["marks"]} == {"shared", "contradicting"}
    open_sidebar(page, archive.sidebar())
    shown = excerpts[0]
    card = page.locator(f'li.case[data-rank="{shown["rank"]}"]')
    words = [shown["text"][mark["start"] : mark["end"]] for mark in shown["marks"]]
    expect(card.locator("mark")).to_have_text(words)
    denied = [line for line in excerpts if any(mark["absent"] for mark in line["marks"])]
    for line in denied:
        titles = {"shared": "denied by both reports", "contradicting": "denied here, said by the other report"}
        at, mark = next((n, mark) for n, mark in enumerate(line["marks"]) if mark["absent"])
        marks = page.locator(f'li.case[data-rank="{line["rank"]}"] blockquote').first.locator("mark")
        expect(marks.nth(at)).to_have_attribute("title", titles[mark["mark"]])
    assert denied
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
    first.get_by_role("button", name="Save").click()
    expect(first.locator(".said")).to_have_text("Thank you, saved.")
    second.get_by_role("button", name="Helpful", exact=True).click()
    expect(second.locator(".said")).to_have_text("Thank you, saved.")
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
    assert (row["verdict"], row["reason"]) == ("DOWN", "'" + '=the "other" lobe, <b>')  # no formula for spreadsheets
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
    release, real = threading.Event(), excerpt_row

    def slow(*asked: Any) -> dict[str, Any] | None:
        assert release.wait(60)
        return real(*asked)

    monkeypatch.setattr(sidebar, "excerpt_row", slow)
    try:
        page.goto(archive.sidebar(anatomy="LLL"))
        expect(page.locator(".count")).to_contain_text("most similar first")
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


def test_a_picture_that_its_pacs_does_not_give_says_so_and_the_case_stays(page: Page, archive: Archive) -> None:
    away = '{"error": {"code": "picture_away", "message": "The file is kept by the source PACS alone."}}'
    broken = '{"error": {"code": "not_found", "message": "There is none."}}'
    gone: list[str] = []

    def answer(route: Route) -> None:
        gone.append(route.request.url)
        is_away = route.request.url == gone[0]
        route.fulfill(status=503 if is_away else 404, body=away if is_away else broken, content_type="application/json")

    page.route(re.compile(r"/thumbnail\?"), answer)
    open_sidebar(page, archive.sidebar(anatomy="LLL"))
    expect(page.locator(".missing", has_text="picture is in the PACS")).to_have_count(1)
    expect(page.locator(".missing", has_text="no picture").first).to_be_visible()
    assert cases(page).count() >= 5
