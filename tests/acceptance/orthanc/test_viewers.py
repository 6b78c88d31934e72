"""The sidebar inside Orthanc's own viewers, in Chromium: no request goes to any origin but Orthanc's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.orthanc_house import SHIPPED, Hospital, House, orthanc_with_plugin
from tests.conftest import free_port
from tests.services import ROOT

PICTURES = ROOT / "build" / "viewer"
_WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""

# What stands in the viewports, as OHIF's own services tell it.
_SHOWN = """
[...window.services.viewportGridService.getState().viewports.values()]
  .flatMap((viewport) => viewport.displaySetInstanceUIDs)
  .map((uid) => window.services.displaySetService.getDisplaySetByUID(uid))
"""


@pytest.fixture
def asked() -> list[str]:
    """What the page asks for."""
    return []


@pytest.fixture
def page(house: House, request: pytest.FixtureRequest, asked: list[str]) -> Iterator[Page]:
    """A page that asks Orthanc alone, breaks no policy, and in which no script fails.

    The browser starts after the house, so that it is in its network.
    """
    browser: Browser = request.getfixturevalue("browser")
    context = browser.new_context(viewport={"width": 1500, "height": 900}, locale="en-GB", reduced_motion="reduce")
    context.set_default_timeout(45_000)
    context.add_init_script(_WATCH)
    page = context.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    assert page.evaluate("window.violations ?? []") == []
    assert failures == []
    assert not [url for url in asked if not url.startswith((house.orthanc.url, "data:", "blob:"))]
    context.close()


def picture_of(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def reports_in(house: House, uid: str) -> int:
    """How many structured reports the study has in Orthanc, including the phantom's own."""
    series = house.orthanc.get(f"/studies/{house.orthanc_ids[uid]}/series")
    return sum(one["MainDicomTags"]["Modality"] == "SR" for one in series)


def test_a_reader_in_orthanc_explorer_from_region_to_report(page: Page, house: House) -> None:
    uid = house.of_kind("CXR")[2]
    expected = house.stack.json("similar", uid, "--region", "left lower lobe")["cases"]
    page.goto(f"{house.orthanc.url}/app/explorer.html#study?uuid={house.orthanc_ids[uid]}")
    page.get_by_role("button", name="Similar cases").click()
    panel = page.locator("radir-similar-cases")
    expect(panel.locator("li.case").first).to_be_visible()
    panel.get_by_role("combobox").fill("left lowr lobe")
    panel.get_by_role("combobox").press("Enter")
    panel.get_by_role("button", name="left lower lobe", exact=True).first.click()
    expect(panel.locator(".chosen .strong")).to_have_text("left lower lobe")
    expect(panel.locator("ol.cases")).to_have_attribute("aria-busy", "false")
    assert panel.locator(".score").all_inner_texts() == [f"{case['score']:.3f}" for case in expected]
    image = panel.locator("li.case img").first
    image.evaluate("image => image.decode()")
    assert image.evaluate("image => image.naturalWidth") > 50
    picture_of(page, "orthanc-explorer")

    case = panel.locator("li.case").first
    case.get_by_role("button", name="Helpful", exact=True).click()
    expect(case.locator(".said")).to_have_text("Thank you, saved.")
    case.get_by_role("button", name="Open beside", exact=True).click()
    expect(panel.locator("dialog h2.banner")).to_contain_text("OTHER PATIENT")
    panel.locator("dialog img").last.evaluate("image => image.decode()")
    picture_of(page, "orthanc-explorer-beside")
    panel.locator("dialog").get_by_role("button", name="Close").click()

    before = reports_in(house, uid)
    panel.get_by_role("button", name="Save to PACS").click()
    expect(panel.locator(".foot .said")).to_contain_text("Stored here and sent to")
    assert reports_in(house, uid) == before + 1
    page.get_by_role("button", name="Similar cases").click()
    expect(panel).to_have_count(0)


def test_the_button_of_explorer_2_leads_to_the_panel(page: Page, house: House) -> None:
    """Explorer 2 itself is not in Debian: its button is followed as its documentation says."""
    (button,) = json.loads(SHIPPED.read_text())["OrthancExplorer2"]["UiOptions"]["CustomButtons"]["study"]
    uid = house.of_kind("CT")[0]
    url = button["Url"].replace("{UUID}", house.orthanc_ids[uid])
    assert button["HttpMethod"] == "GET" and button["Target"] == "_blank"
    page.goto(urljoin(f"{house.orthanc.url}/ui/app/", url))
    panel = page.locator("radir-similar-cases")
    expect(panel).to_have_attribute("study", uid)
    expect(panel.locator("li.case").first).to_be_visible()
    picture_of(page, "orthanc-panel")


def test_ohif_reads_from_orthanc_through_orthanc(page: Page, house: House, asked: list[str]) -> None:
    """Images from Orthanc's DICOMweb, viewer and similar cases from the plugin; the saved report is displayed."""
    uid = house.of_kind("CXR")[3]
    page.goto(f"{house.orthanc.url}/radir/ohif/viewer?StudyInstanceUIDs={uid}")
    page.get_by_text("Skip all").click()
    expect(page.locator("canvas").first).to_be_visible()
    panel = page.locator("radir-similar-cases")
    expect(panel).to_have_attribute("study", uid)
    expect(panel.locator("li.case").first).to_be_visible()
    assert page.evaluate("self.crossOriginIsolated")
    assert [url for url in asked if url.startswith(f"{house.orthanc.url}/dicom-web/") and "/frames/" in url]
    panel.locator("li.case").first.get_by_role("button", name="Open beside", exact=True).click()
    expect(page.locator("#radir-other-patients .frame strong")).to_have_text(re.compile("OTHER PATIENT"))
    expect(page.locator("canvas")).to_have_count(2)
    picture_of(page, "orthanc-ohif")
    before = reports_in(house, uid)
    panel.get_by_role("button", name="Save to PACS").click()
    expect(panel.locator(".foot .said")).to_contain_text("Stored here and sent to")
    assert reports_in(house, uid) == before + 1

    page.reload()
    report = page.locator('[data-cy="study-browser-thumbnail-no-image"]').filter(has_text="Similar cases")
    report.dblclick()
    page.wait_for_function(
        f"{_SHOWN}.some((set) => set?.Modality === 'SR' && set.SeriesDescription === 'Similar cases')"
    )
    expect(page.locator("canvas").first).to_be_visible()  # OHIF draws the report's outlines on the image that it names
    expect(page.get_by_text("Something went wrong")).to_have_count(0)
    picture_of(page, "orthanc-ohif-report")


def test_without_the_service_orthanc_explorer_works_and_says_so(
    browser: Browser, hospital: Hospital, tmp_path: Path
) -> None:
    folder, studies = hospital
    with orthanc_with_plugin(tmp_path, web_port=free_port()) as orthanc:
        study = orthanc.store(folder / studies[0]["files"][0])
        page = browser.new_page()
        page.goto(f"{orthanc.url}/app/explorer.html#study?uuid={study}")
        page.get_by_role("button", name="Similar cases").click()
        expect(page.locator("#radir-panel")).to_contain_text("RadIR cannot be reached")
        expect(page.locator("#study-delete")).to_be_attached()
        page.close()
