"""A reader whom the hospital's provider confines to one site signs in there on the way to OHIF, and sees that site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from radir_pacs.cli.viewer import install
from tests.conftest import free_port
from tests.integration.conftest import running
from tests.integration.test_provider import SECRET, provider_for
from tests.liar_provider import CLIENT
from tests.services import need
from tests.viewer.conftest import Archive, picture_of
from tests.viewer.test_sign_in import hospital, page  # noqa: F401  (fixtures)

MAPPING = """
[[allow]]
group = "radiology-north"
role = "radiologist"
sites = ["stow"]
"""


@pytest.fixture
def federated(hospital: Archive, tmp_path: Path) -> Iterator[Archive]:  # noqa: F811
    """The same hospital, whose people sign in at a certified provider; the last two studies are of another site."""
    need("npm")
    install(hospital.web.settings)
    (tmp_path / "mapping.toml").write_text(MAPPING)
    ours = free_port()
    with provider_for(ours) as issuer:
        settings = replace(
            hospital.web.settings,
            web_port=ours,
            oidc_issuer=issuer,
            oidc_client_id=CLIENT,
            oidc_client_secret=SECRET,
            oidc_mapping=str(tmp_path / "mapping.toml"),
        )
        with running(settings, hospital.web.catalogue) as web:
            yield Archive(web, hospital.truth, hospital.hostile)


def test_who_is_confined_by_the_provider_sees_one_site_in_ohif(page: Page, federated: Archive) -> None:  # noqa: F811
    root, foreign = federated.web.root, list(federated.truth)[-2:]
    page.set_viewport_size({"width": 1500, "height": 850})
    page.set_default_timeout(60_000)  # OHIF is drawn by a processor
    link = f"{root}/ohif/viewer?StudyInstanceUIDs={federated.query}"
    page.goto(link)
    page.locator("a[href^='/sign-in/provider']").click()
    page.get_by_placeholder("Enter any login").fill("meyer")
    page.get_by_placeholder("and password").fill("any")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()
    page.get_by_text("Skip all").click()
    assert page.url == link
    panel = page.locator("radir-similar-cases")
    expect(panel.locator("li.case").first).to_be_visible()
    seen = len(federated.truth) - 2
    assert 0 < panel.locator("li.case").count() < seen
    assert not any(uid in panel.inner_html() for uid in foreign)
    picture_of(page, "ohif-by-provider")

    def told(path: str) -> int:
        return int(page.evaluate("(path) => fetch(path).then((answer) => answer.status)", path))

    (image,) = federated.web.catalogue.instances.of_study(foreign[0])[:1]
    picture = f"/dicom-web/studies/{foreign[0]}/series/{image.series_uid}/instances/{image.sop_uid}"
    for path in (
        *(f"{picture}{form}" for form in ("", "/rendered", "/thumbnail", "/frames/1", "/metadata")),
        f"/dicom-web/studies/{foreign[0]}/similar",
        f"/api/studies/{foreign[0]}/similar",
        f"/dicom-web/studies?similarto={foreign[0]}",
    ):
        assert told(path) == 404, path
    assert told(f"/dicom-web/studies/{federated.query}/similar") == 200
    page.goto(f"{root}/ohif/")
    expect(page.get_by_role("button", name="Rows per page")).to_contain_text(f"of {seen}")
    listed = page.evaluate("fetch('/dicom-web/studies').then((answer) => answer.json())")
    assert len(listed) == seen and not any(row["0020000D"]["Value"][0] in foreign for row in listed)
    (account,) = [one for one in federated.web.catalogue.accounts.all() if one.name == "oidc:meyer"]
    assert account.subject == "meyer"
