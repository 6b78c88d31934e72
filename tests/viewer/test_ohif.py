"""An unmodified OHIF, as npm has it, with the sidebar in it: nothing of OHIF is rebuilt or changed."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator

import pytest
import requests
from playwright.sync_api import Browser, Page, Route, TimeoutError, expect

from tests.viewer.conftest import FOCUSED, Archive, opened, picture_of, serious_issues

TOKEN = "sixteen-letters!"

# The series in the right viewport, as OHIF's own services tell it.
_SHOWN = """
(() => {
  const { viewportGridService, displaySetService } = window.services;
  const [, right] = [...viewportGridService.getState().viewports.values()];
  return displaySetService.getDisplaySetByUID(right.displaySetInstanceUIDs[0]).SeriesInstanceUID;
})()
"""


# What each viewport shows: SOP Instance UID and window (lower and upper end).
_ON_SCREEN = """
(() => {
  const { viewportGridService, cornerstoneViewportService } = window.services;
  return [...viewportGridService.getState().viewports.keys()].map((id) => {
    const viewport = cornerstoneViewportService.getCornerstoneViewport(id);
    const range = viewport?.getProperties?.().voiRange ?? { lower: 0, upper: 0 };
    const instance = /instances\\/([0-9.]+)/.exec(viewport?.getCurrentImageId?.() ?? '')?.[1] ?? '';
    return [instance, Math.round(range.lower), Math.round(range.upper)];
  });
})()
"""


@pytest.fixture(scope="module")
def warm_page(browser: Browser) -> Iterator[Page]:
    """A wide page, one for all tests: a new one would compile all of OHIF anew, which takes seconds."""
    with opened(browser) as context:
        page = context.new_page()
        page.set_viewport_size({"width": 1500, "height": 850})
        page.set_default_timeout(45_000)
        yield page


@pytest.fixture
def page(warm_page: Page) -> Iterator[Page]:
    """As it is to who comes first; at its end nothing may have broken the Content-Security-Policy."""
    yield warm_page
    warm_page.unroute_all()
    violations = warm_page.evaluate("window.violations ?? []")
    warm_page.evaluate("localStorage.clear(); sessionStorage.clear()")
    warm_page.context.clear_cookies()
    assert violations == []


def open_study(page: Page, archive: Archive, *studies: str) -> None:
    """The study is drawn, the panel lists its cases."""
    page.goto(f"{archive.web.root}/ohif/viewer?StudyInstanceUIDs={','.join(studies)}")
    drawn(page)


def drawn(page: Page) -> None:
    page.get_by_text("Skip all").click()
    expect(page.locator("canvas").first).to_be_visible()
    expect(page.locator("radir-similar-cases li.case").first).to_be_visible(timeout=45_000)


def test_the_panel_beside_the_image_from_region_to_thumbs(page: Page, ohif: Archive) -> None:
    open_study(page, ohif, ohif.query)
    panel = page.locator("radir-similar-cases")
    expect(panel).to_have_attribute("study", ohif.query)
    assert page.evaluate("self.crossOriginIsolated")
    panel.get_by_role("combobox").fill("LLL")
    panel.get_by_role("combobox").press("Enter")
    expect(panel.locator(".chosen .strong")).to_have_text("left lower lobe")
    expect(panel.locator("ol.cases")).to_have_attribute("aria-busy", "false")
    picture_of(page, "ohif-panel")

    case = panel.locator("li.case").nth(1)
    case.get_by_role("button", name="Helpful", exact=True).click()
    expect(case.locator(".said")).to_have_text("Thank you, saved.")
    assert [row.verdict for row in ohif.web.catalogue.feedback.all() if row.rank == 2][-1] == "UP"

    case.get_by_role("button", name="Open beside", exact=True).click()
    frame = page.locator("#radir-other-patients .frame")
    expect(frame).to_have_count(1)
    expect(frame.locator("strong")).to_have_text(re.compile(r"OTHER PATIENT: SC-[0-9A-F-]+, shown for comparison only"))
    expect(page.locator("canvas")).to_have_count(2)
    box, left = frame.bounding_box(), page.locator("canvas").first.bounding_box()
    assert box is not None and left is not None
    assert box["x"] >= left["x"] + left["width"] - 2 and box["width"] > 300 and box["height"] > 400
    assert frame.evaluate("frame => getComputedStyle(frame).borderLeftWidth") == "8px"
    shown = page.evaluate(_SHOWN)
    found = [line for line in ohif.answer(ohif.query, anatomy="left_lower_lobe") if line["type"] == "case"][1]
    assert shown == found["series"]
    page.wait_for_load_state("networkidle")
    picture_of(page, "ohif-beside")

    # Whoever clicks on the other patient does not lose the current one: the panel stays with the study being read.
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("document.querySelector('radir-similar-cases').getAttribute('study')")
    expect(panel).to_have_attribute("study", ohif.query)
    expect(frame).to_have_count(1)


def on_screen(page: Page, *wanted: str) -> list[tuple[str, int, int]]:
    """What the viewports show as soon as it is these instances, from left to right, and a moment later still is."""
    same = f"(now) => JSON.stringify(now.map(([uid]) => uid)) === JSON.stringify({json.dumps(list(wanted))})"
    for _ in range(2):
        page.wait_for_function(f"({same})({_ON_SCREEN})")
        page.wait_for_load_state("networkidle")
    return [(str(uid), int(lower), int(upper)) for uid, lower, upper in page.evaluate(_ON_SCREEN)]


def test_a_ct_and_the_query_stand_on_the_slice_and_window_of_the_region(page: Page, ohif: Archive) -> None:
    study = ohif.of_kind("CT")[0]
    open_study(page, ohif, study)
    panel = page.locator("radir-similar-cases")
    before = page.evaluate(_ON_SCREEN)
    outlines = page.locator("#radir-outlines .drawing")
    for region, lower, upper, way in (("trachea", -1350, 150, "key"), ("liver", -160, 240, "button")):
        ask(page, region)
        case = next(line for line in ohif.answer(study, anatomy=region) if line["type"] == "case")
        panel.get_by_role("button", name="Open beside", exact=True).first.click()
        shown = on_screen(page, case["query"]["instance"], case["instance"])
        assert [(low, high) for _, low, high in shown] == [(lower, upper)] * 2
        expect(outlines).to_have_count(2)
        picture_of(page, f"ohif-beside-ct-{region}")
        if way == "key":  # with the focus in the panel, where the button was pressed
            page.keyboard.press("Escape")
        else:
            page.get_by_role("button", name="Close the comparison (Esc)").click()
        expect(page.locator("#radir-other-patients .frame")).to_have_count(0)
        expect(page.locator("canvas")).to_have_count(1)
        (again,) = on_screen(page, before[0][0])
        assert list(again) == before[0], "the reader finds their own slice and window again"
        page.wait_for_function(f"{FOCUSED.strip()} === 'Open beside'")


def ask(page: Page, text: str) -> None:
    panel = page.locator("radir-similar-cases")
    panel.get_by_role("combobox").fill(text)
    with page.expect_response(re.compile(r"/api/studies/[^/]+/similar\?")):
        panel.get_by_role("combobox").press("Enter")
    expect(panel.locator("ol.cases")).to_have_attribute("aria-busy", "false")


def test_escape_in_the_list_of_suggestions_closes_the_list_alone(page: Page, ohif: Archive) -> None:
    open_study(page, ohif, ohif.query)
    panel = page.locator("radir-similar-cases")
    panel.get_by_role("button", name="Open beside", exact=True).first.click()
    frame = page.locator("#radir-other-patients .frame")
    expect(frame).to_have_count(1)
    panel.get_by_role("combobox").fill("lob")
    expect(panel.get_by_role("listbox")).to_be_visible()
    page.keyboard.press("Escape")
    expect(panel.get_by_role("listbox")).to_be_hidden()
    expect(frame).to_have_count(1)
    page.keyboard.press("Escape")
    expect(frame).to_have_count(0)


def test_the_outline_lies_on_the_image_and_moves_with_it(page: Page, ohif: Archive) -> None:
    open_study(page, ohif, ohif.query)
    drawing = page.locator("#radir-outlines .drawing")
    expect(drawing).to_have_count(0)  # of the whole chest there is nothing to outline
    ask(page, "LLL")
    expect(drawing).to_contain_text("left lower lobe, schematic outline")
    points = drawing.locator("path").first
    path = str(points.get_attribute("d"))
    before = _corners(path)
    expected = page.evaluate(
        """(outline) => {
          const { viewportGridService, cornerstoneViewportService } = window.services;
          const viewport = cornerstoneViewportService.getCornerstoneViewport(viewportGridService.getActiveViewportId());
          const { imageData, dimensions } = viewport.getImageData();
          return outline.map(([x, y]) => viewport.worldToCanvas(
            imageData.indexToWorld([x * dimensions[0] - 0.5, y * dimensions[1] - 0.5, 0])));
        }""",
        ohif.answer(ohif.query, anatomy="left_lower_lobe")[0]["query"]["stored_outlines"][0],
    )
    assert (
        max(abs(a - b) for one, other in zip(before, expected, strict=True) for a, b in zip(one, other, strict=True))
        < 1
    )
    page.evaluate(
        "(() => { const s = window.services; const v = s.cornerstoneViewportService.getCornerstoneViewport("
        "s.viewportGridService.getActiveViewportId()); v.setZoom(0.5); v.render(); })()"
    )
    expect(points).not_to_have_attribute("d", path)
    after = _corners(points.get_attribute("d"))
    assert abs(_width(after) / _width(before) - 0.5) < 0.02
    drawing.get_by_role("checkbox").uncheck()
    expect(drawing.locator("svg")).to_be_hidden()
    ask(page, "RLL")
    expect(drawing).to_contain_text("right lower lobe")
    expect(drawing.locator("svg")).to_be_hidden()  # who does not want outlines is not shown the next one


def _corners(path: str | None) -> list[tuple[float, float]]:
    """Of a path of one polygon."""
    corners = str(path).removeprefix("M").removesuffix("Z").split()
    return [(float(x), float(y)) for x, y in (corner.split(",") for corner in corners)]


def _width(corners: list[tuple[float, float]]) -> float:
    return max(x for x, _ in corners) - min(x for x, _ in corners)


def test_the_filters_fit_the_panel_at_its_default_width(page: Page, ohif: Archive) -> None:
    open_study(page, ohif, ohif.query)
    panel = page.locator("radir-similar-cases")
    panel.get_by_text("Filters").click()
    box = panel.bounding_box()
    assert box is not None
    for field in panel.locator(".filters input, .filters select").all():
        inside = field.bounding_box()
        assert inside is not None
        assert inside["x"] >= box["x"] and inside["x"] + inside["width"] <= box["x"] + box["width"]
        if field.get_attribute("type") == "date":
            assert field.evaluate("field => field.scrollWidth <= field.clientWidth") and inside["width"] > 120
    picture_of(page, "ohif-filters")


def test_a_double_click_on_our_report_shows_what_it_says(page: Page, ohif: Archive) -> None:
    study = ohif.of_kind("CT")[1]
    saved = requests.post(
        f"{ohif.web.root}/api/studies/{study}/report", params={"anatomy": "liver"}, json={}, timeout=60
    )
    assert saved.status_code == 201
    open_study(page, ohif, study)
    page.locator('[data-cy="study-browser-thumbnail-no-image"]', has_text="SR").dblclick()
    report = page.get_by_role("region", name="Report of similar cases")
    expect(report).to_be_visible()
    case = next(line for line in ohif.answer(study, anatomy="liver") if line["type"] == "case")
    for said in ("Similar case 1", "Finding Site: Liver", f"{case['score']:.3f}"[:4], "Rank among similar cases: 1"):
        expect(report).to_contain_text(said)
    picture_of(page, "ohif-report")
    assert serious_issues(page, "[['#radir-reports']]") == []
    report.get_by_role("button", name="Close").click()
    expect(report).to_be_hidden()
    page.get_by_role("button", name="Report of similar cases").click()
    expect(report).to_be_visible()
    page.keyboard.press("Escape")
    expect(report).to_be_hidden()
    page.locator('[data-cy="study-browser-thumbnail"]').first.dblclick()
    expect(page.locator("#radir-reports button")).to_have_count(0)


def test_a_german_browser_gets_a_german_panel_in_ohif(browser: Browser, ohif: Archive) -> None:
    """OHIF says that its page is English whatever language the reader has chosen."""
    with browser.new_context(locale="de-DE") as context:
        page = context.new_page()
        page.set_viewport_size({"width": 1500, "height": 850})
        page.set_default_timeout(45_000)
        open_study(page, ohif, ohif.query)
        panel = page.locator("radir-similar-cases")
        expect(panel.get_by_role("heading", name="Ähnliche Fälle")).to_be_visible()
        panel.get_by_role("button", name="Daneben öffnen", exact=True).first.click()
        expect(page.get_by_role("button", name="Vergleich schließen (Esc)")).to_be_visible()


def test_the_own_page_leads_to_both_in_ohif_and_it_is_clear_who_is_read(page: Page, ohif: Archive) -> None:
    page.goto(ohif.sidebar(anatomy="LLL"))
    page.locator("li.case").nth(1).get_by_role("button", name="Open beside", exact=True).click()
    link = page.get_by_role("link", name="Open both in OHIF").get_attribute("href")
    assert link and link.endswith("%2Cleft_lower_lobe")
    page.goto(ohif.web.root + link)
    page.get_by_text("Skip all").click()
    frame = page.locator("#radir-other-patients .frame")
    expect(frame).to_have_count(1, timeout=45_000)
    expect(page.locator("canvas")).to_have_count(2)
    found = [line for line in ohif.answer(ohif.query, anatomy="left_lower_lobe") if line["type"] == "case"][1]
    expect(frame.locator("strong")).to_contain_text(found["reference"])
    assert page.evaluate(_SHOWN) == found["series"]
    expect(page.locator("radir-similar-cases")).to_have_attribute("study", ohif.query)
    expect(page.locator("radir-similar-cases .chosen .strong")).to_have_text("left lower lobe")
    expect(page.locator("#radir-outlines .drawing")).to_have_count(2, timeout=45_000)
    left, box = page.locator("canvas").first.bounding_box(), frame.bounding_box()
    assert left is not None and box is not None and box["x"] >= left["x"] + left["width"] - 2
    page.wait_for_load_state("networkidle")
    picture_of(page, "ohif-both")


def test_a_linked_case_whose_answer_is_late_is_outlined_when_it_comes(page: Page, ohif: Archive) -> None:
    lines = ohif.answer(ohif.query, anatomy="left_lower_lobe")
    case = [line for line in lines if line["type"] == "case"][1]
    held: list[Route] = []
    late = True
    page.route("**/api/studies/*/similar?*", lambda route: held.append(route) if late else route.continue_())
    beside = f"{case['study']},{case['series']},{case['instance']},{case['reference']},left_lower_lobe"
    page.goto(f"{ohif.web.root}/ohif/viewer?StudyInstanceUIDs={ohif.query}&beside={beside}")
    page.get_by_text("Skip all").click()
    expect(page.locator("#radir-other-patients .frame")).to_have_count(1, timeout=45_000)
    expect(page.locator("canvas")).to_have_count(2)
    late = False
    assert held, "the panel asked"
    for route in held:
        route.continue_()
    expect(page.locator("#radir-outlines .drawing")).to_have_count(2, timeout=45_000)


def test_the_panel_follows_the_study_in_the_viewport(page: Page, ohif: Archive) -> None:
    own = [
        uid
        for uid in ohif.of_kind("CXR")
        if uid != ohif.query and ohif.truth[uid]["patient_id"] == ohif.truth[ohif.query]["patient_id"]
    ]
    if not own:
        pytest.skip("the phantom's first patient came once")
    open_study(page, ohif, ohif.query, own[0])
    panel = page.locator("radir-similar-cases")
    first = panel.get_attribute("study")
    other = own[0] if first == ohif.query else ohif.query
    thumbnails = page.locator('[data-cy="study-browser-thumbnail"]')
    expect(thumbnails.nth(3)).to_be_visible()
    followed = f"document.querySelector('radir-similar-cases').getAttribute('study') === '{other}'"
    for number in reversed(range(thumbnails.count())):
        thumbnails.nth(number).dblclick()
        with contextlib.suppress(TimeoutError):
            page.wait_for_function(followed, timeout=2000)
            break
    expect(panel).to_have_attribute("study", other)
    expect(page.locator("#radir-other-patients .frame")).to_have_count(0)


def test_a_link_into_ohif_opens_after_one_sign_in(
    browser: Browser, serve: Callable[..., Archive], ohif: Archive
) -> None:
    """A fresh browser, a token, a deep link: images and cases come without a detour over the start page."""
    guarded = serve(api_tokens=(TOKEN,))
    with browser.new_context(locale="en-GB") as context:
        page = context.new_page()
        page.set_viewport_size({"width": 1500, "height": 850})
        page.set_default_timeout(45_000)
        refused: list[str] = []
        page.on("response", lambda answer: refused.append(answer.url) if answer.status in (401, 403) else None)
        page.goto(f"{guarded.web.root}/ohif/viewer?StudyInstanceUIDs={guarded.query}")
        page.get_by_text("Sign in with a token").click()
        page.get_by_label("Token", exact=True).fill(TOKEN)
        page.keyboard.press("Enter")
        drawn(page)
        assert page.url == f"{guarded.web.root}/ohif/viewer?StudyInstanceUIDs={guarded.query}"
        panel = page.locator("radir-similar-cases")
        thumbnail = panel.locator("li.case img").first
        assert thumbnail.evaluate("img => img.decode().then(() => img.naturalWidth)") > 50
        panel.get_by_role("button", name="Helpful", exact=True).first.click()
        expect(panel.locator("li.case .said").first).to_have_text("Thank you, saved.")
        assert refused == []


def test_hostile_names_and_reports_are_words_in_ohif_too(page: Page, ohif: Archive) -> None:
    """In OHIF's own header and panels as in ours: nothing of them is run or loaded."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_study(page, ohif, ohif.hostile)
    page.get_by_text("Patient", exact=True).first.click()
    expect(
        page.get_by_text("<img src", exact=True)
    ).to_be_visible()  # "=" parts the groups of a person name (PS3.5 6.2.1.1)
    expect(page.get_by_text("<img src=x onerror=alert(6)>").first).to_be_visible()
    picture_of(page, "ohif-hostile")
    panel = page.locator("radir-similar-cases")
    panel.get_by_role("combobox").fill("LLL")
    panel.get_by_role("combobox").press("Enter")
    expect(panel.locator(".chosen .strong")).to_have_text("left lower lobe")
    expect(panel.locator("ol.cases")).to_have_attribute("aria-busy", "false")
    assert page.locator("img[src='x']").count() == 0
    assert not [url for url in asked if url.endswith("/x") or not url.startswith((ohif.web.root, "blob:", "data:"))]


def test_axe_finds_nothing_serious_in_our_part_of_ohif(page: Page, ohif: Archive) -> None:
    open_study(page, ohif, ohif.query)
    panel = page.locator("radir-similar-cases")
    for state in ("list", "open", "beside"):
        if state == "open":
            panel.get_by_role("button", name="Picture").click()
            for name in ("All regions", "Filters", "What the score means"):
                panel.get_by_text(name).click()
        if state == "beside":
            panel.locator("li.case").first.get_by_role("button", name="Open beside", exact=True).click()
            expect(page.locator("#radir-other-patients .frame")).to_have_count(1)
        assert serious_issues(page, "[['radir-similar-cases'], ['#radir-other-patients']]") == [], state


def test_from_the_list_to_the_other_patient_by_keyboard_in_ohif(page: Page, ohif: Archive) -> None:
    """OHIF has shortcuts for letters and arrows of its own; what is typed in the panel stays there."""
    open_study(page, ohif, ohif.query)
    panel = page.locator("radir-similar-cases")
    tab_to(page, "Region or finding")
    page.evaluate("window.heard = []; document.addEventListener('keydown', (event) => window.heard.push(event.key))")
    page.keyboard.type("RLL")
    page.keyboard.press("Enter")
    expect(panel.locator(".chosen .strong")).to_have_text("right lower lobe")
    expect(panel.locator("ol.cases")).to_have_attribute("aria-busy", "false")
    assert page.evaluate("window.heard") == [], "OHIF's shortcuts, rotating by R among them, hear nothing of it"
    tab_to(page, "Case 1")
    page.keyboard.press("ArrowDown")
    assert str(page.evaluate(FOCUSED)).startswith("Case 2")
    expect(page.locator("canvas")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("#radir-other-patients .frame")).to_have_count(1)
    tab_to(page, "Helpful")
    page.keyboard.press("Enter")
    expect(panel.locator("li.case .said").nth(1)).to_have_text("Thank you, saved.")
    page.keyboard.press("Enter")
    expect(panel.locator("li.case .said").nth(1)).to_have_text("Withdrawn.")


def tab_to(page: Page, label: str) -> None:
    """Press Tab until what has this label has the focus."""
    passed = []
    for _ in range(80):
        page.keyboard.press("Tab")
        passed.append(str(page.evaluate(FOCUSED)))
        if passed[-1].startswith(label):
            return
    raise AssertionError(f"{label} is not reached by Tab: {passed}")
