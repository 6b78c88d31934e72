"""How commands reach the web service of this machine: over https they trust its own certificate, and no other one."""

from __future__ import annotations

import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from radir_pacs.config import Settings
from radir_pacs.errors import SettingError


def session_of(settings: Settings) -> requests.Session:
    """For requests below ``web_url``. Raises SettingError for a certificate that cannot be read."""
    session = requests.Session()
    session.trust_env = False  # no proxy stands between
    if settings.web_tls_certificate:
        session.mount("https://", _OwnCertificate(settings.web_tls_certificate))
    return session


class _OwnCertificate(HTTPAdapter):
    """The host's name is not looked at: a command calls an address, for which no certificate is made."""

    def __init__(self, certificate: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be an authority's
        try:
            self._context.load_verify_locations(certificate)
        except (OSError, ssl.SSLError) as error:
            why = error.strerror or type(error).__name__
            raise SettingError(f"web_tls_certificate: cannot be used: {why}") from None
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named, ssl_context=self._context, assert_hostname=False)

    def cert_verify(self, *_: Any) -> None:
        """The context does that."""
