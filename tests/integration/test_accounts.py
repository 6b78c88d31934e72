"""People who sign in with a name and a password: what that opens, and what it never does."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from typing import Any

import pytest
import requests

from radir_pacs.callers import AuditEvent, Role
from radir_pacs.catalogue import OF_ACCOUNTS, Catalogue, NewSession, Rights, SubjectOf
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import BadInput, StorageFailed
from radir_pacs.scopes import Scope
from radir_pacs.web.route_rights import RIGHTS
from tests.accounts_material import PASSWORD, Browser, add_account, forget
from tests.catalogue_material import TESTER
from tests.integration.conftest import Web
from tests.integration.test_scopes import NORTH, House
from tests.integration.test_tokens import rules
from tests.integration.test_web_context_rights import address
from tests.integration.test_web_similar import MODEL as WEB_MODEL

Ask = Callable[[str, str], requests.Response]


@pytest.fixture
def house(web: Web) -> House:
    return House(web)


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


def test_every_route_is_as_open_to_a_session_as_to_a_token_of_its_role(web: Web, catalogue: Catalogue) -> None:
    browsers = {}
    for role in OF_ACCOUNTS:
        add_account(catalogue, f"a {role}", role)
    forget(web)
    for role in OF_ACCOUNTS:
        browsers[role] = Browser(web.root)
        assert browsers[role].sign_in(f"a {role}").status_code == 303
    tried = 0
    for rule in rules(web):
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            for role, browser in browsers.items():
                if rule.endpoint in {"sign_in.out", "sign_in.change_password"}:
                    continue  # which end the session
                answer = browser.request(
                    method,
                    web.root + address(rule),
                    headers={"Accept": "*/*", "Origin": web.root},
                    allow_redirects=False,
                    timeout=30,
                )
                may = role in RIGHTS[rule.endpoint]
                assert (answer.status_code == 403) != may, (method, rule.rule, role, answer.status_code)
                assert answer.status_code != 401
                tried += 1
    assert tried > 200


def test_another_site_changes_nothing_with_the_cookie(web: Web, catalogue: Catalogue) -> None:
    add_account(catalogue, role=Role.ADMINISTRATOR)
    forget(web)
    browser = Browser(web.root)
    browser.sign_in()
    posts = [rule for rule in rules(web) if {"POST", "PUT", "DELETE"} & (rule.methods or set())]
    assert len(posts) > 20
    for rule in posts:
        for method in {"POST", "PUT", "DELETE"} & (rule.methods or set()):
            for headers in (
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Sec-Fetch-Site": "cross-site"},
                {"Sec-Fetch-Site": "same-site"},
                {},  # a browser, or a program that stole the cookie, which says nothing
            ):
                answer = browser.request(method, web.root + address(rule), headers=headers, timeout=30)
                assert answer.status_code == 403, (method, rule.rule, headers, answer.status_code)
    assert browser.see("/account").status_code == 200, "and nobody was signed out"
    lured = requests.post(
        web.root + "/sign-in",
        {"name": "meyer", "password": PASSWORD, "csrf": "0" * 64},
        headers={"Cookie": "radir_session=" + "x" * 43},
        timeout=30,
    )
    assert lured.status_code == 400, "nobody is signed in by a form that was not shown"


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/ohif/../..//evil.example",
        "/ohif//evil.example",
        "javascript:alert(1)",
        "/sign-in?to=//evil.example",
        "/sign-out",
        "/dicom-web/studies",
        "/account\r\nSet-Cookie: a=b",
        "/account\x00",
        '/account?"><script>',
        "",
        "/" + "a" * 3000,
    ],
)
def test_the_way_back_is_to_a_page_of_ours(web: Web, catalogue: Catalogue, to: str) -> None:
    add_account(catalogue)
    forget(web)
    browser = Browser(web.root)
    assert 'name="to" value="/"' in browser.see("/sign-in", params={"to": to}).text
    answer = browser.sign_in(to=to)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "a=b" not in str(answer.headers)


def test_whom_the_provider_may_not_let_in_stays_disabled(
    web: Web, catalogue: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing the account would have made a new one, enabled, at the next sign-in: by page and command as well."""
    who, rights = SubjectOf(issuer="https://provider", subject="7"), Rights(role=Role.RADIOLOGIST, scope=Scope())

    def name_after_sign_in() -> str | None:
        new = NewSession(id_sha256=secrets.token_hex(32), address="192.0.2.1")
        return catalogue.accounts.sign_in_subject(who, "meyer", rights, new, by=TESTER)

    assert name_after_sign_in() == "meyer"
    catalogue.accounts.disable("meyer", by=TESTER)
    with pytest.raises(BadInput, match="leave it disabled"):
        catalogue.accounts.remove("meyer", by=TESTER)
    add_account(catalogue, "roth", Role.ADMINISTRATOR)
    forget(web)
    browser = Browser(web.root)
    browser.sign_in("roth")
    assert "/meyer/remove" not in browser.see("/admin/accounts/meyer").text
    assert browser.submit("/admin/accounts/meyer/remove", "/admin/accounts").status_code == 400
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_pacs.cli.users.must_run", lambda settings: None)
    assert main(["users", "remove", "meyer"]) == 1
    assert name_after_sign_in() is None
    catalogue.accounts.enable("meyer", by=TESTER)
    catalogue.accounts.remove("meyer", by=TESTER)
    assert name_after_sign_in() == "meyer", "who may sign in again does"


def test_an_account_gets_no_role_of_tokens_and_nobody_locks_the_own_one(web: Web, catalogue: Catalogue) -> None:
    add_account(catalogue, role=Role.ADMINISTRATOR)
    add_account(catalogue, "roth")
    forget(web)
    browser = Browser(web.root)
    browser.sign_in()
    assert browser.submit("/admin/accounts", name="new", role="service").status_code == 400
    assert browser.submit("/admin/accounts/roth", "/admin/accounts", role="service").status_code == 400
    assert browser.submit("/admin/accounts/MEYER", "/admin/accounts", role="radiologist").status_code == 400
    for action in ("disable", "remove", "password"):
        assert browser.submit(f"/admin/accounts/MEYER/{action}", "/admin/accounts").status_code == 400, action
    assert {account.name: account.rights.role for account in catalogue.accounts.all()} == {
        "meyer": Role.ADMINISTRATOR,
        "roth": Role.RADIOLOGIST,
    }


def test_administrators_read_that_the_database_is_away_and_the_log_names_no_study(
    web: Web, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add_account(catalogue, role=Role.ADMINISTRATOR)
    forget(web)
    browser = Browser(web.root)
    browser.sign_in()
    sessions = web.app.extensions["radir"].sessions

    def is_away(*_: object, **__: object) -> None:
        raise StorageFailed("away")

    monkeypatch.setattr(sessions, "of", is_away)
    answer = browser.see("/admin/studies/1.2.3.4711")
    assert answer.status_code == StorageFailed.http_status and answer.headers["Content-Type"].startswith("text/html")
    with web.app.test_request_context("/admin/studies/1.2.3.4711"):
        try:
            raise ValueError
        except ValueError:
            web.app.log_exception(sys.exc_info())
    assert "request failed" in caplog.messages
    assert not any("4711" in message for message in caplog.messages)


def test_names_are_told_apart_in_the_trail(catalogue: Catalogue) -> None:
    add_account(catalogue)
    with pytest.raises(BadInput, match="account"):
        catalogue.access_tokens.create("Meyer", Role.SERVICE, by=TESTER)
    catalogue.access_tokens.create("pacs", Role.SERVICE, by=TESTER)
    for name in ("PACS", "MEYER"):
        with pytest.raises(BadInput):
            add_account(catalogue, name)


def test_whoever_is_signed_in_judges_in_no_other_name(house: House) -> None:
    web = house.web
    add_account(web.catalogue)
    forget(web)
    browser = Browser(web.root)
    browser.sign_in()
    body: dict[str, Any] = {"case": "1.2.1", "region": "chest", "model": WEB_MODEL, "rank": 1, "score": 0.9}
    answer = browser.post(
        web.root + "/api/studies/1.2.0/feedback",
        json=body | {"verdict": "UP", "reader": "somebody else"},
        headers={"Origin": web.root},
        timeout=30,
    )
    assert answer.status_code < 300, answer.text
    assert {row.reader for row in web.catalogue.feedback.all()} == {"meyer"}
