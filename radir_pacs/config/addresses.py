"""URLs that may hold a password: in ours, what is shown of one never is a part of it."""

from __future__ import annotations

import re

from radir_pacs.errors import SettingError

_AUTHORITY = re.compile(r"(?:[^@]*@)?(?:\[[^][@]*\]|[^][@:]*)(?::[0-9]*)?")


def check_user_info(setting: str, url: str) -> None:
    """Raise SettingError where a part of a password would be read as host, port, path or query, which messages show.

    RFC 3986, 3.2: user and password end at the only @ before the first /, ? or #.
    """
    rest = url.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in rest[len(authority) :] or not _AUTHORITY.fullmatch(authority):
        raise SettingError(f"{setting}: in a URL, @ / ? and # of a password are written %40 %2F %3F and %23")
