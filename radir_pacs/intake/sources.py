"""The source PACS: from which one a study came, and how it is asked (DICOMweb). Named by the administrator alone.

``sources_file`` names one for each site; ``pull_url`` stands for every site that it does not name.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from radir_pacs.config import LOOPBACK, Settings
from radir_pacs.errors import SettingError
from radir_pacs.scopes import SITE_LABEL
from radir_pacs.table_files import tables_of, text_of

_KNOWN = frozenset({"sites", "url", "authorization_file", "ca"})


@dataclass(frozen=True, kw_only=True)
class Pacs:
    """``url`` is its DICOMweb service root, ``authorization`` the header that it wants, if any.

    ca: file of the authorities (PEM) that its certificate must come from; empty: those of the system.
    """

    url: str
    authorization: str = field(default="", repr=False)
    ca: str = ""

    def headers(self, accept: str) -> dict[str, str]:
        """Of a request to it; its answer must not be compressed, as what is bounded are the bytes that come."""
        asked = {"Accept": accept, "Accept-Encoding": "identity"}
        return asked | ({"Authorization": self.authorization} if self.authorization else {})


@dataclass(frozen=True, kw_only=True)
class Sources:
    """``by_site``: of some labels of sites each; ``default``: of all others, None where there is none."""

    default: Pacs | None = None
    by_site: tuple[tuple[frozenset[str], Pacs], ...] = ()

    def __bool__(self) -> bool:
        return self.default is not None or bool(self.by_site)

    def of(self, sites: Iterable[str]) -> Pacs | None:
        """The PACS of a study that these sites sent: the first one that the file names for one of them."""
        sent = frozenset(sites)
        return next((pacs for named, pacs in self.by_site if named & sent), self.default)


NO_SOURCES = Sources()


def load_sources(settings: Settings) -> Sources:
    """Raises SettingError that names what is wrong."""
    default = Pacs(url=settings.pull_url, authorization=settings.pull_authorization) if settings.pull_url else None
    if not settings.sources_file:
        return Sources(default=default)
    file = settings.sources_file
    tables = tables_of("sources_file", file, text_of("sources_file", file), "source")
    found = tuple(_source(number, table) for number, table in enumerate(tables, 1))
    labels = [label for sites, _ in found for label in sites]
    if len(set(labels)) != len(labels):
        raise SettingError("sources_file: a site has two sources")
    return Sources(default=default, by_site=found)


def check_authorities(settings: Settings) -> None:
    """Raise SettingError for a ``ca`` that cannot be used. Only pulls from that PACS need it, and fail without it."""
    for number, (_, pacs) in enumerate(load_sources(settings).by_site, 1):
        try:
            if pacs.ca:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(pacs.ca)
        except ssl.SSLError:
            raise _wrong(number, "ca holds no certificate in PEM") from None
        except OSError:
            raise _wrong(number, "ca is no file that can be read") from None


def _source(number: int, table: dict[str, Any]) -> tuple[frozenset[str], Pacs]:
    if unknown := sorted(set(table) - _KNOWN):
        raise _wrong(number, f"{unknown[0]} is not known")
    sites = table.get("sites")
    if not isinstance(sites, list) or not sites or not all(isinstance(one, str) for one in sites):
        raise _wrong(number, "sites must be a list of labels; pull_url stands for all others")
    if not all(SITE_LABEL.fullmatch(one) for one in sites):
        raise _wrong(number, "a site is not a label")
    url, file, ca = (table.get(key, "") for key in ("url", "authorization_file", "ca"))
    if not all(isinstance(one, str) for one in (url, file, ca)):
        raise _wrong(number, "url, authorization_file and ca are texts")
    return frozenset(sites), Pacs(url=_checked(number, url), authorization=_read(number, file), ca=ca)


def _checked(number: int, url: str) -> str:
    try:
        told = urlsplit(url)
        is_safe = told.scheme == "https" or (told.scheme == "http" and told.hostname in LOOPBACK)
        is_whole = bool(told.hostname) and not (told.query or told.fragment)
    except ValueError:
        is_safe = is_whole = False
    if not (is_safe and is_whole):
        raise _wrong(number, "url does not begin with https:// (or http:// to this machine), or has a query")
    if "@" in url:  # also behind a / of a password
        raise _wrong(number, "no user or password in the url, use authorization_file")
    return url.rstrip("/")


def _read(number: int, file: str) -> str:
    """The header in that file, one line of ASCII."""
    if not file:
        return ""
    try:
        header = Path(file).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise _wrong(number, "authorization_file cannot be read") from None
    if not header or not header.isprintable():
        raise _wrong(number, "authorization_file holds no header")
    return header


def _wrong(number: int, what: str) -> SettingError:
    return SettingError(f"sources_file: source {number}: {what}")
