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
from radir_pacs.intake.sources import check_authorities, load_sources
from radir_pacs.table_files import text_of


@dataclass(frozen=True, kw_only=True)
class NamedFile:
    """A setting that names one. ``check`` is called where it has a value and ``is_used``, and raises SettingError.

    ``roles`` do not run without it, unless ``else_`` says what alone does not work then: they start with a warning.
    What only commands use is not listed: it must not keep an archive from running.
    """

    setting: str
    check: Callable[[Settings], object]
    roles: frozenset[Role]
    is_used: Callable[[Settings], object] = lambda _: True
    else_: str = ""


def check_files(settings: Settings, roles: Collection[Role] = ALL) -> None:
    """Raise SettingError, with what to do, for the first file that these roles need and cannot use.

    One that only a part of their work needs is told on standard error.
    """
    for named in FILES:
        if getattr(settings, named.setting) and named.is_used(settings) and not named.roles.isdisjoint(roles):
            try:
                named.check(settings)
            except SettingError as wrong:
                if named.else_:
                    print(f"warning: {wrong}; {named.else_}", file=sys.stderr, flush=True)
                    continue
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


def check_audit_authorities(settings: Settings) -> None:
    """Raise SettingError for what the receivers' certificates cannot be checked by.

    A FHIR server's may be by a folder (as /etc/ssl/certs), which syslog's connections do not read.
    """
    if settings.audit_syslog or not Path(settings.audit_ca).is_dir():
        check_certificates("audit_ca", settings)


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


def _certificate(setting: str, role: Role, is_used: Callable[[Settings], object]) -> NamedFile:
    """With its key."""
    check = partial(_check_certificate_and_key, setting)
    return NamedFile(setting=setting, check=check, roles=frozenset({role}), is_used=is_used)


def _authorities(setting: str, *roles: Role, is_used: Callable[[Settings], object]) -> NamedFile:
    check = partial(check_certificates, setting)
    return NamedFile(setting=setting, check=check, roles=frozenset(roles), is_used=is_used)


def _tells_of_audit(settings: Settings) -> bool:
    return bool(settings.audit_syslog or settings.audit_fhir)


def _check_rules(settings: Settings) -> None:
    from radir_pacs.dicom.rules import load_rules  # which reads headers by pydicom: half a second of each start

    load_rules(settings.rules_file)


TLS_FILES = (
    _certificate("listener_tls_certificate", Role.LISTENER, lambda its: its.listener_tls_port),
    _authorities("listener_tls_client_ca", Role.LISTENER, is_used=lambda its: its.listener_tls_port),
    _certificate("hl7_tls_certificate", Role.HL7, lambda its: its.hl7_port),
    _authorities("hl7_tls_client_ca", Role.HL7, is_used=lambda its: its.hl7_port and its.hl7_tls_certificate),
    _certificate("web_tls_certificate", Role.WEB, lambda _: True),
    _certificate("audit_certificate", Role.RELAY, _tells_of_audit),
    NamedFile(
        setting="audit_ca", check=check_audit_authorities, roles=frozenset({Role.RELAY}), is_used=_tells_of_audit
    ),
    _authorities("milvus_ca", Role.WEB, Role.INDEXER, is_used=lambda its: its.index_engine == "milvus"),
)
FILES = (
    NamedFile(setting="sources_file", check=load_sources, roles=ALL),
    NamedFile(
        setting="sources_file",
        check=check_authorities,
        roles=frozenset({Role.WEB, Role.TRANSFER, Role.WORKER}),
        else_="nothing is pulled from that PACS until then",
    ),
    NamedFile(setting="retention_file", check=retention_of, roles=ALL),
    NamedFile(setting="rules_file", check=_check_rules, roles=frozenset({Role.WORKER})),
    *TLS_FILES,
    NamedFile(
        setting="oidc_mapping",
        check=lambda settings: provider_mapping.load(settings.oidc_mapping),
        roles=frozenset({Role.WEB}),
        is_used=lambda settings: settings.oidc_issuer,
    ),
    NamedFile(
        setting="retrain_plan",
        check=_check_plan,
        roles=frozenset({Role.RELAY}),
        else_="no scheduled retraining begins until then",
    ),
    NamedFile(setting="models", check=lambda settings: check_bundles(settings.models), roles=frozenset({Role.WORKER})),
)
