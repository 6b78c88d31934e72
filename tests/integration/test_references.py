"""An anonymous reference finds its study again, for those who run the installation, and each look-up is recorded."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from radir_pacs.access.bearers import OF_SETTINGS
from radir_pacs.access.references import reference
from radir_pacs.callers import AuditEvent, Role
from radir_pacs.catalogue import AuditRow, Catalogue
from radir_pacs.cli import main
from radir_pacs.cli.caller import caller
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import SettingError
from tests.catalogue_material import add, header
from tests.integration.conftest import Web

TOKEN = "sixteen-letters!"


@pytest.fixture(autouse=True)
def studies(settings: Settings, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four studies, and commands that find this installation."""
    for study in range(1, 5):
        add(catalogue, header(study, accession_number=f"ACC-{study}"))
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_pacs.cli.resolve.must_run", lambda settings: None)


def looked_up(catalogue: Catalogue) -> list[AuditRow]:
    return list(catalogue.audit.events(event=AuditEvent.RESOLVED))


def test_the_administrator_resolves_what_was_copied(
    settings: Settings, catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = f"{reference('2.25.3', settings)} · left lower lobe · 0.941 · model-1"
    assert main(["resolve", copied, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"study": "2.25.3", "accession_number": "ACC-3"}]
    (event,) = looked_up(catalogue)
    assert (event.study_uid, event.role) == ("2.25.3", Role.COMMAND)
    assert event.detail == {"reference": reference("2.25.3", settings)}


def test_what_is_none_and_what_is_gone_are_told_apart(
    settings: Settings, catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = reference("2.25.4", settings)
    catalogue.studies.delete("2.25.4")
    assert main(["resolve", gone]) == 1
    assert "may have been deleted" in capsys.readouterr().err
    assert [event.study_uid for event in looked_up(catalogue)] == [None]
    assert main(["resolve", "2.25.3"]) == 1
    assert "not a reference of the form" in capsys.readouterr().err


def test_references_say_nothing_without_the_key(settings: Settings, tmp_path: Path) -> None:
    ours = [reference(f"2.25.{study}", settings) for study in range(1, 5)]
    assert len(set(ours)) == 4 and all(re.fullmatch(r"SC-[0-9A-F]{5}-[0-9A-F]{5}", text) for text in ours)
    assert stat.S_IMODE((settings.home / "reference.key").stat().st_mode) == 0o600
    other = Settings(home=tmp_path / "other", database_url=settings.database_url)
    other.home.mkdir()
    assert reference("2.25.1", other) != ours[0]


def test_pages_are_scanned_whole(catalogue: Catalogue) -> None:
    assert list(catalogue.studies.uids(page=3)) == [f"2.25.{study}" for study in range(1, 5)]
    assert list(catalogue.studies.uids(page=2)) == list(catalogue.studies.uids())


def test_it_is_pasted_where_studies_are_looked_for_but_not_in_a_sidebars_context(
    serve: Callable[..., Web], settings: Settings, catalogue: Catalogue
) -> None:
    web = serve(api_tokens=(TOKEN,))
    find = {"find": f"{reference('2.25.2', settings)} · heart · 0.8"}
    page = requests.get(web.root + "/", params=find, auth=("", TOKEN), timeout=30)
    assert set(re.findall(r'href="/studies/([0-9.]+)"', page.text)) == {"2.25.2"}
    (event,) = looked_up(catalogue)
    assert (event.caller, event.role, event.study_uid) == (OF_SETTINGS, Role.ADMINISTRATOR, "2.25.2")
    assert event.address == "127.0.0.1"
    catalogue.contexts.open("2.25.1", "a-context-token", 60)
    cookies = {"radir_context": "a-context-token"}
    page = requests.get(web.root + "/", params=find, cookies=cookies, timeout=30)
    assert page.status_code == 403 and "2.25.2" not in page.text
    assert requests.get(web.root + "/", params=find, timeout=30).status_code == 401
    assert len(looked_up(catalogue)) == 1


@pytest.mark.parametrize("content", [b"", b"short", bytes(31)])
def test_a_key_that_was_cut_short_is_refused(settings: Settings, content: bytes) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "reference.key").write_bytes(content)
    with pytest.raises(SettingError, match=r"reference\.key does not hold a key"):
        reference("2.25.1", settings)


def test_a_user_id_without_a_name_is_noted_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless(_: int) -> None:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr("pwd.getpwuid", nameless)
    assert caller().name == f"uid {os.getuid()}"
