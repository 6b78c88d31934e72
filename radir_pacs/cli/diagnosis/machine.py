"""This machine: versions, codecs, device, disk, store, ports, certificates."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from radir_pacs import __version__, durable
from radir_pacs.cli.diagnosis.results import Check, CheckResult, error, ok, warning
from radir_pacs.cli.named_files import check_certificates, check_key
from radir_pacs.cli.state import read_state
from radir_pacs.cli.up import check_free
from radir_pacs.config import LOOPBACK, Settings
from radir_pacs.dicom.transfer_syntaxes import DECODABLE, DEFLATED_FRAMES, NATIVE
from radir_pacs.errors import BadInput, SettingError

_MIB = 1 << 20
_SOON_DAYS = 30
_FULL = 0.9


def versions(settings: Settings) -> Iterator[CheckResult]:
    yield ok("VERSION", f"RadIR-PACS {__version__} on Python {sys.version.split()[0]}")


def codecs(settings: Settings) -> Iterator[CheckResult]:
    """Every compressed transfer syntax that we accept has a decoder here."""
    missing = []
    for uid in sorted(DECODABLE - NATIVE - {DEFLATED_FRAMES}):
        if not get_decoder(UID(uid)).is_available:
            missing.append(UID(uid).name)
    if missing:
        yield error("CODEC_MISSING", f"no decoder for {', '.join(missing)}", "install the package again with pip")
    else:
        yield ok("CODECS", "every transfer syntax that is accepted can be decoded")


def device(settings: Settings) -> Iterator[CheckResult]:
    """Where the network will run."""
    from radir_pacs.encode import choose_device  # brings torch

    try:
        chosen = choose_device(settings.device)
    except BadInput as wrong:
        yield error("DEVICE", str(wrong), "set device to one that is there, or to auto")
        return
    if chosen.type == "cpu" and settings.device == "auto":
        yield warning("DEVICE_CPU", "no GPU: the network runs on the processor", "fine below some studies a minute")
    else:
        yield ok("DEVICE", f"the network runs on {chosen}")


def disk(settings: Settings) -> Iterator[CheckResult]:
    """Room on the disk of the home folder."""
    folder = next((one for one in (settings.home, *settings.home.parents) if one.exists()), Path("/"))
    usage = shutil.disk_usage(folder)
    free_mib = usage.free // _MIB
    if free_mib < settings.min_free_disk_mib:
        yield error(
            "DISK_FULL",
            f"{free_mib} MiB free, {settings.min_free_disk_mib} are kept free: instances are refused",
            "make room, or move the home folder to a larger disk",
        )
    elif usage.used > _FULL * usage.total:
        yield warning("DISK_NEARLY_FULL", f"{free_mib} MiB free of {usage.total // _MIB}", "make room soon")
    else:
        yield ok("DISK", f"{free_mib} MiB free of {usage.total // _MIB}")


def store(settings: Settings) -> Iterator[CheckResult]:
    """Whether a file can be made durable where instances are kept."""
    folder = settings.home / "blobs"
    if not folder.is_dir():
        yield ok("STORE", f"{folder} is made by the first start")
        return
    probe = folder / ".doctor"
    try:
        durable.replace(probe, b"\0" * 4096)
        probe.unlink()
    except OSError as failed:
        yield error(
            "STORE", f"{folder} cannot be written: {failed.strerror}", "mend the disk, or its owner and permissions"
        )
    else:
        yield ok("STORE", f"{folder} can be written")


def ports(settings: Settings) -> Iterator[CheckResult]:
    """Each port is free, or ours."""
    running = {str(child["name"]).partition("-")[0].partition("@")[0] for child in _children(settings)}
    for role, setting, host, port in (
        ("listener", "listener_port", settings.listener_host, settings.listener_port * settings.listener_plain),
        ("listener", "listener_tls_port", settings.listener_host, settings.listener_tls_port),
        ("web", "web_port", settings.web_host, settings.web_port),
        ("hl7", "hl7_port", settings.hl7_host, settings.hl7_port),
        ("supervisor", "monitor_port", settings.monitor_host, settings.monitor_port),
    ):
        if not port:
            continue
        code = f"PORT_{setting.removesuffix('_port').upper()}"
        if role in running or (running and role == "supervisor"):
            yield ok(code, f"{host}:{port} is used by our {role}")
            continue
        try:
            check_free(setting, host, port)
        except SettingError as taken:
            yield error(code, str(taken), "end the program that has it, or choose another port")
        else:
            yield ok(code, f"{host}:{port} is free")
    if settings.hl7_host not in LOOPBACK and settings.hl7_port and not settings.hl7_tls_certificate:
        yield warning(
            "HL7_CLEAR_TEXT", "HL7 messages come without TLS from other machines", "set hl7_tls_certificate, or tunnel"
        )


def _children(settings: Settings) -> list[dict[str, object]]:
    found: list[dict[str, object]] = (read_state(settings) or {}).get("processes", [])
    return found


def certificates(settings: Settings) -> Iterator[CheckResult]:
    """Certificates that the settings name, for how long they hold, and whether their keys fit."""
    for setting, advice in (
        ("hl7_tls_certificate", "renew it, and restart the HL7 listener"),
        ("hl7_tls_client_ca", "renew it, and restart the HL7 listener"),
        ("listener_tls_certificate", "renew it: the next connection uses the new one"),
        ("web_tls_certificate", "renew it: the next connection uses the new one"),
        ("listener_tls_client_ca", "renew it: the next connection uses the new one"),
        ("audit_certificate", "renew it: the next connection uses the new one"),
        ("audit_ca", "renew it: the next connection uses the new one"),
        ("milvus_ca", "renew it, and restart the web service and the indexer"),
    ):
        name: str = getattr(settings, setting)
        if not name:
            continue
        code = setting.upper()
        if setting == "audit_ca" and Path(name).is_dir() and not settings.audit_syslog:
            yield ok(code, f"{name} is a folder of authorities")
            continue
        try:
            check_certificates(setting, settings)
            ends = [one.not_valid_after_utc for one in x509.load_pem_x509_certificates(Path(name).read_bytes())]
        except (SettingError, ValueError) as wrong:
            what = str(wrong) if isinstance(wrong, SettingError) else f"{setting}: {name} holds no certificate"
            yield error(code, what, f"mend the file, or correct {setting}")
            continue
        until = min(ends) if setting.endswith("_certificate") else max(ends)  # a chain needs all, a peer one authority
        days = (until - datetime.now(UTC)).days
        if days < 0:
            yield error(code, f"{name} expired on {until:%Y-%m-%d}", advice)
        elif days < _SOON_DAYS:
            yield warning(code, f"{name} expires on {until:%Y-%m-%d}", advice)
        else:
            yield ok(code, f"{name} holds until {until:%Y-%m-%d}")
        if setting.endswith("_certificate"):
            yield _key_of(name, setting.replace("_certificate", "_key"), settings)


def _key_of(certificate: str, setting: str, settings: Settings) -> CheckResult:
    """Whether the key, which the certificate's file may hold too, can be read and is that of the certificate."""
    try:
        check_key(setting, settings)
    except SettingError as wrong:
        return error(setting.upper(), str(wrong), f"mend the file, or correct {setting}")
    return ok(setting.upper(), f"{getattr(settings, setting) or certificate} fits its certificate")


MACHINE: tuple[Check, ...] = (versions, codecs, device, disk, store, ports, certificates)
