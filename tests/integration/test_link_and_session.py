"""A link of the PACS in a browser where somebody is signed in: the page that was opened last decides who acts."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from radir_pacs.callers import AuditEvent, Role
from radir_pacs.scopes import Scope
from tests.accounts_material import Browser, add_account, forget
from tests.integration.conftest import Web
from tests.integration.test_scopes import NORTH, House
from tests.integration.test_tokens import bearing
from tests.integration.test_web_similar import MODEL as WEB_MODEL

OWN, OTHER = "1.2.0", "1.2.1"
OF_LINK = {"X-Radir-Link": "1", "Accept": "*/*"}
JUDGEMENT: dict[str, Any] = {"region": "chest", "model": WEB_MODEL, "rank": 1, "score": 0.9, "verdict": "UP"}


@pytest.fixture
def house(web: Web) -> House:
    return House(web)


def signed_in(house: House, role: Role = Role.RADIOLOGIST) -> Browser:
    add_account(house.web.catalogue, "meyer", role)
    forget(house.web)
    browser = Browser(house.web.root)
    assert browser.sign_in().status_code == 303
    return browser


def url_of_link(house: House, **more: str) -> str:
    opened = requests.post(
        house.web.root + "/sidebar/context",
        json={"StudyInstanceUID": OWN, **more},
        headers=bearing(house.tokens[NORTH]),
        timeout=30,
    )
    return str(opened.json()["url"]).removeprefix(house.web.root)


def ask(browser: Browser, path: str, **headers: str) -> requests.Response:
    """As a script of a page asks."""
    return browser.get(browser.root + path, headers={"Accept": "application/json"} | headers, timeout=30)


def callers(house: House, event: AuditEvent, study: str) -> set[tuple[str, str]]:
    return {(row.caller, row.role) for row in house.web.catalogue.audit.events(event=event, study_uid=study)}


@pytest.mark.parametrize("role", [Role.RADIOLOGIST, Role.ADMINISTRATOR])
def test_a_link_that_is_opened_acts_as_the_link(house: House, role: Role) -> None:
    browser = signed_in(house, role)
    assert ask(browser, f"/api/studies/{OTHER}").status_code == 200
    page = browser.see(url_of_link(house, reader="roth"))
    assert page.status_code == 200 and f'study="{OWN}"' in page.text and " link>" in page.text
    assert ask(browser, f"/api/studies/{OWN}").status_code == 200
    answer = ask(browser, f"/api/studies/{OWN}/similar?anatomy=chest")
    cases = [line["study"] for line in map(json.loads, answer.text.splitlines()) if line["type"] == "case"]
    assert cases == [f"1.2.{number}" for number in range(2, 22, 2)], "the scope is the link's"
    for beyond in (f"/api/studies/{OTHER}", f"/dicom-web/studies/{OTHER}/metadata", f"/api/studies/{OTHER}/similar"):
        assert ask(browser, beyond).status_code == 403, "never more than the link gives"
    rows = ask(browser, "/dicom-web/studies").json()
    assert [row["0020000D"]["Value"][0] for row in rows] == [OWN]
    assert callers(house, AuditEvent.ASKED, OWN) == {("roth", Role.SIDEBAR)}
    assert ("roth", Role.SIDEBAR) in callers(house, AuditEvent.OPENED, OWN)
    judged = browser.post(
        f"{browser.root}/api/studies/{OWN}/feedback",
        json=JUDGEMENT | {"case": "1.2.2", "reader": "meyer"},
        headers={"Origin": browser.root} | OF_LINK,
        timeout=30,
    )
    assert judged.status_code == 204, judged.text
    assert {row.reader for row in house.web.catalogue.feedback.all()} == {"roth"}


def test_a_page_of_the_own_ends_the_link(house: House) -> None:
    browser = signed_in(house)
    assert browser.see(url_of_link(house, reader="roth")).status_code == 200
    assert ask(browser, f"/api/studies/{OTHER}").status_code == 403
    assert browser.see(f"/studies/{OTHER}").status_code == 200, "the person's own page"
    assert "radir_context" not in browser.cookies
    assert ask(browser, f"/api/studies/{OTHER}").status_code == 200
    assert callers(house, AuditEvent.OPENED, OTHER) == {("meyer", Role.RADIOLOGIST)}
    sidebar = browser.see(f"/sidebar?StudyInstanceUID={OTHER}")
    assert sidebar.status_code == 200 and " link>" not in sidebar.text


def test_the_own_sidebar_ends_the_link_as_well(house: House) -> None:
    browser = signed_in(house)
    assert browser.see(url_of_link(house)).status_code == 200
    sidebar = browser.see(f"/sidebar?StudyInstanceUID={OTHER}")
    assert sidebar.status_code == 200 and f'study="{OTHER}"' in sidebar.text
    assert ask(browser, f"/api/studies/{OTHER}").status_code == 200


def test_the_links_page_never_acts_as_the_person(house: House) -> None:
    """It is still open in another tab when the link has ended, or when the person has opened a page."""
    browser = signed_in(house)
    assert browser.see(url_of_link(house, reader="roth")).status_code == 200
    assert browser.see("/").status_code == 200
    for path in (f"/api/studies/{OWN}", f"/api/studies/{OWN}/similar?anatomy=chest", f"/api/studies/{OTHER}"):
        assert ask(browser, path, **OF_LINK).status_code == 401
    judged = browser.post(
        f"{browser.root}/api/studies/{OWN}/feedback",
        json=JUDGEMENT | {"case": "1.2.2", "reader": "roth"},
        headers={"Origin": browser.root} | OF_LINK,
        timeout=30,
    )
    assert judged.status_code == 401 and house.web.catalogue.feedback.all() == ()
    browser.cookies.set("radir_context", "a-link-that-expired", path="/")
    assert ask(browser, f"/api/studies/{OWN}", **OF_LINK).status_code == 401


def test_pictures_of_the_links_page_are_never_shown_to_the_person(house: House) -> None:
    browser = signed_in(house)
    assert browser.see(url_of_link(house, reader="roth")).status_code == 200
    told = ask(browser, f"/api/studies/{OWN}/similar?anatomy=chest&limit=1", **OF_LINK).text.splitlines()
    head, case = (json.loads(line) for line in told[:2])
    pictures = [one[form] for one in (head["query"], case) for form in ("picture", "thumbnail") if one[form]]
    assert len(pictures) >= 3
    for picture in pictures:
        assert ask(browser, picture, Accept="image/*").status_code == 200, picture
    assert browser.see("/").status_code == 200, "a page of the person's own"
    for picture in pictures:
        assert ask(browser, picture, Accept="image/*").status_code == 401, picture
    assert callers(house, AuditEvent.OPENED, case["study"]) == {("roth", "sidebar")}
    own = f"/dicom-web/studies/{case['study']}/rendered"
    assert ask(browser, own, Accept="image/*").status_code == 200, "the person's own page shows it"


def test_pages_that_ask_by_themselves_leave_the_link(house: House) -> None:
    """What a page of an administrator in another tab asks for every few seconds."""
    browser = signed_in(house, Role.ADMINISTRATOR)
    assert browser.see(url_of_link(house, reader="roth")).status_code == 200
    assert ask(browser, "/admin/live").status_code in (200, 404)
    assert browser.cookies["radir_context"]
    assert ask(browser, f"/api/studies/{OTHER}").status_code == 403


def test_a_link_that_expired_shows_nothing_of_the_persons(house: House) -> None:
    browser = signed_in(house)
    assert browser.see("/sidebar?context=a-link-that-expired").status_code == 404


def test_a_program_with_a_token_is_not_taken_for_a_link(house: House) -> None:
    token = house.token(Role.RADIOLOGIST, Scope())
    browser = requests.Session()
    assert browser.get(house.web.root + url_of_link(house), timeout=30).status_code == 200
    answer = browser.get(f"{house.web.root}/api/studies/{OTHER}", headers=bearing(token), timeout=30)
    assert answer.status_code == 200
