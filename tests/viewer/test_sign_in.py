"""A person at a browser signs in once, with an account or a token, and continues where the link led."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from radir_pacs.callers import Role
from radir_pacs.cli.viewer import install
from radir_pacs.scopes import Scope
from tests.accounts_material import PASSWORD, add_account
from tests.integration.conftest import CHEAP_HASHER, Web, hash_with
from tests.services import need
from tests.viewer.conftest import _WATCH, Archive, fill, picture_of, serious_issues, serving

TOKEN = "sixteen-letters!"


@pytest.fixture(scope="module", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """As the integration tests have them."""
    with pytest.MonkeyPatch.context() as patch:
        hash_with(patch, CHEAP_HASHER)
        yield


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh browser; at its end nothing may have broken the Content-Security-Policy."""
    with browser.new_context(locale="en-GB", reduced_motion="reduce") as context:
        context.set_default_timeout(45_000)
        context.add_init_script(_WATCH)
        page = context.new_page()
        yield page
        assert page.evaluate("window.violations ?? []") == []


@pytest.fixture(scope="module")
def hospital(postgres: str, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Radiographs of two sites, and a reader who sees those of one."""
    with serving(postgres, tmp_path_factory.mktemp("accounts"), emergency_access=True) as web:
        studies = json.loads((phantoms / "truth.json").read_text())["studies"]
        chosen = [study for study in studies if study["kind"] == "CXR"]
        for number, study in enumerate(chosen):
            fill(web, phantoms, study, number)
        web.catalogue.studies.mark_indexed()
        for study in chosen[-2:]:  # sent by another hospital
            _of_site(web, study["study_uid"], "South")
        scope = Scope(sites=frozenset({"stow"}))
        add_account(web.catalogue, "meyer", Role.RADIOLOGIST, scope=scope)
        add_account(web.catalogue, "given", Role.RADIOLOGIST, scope=scope, must_change=True)
        add_account(web.catalogue, "roth", Role.ADMINISTRATOR)
        web.app.extensions["radir"].bearers._read_s = float("-inf")
        yield Archive(web, {study["study_uid"]: study for study in chosen}, chosen[-1]["study_uid"])


def _of_site(web: Web, study_uid: str, site: str) -> None:
    with web.catalogue._database.transaction() as connection:
        connection.execute("UPDATE study SET sites = %s WHERE study_uid = %s", [[site], study_uid])


def with_token(page: Page, token: str) -> None:
    page.get_by_text("Sign in with a token").click()
    page.get_by_label("Token", exact=True).fill(token)
    page.keyboard.press("Enter")


def sign_in(page: Page, name: str, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")


@pytest.mark.parametrize("entrance", ["/", "/studies/{study}"])
def test_a_token_in_the_form_opens_the_pages_their_pictures_and_the_sidebar(
    page: Page, serve: Callable[..., Archive], entrance: str
) -> None:
    guarded = serve(api_tokens=(TOKEN,))
    refused: list[str] = []
    page.on("response", lambda answer: refused.append(answer.url) if answer.status == 401 else None)
    page.goto(guarded.web.root + entrance.format(study=guarded.query))
    with_token(page, TOKEN)
    expect(page.locator("a.go").first).to_be_visible()
    assert page.url == guarded.web.root + entrance.format(study=guarded.query)
    expect(page.locator("body")).to_have_css("max-width", "1248px")  # the style was let in
    picture_of(page, "signed-in" + ("-start" if entrance == "/" else "-study"))
    page.locator("a.go").first.click()
    expect(page.locator("li.case").first).to_be_visible()
    assert page.locator("li.case img").first.evaluate("img => img.decode().then(() => img.naturalWidth)") > 50
    assert not refused, "what a page needs came without being asked for again"


def test_who_gives_none_reads_what_is_needed(page: Page, serve: Callable[..., Archive]) -> None:
    page.goto(serve(api_tokens=(TOKEN,)).web.root + "/")
    with_token(page, "wrong")
    expect(page.get_by_role("alert")).to_have_text("This token is not valid.")
    expect(page.get_by_label("Token", exact=True)).to_be_visible()


def test_a_limited_reader_opens_ohif_by_a_link_and_sees_one_site(page: Page, hospital: Archive) -> None:
    need("npm")
    install(hospital.web.settings)
    page.set_viewport_size({"width": 1500, "height": 850})
    page.set_default_timeout(150_000)  # OHIF is drawn by a processor
    link = f"{hospital.web.root}/ohif/viewer?StudyInstanceUIDs={hospital.query}"
    page.goto(link)
    expect(page.get_by_label("Name")).to_be_focused()
    picture_of(page, "sign-in")
    assert serious_issues(page) == []
    sign_in(page, "meyer", "a wrong password")
    expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    expect(page.get_by_label("Password")).to_be_focused()
    picture_of(page, "sign-in-wrong")
    sign_in(page, "meyer")
    page.get_by_text("Skip all").click()
    assert page.url == link
    panel = page.locator("radir-similar-cases")
    expect(panel.locator("li.case").first).to_be_visible()
    seen = len(hospital.truth) - 2
    assert 0 < panel.locator("li.case").count() < seen
    panel.get_by_role("button", name="Helpful", exact=True).first.click()
    expect(panel.locator("li.case .said").first).to_have_text("Thank you, saved.")
    assert {row.reader for row in hospital.web.catalogue.feedback.all()} == {"meyer"}
    picture_of(page, "ohif-limited-reader")
    listed = page.evaluate("fetch('/dicom-web/studies').then((answer) => answer.json()).then((rows) => rows.length)")
    assert listed == seen
    refused = page.evaluate(f"fetch('/dicom-web/studies/{hospital.hostile}/metadata').then((answer) => answer.status)")
    assert refused == 404


def test_a_patient_out_of_scope_is_opened_with_a_reason(page: Page, hospital: Archive) -> None:
    root, study = hospital.web.root, list(hospital.truth)[-1]  # of the other site
    page.goto(f"{root}/sidebar?StudyInstanceUID={study}")
    sign_in(page, "meyer")
    page.get_by_role("link", name="If you need this study in an emergency").click()
    assert serious_issues(page) == []
    expect(page.get_by_label("Study Instance UID")).to_have_value(study)
    page.get_by_label("Reason").fill("unconscious, earlier images needed")
    picture_of(page, "emergency")
    page.get_by_role("button", name="Open the patient").click()
    expect(page.get_by_text("Open to you now")).to_be_visible()
    page.get_by_role("link", name=study).click()
    expect(page.get_by_role("heading").first).to_be_visible()
    assert page.url.endswith(f"/studies/{study}")
    page.goto(f"{root}/sidebar?StudyInstanceUID={study}")
    expect(page.locator("li.case").first).to_be_visible()
    page.goto(f"{root}/emergency")
    page.get_by_role("button", name="End it").click()
    expect(page.get_by_text("Open to you now")).not_to_be_visible()
    assert page.request.get(f"{root}/api/studies/{study}").status == 404


def test_the_panel_leads_there_where_it_may(page: Page, hospital: Archive) -> None:
    """In a viewer of somebody else the panel is all that tells of a study that is not there."""
    root, study = hospital.web.root, list(hospital.truth)[-1]
    page.goto(f"{root}/sidebar?StudyInstanceUID={hospital.query}")
    sign_in(page, "meyer")
    panel = page.locator("radir-similar-cases")
    expect(panel.locator("li.case").first).to_be_visible()
    panel.evaluate("(panel, study) => panel.setAttribute('study', study)", study)
    link = panel.get_by_role("link", name="Open it in an emergency")
    expect(link).to_be_visible()
    assert link.get_attribute("href") == f"/emergency?study={study}"


def test_a_given_password_is_changed_first(page: Page, hospital: Archive) -> None:
    page.goto(hospital.web.root + "/")
    sign_in(page, "given")
    expect(page.get_by_role("alert")).to_contain_text("Choose a password of your own first")
    picture_of(page, "account-must-change")
    assert serious_issues(page) == []
    page.get_by_label("Present password").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("another plain old word")
    page.get_by_label("New password again").fill("another plain old word")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_role("status")).to_contain_text("The password is changed.")
    picture_of(page, "account")
    page.goto(hospital.web.root + "/")
    page.get_by_role("link", name="given").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")


@pytest.mark.parametrize("language", ["en", "de"])
def test_an_administrator_makes_accounts_and_tokens(page: Page, hospital: Archive, language: str) -> None:
    page.goto(hospital.web.root + "/admin/accounts")
    sign_in(page, "roth")
    expect(page.get_by_role("heading", level=1)).to_have_text("Accounts")
    page.goto(f"{hospital.web.root}/admin/accounts?lang={language}")
    german = language == "de"
    name = f"neu-{language}"
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Standorte" if german else "Sites").fill("stow")
    page.get_by_role("button", name="Konto anlegen" if german else "Add the account").click()
    expect(page.locator("code.secret")).to_be_visible()
    password = page.locator("code.secret").inner_text()
    pictured(page, f"admin-accounts-{language}")
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    pictured(page, f"admin-account-{language}")
    page.get_by_role("button", name="Sperren" if german else "Disable", exact=True).click()
    expect(page.locator("h1 .badge")).to_have_text("gesperrt" if german else "disabled")
    page.get_by_role("button", name="Entfernen" if german else "Remove").click()
    expect(page.get_by_role("link", name=name)).to_have_count(0)
    assert len(password) > 20
    page.goto(hospital.web.root + "/admin/tokens")
    page.get_by_label("Name", exact=True).fill(f"pacs-{language}")
    page.get_by_role("combobox").select_option("service")
    page.get_by_role("button", name="Token anlegen" if german else "Make the token").click()
    expect(page.locator("code.secret")).to_contain_text("radir_")
    pictured(page, f"admin-tokens-{language}")
    page.get_by_role("button", name=f"pacs-{language}").click()
    expect(page.locator("td .badge").first).to_have_text("widerrufen" if german else "revoked")


def pictured(page: Page, name: str) -> None:
    """Wide in light, narrow in dark; it fits, and axe finds nothing serious."""
    for width, scheme in ((1280, "light"), (480, "dark")):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 900})
        picture_of(page, f"{name}-{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_issues(page) == []
    page.set_viewport_size({"width": 1280, "height": 900})
