"""What a value of a setting must meet, whichever source it came from."""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from radir_pacs.errors import SettingError
from radir_pacs.scopes import SITE_LABEL

from .addresses import check_user_info

if TYPE_CHECKING:
    from .settings import Settings

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
SIDEBAR_SHOWS = frozenset({"patient", "age", "sex", "date", "report", "whole_report"})
_DESTINATION = re.compile(r"[^@\\]{1,16}@[^@]+:(?P<port>[0-9]{1,5})")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(?::[0-9]{1,2})?")
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_TOKEN_CHARACTERS = 16  # fewer could be guessed


def check(settings: Settings) -> None:
    """Raise SettingError for the first value that is wrong, alone or beside another."""
    for f in fields(settings):
        _check_bounds(f, getattr(settings, f.name))
    for name, titles in (
        ("ae_title", (settings.ae_title,)),
        ("calling_ae_titles", settings.calling_ae_titles),
        ("lut_shape_senders", settings.lut_shape_senders),
    ):
        for title in titles:
            _check_ae_title(name, title)
    if not _DEVICE.fullmatch(settings.device):
        raise SettingError(f"device: {settings.device!r} is none of auto, cpu, mps, cuda, cuda:0, cuda:1 …")
    if settings.web_host not in LOOPBACK and not settings.api_tokens and not settings.oidc_issuer:
        raise SettingError(f"api_tokens: needed when web_host is {settings.web_host!r}, which others can reach")
    if any(len(token) < _TOKEN_CHARACTERS for token in settings.api_tokens):
        raise SettingError(f"api_tokens: a token is shorter than {_TOKEN_CHARACTERS} characters")
    if settings.web_public_url and not settings.web_public_url.startswith(("http://", "https://")):
        raise SettingError(f"web_public_url: {settings.web_public_url!r} does not begin with http:// or https://")
    if settings.web_tls_key and not settings.web_tls_certificate:
        raise SettingError("web_tls_certificate: needed with web_tls_key")
    if settings.session_idle_s > settings.session_longest_s:
        raise SettingError("session_idle_s: more than session_longest_s")
    _check_provider(settings)
    if settings.traces_url and not settings.traces_url.startswith(("http://", "https://")):
        raise SettingError("traces_url: it does not begin with http:// or https://")
    if not SITE_LABEL.fullmatch(settings.pull_site):
        raise SettingError("pull_site: not a label: at most 64 printable characters of ASCII without a backslash")
    if settings.milvus_url and not settings.milvus_url.startswith(("http://", "https://")):
        raise SettingError("milvus_url: it does not begin with http:// or https://")
    check_user_info("milvus_url", settings.milvus_url)
    if "@" in settings.s3_endpoint:
        raise SettingError("s3_endpoint: no user or password in it, use s3_access_key_id and s3_secret_access_key")
    if settings.index_engine == "milvus" and not settings.milvus_url:
        raise SettingError("milvus_url: needed when index_engine is milvus")
    if settings.evict_files and not (settings.pull_url or settings.sources_file):
        raise SettingError("pull_url: needed with evict_files, files are removed only where they can be pulled again")
    if settings.evict_files and settings.blob_store and not settings.disk_budget_mib:
        raise SettingError(
            "disk_budget_mib: needed with evict_files and blob_store, the disk tells nothing of a bucket"
        )
    if settings.evict_below > settings.evict_above:
        raise SettingError("evict_below: more than evict_above, files would never be enough")
    if settings.listener_tls_port and not settings.listener_tls_certificate:
        raise SettingError("listener_tls_certificate: needed with listener_tls_port")
    if not settings.listener_plain and not settings.listener_tls_port:
        raise SettingError("listener_tls_port: needed when listener_plain is off: nothing could be sent here")
    if settings.fhir_client_id and not settings.fhir_client_key:
        raise SettingError("fhir_client_key: needed with fhir_client_id")
    for origin in settings.cors_origins:
        if not _ORIGIN.fullmatch(origin):
            raise SettingError(f"cors_origins: {origin!r} is not of the form https://host or https://host:port")
    for name, networks in (("trusted_proxies", settings.trusted_proxies), ("hl7_hosts", settings.hl7_hosts)):
        for network in networks:
            _check_network(name, network)
    for name, destinations in (
        ("return_destination", (settings.return_destination,)),
        ("commitment_destinations", settings.commitment_destinations),
    ):
        for text in destinations:
            destination = _DESTINATION.fullmatch(text)
            if text and not (destination and 0 < int(destination["port"]) < 65_536):
                raise SettingError(f"{name}: {text!r} is not of the form AET@host:port")
    _check_audit(settings)
    hours_of(settings.off_peak_hours)
    unknown = sorted(set(settings.sidebar_shows) - SIDEBAR_SHOWS)
    if unknown:
        raise SettingError(f"sidebar_shows: {unknown[0]!r} is not one of {', '.join(sorted(SIDEBAR_SHOWS))}")


def _check_provider(settings: Settings) -> None:
    issuer = settings.oidc_issuer
    if not issuer:
        return
    told = urlsplit(issuer)
    if told.scheme != "https" and not (told.scheme == "http" and told.hostname in LOOPBACK):
        raise SettingError("oidc_issuer: does not begin with https://, which only a provider on this machine may do")
    if told.query or told.fragment:
        raise SettingError("oidc_issuer: has a query or a fragment (OpenID Connect Discovery 1.0, 3)")
    for name in ("oidc_client_id", "oidc_mapping"):
        if not getattr(settings, name):
            raise SettingError(f"{name}: needed with oidc_issuer")
    if "openid" not in settings.oidc_scopes.split():
        raise SettingError("oidc_scopes: openid is missing")


def hours_of(written: str) -> tuple[int, int]:
    """From an hour, to an hour that is not in it any more; 22-5 goes past midnight. Raises SettingError."""
    found = re.fullmatch(r"(\d{1,2})-(\d{1,2})", written)
    hours = (int(found[1]), int(found[2])) if found else (24, 24)
    if max(hours) > 24 or hours[0] > 23:
        raise SettingError(f"off_peak_hours: {written!r} is not of the form 22-5")
    return hours


def _check_audit(settings: Settings) -> None:
    where = _HOST.fullmatch(settings.audit_syslog)
    if settings.audit_syslog and not (where and 0 < int(where["port"]) < 65_536):
        raise SettingError(f"audit_syslog: {settings.audit_syslog!r} is not of the form host:port")
    if settings.audit_fhir:
        try:
            url = urlsplit(settings.audit_fhir)
            is_safe = bool(url.hostname) and (
                url.scheme == "https" or (url.scheme == "http" and url.hostname in LOOPBACK)
            )
        except ValueError:
            is_safe = False
        if not is_safe:
            raise SettingError("audit_fhir: does not begin with https:// (or http:// to this machine)")
        if "@" in settings.audit_fhir:  # also behind a / of a password
            raise SettingError("audit_fhir: no user or password in it, use audit_fhir_authorization")


def _check_network(name: str, written: str) -> None:
    try:
        ipaddress.ip_network(written, strict=False)
    except ValueError:
        raise SettingError(f"{name}: {written!r} is not an IP address or network") from None


def _check_ae_title(name: str, title: str) -> None:
    if not 1 <= len(title.strip()) <= 16 or "\\" in title or not title.isascii() or not title.isprintable():
        raise SettingError(f"{name}: {title!r} is not an AE title (PS3.5 6.2: 1 to 16 characters, no backslash)")


def _check_bounds(f: Field[Any], value: Any) -> None:
    low, high, choices = (f.metadata[k] for k in ("low", "high", "choices"))
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingError(f"{f.name}: {value} is not a number to work with")
    if isinstance(value, tuple) and any(not part or "," in part or part != part.strip() for part in value):
        # Child processes get it as one comma-separated text, which must not yield an empty token or split one in two.
        raise SettingError(f"{f.name}: one of its values is empty, holds a comma or has spaces around it")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise SettingError(f"{f.name}: {value} is out of bounds, {bounds} is allowed")
    if choices and value not in choices:
        raise SettingError(f"{f.name}: {value!r} is not one of {', '.join(choices)}")
