"""A setting that names a file which cannot be used is refused before anything starts, in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from radir_pacs.cli.diagnosis import Check, Level, machine, services
from radir_pacs.cli.named_files import FILES, check_files
from radir_pacs.cli.roles import ALL, Role
from radir_pacs.cli.up import running
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError
from tests.certificates import Authority
from tests.conftest import free_port

_NAMES_A_FILE = re.compile(r"^(File of|TOML file|Bundle folders|The plan|The dist folder)")
_OF_COMMANDS = {"backup_key", "fhir_client_key", "ohif_folder"}  # what runs does not need them; doctor looks at them
_WITH_THEIR_CERTIFICATE = {"listener_tls_key", "hl7_tls_key", "web_tls_key", "audit_key"}
WHO_NEEDS = {named.setting: named.roles for named in FILES}


def test_every_setting_that_names_a_file_is_looked_at() -> None:
    naming = {f.name for f in fields(Settings) if _NAMES_A_FILE.match(f.metadata["doc"])}
    assert naming == WHO_NEEDS.keys() | _OF_COMMANDS | _WITH_THEIR_CERTIFICATE


def told(settings: Settings, roles: frozenset[Role] = ALL) -> str:
    with pytest.raises(SettingError) as refused:
        check_files(settings, roles)
    return str(refused.value)


@pytest.mark.parametrize("setting", WHO_NEEDS)
def test_a_file_that_is_missing_is_named_with_what_to_do(setting: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    named: dict[str, Any] = {setting: (missing,) if setting == "models" else missing}
    settings = replace(Settings(home=tmp_path), **named)
    line = told(settings)
    assert line.startswith(f"{setting}: {missing} ") and line.endswith(f"name another by --{setting.replace('_', '-')}")
    assert "\n" not in line
    for role in Role:
        if role in WHO_NEEDS[setting]:
            assert told(settings, frozenset({role})) == line
        else:
            check_files(settings, {role})  # a machine needs the files of its own roles


@pytest.mark.parametrize("setting", sorted(WHO_NEEDS.keys() - {"models"}))
def test_a_file_of_something_else_is_refused(setting: str, tmp_path: Path) -> None:
    (tmp_path / "odd").write_text("= this is [neither")
    named: dict[str, Any] = {setting: str(tmp_path / "odd")}
    settings = replace(Settings(home=tmp_path), **named)
    line = told(settings)
    assert line.startswith(f"{setting}: ") and "odd" in line and "\n" not in line


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    own, other = authority.issue("own"), authority.issue("other")
    settings = Settings(home=tmp_path, web_tls_certificate=str(own.certificate), web_tls_key=str(own.key))
    check_files(settings)
    assert told(replace(settings, web_tls_key=str(other.key))).startswith(f"web_tls_key: {other.key} holds no private")
    assert told(replace(settings, web_tls_key="")).startswith("web_tls_key: ")
    assert told(replace(settings, web_tls_key=str(tmp_path / "gone"))).startswith("web_tls_key: ")


@pytest.fixture
def rules(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "rules.toml"
    file.write_text("[[rule]]\nname = 'one'\nencode = 'perhaps'\n")
    yield file


@pytest.mark.parametrize(
    ("command", "status"), [(("up",), 1), (("serve", "worker", "--database-url", "postgresql://nowhere.invalid"), 78)]
)
def test_nothing_is_started_with_rules_that_no_worker_reads(
    command: tuple[str, ...], status: int, rules: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    words = [sys.executable, "-m", "radir_pacs.cli", *command, "--home", str(home), "--rules-file", str(rules)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert done.stderr.strip() == (
        "error: rules_file: rule one: encode must be true or false; mend the file, or name another by --rules-file"
    )
    assert not (home / "postgres").exists()


def test_a_folder_as_blob_store_is_refused_before_anything_starts(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path / "home", blob_store="/mnt/files", web_port=free_port(), listener_port=free_port()
    )
    with (
        pytest.raises(SettingError, match=r"^blob_store: '/mnt/files' is not of the form s3://bucket"),
        running(settings),
    ):
        pass
    assert not (settings.home / "postgres").exists()


def test_doctor_reports_them(tmp_path: Path) -> None:
    checks: tuple[Check, ...] = (
        *(machine.certificates, services.rules, services.retention),
        *(services.backup_key, services.named_files),
    )
    for setting in WHO_NEEDS.keys() | _OF_COMMANDS | _WITH_THEIR_CERTIFICATE:
        missing = str(tmp_path / "missing")
        named: dict[str, Any] = {setting: (missing,) if setting == "models" else missing}
        if setting in _WITH_THEIR_CERTIFICATE:
            named[setting.replace("_key", "_certificate")] = str(Authority(tmp_path, "ca").file)
        settings = replace(Settings(home=tmp_path), **named)
        bad = [one for check in checks for one in check(settings) if one.level is not Level.OK]
        assert any(setting in one.what and missing in one.what and one.advice for one in bad), setting
