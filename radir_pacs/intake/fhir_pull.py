"""Reports pulled from a FHIR server by search: what was changed since the last pull, page by page, within bounds."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from radir_pacs import durable
from radir_pacs.catalogue import ReportVersions
from radir_pacs.errors import BadInput, PeerFailed
from radir_pacs.intake.fhir import form_elsewhere, read_diagnostic_report
from radir_pacs.intake.fhir_authorization import Authorization, FixedAuthorization
from radir_pacs.intake.fhir_http import Wait, as_json, fetch
from radir_pacs.reasons import ReasonCode

MOST_PAGE_BYTES = 64 << 20
MOST_FORM_BYTES = 64 << 20
_MOST_PAGES = 100_000
_INCLUDED = ("subject", "based-on", "imaging-study")
_UNAUTHORIZED = 401
_NOT_ALLOWED = (_UNAUTHORIZED, 403)
_BAD = ReasonCode.PEER_BAD_ANSWER


@dataclass
class Pulled:
    """What became of the reports: by `Received`, and the reasons of those that could not be used."""

    received: dict[str, int] = field(default_factory=dict)
    unusable: list[str] = field(default_factory=list)  # id of the resource and why
    pages: int = 0


class FhirPull:
    """Pulls from the server at ``url``, without an authorization where none is given. ``wait``: sleeps, in seconds."""

    def __init__(
        self,
        url: str,
        versions: ReportVersions,
        state: Path,
        *,
        authorization: Authorization | None = None,
        wait: Wait = time.sleep,
    ) -> None:
        self._url = url.rstrip("/") + "/"
        if urlsplit(self._url).scheme not in ("http", "https") or not urlsplit(self._url).hostname:
            raise BadInput("the server's address does not begin with http:// or https://")
        self._versions, self._wait = versions, wait
        self._authorization = authorization or FixedAuthorization()
        self._state = state / f"fhir-{hashlib.sha256(self._url.encode()).hexdigest()[:16]}.json"

    def run(self, since: datetime | None = None) -> Pulled:
        """Take every report that changed since ``since``, or since the last pull that came to its end.

        A pull that breaks off is done again from the same moment, which changes nothing twice; one that only lacks a
        form begins next time with the first report whose form did not come. Raises PeerFailed.
        """
        began = since.isoformat() if since is not None else self._last()
        newest = began
        complete = True
        done = Pulled()
        for bundle in self._pages(began):
            done.pages += 1
            reports, others = _entries(bundle)
            for resource in reports:
                complete = self._take(resource, others, done) and complete
                meta = resource.get("meta")
                changed = meta.get("lastUpdated") if isinstance(meta, Mapping) else None
                if complete and isinstance(changed, str) and (newest is None or _later(changed, newest)):
                    newest = changed
        if newest is not None:
            self._state.parent.mkdir(parents=True, exist_ok=True)
            durable.replace(self._state, json.dumps({"since": newest}).encode())
        return done

    def _take(self, resource: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]], done: Pulled) -> bool:
        """Whether all of the report came, usable or not."""
        try:
            resource = self._with_form(resource)
            for version in read_diagnostic_report(resource, sender=urlsplit(self._url).netloc, others=others):
                received = self._versions.receive(version)
                done.received[received] = done.received.get(received, 0) + 1
        except (BadInput, PeerFailed) as error:
            done.unusable.append(f"{str(resource.get('id'))[:64]}: {error}")
            return isinstance(error, BadInput) or error.reason_code is ReasonCode.PEER_TOO_LARGE
        return True

    def _with_form(self, resource: Mapping[str, Any]) -> Mapping[str, Any]:
        """The report with the form that it only names, of the same server ("Binary/7"). Raises BadInput, PeerFailed."""
        elsewhere = form_elsewhere(resource)
        if elsewhere is None:
            return resource
        address, kind = elsewhere
        url = urljoin(self._url, address)
        if not self._is_ours(url):
            return resource  # its narrative may have the text
        status, sent_as, content = self._ask(url, kind or "*/*", MOST_FORM_BYTES)
        if status in _NOT_ALLOWED:  # the report is asked for again, since the authorization may be mended
            raise PeerFailed(
                f"presentedForm.url: the server answered {status}: it does not accept our authorization",
                reason_code=ReasonCode.PEER_REFUSED,
            )
        if status != 200:
            raise BadInput(
                f"presentedForm.url: the server answered {status}", reason_code=ReasonCode.DOCUMENT_UNREADABLE
            )
        data = base64.b64encode(content).decode()
        if sent_as.endswith("json") and isinstance(binary := as_json(content), Mapping):  # in place of what is inside
            kind, data = str(binary.get("contentType") or kind), str(binary.get("data") or "")
        return {**resource, "presentedForm": [{"contentType": kind or sent_as, "data": data}]}

    def _is_ours(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self._url)[:2]

    def _ask(self, url: str, accept: str, most_bytes: int) -> tuple[int, str, bytes]:
        """Status, media type, content; a token that the server takes no longer is renewed once."""
        for _ in range(2):
            headers = {"Accept": accept, **self._authorization.headers()}
            status, kind, content = fetch("GET", url, most_bytes=most_bytes, headers=headers, wait=self._wait)
            if status != _UNAUTHORIZED or not self._authorization.refused():
                break
        return status, kind, content

    def _last(self) -> str | None:
        try:
            found = json.loads(self._state.read_text()).get("since")
        except (OSError, ValueError, AttributeError):
            return None
        return found if isinstance(found, str) else None

    def _pages(self, since: str | None) -> Iterator[Mapping[str, Any]]:
        """The pages of the search; the next one is asked for where the server says, if that is the server itself."""
        parameters = [("_sort", "_lastUpdated"), ("_count", "100")]
        parameters += [("_include", f"DiagnosticReport:{name}") for name in _INCLUDED]
        if since:
            parameters.append(("_lastUpdated", f"ge{since}"))
        url = requests.Request("GET", urljoin(self._url, "DiagnosticReport"), params=parameters).prepare().url or ""
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            bundle = self._get(url)
            yield bundle
            links = [one for one in bundle.get("link") or [] if isinstance(one, Mapping)]
            following = next((one.get("url") for one in links if one.get("relation") == "next"), None)
            if not isinstance(following, str):
                return
            seen.add(url)
            url = urljoin(self._url, following)
            if not self._is_ours(url) or url in seen:
                raise PeerFailed("the next page is elsewhere, or was read already", reason_code=_BAD)

    def _get(self, url: str) -> Mapping[str, Any]:
        """One page."""
        status, _, content = self._ask(url, "application/fhir+json", MOST_PAGE_BYTES)
        if status in _NOT_ALLOWED:
            raise PeerFailed(
                f"the server answered {status}: it does not accept our authorization (--authorization-file, or"
                " fhir_client_id)",
                reason_code=ReasonCode.PEER_REFUSED,
            )
        if status != 200:
            raise PeerFailed(f"the server answered {status}", reason_code=ReasonCode.PEER_REFUSED)
        found = as_json(content)
        if found is None:
            raise PeerFailed("the server's answer is no JSON", reason_code=_BAD)
        if not isinstance(found, Mapping) or found.get("resourceType") != "Bundle":
            raise PeerFailed("the server's answer is no Bundle", reason_code=_BAD)
        return found


def _entries(bundle: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], dict[str, Mapping[str, Any]]]:
    """The reports of a page, and the other resources by what a report may call them."""
    reports, others = [], {}
    for entry in bundle.get("entry") or []:
        resource = entry.get("resource") if isinstance(entry, Mapping) else None
        if not isinstance(resource, Mapping):
            continue
        if resource.get("resourceType") == "DiagnosticReport":
            reports.append(resource)
            continue
        others[f"{resource.get('resourceType')}/{resource.get('id')}"] = resource
        if isinstance(entry.get("fullUrl"), str):
            others[entry["fullUrl"]] = resource
    return reports, others


def _later(one: str, other: str) -> bool:
    try:
        return datetime.fromisoformat(one) > datetime.fromisoformat(other)
    except (ValueError, TypeError):
        return False
