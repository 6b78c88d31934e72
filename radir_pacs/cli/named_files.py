"""The files and folders that settings name: whether they can be used, told before anything starts, and by doctor."""

from __future__ import annotations

import ssl
import subprocess
import sys
import tomllib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from radir_pacs.access import provider_mapping
from radir_pacs.cli.roles import ALL, Role
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError
from radir_pacs.intake.retention import retention_of
from radir_pacs.intake.sources import load_sources
from radir_pacs.table_files import text_of


@dataclass(frozen=True, kw_only=True)
class NamedFile:
    """A setting that names one. ``check`` is called where it has a value, and raises SettingError.

    ``roles`` do not run without it. What only commands use is not listed: it must not keep an archive from running.
    """

    setting: str
    check: Callable[[Settings], object]
    roles: frozenset[Role]


def check_files(settings: Settings, roles: Collection[Role] = ALL) -> None:
    """Raise SettingError, with what to do, for the first file that these roles need and cannot use."""
    for named in FILES:
        if getattr(settings, named.setting) and not named.roles.isdisjoint(roles):
            try:
                named.check(settings)
            except SettingError as wrong:
                flag = named.setting.replace("_", "-")
                raise SettingError(f"{wrong}; mend the file, or name another by --{flag}") from None


def check_bundles(folders: Sequence[str]) -> None:
    """Raise SettingError for a bundle that no worker would serve. The shipped bundles need no check."""
    for folder in folders:
        if not (Path(folder) / "manifest.json").is_file():
            raise SettingError(f"models: {folder} holds no manifest.json, so it is no model bundle")
    if folders:
        command = [sys.executable, "-m", "radir_pacs.encode.check", *folders]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            raise SettingError(
                f"models: {''.join(done.stderr.strip().splitlines()[-1:]) or 'a bundle cannot be loaded'}"
            )


def check_certificates(setting: str, settings: Settings) -> None:
    """Raise SettingError unless the file holds certificates in PEM."""
    file = _read(setting, settings)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except OSError:  # which ssl.SSLError is
        raise SettingError(f"{setting}: {file} holds no certificate in PEM") from None


def check_key(setting: str, settings: Settings) -> None:
    """Raise SettingError unless the private key, which the certificate's file may hold too, is the certificate's."""
    of = setting.replace("_key", "_certificate")
    certificate: str = getattr(settings, of)
    key = _read(setting if getattr(settings, setting) else of, settings)
    if certificate:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
        except OSError:
            raise SettingError(f"{setting}: {key} holds no private key of {of}, {certificate}") from None


def _check_certificate_and_key(setting: str, settings: Settings) -> None:
    check_certificates(setting, settings)
    check_key(setting.replace("_certificate", "_key"), settings)


def _read(setting: str, settings: Settings) -> str:
    file: str = getattr(settings, setting)
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise SettingError(f"{setting}: {file} cannot be read: {error.strerror}") from None
    return file


def _check_plan(settings: Settings) -> None:
    """That it is TOML; what stands in it is looked at by `radir retrain --dry-run`, which knows plans."""
    try:
        tomllib.loads(text_of("retrain_plan", settings.retrain_plan))
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"retrain_plan: {settings.retrain_plan} is not TOML: {error}") from None


def _tls(prefix: str, authorities: str, *roles: Role) -> tuple[NamedFile, ...]:
    """The certificate with its key, and the file of the authorities."""
    certificate = f"{prefix}_certificate"
    checks = {certificate: _check_certificate_and_key} | ({authorities: check_certificates} if authorities else {})
    return tuple(
        NamedFile(setting=setting, check=partial(check, setting), roles=frozenset(roles))
        for setting, check in checks.items()
    )


def _check_rules(settings: Settings) -> None:
    from radir_pacs.dicom.rules import load_rules  # which reads headers by pydicom: half a second of each start

    load_rules(settings.rules_file)


TLS_FILES = (
    *_tls("listener_tls", "listener_tls_client_ca", Role.LISTENER),
    *_tls("hl7_tls", "hl7_tls_client_ca", Role.HL7),
    *_tls("web_tls", "", Role.WEB),
    *_tls("audit", "audit_ca", Role.RELAY),
    NamedFile(
        setting="milvus_ca", check=partial(check_certificates, "milvus_ca"), roles=frozenset({Role.WEB, Role.INDEXER})
    ),
)
FILES = (
    NamedFile(setting="sources_file", check=load_sources, roles=ALL),
    NamedFile(setting="retention_file", check=retention_of, roles=ALL),
    NamedFile(setting="rules_file", check=_check_rules, roles=frozenset({Role.WORKER})),
    *TLS_FILES,
    NamedFile(
        setting="oidc_mapping",
        check=lambda settings: provider_mapping.load(settings.oidc_mapping),
        roles=frozenset({Role.WEB}),
    ),
    NamedFile(setting="retrain_plan", check=_check_plan, roles=frozenset({Role.RELAY})),
    NamedFile(setting="models", check=lambda settings: check_bundles(settings.models), roles=frozenset({Role.WORKER})),
)
