"""Questions to a running service, over DICOMweb as any other client asks them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from requests.auth import AuthBase

from radir_pacs.delivery.dicom_json import PRIVATE_TAGS
from radir_pacs.errors import BadInput, NotFound, NotReady, PeerFailed, RoleMayNot, SignInFailed, TooManyRequests

_PAUSE_S = 1.0
_STUDY = "0020000D"
_WARNING = re.compile(  # as RFC 7234 5.5 has it, or as PS3.18 8.3.4.4 words it: without quotes, after a colon
    r'299 \S+ "((?:[^"\\]|\\.)*)"|299 \S+: (.*?)(?=, 299 \S+[: ]|\Z)'
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """``attributes``: the whole row in the DICOM JSON model, with whatever the token may see of the patient."""

    study_uid: str
    rank: int
    score: float
    region: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``warnings``: what a user of the cases must be told, such as that a region around it answered."""

    cases: tuple[Case, ...]
    model_id: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Token(AuthBase):
    token: str

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class Service:
    """A service at ``url``, such as http://127.0.0.1:8042, asked with the token if there is one."""

    def __init__(self, url: str, token: str = "", *, timeout_s: float = 60.0) -> None:
        self._root = url.rstrip("/") + "/dicom-web"
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/dicom+json"
        self._session.auth = _Token(token)  # also without one: else ~/.netrc would be asked, and replace it
        self._timeout_s = timeout_s

    def similar(
        self,
        study_uid: str,
        region: str = "",
        limit: int = 10,
        *,
        words: str = "",
        words_of: str = "region",
        wait_s: float = 0.0,
        **filters: str,
    ) -> Answer:
        """The cases most like a study at a region, by default the whole chest. ``filters``: docs/how-to/ask.md.

        ``words``: any, also such as no model was trained on; they order the cases most alike in the region, by default
        in the one they name. ``words_of``: whether they name a "region" or a "finding". ``Answer.warnings`` say what
        that is worth.

        A study that is still being encoded is asked about for ``wait_s`` seconds. Raises BadInput, NotFound, NotReady,
        PeerFailed, SignInFailed without a valid token, RoleMayNot, TooManyRequests.
        """
        asked = {"words": words, "wordsof": words_of} if words else {}
        wanted = {**({"anatomy": region} if region else {}), **asked, "limit": str(limit), **filters}
        until = time.monotonic() + wait_s
        while True:
            answer = self._ask(f"/studies/{study_uid}/similar", wanted)
            if answer.status_code != 503 or time.monotonic() + _PAUSE_S > until:
                break
            time.sleep(_PAUSE_S)
        _raise_for(answer)
        rows = answer.json() if answer.content else []
        warned = answer.headers.get("Warning", "")
        return Answer(
            cases=tuple(_case(row) for row in rows),
            model_id=str(_private(rows[0], "model_id")) if rows else "",
            warnings=tuple(re.sub(r"\\(.)", r"\1", quoted) or plain for quoted, plain in _WARNING.findall(warned)),
        )

    def studies(self, **keys: str) -> list[Mapping[str, Any]]:
        """Rows of a QIDO-RS search for studies; ``keys`` are its matching keys, such as Modality="CT"."""
        answer = self._ask("/studies", keys)
        _raise_for(answer)
        found: list[Mapping[str, Any]] = answer.json() if answer.content else []
        return found

    def _ask(self, path: str, parameters: Mapping[str, str]) -> requests.Response:
        try:
            return self._session.get(self._root + path, params=dict(parameters), timeout=self._timeout_s)
        except requests.RequestException as error:
            raise PeerFailed(f"the service does not answer: {type(error).__name__}") from None


def _raise_for(answer: requests.Response) -> None:
    if answer.ok:
        return
    try:
        said = str(answer.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        said = f"the service answered {answer.status_code}"
    if answer.status_code == 429:
        wait = answer.headers.get("Retry-After", "")
        raise TooManyRequests(said, wait_s=int(wait) if wait.isdecimal() else 1)
    kinds = {401: SignInFailed, 403: RoleMayNot, 404: NotFound, 503: NotReady}
    raise kinds.get(answer.status_code, BadInput if answer.status_code < 500 else PeerFailed)(said)


def _case(row: Mapping[str, Any]) -> Case:
    return Case(
        study_uid=str(row[_STUDY]["Value"][0]),
        rank=int(_private(row, "rank")),
        score=float(_private(row, "score")),
        region=str(_private(row, "region_answered_key")),
        attributes=row,
    )


def _private(row: Mapping[str, Any], name: str) -> Any:
    return row[PRIVATE_TAGS[name]]["Value"][0]
