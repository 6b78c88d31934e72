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
WHO_NEEDS = {named.setting: named.roles for named in FILES if not named.else_}
_DO_WITHOUT = {"retrain_plan"}
_ON: dict[str, dict[str, Any]] = {  # what uses a file
    "listener_tls": {"listener_tls_port": 2762},
    "hl7_tls": {"hl7_port": 2575},
    "audit": {"audit_syslog": "collector:6514"},
    "milvus": {"index_engine": "milvus", "milvus_url": "https://milvus"},
    "oidc": {"oidc_issuer": "https://provider", "oidc_client_id": "radir"},
}


def test_every_setting_that_names_a_file_is_looked_at() -> None:
    naming = {f.name for f in fields(Settings) if _NAMES_A_FILE.match(f.metadata["doc"])}
    assert naming == WHO_NEEDS.keys() | _DO_WITHOUT | _OF_COMMANDS | _WITH_THEIR_CERTIFICATE


def naming(setting: str, file: str, home: Path, *, used: bool = True) -> Settings:
    """Settings that name the file, and turn on what uses it."""
    named: dict[str, Any] = {setting: (file,) if setting == "models" else file}
    if used:
        named |= next((on for prefix, on in _ON.items() if setting.startswith(prefix)), {})
        if setting.endswith("_client_ca"):
            own, of = Authority(home, "of-ours").issue("ours"), setting.removesuffix("_client_ca")
            named |= {f"{of}_certificate": str(own.certificate), f"{of}_key": str(own.key)}
    return replace(Settings(home=home), **named)


def told(settings: Settings, roles: frozenset[Role] = ALL) -> str:
    with pytest.raises(SettingError) as refused:
        check_files(settings, roles)
    return str(refused.value)


@pytest.mark.parametrize("setting", WHO_NEEDS)
def test_a_file_that_is_missing_is_named_with_what_to_do(setting: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    settings = naming(setting, missing, tmp_path)
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
    line = told(naming(setting, str(tmp_path / "odd"), tmp_path))
    assert line.startswith(f"{setting}: ") and "odd" in line and "\n" not in line


@pytest.mark.parametrize("setting", sorted(one for one in WHO_NEEDS if one.startswith(tuple(_ON))))
def test_a_file_that_nothing_uses_keeps_no_role_from_starting(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_files(naming(setting, str(tmp_path / "missing"), tmp_path, used=False))
    assert capsys.readouterr().err == ""


def test_a_folder_of_authorities_serves_where_only_fhir_uses_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, audit_ca=str(tmp_path), audit_fhir="https://collector/fhir")
    check_files(settings)
    (found,) = machine.certificates(settings)
    assert found.level is Level.OK
    assert "Is a directory" in told(replace(settings, audit_syslog="collector:6514"))


def test_a_plan_that_cannot_be_read_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan").write_text("= this is [neither")
    settings = Settings(home=tmp_path, retrain_plan=str(tmp_path / "plan"))
    check_files(settings)
    said = capsys.readouterr().err
    assert said.startswith("warning: retrain_plan: ") and said.endswith("no scheduled retraining begins until then\n")
    check_files(settings, {Role.WEB})
    assert capsys.readouterr().err == ""
    assert [one.level for one in services.named_files(settings)] == [Level.ERROR]


@pytest.mark.parametrize("ca", ["missing", "odd"])
def test_authorities_of_a_source_that_cannot_be_used_are_a_warning(
    ca: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd").write_text("no certificate")
    sources = tmp_path / "sources.toml"
    sources.write_text(f'[[source]]\nsites = ["A"]\nurl = "https://pacs"\nca = "{tmp_path / ca}"\n')
    settings = Settings(home=tmp_path, sources_file=str(sources))
    check_files(settings)
    said = capsys.readouterr().err
    assert said.startswith("warning: sources_file: source 1: ca ") and "nothing is pulled" in said
    check_files(settings, {Role.LISTENER})
    assert capsys.readouterr().err == ""
    assert [one.level for one in services.named_files(settings)] == [Level.ERROR]


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
    for setting in WHO_NEEDS.keys() | _DO_WITHOUT | _OF_COMMANDS | _WITH_THEIR_CERTIFICATE:
        missing = str(tmp_path / "missing")
        named: dict[str, Any] = {setting: (missing,) if setting == "models" else missing}
        if setting in _WITH_THEIR_CERTIFICATE:
            named[setting.replace("_key", "_certificate")] = str(Authority(tmp_path, "ca").file)
        settings = replace(Settings(home=tmp_path), **named)
        bad = [one for check in checks for one in check(settings) if one.level is not Level.OK]
        assert any(setting in one.what and missing in one.what and one.advice for one in bad), setting
