"""People who sign in with a name and a password: what opens, what ends it, and what never does."""

from __future__ import annotations

import pytest

from radir_pacs.callers import AuditEvent, Role
from radir_pacs.scopes import Scope
from tests.accounts_material import PASSWORD, Browser, add_account
from tests.integration.conftest import Web
from tests.integration.test_scopes import NORTH, House
from tests.integration.test_tokens import clear


@pytest.fixture
def house(web: Web) -> House:
    return House(web)


def forget(web: Web) -> None:
    """Let the service read tokens and sessions now, as it does once a second."""
    clear(web)
    sessions = web.app.extensions["radir"].sessions
    sessions._fresh.clear()


def test_a_person_signs_in_and_asks_within_the_scope(house: House) -> None:
    web = house.web
    add_account(web.catalogue, scope=Scope(sites=frozenset({NORTH})))
    browser = Browser(web.root)
    asked = "/similar?StudyInstanceUID=1.2.0&anatomy=chest"
    sent = browser.see(asked)
    assert (sent.status_code, sent.headers["Location"].partition("?")[0]) == (302, "/sign-in")
    back = browser.submit("/sign-in", sent.headers["Location"], name="Meyer", password=PASSWORD, to=asked)
    assert (back.status_code, back.headers["Location"]) == (303, asked)
    page = browser.see(asked)
    assert page.status_code == 200 and "1.2.2" in page.text and "1.2.1/" not in page.text
    assert browser.see("/studies/1.2.1").status_code == 404
    assert browser.see("/admin").headers["Location"].startswith("/sign-in?to=%2Fadmin&why=role")
    (event,) = web.catalogue.audit.events(event=AuditEvent.SIGNED_IN)
    assert (event.caller, event.role) == ("meyer", Role.RADIOLOGIST)
    assert {e.caller for e in web.catalogue.audit.events(event=AuditEvent.CASE_SHOWN)} == {"meyer"}
