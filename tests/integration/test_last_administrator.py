"""An account that administers remains, unless a token or the provider's groups give that right too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from radir_pacs.access.administrators import may_be_without_account
from radir_pacs.callers import Role
from radir_pacs.catalogue import Catalogue, Rights
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import BadInput
from radir_pacs.scopes import Scope
from tests.accounts_material import Browser, add_account, forget
from tests.catalogue_material import TESTER
from tests.integration.conftest import Web

READER = Rights(role=Role.RADIOLOGIST, scope=Scope())
DEEDS: dict[str, Callable[[Catalogue, str], None]] = {
    "disable": lambda catalogue, name: catalogue.accounts.disable(name, by=TESTER),
    "demote": lambda catalogue, name: catalogue.accounts.set_rights(name, READER, by=TESTER),
    "remove": lambda catalogue, name: catalogue.accounts.remove(name, by=TESTER),
}


def administrators(catalogue: Catalogue) -> set[str]:
    found = [one for one in catalogue.accounts.all() if one.rights.role is Role.ADMINISTRATOR and not one.disabled_at]
    return {one.name for one in found}


@pytest.mark.parametrize("deed", DEEDS)
def test_the_last_one_stays(catalogue: Catalogue, deed: str) -> None:
    add_account(catalogue, "roth", Role.ADMINISTRATOR)
    add_account(catalogue, "meyer", Role.ADMINISTRATOR)
    add_account(catalogue, "reader")
    DEEDS[deed](catalogue, "meyer")
    with pytest.raises(BadInput, match="radir users add"):
        DEEDS[deed](catalogue, "ROTH")
    assert administrators(catalogue) == {"roth"}
    catalogue.accounts.set_rights("roth", Rights(role=Role.ADMINISTRATOR, scope=Scope(), names=True), by=TESTER)
    catalogue.accounts.disable("reader", by=TESTER)
    catalogue.accounts.remove("reader", by=TESTER)


@pytest.mark.parametrize("first", DEEDS)
@pytest.mark.parametrize("second", DEEDS)
def test_of_two_at_once_one_stays(catalogue: Catalogue, first: str, second: str) -> None:
    for name in ("roth", "meyer"):
        add_account(catalogue, name, Role.ADMINISTRATOR)
    both_are_there = threading.Barrier(2)

    def do(deed: str, name: str) -> bool:
        both_are_there.wait(10)
        try:
            DEEDS[deed](catalogue, name)
        except BadInput:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(do, (first, second), ("roth", "meyer")))
    assert sorted(done) == [False, True]
    assert len(administrators(catalogue)) == 1


def test_a_token_or_the_provider_may_stand_in(catalogue: Catalogue, settings: Settings, tmp_path: Path) -> None:
    tokens = catalogue.access_tokens
    assert not may_be_without_account(settings, tokens)
    assert may_be_without_account(replace(settings, api_tokens=("t" * 40,)), tokens)
    tokens.create("pacs", Role.SERVICE, by=TESTER)
    assert not may_be_without_account(settings, tokens)
    tokens.create("rescue", Role.ADMINISTRATOR, by=TESTER)
    assert may_be_without_account(settings, tokens)
    tokens.revoke("rescue", by=TESTER)
    mapping = tmp_path / "mapping.toml"
    of_provider = replace(
        settings, oidc_issuer="https://provider.example", oidc_client_id="radir", oidc_mapping=str(mapping)
    )
    assert not may_be_without_account(of_provider, tokens), "a file that cannot be read gives nobody a right"
    for role, is_enough in (("radiologist", False), ("administrator", True)):
        mapping.write_text(f'[[allow]]\ngroup = "g"\nrole = "{role}"\n')
        assert may_be_without_account(of_provider, tokens) == is_enough
    assert not may_be_without_account(replace(of_provider, oidc_issuer=""), tokens)


def test_by_command(
    catalogue: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_pacs.cli.users.must_run", lambda settings: None)
    add_account(catalogue, "roth", Role.ADMINISTRATOR)
    commands = (["disable", "roth"], ["remove", "roth"], ["set", "roth", "--role", "radiologist"])
    for command in commands:
        assert main(["users", *command]) == 1
        assert "radir users add NAME --role administrator" in capsys.readouterr().err.replace("\n", " ")
    catalogue.access_tokens.create("rescue", Role.ADMINISTRATOR, by=TESTER)
    assert main(["users", "disable", "roth"]) == 0


def test_by_page(web: Web, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two who administer, each of whom takes the other's right away; the second one's session was read before."""
    for name in ("roth", "meyer"):
        add_account(catalogue, name, Role.ADMINISTRATOR)
    forget(web)
    roth, meyer = Browser(web.root), Browser(web.root)
    assert roth.sign_in("roth").status_code == 303 and meyer.sign_in("meyer").status_code == 303
    secret = meyer.secret("/admin/accounts")
    assert roth.submit("/admin/accounts/meyer/disable", "/admin/accounts").status_code == 303
    held = web.app.extensions["radir"].sessions
    known = held.of(roth.cookies["radir_session"])
    assert known is not None
    monkeypatch.setattr(held, "of", lambda *_, **__: replace(known, caller=replace(known.caller, name="meyer")))
    for path, fields in (("disable", {}), ("remove", {}), ("", {"role": "radiologist"})):
        url = f"{web.root}/admin/accounts/roth/{path}".rstrip("/")
        answer = meyer.post(url, {"csrf": secret, **fields}, allow_redirects=False, timeout=30)
        assert (answer.status_code, "radir users add" in answer.text) == (400, True), path
    assert administrators(catalogue) == {"roth"}
