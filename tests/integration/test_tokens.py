"""Tokens by name: each role reaches the routes that are listed for it; a revoked or expired token reaches none."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest
import requests
from werkzeug.routing import Rule

from radir_pacs.access.bearers import FRESH_S, STALE_S, Bearers
from radir_pacs.callers import AuditEvent, Role
from radir_pacs.catalogue import OF_TOKENS, Catalogue, Peer, token_sha256
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import BadInput, NotFound, StorageFailed
from radir_pacs.scopes import Scope
from radir_pacs.web.auth import _is_open
from radir_pacs.web.route_rights import RIGHTS
from tests.catalogue_material import TESTER, add, header
from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10
from tests.integration.test_web_context_rights import address

SETTING = "sixteen-letters!"


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find this installation."""
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_pacs.cli.tokens.must_run", lambda settings: None)


def rules(web: Web) -> list[Rule]:
    return [rule for rule in web.app.url_map.iter_rules() if not _is_open(address(rule))]


def test_every_route_has_its_roles_and_no_role_reaches_more(web: Web, catalogue: Catalogue) -> None:
    """All routes, methods and roles: refused where the table says so, by whatever else where it does not."""
    tokens = {role: catalogue.access_tokens.create(role, role, by=TESTER) for role in OF_TOKENS}
    clear(web)
    tried = 0
    for rule in rules(web):
        assert rule.endpoint in RIGHTS, f"{rule.rule} is reached by nobody: list its roles"
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            for role, token in tokens.items():
                answer = requests.request(
                    method, web.root + address(rule), headers=bearing(token), timeout=30, allow_redirects=False
                )
                may = role in RIGHTS[rule.endpoint]
                assert (answer.status_code == 403) != may, (method, rule.rule, role, answer.status_code)
                assert answer.status_code != 401
                tried += 1
    assert tried > 150
    assert set(RIGHTS) <= {rule.endpoint for rule in web.app.url_map.iter_rules()}, "a route that is gone"


def test_from_the_first_token_on_one_is_needed(web: Web, catalogue: Catalogue) -> None:
    assert web.get("/studies").status_code == 204
    token = catalogue.access_tokens.create("reader", Role.RADIOLOGIST, by=TESTER)
    clear(web)
    assert web.get("/studies").status_code == 401
    assert web.get("/studies", headers=bearing(token)).status_code == 204
    assert web.get("/studies", headers=bearing(token + "x")).status_code == 401
    assert web.get("/studies", headers=bearing(token.removeprefix("radir_"))).status_code == 401
    catalogue.access_tokens.revoke("reader", by=TESTER)
    clear(web)
    refused = web.get("/studies", headers=bearing(token))
    assert refused.status_code == 401 and "WWW-Authenticate" in refused.headers
    assert "this token is not valid: unknown, revoked or expired" in refused.text
    assert web.get("/studies", headers=bearing(token + "x")).text == refused.text, "which of them is nobody's business"
    none = web.get("/studies")
    assert none.status_code == 401, "it does not open again when the last token is gone"
    assert "A token is needed" in none.text


def clear(web: Web) -> None:
    """Let the service read the tokens now, as it does once a second."""
    web.app.extensions["radir"].bearers._read_s = float("-inf")


def test_a_token_of_the_catalogue_opens_large_bodies(web: Web, catalogue: Catalogue) -> None:
    token = catalogue.access_tokens.create("modality", Role.SERVICE, by=TESTER)
    clear(web)
    body = part10(radiograph(Rows=300, Columns=300, PixelData=bytes(180_000)))
    assert len(body) > 64 * 1024
    headers = {"Content-Type": "application/dicom"}
    assert requests.post(web.base + "/studies", body, headers=headers, timeout=30).status_code == 401
    headers |= bearing(token)
    assert requests.post(web.base + "/studies", body, headers=headers, timeout=30).status_code == 200


def test_an_expired_token_is_none(catalogue: Catalogue, settings: Settings, database_url: str) -> None:
    token = catalogue.access_tokens.create("guest", Role.RADIOLOGIST, by=TESTER, valid_s=3600)
    bearers = Bearers(catalogue.access_tokens, settings)
    assert bearers.of(f"Bearer {token}") is not None
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE access_token SET expires_at = now() - interval '1 second'")
    bearers = Bearers(catalogue.access_tokens, settings)
    assert bearers.are_needed and bearers.of(f"Bearer {token}") is None
    (row,) = catalogue.access_tokens.all()
    assert not row.in_force and row.revoked_at is None


def test_a_session_has_the_rights_of_its_token(catalogue: Catalogue, settings: Settings) -> None:
    scope = Scope(sites=frozenset({"North"}))
    token = catalogue.access_tokens.create("north", Role.ADMINISTRATOR, by=TESTER, scope=scope, names=True)
    bearers = Bearers(catalogue.access_tokens, settings)
    bearer = bearers.of(f"Bearer {token}")
    assert bearer is not None and (bearer.scope, bearer.names) == (scope, True)
    assert bearers.known(lambda sha256: sha256 == token_sha256(token.encode())) == bearer


def test_the_database_holds_no_token(catalogue: Catalogue, database_url: str) -> None:
    token = catalogue.access_tokens.create("reader", Role.RADIOLOGIST, by=TESTER)
    with psycopg.connect(database_url) as connection:
        held = connection.execute("SELECT t::text FROM access_token AS t").fetchall()
        held += connection.execute("SELECT e::text FROM audit_event AS e").fetchall()
    assert token.startswith("radir_") and len(token) > 40
    assert len(held) == 2 and not any(token.removeprefix("radir_") in text for (text,) in held)


def test_names_are_free_again_after_a_revocation(catalogue: Catalogue) -> None:
    catalogue.access_tokens.create("pacs", Role.SERVICE, by=TESTER)
    with pytest.raises(BadInput, match="in force"):
        catalogue.access_tokens.create("pacs", Role.ADMINISTRATOR, by=TESTER)
    catalogue.access_tokens.revoke("pacs", by=TESTER)
    with pytest.raises(NotFound):
        catalogue.access_tokens.revoke("pacs", by=TESTER)
    catalogue.access_tokens.create("pacs", Role.RADIOLOGIST, by=TESTER)
    assert [(row.role, row.in_force) for row in catalogue.access_tokens.all()] == [
        (Role.RADIOLOGIST, True),
        (Role.SERVICE, False),
    ]
    events = [(event.event, event.detail["token"]) for event in catalogue.audit.events()]
    created, revoked = (AuditEvent.TOKEN_CREATED, "pacs"), (AuditEvent.TOKEN_REVOKED, "pacs")
    assert events == [created, revoked, created]


def test_without_the_database_tokens_are_believed_for_a_minute(catalogue: Catalogue, settings: Settings) -> None:
    now_s = 0.0
    token = catalogue.access_tokens.create("reader", Role.RADIOLOGIST, by=TESTER)
    bearers = Bearers(catalogue.access_tokens, settings, clock_s=lambda: now_s)
    assert bearers.of(f"Bearer {token}") is not None
    (row,) = catalogue.access_tokens.all()
    assert row.last_used_at is None

    class Away:
        def in_force(self) -> None:
            raise StorageFailed("away")

    now_s = FRESH_S + 60
    bearers.of(f"Bearer {token}")
    (row,) = catalogue.access_tokens.all()
    assert row.last_used_at is not None
    bearers._tokens = Away()  # type: ignore[assignment]
    now_s += STALE_S - 1
    assert bearers.of(f"Bearer {token}") is not None
    now_s += 2
    with pytest.raises(StorageFailed):
        bearers.of(f"Bearer {token}")


def test_a_large_body_waits_for_no_database(catalogue: Catalogue, settings: Settings) -> None:
    """The thread that asks serves all connections. A stranger's body goes on until the tokens are read, no longer."""
    token = catalogue.access_tokens.create("modality", Role.SERVICE, by=TESTER)
    answers, asked = threading.Event(), threading.Event()

    class Slow:
        def in_force(self) -> object:
            asked.set()
            assert answers.wait(30)
            return catalogue.access_tokens.in_force()

        def used(self, ids: object) -> None:
            raise StorageFailed("away again")

    now_s = 0.0
    bearers = Bearers(catalogue.access_tokens, replace(settings, api_tokens=(SETTING,)), clock_s=lambda: now_s)
    assert bearers.of(f"Bearer {token}") is not None and not bearers.may_send("Bearer stranger")
    now_s = FRESH_S + 1
    bearers._tokens = Slow()  # type: ignore[assignment]
    assert bearers.may_send(f"Bearer {SETTING}") and bearers.may_send("Bearer stranger")
    assert not bearers.may_send("") and asked.wait(30)
    answers.set()
    deadline = time.monotonic() + 30
    while bearers.may_send("Bearer stranger"):
        assert time.monotonic() < deadline
    assert bearers.may_send(f"Bearer {token}")


def test_tokens_of_the_settings_administer_too(serve: Callable[..., Web], catalogue: Catalogue) -> None:
    token = catalogue.access_tokens.create("reader", Role.RADIOLOGIST, by=TESTER)
    web = serve(api_tokens=(SETTING,))
    for known in (SETTING, token):
        assert web.get("/studies", headers=bearing(known)).status_code == 204
    assert requests.delete(web.base + "/studies/1.2.3", headers=bearing(token), timeout=30).status_code == 403
    assert requests.delete(web.base + "/studies/1.2.3", headers=bearing(SETTING), timeout=30).status_code == 404


@pytest.mark.usefixtures("command")
def test_a_site_that_nobody_has_is_told_and_taken(
    catalogue: Catalogue, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be yet to come, and it may be misspelt: then its bearer would see nothing, and nobody would know why."""
    create = ["tokens", "create"]
    assert main([*create, "none", "--role", "service", "--site", "Nort"]) == 0
    assert "nobody is labelled 'Nort'; sites here: none yet" in capsys.readouterr().err
    for number in (1, 2):
        add(catalogue, header(number))
    catalogue.peers.add(Peer(ae_title="CT1", site="Annex"), by=TESTER)
    assert main([*create, "dup", "--role", "service", "--site", "Nort", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["name"] == "dup"
    assert "nobody is labelled 'Nort'; sites here: Annex, TEST" in shown.err
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE study SET departments = '{Radiology}'")
    rights = ["--role", "radiologist", "--site", "TEST", "--department"]
    assert main([*create, "a", *rights, "Radiologie"]) == 0
    assert "no study names 'Radiologie'; departments here: Radiology" in capsys.readouterr().err
    assert main([*create, "b", *rights, "Radiology"]) == 0
    said = capsys.readouterr().err
    assert "nobody" not in said and "no study" not in said


@pytest.mark.usefixtures("command")
def test_the_commands(catalogue: Catalogue, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "list"]) == 0
    assert "no token was ever made" in capsys.readouterr().out
    assert main(["tokens", "create", "Dr. Who", "--role", "radiologist"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("radir_") and len(shown.out.splitlines()) == 1
    assert "every request to the web service needs a token" in shown.err
    assert main(["tokens", "create", "pacs", "--role", "service", "--days", "0", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    known = Bearers(catalogue.access_tokens, Settings()).of(f"Bearer {made['token']}")
    assert known is not None and (known.name, known.role) == ("pacs", Role.SERVICE)
    assert main(["tokens", "revoke", "pacs"]) == 0
    assert main(["tokens", "revoke", "pacs"]) == 1
    assert main(["tokens", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert [(row["name"], row["in_force"]) for row in listed] == [("pacs", False), ("Dr. Who", True)]
    for wrong in (["create", "\x1b[2J", "--role", "service"], ["create", "x", "--role", "service", "--days", "-1"]):
        assert main(["tokens", *wrong]) == 1
