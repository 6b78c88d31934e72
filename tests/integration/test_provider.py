"""Signing in at a provider: the whole way at a certified one, and what a lying one says is refused."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
import requests

from radir_pacs.access import provider_mapping
from radir_pacs.access.provider import Provider
from radir_pacs.callers import AuditEvent, Role
from radir_pacs.catalogue import NewSession, Rights, SubjectOf, Visit
from radir_pacs.catalogue.accounts import Accounts
from radir_pacs.config import Settings
from radir_pacs.errors import PeerFailed, SettingError, SignInFailed
from radir_pacs.scopes import Scope
from tests.accounts_material import Browser
from tests.catalogue_material import TESTER
from tests.conftest import free_port
from tests.integration.conftest import Web
from tests.liar_provider import CLIENT, LiarProvider, lying
from tests.services import ROOT, need, need_folder

FOLDER = ROOT / "tests" / "provider"
SECRET = "a secret of the provider and of us"
MAPPING = """
[[allow]]
group = "administrators"
role = "administrator"

[[allow]]
group = "radiology-north"
role = "radiologist"
sites = ["North"]
departments = ["Radiology"]
modalities = ["dx", "CR"]
"""


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    file = tmp_path / "mapping.toml"
    file.write_text(MAPPING)
    return file


@pytest.fixture
def at(serve: Callable[..., Web], mapping: Path) -> Callable[..., Web]:
    """A function that starts a web service whose people sign in at an issuer."""

    def start(issuer: str, **changes: Any) -> Web:
        settings = {"oidc_issuer": issuer, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET}
        return serve(**settings | {"oidc_mapping": str(mapping)} | changes)

    return start


@contextmanager
def provider_for(ours: int) -> Iterator[str]:
    """The issuer of a certified provider, in a process of its own, for a web service at a port of ours."""
    need_folder(FOLDER / "node_modules", "make tests/provider/node_modules/installed")
    port = free_port()
    with subprocess.Popen(
        [need("node"), "provider.js", str(port), str(ours)],
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture
def certified(at: Callable[..., Web]) -> Iterator[Web]:
    ours = free_port()
    with provider_for(ours) as issuer:
        yield at(issuer, web_port=ours)


@pytest.fixture
def liar() -> Iterator[LiarProvider]:
    with lying(free_port()) as found:
        yield found


def forget(web: Web) -> None:
    web.app.extensions["radir"].sessions._fresh.clear()


def travel(browser: Browser, url: str, login: str) -> requests.Response:
    """Through the provider's pages as ``login``, until an answer of ours."""
    for _ in range(20):
        if url.startswith(browser.root):
            return browser.see(url.removeprefix(browser.root))
        answer = browser.get(url, allow_redirects=False, timeout=30)
        if answer.is_redirect:
            url = urljoin(url, answer.headers["Location"])
            continue
        form = re.search(r'action="([^"]+)"', answer.text)
        prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
        assert form and prompt, answer.text
        said = {"prompt": prompt[1], "login": login, "password": "any"}
        answer = browser.post(urljoin(url, form[1]), said, allow_redirects=False, timeout=30)
        url = urljoin(url, answer.headers["Location"])
    raise AssertionError("going round in circles")


def sign_in(web: Web, login: str, to: str = "/account") -> tuple[Browser, requests.Response]:
    browser = Browser(web.root)
    left = browser.see("/sign-in/provider", params={"to": to})
    assert left.status_code == 302
    return browser, travel(browser, left.headers["Location"], login)


def test_the_whole_way_at_a_certified_provider(certified: Web) -> None:
    page = Browser(certified.root).see("/sign-in?to=/account")
    assert "/sign-in/provider?to=/account" in page.text
    browser, back = sign_in(certified, "meyer")
    assert (back.status_code, back.headers["Location"]) == (303, "/account")
    own = browser.see("/account").text
    assert "oidc:meyer" in own and "North" in own and "DX" in own and "Present password" not in own
    assert browser.get(certified.root + "/status", timeout=30).json()["studies"] is not None
    assert browser.see("/admin").status_code == 302, "a radiologist is no administrator"
    (account,) = certified.catalogue.accounts.all()
    assert (account.issuer, account.subject, account.name) == (certified.settings.oidc_issuer, "meyer", "oidc:meyer")
    (event,) = certified.catalogue.audit.events(event=AuditEvent.SIGNED_IN)
    assert (event.caller, event.role, event.detail["subject"]) == ("oidc:meyer", Role.RADIOLOGIST, "meyer")
    out = browser.submit("/sign-out", "/account")
    leads_to = re.search(r'content="0; url=([^"]+)"', out.text)
    assert leads_to is not None
    end = leads_to[1].replace("&amp;", "&")
    assert end.startswith(certified.settings.oidc_issuer + "/session/end?id_token_hint=")
    asked = browser.get(end, timeout=30)
    assert asked.status_code == 200 and "sign-out" in asked.text.lower(), asked.text
    assert browser.see("/account").headers["Location"].startswith("/sign-in")


def test_who_is_in_no_group_stays_out_and_another_person_of_the_same_name_is_another(certified: Web) -> None:
    browser, back = sign_in(certified, "guest")
    assert back.status_code == 403 and "in no group" in back.text
    assert certified.catalogue.accounts.all() == () and browser.see("/account").status_code == 302
    for login in ("meyer", "double", "roth", "meyer"):
        assert sign_in(certified, login)[1].status_code == 303
    names = [account.name for account in certified.catalogue.accounts.all()]
    assert len(names) == 3 and names[0] == "oidc:meyer" and names[1].startswith("oidc:meyer#")
    admin, _ = sign_in(certified, "roth")
    assert admin.see("/admin").status_code == 200


def leave(web: Web) -> tuple[Browser, str]:
    browser = Browser(web.root)
    return browser, browser.see("/sign-in/provider?to=/account").headers["Location"]


def come_back(web: Web, liar: LiarProvider, **parameters: str) -> requests.Response:
    browser, url = leave(web)
    return browser.see("/sign-in/return?" + liar.returns(url, **parameters))


def test_an_honest_answer_is_taken_once(at: Callable[..., Web], liar: LiarProvider) -> None:
    web = at(liar.issuer)
    browser, url = leave(web)
    asked = parse_qs(urlsplit(url).query)
    assert asked["code_challenge_method"] == ["S256"] and asked["response_type"] == ["code"]
    assert asked["redirect_uri"] == [web.root + "/sign-in/return"]
    query = liar.returns(url)
    assert Browser(web.root).see("/sign-in/return?" + query).status_code == 403, "another browser was not sent"
    assert browser.see("/sign-in/return?" + query).status_code == 303
    assert [form["code_verifier"] for form in liar.tokens], "PKCE"
    assert browser.see("/sign-in/return?" + query).status_code == 403, "a state is good once"
    assert Browser(web.root).see("/sign-in/return?code=x&state=made-up").status_code == 403
    asked_often = liar.asked.count("/.well-known/openid-configuration"), liar.asked.count("/jwks")
    assert asked_often == (1, 1) and come_back(web, liar).status_code == 303
    assert liar.asked.count("/jwks") == 1, "what the provider publishes is kept"


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"aud": None},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"iss": "https://other.example"},
        {"iss": None},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1_000_000_000},
        {"exp": None},
        {"iat": 10_000_000_000, "exp": 10_000_000_100},
        {"sub": None},
        {"sub": ""},
        {"sub": 4711},
    ],
)
def test_id_tokens_that_are_not_for_us_now_are_refused(
    at: Callable[..., Web], liar: LiarProvider, claims: dict[str, Any]
) -> None:
    web = at(liar.issuer)
    liar.claims = claims
    answer = come_back(web, liar)
    assert answer.status_code == 403 and "Set-Cookie" not in answer.headers
    assert web.catalogue.accounts.all() == ()
    (event,) = web.catalogue.audit.events(event=AuditEvent.SIGN_IN_FAILED)
    assert event.detail["why"] == "not_believed"


def test_signatures_of_others_are_refused(at: Callable[..., Web], liar: LiarProvider) -> None:
    web = at(liar.issuer)
    liar.signs_with = liar.stranger
    assert come_back(web, liar).status_code == 403
    liar.signs_with = liar.key
    for algorithm in ("HS256", "none"):
        liar.header = {"alg": algorithm}
        assert come_back(web, liar).status_code == 403
    liar.header = {}
    assert come_back(web, liar, iss="https://other.example").status_code == 403, "a mix-up (RFC 9207)"
    assert come_back(web, liar, error="access_denied").status_code == 403
    liar.claims = {"exp": int(time.time()) - 30}
    assert come_back(web, liar).status_code == 303, "a clock may differ by half a minute"


def test_groups_may_come_from_the_user_info_of_the_same_person(at: Callable[..., Web], liar: LiarProvider) -> None:
    liar.claims, liar.user_info = {"groups": None}, {"sub": "4711", "groups": ["administrators"]}
    web = at(liar.issuer)
    assert come_back(web, liar).status_code == 303
    assert web.catalogue.accounts.all()[0].rights.role is Role.ADMINISTRATOR
    liar.user_info = {"sub": "4712", "groups": ["administrators"]}
    assert come_back(web, liar).status_code == 403


def test_rights_follow_the_groups(at: Callable[..., Web], liar: LiarProvider) -> None:
    web = at(liar.issuer)
    browser, url = leave(web)
    assert browser.see("/sign-in/return?" + liar.returns(url)).status_code == 303
    assert browser.see("/account").status_code == 200
    liar.claims = {"groups": ["visitors"]}
    assert come_back(web, liar).status_code == 403
    forget(web)
    assert browser.see("/account").status_code == 302, "who has lost every group is signed out everywhere"
    web.catalogue.accounts.disable("oidc:meyer", by=TESTER)
    liar.claims = {}
    assert come_back(web, liar).status_code == 403


def test_who_loses_a_right_while_signing_in_is_not_signed_in(
    at: Callable[..., Web], liar: LiarProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = at(liar.issuer)
    audit, accounts = web.catalogue.audit, web.catalogue.accounts
    note = audit.note

    def note_and_sign_out(event: AuditEvent, *rest: Any, **more: Any) -> None:
        note(event, *rest, **more)
        if event is AuditEvent.SIGNED_IN:
            accounts.end_sessions("oidc:meyer", by=TESTER)

    monkeypatch.setattr(audit, "note", note_and_sign_out)
    browser, url = leave(web)
    browser.see("/sign-in/return?" + liar.returns(url))
    assert accounts.get("oidc:meyer").sessions == 0
    assert browser.see("/account").status_code == 302


def test_two_tabs_at_the_first_sign_in_make_one_account(
    at: Callable[..., Web], liar: LiarProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    web, add = at(liar.issuer), Accounts._add
    who, rights = SubjectOf(issuer=liar.issuer, subject="4711"), Rights(role=Role.RADIOLOGIST, scope=Scope())

    def add_after_the_other(*some: Any, **more: Any) -> int:
        monkeypatch.setattr(Accounts, "_add", staticmethod(add))
        other = NewSession(id_sha256="other")
        web.catalogue.accounts.sign_in_subject(who, "oidc:meyer", rights, other, by=TESTER)
        return add(*some, **more)

    monkeypatch.setattr(Accounts, "_add", staticmethod(add_after_the_other))
    assert come_back(web, liar).status_code == 303
    (account,) = web.catalogue.accounts.all()
    assert account.sessions == 2


def test_a_mapping_that_breaks_later_is_no_error_that_tells_where_it_is(
    at: Callable[..., Web], liar: LiarProvider, mapping: Path
) -> None:
    web = at(liar.issuer)
    mapping.write_text("[[deny]]")
    answer = come_back(web, liar)
    assert answer.status_code == 502 and str(mapping) not in answer.text


def provider_of(issuer: str, mapping: Path, clock_s: Callable[[], float]) -> Provider:
    settings = Settings(oidc_issuer=issuer, oidc_client_id=CLIENT, oidc_mapping=str(mapping))
    return Provider(settings, clock_s)


VISIT = Visit(nonce="n", verifier="v" * 43, leads_to="/")


def test_a_provider_that_does_not_answer_is_asked_twice_a_minute(
    mapping: Path, liar: LiarProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, tried = 0.0, []
    provider = provider_of(liar.issuer, mapping, lambda: now_s)
    get = requests.get

    def is_away(url: str, **_: object) -> None:
        tried.append(url)
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "get", is_away)
    for _ in range(5):
        with pytest.raises(PeerFailed):
            provider.sign_in_url(VISIT, "state", "http://here/")
    assert len(tried) == 1
    now_s += 31
    with pytest.raises(PeerFailed):
        provider.sign_in_url(VISIT, "state", "http://here/")
    assert len(tried) == 2
    now_s += 31
    monkeypatch.setattr(requests, "get", get)
    assert provider.sign_in_url(VISIT, "state", "http://here/")
    now_s += 4000
    monkeypatch.setattr(requests, "get", is_away)
    for _ in range(5):
        assert provider.sign_in_url(VISIT, "state", "http://here/"), "what was kept is used"
    assert len(tried) == 3


def test_one_thread_waits_for_a_slow_provider_and_others_do_not(
    mapping: Path, liar: LiarProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = provider_of(liar.issuer, mapping, lambda: 0.0)
    begun, go_on, get = threading.Event(), threading.Event(), requests.get

    def is_slow(url: str, **more: Any) -> requests.Response:
        begun.set()
        assert go_on.wait(60)
        return get(url, **more)

    monkeypatch.setattr(requests, "get", is_slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(provider.sign_in_url, VISIT, "state", "http://here/")
        assert begun.wait(60)
        with pytest.raises(PeerFailed):
            provider.sign_in_url(VISIT, "state", "http://here/")
        go_on.set()
        assert first.result(60)


def test_two_threads_at_most_wait_for_tokens(mapping: Path, liar: LiarProvider) -> None:
    provider = provider_of(liar.issuer, mapping, lambda: 0.0)
    provider.sign_in_url(VISIT, "state", "http://here/")
    with provider._turn(), provider._turn(), pytest.raises(PeerFailed):
        provider.person({"code": "a code"}, VISIT, "http://here/")
    assert not liar.tokens
    with pytest.raises(SignInFailed):  # it is asked again
        provider.person({"code": "a code"}, VISIT, "http://here/")
    assert liar.tokens


def test_the_way_back_is_ours(at: Callable[..., Web], liar: LiarProvider) -> None:
    web = at(liar.issuer)
    for to in ("https://evil.example/", "//evil.example", "/\\evil.example", "/sign-out", "/account\r\nX: 1"):
        browser = Browser(web.root)
        url = browser.see("/sign-in/provider", params={"to": to}).headers["Location"]
        assert browser.see("/sign-in/return?" + liar.returns(url)).headers["Location"] == "/", to


def test_a_provider_that_is_away_or_wrong_is_said_to_be_so(at: Callable[..., Web], liar: LiarProvider) -> None:
    away = at(f"http://127.0.0.1:{free_port()}")
    assert Browser(away.root).see("/sign-in/provider").status_code == 502
    liar.metadata = {"issuer": "https://other.example"}
    assert Browser(at(liar.issuer).root).see("/sign-in/provider").status_code == 502
    liar.metadata = {"token_endpoint": "http://other.example/token"}
    assert Browser(at(liar.issuer).root).see("/sign-in/provider").status_code == 502


@pytest.mark.parametrize(
    "text",
    [
        "none",
        "[[deny]]\n",
        '[[allow]]\nrole = "radiologist"\n',
        '[[allow]]\ngroup = "x"\nrole = "service"\n',
        '[[allow]]\ngroup = "x"\nrole = "administrator"\nsites = ["North"]\n',
        '[[allow]]\ngroup = "x"\nrole = "researcher"\nnames = true\n',
        '[[allow]]\ngroup = "x"\nrole = "radiologist"\nsite = ["North"]\n',
        '[[allow]]\ngroup = "x"\nrole = "radiologist"\nsince = "yesterday"\n',
    ],
)
def test_a_sloppy_mapping_stops_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text(text)
    with pytest.raises(SettingError, match="oidc_mapping"):
        provider_mapping.load(str(file))


@pytest.mark.parametrize(
    "changes",
    [
        {"oidc_issuer": "http://idp.example"},
        {"oidc_issuer": "https://idp.example/?x=1"},
        {"oidc_client_id": ""},
        {"oidc_mapping": ""},
        {"oidc_scopes": "profile"},
    ],
)
def test_settings_that_cannot_be_right_are_refused(changes: dict[str, str]) -> None:
    right = {"oidc_issuer": "https://idp.example", "oidc_client_id": "radir", "oidc_mapping": "m.toml"}
    Settings(**right, web_host="0.0.0.0")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="oidc_"):
        Settings(**right | changes)  # type: ignore[arg-type]
