"""Behind a proxy, URLs in answers are those that the client can reach; headers of strangers change nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests

from radir_pacs.access.sign_in import hash_of_name
from radir_pacs.catalogue.sign_ins import FREE_TRIES
from tests.accounts_material import Browser, add_account, forget
from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10

X = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pacs.example"}


def root_said(web: Web, headers: dict[str, str]) -> str:
    found: str = web.get("/studies", headers=headers).json()[0]["00081190"]["Value"][0]
    return found.partition("/dicom-web")[0]


@pytest.mark.parametrize(
    ("headers", "root"),
    [
        (X, "https://pacs.example"),
        (X | {"X-Forwarded-Host": "pacs.example:8443"}, "https://pacs.example:8443"),
        (X | {"X-Forwarded-Prefix": "/radir/"}, "https://pacs.example/radir"),
        ({"X-Forwarded-Proto": "https", "Host": "localhost"}, "https://localhost"),
        ({"Forwarded": "for=192.0.2.1;proto=https;host=pacs.example"}, "https://pacs.example"),
        ({"Forwarded": 'For="[2001:db8::1]:47"; Proto=HTTPS; Host="pacs.example:1"'}, "https://pacs.example:1"),
        # Through two proxies of ours: what the outer one saw.
        (
            {"Forwarded": "for=192.0.2.1;host=pacs.example;proto=https, for=127.0.0.5;host=inner;proto=http"},
            "https://pacs.example",
        ),
        (
            {
                "X-Forwarded-For": "192.0.2.1, 127.0.0.5",
                "X-Forwarded-Host": "pacs.example, inner",
                "X-Forwarded-Proto": "https, http",
            },
            "https://pacs.example",
        ),
        # What a client makes up stands before what a proxy adds.
        (
            {"Forwarded": "host=evil.example;proto=https, for=192.0.2.1;host=pacs.example;proto=https"},
            "https://pacs.example",
        ),
        (
            {"X-Forwarded-For": "127.0.0.5, 192.0.2.1", "X-Forwarded-Host": "evil.example, pacs.example"},
            "http://pacs.example",
        ),
    ],
)
def test_urls_follow_a_trusted_proxy(serve: Callable[..., Web], headers: dict[str, str], root: str) -> None:
    web = serve(trusted_proxies=("127.0.0.0/8",))
    web.store(radiograph())
    assert root_said(web, headers) == root


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Host": "evil.example/x"},
        {"X-Forwarded-Host": "a b"},
        {"X-Forwarded-Proto": "javascript"},
        {"Forwarded": "nonsense"},
        {"Forwarded": "host=;proto="},
        {"X-Forwarded-Host": "-"},
        {"X-Forwarded-Prefix": "/only"},
    ],
)
def test_malformed_headers_change_nothing(serve: Callable[..., Web], headers: dict[str, str]) -> None:
    web = serve(trusted_proxies=("127.0.0.1",))
    web.store(radiograph())
    assert root_said(web, headers) == web.root


def test_a_stranger_is_not_believed(serve: Callable[..., Web]) -> None:
    for proxies in ((), ("192.0.2.7", "2001:db8::/32")):
        web = serve(trusted_proxies=proxies)
        if not proxies:
            web.store(radiograph())
        assert root_said(web, X | {"Forwarded": "host=evil.example"}) == web.root


def test_every_kind_of_url_follows(serve: Callable[..., Web]) -> None:
    web = serve(trusted_proxies=("127.0.0.1",))
    ds = radiograph()
    answer = web.ask("POST", "/studies", data=part10(ds), headers=X | {"Content-Type": "application/dicom"})
    study = f"/studies/{ds.StudyInstanceUID}"
    for text in (
        answer.text,
        web.get(study + "/metadata", headers=X).text,
        web.get("/instances", headers=X).text,
        web.get(study, headers=X).content.decode("latin-1"),
        web.ask("OPTIONS", "/", headers=X).text,
    ):
        assert "https://pacs.example/dicom-web" in text
        assert web.root not in text


def test_a_page_that_the_proxy_serves_may_write(serve: Callable[..., Web]) -> None:
    web = serve(trusted_proxies=("127.0.0.1",))
    own = {"Origin": "https://pacs.example", "Sec-Fetch-Site": "same-origin"}
    assert web.ask("POST", "/studies/1.2.3/complete", headers=own).status_code == 403
    assert web.ask("POST", "/studies/1.2.3/complete", headers=own | X).status_code == 404


def test_the_cookie_is_secure_where_a_named_proxy_ends_tls(serve: Callable[..., Web]) -> None:
    add_account((known := serve(trusted_proxies=("127.0.0.1",))).catalogue)
    stranger = serve(trusted_proxies=("192.0.2.0/24",))
    for web, name in ((known, "__Host-radir_session"), (stranger, "radir_session")):
        forget(web)
        answer = requests.get(web.root + "/sign-in", headers=X, timeout=30)
        assert answer.headers["Set-Cookie"].startswith(name + "=")
        assert ("Secure" in answer.headers["Set-Cookie"]) == (web is known)


def test_who_forges_addresses_waits_all_the_same(serve: Callable[..., Web]) -> None:
    web = serve(trusted_proxies=("192.0.2.0/24",))
    add_account(web.catalogue)
    forget(web)
    browser, tried = Browser(web.root), 0
    while tried < FREE_TRIES + 7:  # each try doubles the wait, which ends up longer than any sign-in takes
        browser.headers["X-Forwarded-For"] = f"10.0.0.{tried}"
        if browser.sign_in(password="a wrong password").status_code == 429:
            break
        tried += 1
    (held,) = web.catalogue.sign_ins.attempts(hash_of_name("meyer", web.settings))
    assert (held.address, held.tries) == ("127.0.0.1", tried)
    assert FREE_TRIES <= tried < FREE_TRIES + 7
