"""People who sign in with a name and a password: what opens, what ends it, and what never does."""

from __future__ import annotations

import contextlib
import re
import secrets
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import requests
from argon2 import PasswordHasher
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule

from radir_pacs.access import passwords, sign_in
from radir_pacs.access.bearers import STALE_S, Bearers
from radir_pacs.access.sessions import Sessions
from radir_pacs.callers import AuditEvent, Role
from radir_pacs.catalogue import OF_ACCOUNTS, OF_TOKENS, Catalogue, NewSession, Rights, SubjectOf, Visit
from radir_pacs.catalogue.sign_ins import FREE_TRIES, FREE_TRIES_OF_ADDRESS, LONGEST_WAIT_S
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, NotReady, SignInFailed, StorageFailed, TooManyRequests
from radir_pacs.scopes import Scope
from radir_pacs.web.route_rights import RIGHTS
from tests.accounts_material import PASSWORD, Browser, add_account
from tests.catalogue_material import TESTER
from tests.integration.conftest import Web
from tests.integration.test_scopes import NORTH, House
from tests.integration.test_tokens import bearing, clear, rules
from tests.integration.test_web_context_rights import address
from tests.integration.test_web_similar import MODEL as WEB_MODEL

Ask = Callable[[str, str], requests.Response]
WORDS = st.sampled_from(["1.2.3", "1.2.0", "x", "..", "%2e%2e", "a b", "meyer", "é", "1", "-1", "%00", "radir.css"])


@dataclass(frozen=True)
class Everybody:
    """One of each kind of caller; ``callers``: the role, None for nobody, and how a request is made."""

    web: Web
    rules: list[Rule]
    callers: dict[str, tuple[Role | None, Ask]]

    def endpoint(self, path: str, method: str) -> str:
        adapter = self.web.app.url_map.bind("127.0.0.1")
        try:
            return str(adapter.match(requests.compat.unquote(path), method)[0])
        except HTTPException:
            return ""


@pytest.fixture
def everybody(web: Web, catalogue: Catalogue) -> Everybody:
    for role in OF_ACCOUNTS:
        add_account(catalogue, f"a {role}", role)
    tokens = {role: catalogue.access_tokens.create(f"token {role}", role, by=TESTER) for role in OF_TOKENS}
    forget(web)

    def asking(session: requests.Session, **headers: str) -> Ask:
        def ask(method: str, url: str) -> requests.Response:
            return session.request(method, url, headers={"Accept": "*/*"} | headers, allow_redirects=False, timeout=30)

        return ask

    callers: dict[str, tuple[Role | None, Ask]] = {"nobody": (None, asking(requests.Session()))}
    callers["a stranger"] = (None, asking(requests.Session(), Authorization="Bearer radir_stranger"))
    for role, token in tokens.items():
        callers[f"token {role}"] = (role, asking(requests.Session(), **bearing(token)))
    for role in OF_ACCOUNTS:
        browser = Browser(web.root)
        assert browser.sign_in(f"a {role}").status_code == 303
        callers[f"session {role}"] = (role, asking(browser, Origin=web.root))
        callers[f"lured {role}"] = (role, asking(browser, Origin="https://evil.example"))
    kept = [rule for rule in rules(web) if rule.endpoint not in {"sign_in.out", "studies.delete"}]
    return Everybody(web, kept, callers)


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


@settings_of_hypothesis(
    max_examples=40, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(data=st.data())
def test_random_requests_reach_what_the_table_says_and_no_more(everybody: Everybody, data: st.DataObject) -> None:
    """Ways of calling x roles x routes x methods x paths: by a table of ours, and never an error of the server."""
    for _ in range(10):
        rule = data.draw(st.sampled_from(everybody.rules))
        method = data.draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]))
        kind = data.draw(st.sampled_from(sorted(everybody.callers)))
        path = re.sub(r"<[^>]+>", lambda _: quote(data.draw(WORDS), safe="%"), rule.rule)
        role, ask = everybody.callers[kind]
        answer = ask(method, everybody.web.root + path)
        assert answer.status_code < 500 or answer.status_code in (501, 502, 503), (method, path, kind, answer.text)
        if role is None:
            assert answer.status_code in (400, 401, 403, 404, 405), (method, path, answer.status_code)
        elif kind.startswith("lured") and method != "GET":
            assert answer.status_code in (400, 403, 404, 405), (method, path, kind, answer.status_code)
        elif answer.status_code < 300:
            reached = everybody.endpoint(path, method)
            assert role in RIGHTS.get(reached, frozenset()), (method, path, kind, reached)


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


def test_whom_the_provider_may_not_let_in_stays_disabled(catalogue: Catalogue) -> None:
    """Removing the account would have made a new one, enabled, at the next sign-in."""
    who, rights = SubjectOf(issuer="https://provider", subject="7"), Rights(role=Role.RADIOLOGIST, scope=Scope())

    def name_after_sign_in() -> str | None:
        new = NewSession(id_sha256=secrets.token_hex(32), address="192.0.2.1")
        return catalogue.accounts.sign_in_subject(who, "meyer", rights, new, by=TESTER)

    assert name_after_sign_in() == "meyer"
    catalogue.accounts.disable("meyer", by=TESTER)
    with pytest.raises(BadInput, match="leave it disabled"):
        catalogue.accounts.remove("meyer", by=TESTER)
    assert name_after_sign_in() is None
    catalogue.accounts.enable("meyer", by=TESTER)
    catalogue.accounts.remove("meyer", by=TESTER)
    assert name_after_sign_in() == "meyer", "who may sign in again does"


def test_guesses_wait_longer_and_longer_and_keep_nobody_else_out(web: Web, catalogue: Catalogue) -> None:
    add_account(catalogue)
    forget(web)
    sign_ins, settings = catalogue.sign_ins, web.settings
    browser = Browser(web.root)
    for _ in range(FREE_TRIES + 6):
        assert browser.sign_in(password="wrong " * 3).status_code == 401
        with psycopg.connect(settings.database_url) as connection:  # it has waited
            connection.execute("UPDATE sign_in_attempt SET blocked_until = now() WHERE tries < %s", [FREE_TRIES + 6])
    waits = browser.sign_in()
    assert waits.status_code == 429 and 1 <= int(waits.headers["Retry-After"]) <= 64, "even the right one waits"
    assert catalogue.audit.events(event=AuditEvent.LOCKED_OUT)[0].caller == "meyer"
    for host, opens in (("127.0.0.1", False), ("10.0.0.9", True), ("2001:db8::1", True)):
        try:
            sign_in.by_password("Meyer", PASSWORD, host, catalogue, settings)
        except TooManyRequests:
            assert not opens
        else:
            assert opens, "a stranger elsewhere locks nobody out"
    catalogue.sign_ins.forgive(sign_in.hash_of_name("MEYER", settings))
    assert browser.sign_in().status_code == 303
    who = sign_in.hash_of_name("meyer", settings)
    waited = []
    for _ in range(30):
        wait_s, _ = sign_ins.try_once(who, "10.0.0.1")
        if wait_s:
            waited.append(wait_s)
            with psycopg.connect(settings.database_url) as connection:
                connection.execute("UPDATE sign_in_attempt SET blocked_until = now()")
    assert waited[:9] == sorted(waited[:9]) and min(waited[10:]) > 600 and max(waited) <= LONGEST_WAIT_S
    with pytest.raises(TooManyRequests):  # one address tries many names
        for number in range(100):
            with contextlib.suppress(SignInFailed):
                sign_in.by_password(f"name {number}", "x", "10.0.0.2", catalogue, settings)
    for first, second in (("2001:db8::1", "2001:db8::ffff"), ("::ffff:10.1.1.1", "10.1.1.1")):
        assert sign_in._network(first) == sign_in._network(second)


def test_many_guesses_at_once_count_as_many(catalogue: Catalogue, settings: Settings) -> None:
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda _: catalogue.sign_ins.try_once("who", "10.0.0.1")[0], range(40)))
    assert sum(not wait_s for wait_s in results) <= FREE_TRIES


def test_an_unknown_name_takes_as_long_as_a_wrong_password(catalogue: Catalogue, settings: Settings) -> None:
    """The work is the same: one hash, whoever is asked for."""
    add_account(catalogue)
    add_account(catalogue, "off")
    catalogue.accounts.disable("off", by=TESTER)
    computed: list[str] = []
    verify = passwords._hasher.verify

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(PasswordHasher(), name)

        def verify(self, kept: str, password: str) -> bool:
            computed.append(kept.partition("$m=")[2].partition("$")[0])
            return verify(kept, password)

    took: dict[str, list[float]] = {"meyer": [], "off": [], "nobody": []}
    before, passwords._hasher = passwords._hasher, Counting()  # type: ignore[assignment]
    try:
        for number in range(12):
            for name in took:
                began = time.process_time()
                with pytest.raises(SignInFailed) as refused:
                    sign_in.by_password(name, "a wrong password", f"10.0.1.{number}", catalogue, settings)
                took[name].append(time.process_time() - began)
                assert str(refused.value) == "The name or the password is wrong."
    finally:
        passwords._hasher = before
    assert len(computed) == 36 and len(set(computed)) == 1
    typical = [statistics.median(one) for one in took.values()]
    assert max(typical) < 1.5 * min(typical), took


def test_a_password_that_was_given_has_to_be_changed(web: Web, catalogue: Catalogue) -> None:
    add_account(catalogue, role=Role.ADMINISTRATOR, must_change=True)
    forget(web)
    browser = Browser(web.root)
    browser.sign_in()
    assert browser.see("/").headers["Location"] == "/account"
    for path in ("/dicom-web/studies", "/status", "/api/regions"):
        assert browser.get(web.root + path, headers={"Accept": "*/*"}, timeout=30).status_code == 403
    other = Browser(web.root)
    other.sign_in()
    new = "another plain old word"
    for fields, status in (
        ({"password": "wrong", "new": new, "again": new}, 401),
        ({"password": PASSWORD, "new": new, "again": new + "s"}, 400),
        ({"password": PASSWORD, "new": "short", "again": "short"}, 400),
        ({"password": PASSWORD, "new": PASSWORD, "again": PASSWORD}, 400),
    ):
        assert browser.submit("/account", **fields).status_code == status
    before = browser.cookies["radir_session"]
    changed = browser.submit("/account", password=PASSWORD, new=new, again=new)
    assert changed.headers["Location"] == "/account?changed=1" and browser.cookies["radir_session"] != before
    forget(web)
    assert browser.see("/").status_code == 200
    assert other.see("/").status_code == 302, "others that were signed in are not"
    assert Browser(web.root).sign_in().status_code == 401
    assert Browser(web.root).sign_in(password=new).status_code == 303


GIVEN = "given by an administrator"


def reset(catalogue: Catalogue) -> None:
    catalogue.accounts.set_password("meyer", passwords.hashed(GIVEN), by=TESTER, must_change=True)


def test_a_password_given_while_somebody_signs_in_keeps_the_old_one_out(
    web: Web, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_account(catalogue)
    forget(web)
    fits = passwords.fits

    def fits_and_then_is_reset(password: str, kept: str | None) -> bool:
        answer = fits(password, kept)
        reset(catalogue)
        return answer

    browser = Browser(web.root)
    with monkeypatch.context() as patch:
        patch.setattr(passwords, "fits", fits_and_then_is_reset)
        assert browser.sign_in().status_code == 401
    with monkeypatch.context() as patch:  # and the old one is not kept again in a newer form
        catalogue.accounts.set_password("meyer", passwords.hashed(PASSWORD), by=TESTER)
        patch.setattr(passwords, "fits", fits_and_then_is_reset)
        patch.setattr(passwords, "is_outdated", lambda _: True)
        assert browser.sign_in().status_code == 401
    assert browser.see("/account").status_code == 302
    assert catalogue.accounts.get("meyer").sessions == 0
    assert Browser(web.root).sign_in().status_code == 401
    assert Browser(web.root).sign_in(password=GIVEN).status_code == 303
    assert catalogue.accounts.get("meyer").must_change


def test_an_outdated_hash_is_renewed_at_the_sign_in(
    web: Web, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_account(catalogue)
    forget(web)
    before = catalogue.accounts.to_sign_in("meyer")
    monkeypatch.setattr(passwords, "is_outdated", lambda _: True)
    assert Browser(web.root).sign_in().status_code == 303
    after = catalogue.accounts.to_sign_in("meyer")
    assert before and after and before.password_hash != after.password_hash


def test_a_password_given_while_the_own_one_is_changed_stands(
    web: Web, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_account(catalogue)
    forget(web)
    browser = Browser(web.root)
    browser.sign_in()
    check = passwords.check

    def check_and_then_is_reset(password: str, name: str) -> None:
        check(password, name)
        reset(catalogue)

    monkeypatch.setattr(passwords, "check", check_and_then_is_reset)
    new = "another plain old word"
    assert browser.submit("/account", password=PASSWORD, new=new, again=new).status_code == 401
    found = catalogue.accounts.to_sign_in("meyer")
    assert found is not None and found.must_change and passwords.fits(GIVEN, found.password_hash)
    assert catalogue.accounts.get("meyer").sessions == 0


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


def test_one_forgetful_user_keeps_nobody_else_at_the_address_out(web: Web, catalogue: Catalogue) -> None:
    add_account(catalogue)
    add_account(catalogue, "roth")
    forget(web)
    settings = web.settings
    for _ in range(2 * FREE_TRIES_OF_ADDRESS):  # most of these clicks are refused at once
        with contextlib.suppress(SignInFailed, TooManyRequests):
            sign_in.by_password("meyer", "forgotten words", "10.0.0.1", catalogue, settings)
    assert sign_in.by_password("roth", PASSWORD, "10.0.0.1", catalogue, settings).name == "roth"


def test_unlocking_somebody_unlocks_the_address_too(web: Web, catalogue: Catalogue) -> None:
    add_account(catalogue)
    who = sign_in.hash_of_name("meyer", web.settings)
    names = [who, *(f"name {number}" for number in range(2 * FREE_TRIES_OF_ADDRESS))]
    assert any(catalogue.sign_ins.try_once(name, "10.0.0.1")[0] for name in names)
    catalogue.sign_ins.forgive(who)
    assert catalogue.sign_ins.try_once(who, "10.0.0.1") == (0.0, False)


@pytest.mark.parametrize("error", [NotReady, StorageFailed])
def test_an_attempt_that_was_not_looked_at_does_not_count(
    catalogue: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    add_account(catalogue)

    def is_busy(*_: object) -> bool:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(passwords, "fits", is_busy)
        for _ in range(2 * FREE_TRIES):
            with pytest.raises(error):
                sign_in.by_password("meyer", PASSWORD, "10.0.0.1", catalogue, settings)
    assert sign_in.by_password("meyer", PASSWORD, "10.0.0.1", catalogue, settings).name == "meyer"


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
