"""What is open on this machine: the home folder, the service without a token, patients in an emergency, plain DICOM."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import requests

from radir_pacs.access.bearers import Bearers
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.diagnosis.results import CheckResult, ok, warning
from radir_pacs.cli.web_service import session_of
from radir_pacs.config import LOOPBACK, Settings
from radir_pacs.errors import SettingError

_ANSWER_S = 3.0


def home_folder(settings: Settings) -> Iterator[CheckResult]:
    """Whether others on this machine can get at images, reports and keys."""
    if not settings.home.is_dir():
        return
    if stat.S_IMODE(settings.home.stat().st_mode) & stat.S_IRWXO:
        yield warning(
            "HOME_OPEN", f"everybody on this machine can look into {settings.home}", f"chmod 0700 {settings.home}"
        )
    else:
        yield ok("HOME", "the home folder is closed to others")


def plain_dicom(settings: Settings) -> Iterator[CheckResult]:
    """Whether DICOM still comes unencrypted from other machines beside TLS."""
    if settings.listener_tls_port and settings.listener_plain and settings.listener_host not in LOOPBACK:
        yield warning(
            "DICOM_PLAIN",
            f"port {settings.listener_port} takes DICOM without TLS beside port {settings.listener_tls_port}",
            "when all senders speak TLS: listener_plain = false",
        )


def tokens(catalogue: Catalogue, settings: Settings) -> Iterator[CheckResult]:
    """Whether the web service asks who somebody is."""
    if Bearers(catalogue.access_tokens, settings).are_needed:
        yield ok("TOKENS", "the web service asks for a token or an account")
        return
    asks = _running_service_asks(settings)
    if asks:
        yield ok("TOKENS", "the web service asks for a token, which its own settings hold and those here do not")
        return
    what = "no token or account was ever made: whoever is on this machine may do everything"
    if asks is None:  # a service may have variables of its own
        what += f", unless the web service, which does not answer at {settings.web_url}, has api_tokens of its own"
    make = 'radir tokens create "YOUR NAME" --role administrator, or radir users; then nobody gets in without one'
    yield warning("NO_TOKENS", what, make)


def _running_service_asks(settings: Settings) -> bool | None:
    """Whether the web service that runs here turns away who has no token; None where none of ours answers."""
    try:
        answer = session_of(settings).get(f"{settings.web_url}/api/regions", timeout=_ANSWER_S)
    except (requests.RequestException, SettingError):
        return None
    if answer.status_code == 401 and "radir" in answer.headers.get("WWW-Authenticate", ""):
        return True
    return False if answer.status_code == 200 else None


def emergencies(catalogue: Catalogue, settings: Settings) -> Iterator[CheckResult]:
    """Whether patients are open to somebody out of scope."""
    count = sum(one.is_open for one in catalogue.emergencies.all())
    if count:
        yield warning("EMERGENCY_OPEN", f"{count} open out of scope in an emergency", "radir emergencies list says why")
    elif settings.emergency_access:
        yield ok("EMERGENCY_ACCESS", "radiologists may open a patient out of scope by giving a reason; none is open")
