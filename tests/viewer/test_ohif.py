"""An unmodified OHIF, as npm has it, with the sidebar in it: nothing of OHIF is rebuilt or changed."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, Route, TimeoutError, expect

from radir_pacs.cli.viewer import install
from radir_pacs.errors import RadirError
from tests.integration.orthanc import running_orthanc
from tests.services import need
from tests.viewer.conftest import OHIF, Archive, picture_of

# The series in the right viewport, as OHIF's own services tell it.
_SHOWN = """
(() => {
  const { viewportGridService, displaySetService } = window.services;
  const [, right] = [...viewportGridService.getState().viewports.values()];
  return displaySetService.getDisplaySetByUID(right.displaySetInstanceUIDs[0]).SeriesInstanceUID;
})()
"""


@pytest.fixture(scope="module")
def ohif(archive: Archive) -> Archive:
    """OHIF from npm, fetched once and kept beside the working tree."""
    need("npm")
    install(archive.web.settings)
    return archive


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A wide page without OHIF's tour; at its end nothing may have broken the Content-Security-Policy."""
    page = context.new_page()
    page.set_viewport_size({"width": 1500, "height": 850})
    page.set_default_timeout(45_000)
    yield page
    assert page.evaluate("window.violations ?? []") == []


def open_study(page: Page, archive: Archive, *studies: str) -> None:
    """The study is drawn, the panel lists its cases."""
    page.goto(f"{archive.web.root}/ohif/viewer?StudyInstanceUIDs={','.join(studies)}")
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
    expect(case.locator(".said")).to_have_text("Thank you, kept.")
    assert [row.verdict for row in ohif.web.catalogue.feedback() if row.rank == 2][-1] == "UP"

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


def test_the_files_are_those_of_the_package(ohif: Archive) -> None:
    (program,) = OHIF.glob("app.bundle.*.js")
    (chunk, *_) = sorted(OHIF.glob("*.bundle.*.js"))
    style = sorted(OHIF.glob("[0-9]*.css"))[0]
    for path, url in ((program, f"ohif/{program.name}"), (chunk, chunk.name), (style, style.name)):
        served = requests.get(f"{ohif.web.root}/{url}", timeout=30)
        assert hashlib.sha256(served.content).digest() == hashlib.sha256(path.read_bytes()).digest(), path.name
        assert served.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert served.headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_nothing_beside_the_package_is_served(ohif: Archive) -> None:
    for path in ("/ohif/../../pyproject.toml", "/ohif/%2e%2e/%2e%2e/setup.py", "/assets/../../setup.py", "/ohif/x.js"):
        answer = requests.Session().send(
            replace_url(requests.Request("GET", ohif.web.root).prepare(), ohif.web.root + path), timeout=30
        )
        assert answer.status_code in (400, 404), path
        assert b"setuptools" not in answer.content


def replace_url(request: requests.PreparedRequest, url: str) -> requests.PreparedRequest:
    """``requests`` would tidy the path away."""
    request.url = url
    return request


def test_installing_again_changes_nothing(ohif: Archive) -> None:
    before = {path: path.stat().st_mtime_ns for path in OHIF.iterdir()}
    assert install(ohif.web.settings) is False
    assert {path: path.stat().st_mtime_ns for path in OHIF.iterdir()} == before


def test_without_npm_it_says_what_to_do(
    ohif: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    settings = replace(ohif.web.settings, ohif_folder=str(tmp_path_factory.mktemp("none") / "ohif"))
    with pytest.raises(RadirError, match="npm is not installed"):
        install(settings)


def test_without_ohif_the_address_says_how_to_get_it(
    archive: Archive, serve, tmp_path_factory: pytest.TempPathFactory
) -> None:  # type: ignore[no-untyped-def]
    bare = serve(ohif_folder=str(tmp_path_factory.mktemp("none")))
    answer = requests.get(bare.web.root + "/ohif/", timeout=30)
    assert answer.status_code == 404
    assert "radir viewer install" in answer.json()["error"]["message"]


def test_a_study_from_a_real_orthanc(
    page: Page, context: BrowserContext, ohif: Archive, phantoms: Path, tmp_path: Path
) -> None:
    """OHIF reads the images from Orthanc's DICOMweb, behind one origin as a proxy would make it; the panel from us."""
    with running_orthanc(tmp_path) as peer:
        for name in ohif.truth[ohif.query]["files"]:
            peer.store(phantoms / name)
        asked: list[str] = []

        def from_orthanc(route: Route) -> None:
            path = urlsplit(route.request.url)
            asked.append(path.path)
            url = f"{peer.url}{path.path.removeprefix('/orthanc')}{'?' if path.query else ''}{path.query}"
            route.fulfill(response=route.fetch(url=url))

        def configured(route: Route) -> None:
            answer = route.fetch()
            route.fulfill(response=answer, body=answer.text().replace('"/dicom-web"', '"/orthanc/dicom-web"'))

        context.route("**/orthanc/dicom-web/**", from_orthanc)
        context.route("**/app-config.js", configured)
        open_study(page, ohif, ohif.query)
        expect(page.locator("radir-similar-cases")).to_have_attribute("study", ohif.query)
        assert [path for path in asked if "/frames/" in path]
        picture_of(page, "ohif-orthanc")
        context.unroute_all(behavior="wait")
