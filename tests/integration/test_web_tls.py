"""HTTPS by setting: what the plain service answers is answered over TLS, with the same bounds."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from radir_pacs.cli.web_service import session_of
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError
from radir_pacs.web import server as web_server
from tests.accounts_material import Browser, add_account
from tests.certificates import Authority, Identity
from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("house"), "house")


@pytest.fixture
def own(house: Authority) -> Identity:
    return house.issue("radir")


@pytest.fixture
def start(serve: Callable[..., Web], own: Identity) -> Callable[..., Web]:
    def started(**changes: Any) -> Web:
        return serve(web_tls_certificate=str(own.certificate), web_tls_key=str(own.key), **changes)

    return started


@pytest.fixture
def secure(start: Callable[..., Web]) -> Web:
    return start()


def test_it_answers_and_stores_over_tls(secure: Web, house: Authority) -> None:
    assert secure.root.startswith("https://127.0.0.1:")
    with requests.Session() as client:
        client.trust_env, client.verify = False, str(house.file)
        answer = client.get(secure.root + "/health/ready", timeout=30)
        assert answer.status_code == 200 and answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        body = part10(radiograph(Rows=1500, Columns=1500, PixelData=bytes(4_500_000)))
        headers = {"Content-Type": "application/dicom"}
        stored = client.post(secure.base + "/studies", body, headers=headers, timeout=60)
        assert stored.status_code == 200, stored.text
        url = stored.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
        assert url.startswith(secure.root), "links follow the scheme"
        back = client.get(url, headers={"Accept": 'multipart/related; type="application/dicom"'}, timeout=60)
        assert back.status_code == 200 and len(back.content) > 4_500_000
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(secure.root + "/health/ready", timeout=30)  # nobody vouches for the authority


def test_the_address_of_the_client_is_its_own(secure: Web, house: Authority) -> None:
    add_account(secure.catalogue)
    secure.app.extensions["radir"].bearers._read_s = float("-inf")
    browser = Browser(secure.root)
    browser.trust_env, browser.verify = False, str(house.file)
    answer = browser.sign_in()
    assert answer.status_code == 303
    (cookie,) = re.findall(r"Set-Cookie': '([^']*)", str(answer.headers))
    assert cookie.startswith("__Host-radir_session=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    assert browser.see("/account").status_code == 200
    assert {event.address for event in secure.catalogue.audit.events(caller="meyer")} == {"127.0.0.1"}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
def test_old_versions_are_refused(secure: Web, house: Authority, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=house.file)
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    refused = contextlib.nullcontext() if version > ssl.TLSVersion.TLSv1_1 else pytest.raises((ssl.SSLError, OSError))
    with refused, socket.create_connection(("127.0.0.1", secure.settings.web_port), 30) as plain:
        wrapped = context.wrap_socket(plain, server_hostname="localhost")
        wrapped.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert wrapped.recv(100).startswith(b"HTTP/1.1 200")
        wrapped.close()


def test_a_renewed_certificate_is_used_from_the_next_connection_on(
    secure: Web, house: Authority, own: Identity
) -> None:
    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", secure.settings.web_port), timeout=30)

    before = shown()
    with requests.Session() as held:
        held.trust_env, held.verify = False, str(house.file)
        assert held.get(secure.root + "/health/live", timeout=30).status_code == 200
        house.issue("radir")
        after = shown()
        assert before != after
        assert held.get(secure.root + "/health/live", timeout=30).status_code == 200
        own.certificate.write_text("none")
        assert shown() == after, "files that cannot be used change nothing"


def test_whoever_does_not_shake_hands_keeps_nobody_out(secure: Web, house: Authority) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(web_server.CONNECTIONS + 20):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", secure.settings.web_port), 30))
        silent.sendall(b"GET / HTTP/1.1\r\n\r\n")  # plain words at the door
        assert not silent.recv(100).startswith(b"HTTP")
        assert requests.get(secure.root + "/health/live", verify=str(house.file), timeout=30).status_code == 200


def test_a_refused_body_hears_why(start: Callable[..., Web], house: Authority) -> None:
    """The refusal is sent while the client still sends, and is not lost."""
    web = start(api_tokens=("sixteen-letters!",))
    answer = requests.post(
        web.base + "/studies",
        bytes(8 << 20),
        headers={"Content-Type": "application/dicom"},
        verify=str(house.file),
        timeout=60,
    )
    assert answer.status_code == 401


def test_answers_in_progress_end_before_the_server_does(secure: Web, house: Authority) -> None:
    begun, go_on = threading.Event(), threading.Event()

    @secure.app.route("/health/live/slow")
    def slow() -> Iterator[bytes]:
        def parts() -> Iterator[bytes]:
            begun.set()
            assert go_on.wait(30)
            yield bytes(3_000_000)

        return parts()

    secure.app.extensions["radir"].bearers._read_s = float("-inf")
    got: list[int] = []

    def ask() -> None:
        got.append(len(requests.get(secure.root + "/health/live/slow", verify=str(house.file), timeout=60).content))

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(30)
    secure.stop()
    go_on.set()
    asking.join(60)
    assert got == [3_000_000]


def test_commands_trust_the_certificate_of_this_machine_alone(secure: Web, house: Authority, tmp_path: Path) -> None:
    assert session_of(secure.settings).get(secure.settings.web_url + "/health/live", timeout=30).status_code == 200
    other = replace(secure.settings, web_tls_certificate=str(house.issue("other").certificate))
    with pytest.raises(requests.exceptions.SSLError):
        session_of(other).get(secure.settings.web_url + "/health/live", timeout=30)
    with pytest.raises(SettingError):
        session_of(replace(secure.settings, web_tls_certificate=str(tmp_path / "none")))


def test_a_process_may_hold_more_handles_than_the_door_lets_connections_in(start: Callable[..., Web]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("the system allows no more handles")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        start()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (4096, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_wrong_files_stop_the_start(serve: Callable[..., Web], own: Identity, tmp_path: Path) -> None:
    for certificate in (str(tmp_path / "none"), str(own.key)):
        with pytest.raises(SettingError, match="web_tls_certificate"):
            serve(web_tls_certificate=certificate)
    with pytest.raises(SettingError, match="web_tls_certificate"):
        Settings(web_tls_key=str(own.key))


def test_hsts_can_be_left_out(start: Callable[..., Web], house: Authority) -> None:
    web = start(web_hsts_s=0)
    answer = requests.get(web.root + "/health/live", verify=str(house.file), timeout=30)
    assert "Strict-Transport-Security" not in answer.headers and json.loads(answer.text) == {"status": "live"}
