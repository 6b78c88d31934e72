"""Sessions in a browser: what begins one, and all that ends one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import requests

from radir_pacs.access import passwords
from radir_pacs.access.bearers import STALE_S, Bearers
from radir_pacs.access.sessions import Sessions
from radir_pacs.callers import Role
from radir_pacs.catalogue import Catalogue, Rights, Visit
from radir_pacs.config import Settings
from radir_pacs.errors import StorageFailed
from radir_pacs.scopes import Scope
from tests.accounts_material import PASSWORD, Browser, add_account, forget
from tests.catalogue_material import TESTER
from tests.integration.conftest import Web
from tests.integration.test_scopes import NORTH

Ask = Callable[[str, str], requests.Response]


def test_an_id_that_was_fixed_beforehand_opens_nothing(web: Web, catalogue: Catalogue) -> None:
    add_account(catalogue)
    forget(web)
    victim = Browser(web.root)
    victim.see("/sign-in")
    fixed = victim.cookies["radir_session"]
    victim.sign_in()
    assert victim.cookies["radir_session"] != fixed
    attacker = Browser(web.root)
    for tried in (fixed, "A" * 43, "", "x", "../" * 20, "é" * 43):
        answer = requests.get(
            web.root + "/account",
            headers={"Cookie": f"radir_session={tried}".encode(), "Accept": "text/html"},
            allow_redirects=False,
            timeout=30,
        )
        assert answer.status_code == 302, tried
    attacker.cookies.set("radir_session", victim.cookies["radir_session"])
    assert attacker.see("/account").status_code == 200, "the cookie is all that a session is"
    victim.submit("/sign-out", "/account")
    assert attacker.see("/account").status_code == 302


def test_what_takes_a_right_away_ends_sessions(web: Web, catalogue: Catalogue) -> None:
    add_account(catalogue, scope=Scope(sites=frozenset({NORTH, "South"})))
    forget(web)

    def signed_in() -> Browser:
        browser = Browser(web.root)
        assert browser.sign_in().status_code == 303
        assert browser.see("/account").status_code == 200
        return browser

    narrow = Rights(role=Role.RADIOLOGIST, scope=Scope(sites=frozenset({"South"})))
    browser = signed_in()
    catalogue.accounts.set_rights("meyer", narrow, by=TESTER)
    forget(web)
    page = browser.see("/account").text
    assert "South" in page and NORTH not in page, "a scope acts on those who are signed in"
    for deed in (
        lambda: catalogue.accounts.set_password("meyer", passwords.hashed(PASSWORD), by=TESTER),
        lambda: catalogue.accounts.set_rights("meyer", replace(narrow, role=Role.RESEARCHER), by=TESTER),
        lambda: catalogue.accounts.end_sessions("MEYER", by=TESTER),
        lambda: catalogue.accounts.disable("meyer", by=TESTER),
        lambda: catalogue.accounts.enable("meyer", by=TESTER),
        lambda: catalogue.accounts.remove("meyer", by=TESTER),
    ):
        if catalogue.accounts.get("meyer").disabled_at is None:
            browser = signed_in()
        else:
            assert Browser(web.root).sign_in().status_code == 401, "disabled"
        deed()
        forget(web)
        assert browser.see("/account").status_code == 302
    assert Browser(web.root).sign_in().status_code == 401, "gone"
    assert web.get("/studies").status_code == 401, "and without accounts the service does not open again"
    add_account(catalogue)
    assert signed_in()


def test_who_signs_in_anew_ends_the_session_of_before(web: Web, catalogue: Catalogue) -> None:
    add_account(catalogue)
    forget(web)
    browser, thief = Browser(web.root), Browser(web.root)
    browser.sign_in()
    thief.cookies.set("radir_session", browser.cookies["radir_session"])
    assert thief.see("/account").status_code == 200
    browser.sign_in()
    assert browser.see("/account").status_code == 200
    assert thief.see("/account").status_code == 302
    assert catalogue.accounts.get("meyer").sessions == 1


def test_the_database_holds_no_secret(web: Web, catalogue: Catalogue) -> None:
    add_account(catalogue)
    forget(web)
    browser = Browser(web.root)
    browser.sign_in("a password typed as the name")
    browser.sign_in()
    with psycopg.connect(web.settings.database_url) as connection:
        held = " ".join(
            str(row)
            for table in ("account", "web_session", "sign_in_attempt", "audit_event", "provider_visit")
            for row in connection.execute(f"SELECT t::text FROM {table} AS t".encode())
        )
    for secret in (PASSWORD, str(browser.cookies["radir_session"]), "a password typed"):
        assert secret not in held
    assert "$argon2id$" in held


def test_a_session_ends_for_idleness_but_not_while_it_is_used(web: Web, catalogue: Catalogue) -> None:
    add_account(catalogue, role=Role.ADMINISTRATOR)
    forget(web)
    browser = Browser(web.root)
    browser.sign_in()

    def age(seconds: float) -> None:
        with psycopg.connect(web.settings.database_url) as connection:
            connection.execute("UPDATE web_session SET seen_at = seen_at - make_interval(secs => %s)", [seconds])
        forget(web)

    idle_s = web.settings.session_idle_s
    age(idle_s - 100)
    assert browser.see("/account").status_code == 200, "and this use is noted"
    age(idle_s - 100)
    assert browser.see("/admin/live").status_code == 200, "a page that asks by itself"
    age(101)
    assert browser.see("/account").status_code == 302
    browser.sign_in()
    age(-idle_s - 100)  # the clock was set back
    assert browser.see("/account").status_code == 302


def test_without_the_database_a_session_is_believed_for_a_minute(catalogue: Catalogue, settings: Settings) -> None:
    add_account(catalogue)
    now_s = 0.0
    found = catalogue.accounts.to_sign_in("meyer")
    assert found is not None
    sessions = Sessions(catalogue.sign_ins, Bearers(catalogue.access_tokens, settings), settings, clock_s=lambda: now_s)
    held = sessions.begin(found.id, found.password_hash, address="")
    assert sessions.of(held) is not None

    class Away:
        def session(self, _: str) -> None:
            raise StorageFailed("away")

    sessions._sign_ins = Away()  # type: ignore[assignment]
    now_s = STALE_S - 1
    assert sessions.of(held) is not None
    now_s = STALE_S + 1
    with pytest.raises(StorageFailed):
        sessions.of(held)


def test_another_key_or_a_restore_signs_everybody_out(catalogue: Catalogue, settings: Settings, tmp_path: Path) -> None:
    add_account(catalogue)
    found = catalogue.accounts.to_sign_in("meyer")
    assert found is not None
    bearers = Bearers(catalogue.access_tokens, settings)
    held = Sessions(catalogue.sign_ins, bearers, settings).begin(found.id, found.password_hash, address="")
    other = replace(settings, home=tmp_path / "other")
    assert Sessions(catalogue.sign_ins, bearers, settings).of(held) is not None
    assert Sessions(catalogue.sign_ins, bearers, other).of(held) is None
    visit = Visit(nonce="n", verifier="v", leads_to="/")
    catalogue.sign_ins.begin_visit("state", "browser", visit, "10.0.0.1")
    catalogue.sign_ins.try_once("who", "10.0.0.1")
    catalogue.backups.settle()
    assert Sessions(catalogue.sign_ins, bearers, settings).of(held) is None
    assert catalogue.sign_ins.end_visit("state", "browser") is None
    assert catalogue.sign_ins.attempts("who") == ()
