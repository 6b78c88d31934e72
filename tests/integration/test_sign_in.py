"""Passwords and attempts to sign in: what waits, what counts, and a password that changes meanwhile."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import requests

from radir_pacs.access import passwords, sign_in
from radir_pacs.callers import AuditEvent, Role
from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue.sign_ins import FREE_TRIES, FREE_TRIES_OF_ADDRESS, LONGEST_WAIT_S
from radir_pacs.config import Settings
from radir_pacs.errors import NotReady, SignInFailed, StorageFailed, TooManyRequests
from tests.accounts_material import PASSWORD, Browser, add_account, forget
from tests.catalogue_material import TESTER
from tests.integration.conftest import CHEAP_HASHER, USUAL_HASHER, Web, hash_with

Ask = Callable[[str, str], requests.Response]


@pytest.fixture
def usual_passwords(cheap_passwords: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at the parameters, or at what they cost."""
    hash_with(monkeypatch, USUAL_HASHER)


def test_passwords_are_hashed_as_the_rfc_asks(usual_passwords: None) -> None:
    """RFC 9106, 4, second recommendation: 3 passes over 64 MiB in 4 lanes. Whatever is cheaper is outdated."""
    assert passwords.hashed(PASSWORD).startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords.is_outdated(CHEAP_HASHER.hash(PASSWORD))


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


def test_an_unknown_name_takes_as_long_as_a_wrong_password(
    usual_passwords: None, catalogue: Catalogue, settings: Settings
) -> None:
    """The work is the same: one hash, whoever is asked for."""
    add_account(catalogue)
    add_account(catalogue, "off")
    catalogue.accounts.disable("off", by=TESTER)
    computed: list[str] = []
    verify = passwords._hasher.verify

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(USUAL_HASHER, name)

        def verify(self, kept: str, password: str) -> bool:
            computed.append(kept.partition("$m=")[2].partition("$")[0])
            return verify(kept, password)

    took: dict[str, list[float]] = {"meyer": [], "off": [], "nobody": []}
    before, passwords._hasher = passwords._hasher, Counting()  # type: ignore[assignment]
    try:
        for number in range(6):
            for name in took:
                began = time.process_time()
                with pytest.raises(SignInFailed) as refused:
                    sign_in.by_password(name, "a wrong password", f"10.0.1.{number}", catalogue, settings)
                took[name].append(time.process_time() - began)
                assert str(refused.value) == "The name or the password is wrong."
    finally:
        passwords._hasher = before
    assert len(computed) == 18 and len(set(computed)) == 1
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
