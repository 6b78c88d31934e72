"""Accounts for tests, and browsers that sign in with them."""

from __future__ import annotations

import re

import requests

from radir_pacs.access import passwords
from radir_pacs.callers import Role
from radir_pacs.catalogue import Catalogue, Rights
from radir_pacs.scopes import Scope
from tests.catalogue_material import TESTER
from tests.integration.conftest import Web
from tests.integration.test_tokens import clear

PASSWORD = "four plain old words"
BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
EVERYTHING = Scope()


def add_account(
    catalogue: Catalogue,
    name: str = "meyer",
    role: Role = Role.RADIOLOGIST,
    *,
    scope: Scope = EVERYTHING,
    must_change: bool = False,
    names: bool = False,
) -> None:
    rights = Rights(role=role, scope=scope, names=names)
    catalogue.accounts.add(name, rights, passwords.hashed(PASSWORD), by=TESTER, must_change=must_change)


def forget(web: Web) -> None:
    """Let the service read tokens and sessions now, as it does once a second."""
    clear(web)
    web.app.extensions["radir"].sessions._fresh.clear()


class Browser(requests.Session):
    """Keeps cookies, follows no redirect by itself, and repeats the secrets of forms."""

    def __init__(self, root: str) -> None:
        super().__init__()
        self.root = root
        self.headers.update(BROWSER)

    def see(self, path: str, **more: object) -> requests.Response:
        return self.get(self.root + path, allow_redirects=False, timeout=30, **more)  # type: ignore[arg-type]

    def secret(self, path: str = "/sign-in") -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.see(path).text)
        assert found is not None, self.see(path).text
        return found[1]

    def submit(self, path: str, form_of: str = "", **fields: str) -> requests.Response:
        """Send a form with the secret of the page that shows it."""
        data = {"csrf": self.secret(form_of or path), **fields}
        return self.post(self.root + path, data, allow_redirects=False, timeout=30)

    def sign_in(self, name: str = "meyer", password: str = PASSWORD, **fields: str) -> requests.Response:
        return self.submit("/sign-in", name=name, password=password, **fields)
