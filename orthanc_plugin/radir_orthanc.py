# RadIR in Orthanc: hands stable studies over and shows similar cases.
# Copyright (C) 2026 the RadIR-PACS authors
#
# This program is free software: you can redistribute it and/or modify it under the terms of the GNU Affero General
# Public License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any
# later version. It runs inside Orthanc's Python plugin, which is under that licence; the service that it talks to over
# the network is a program of its own, under its own licence.
"""Entry point of the plugin: reads the configuration, registers the routes, starts the thread that hands over."""

from __future__ import annotations

import atexit
import html
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import orthanc
from radir_deletions import Deletions
from radir_forward import Forwarder
from radir_handover import Gone
from radir_proxy import PREFIX, RELAYED, ROUTES, Route, at_home, is_cross_site, is_start
from radir_queue import Queue
from radir_service import JSON, Answer, Service, Unavailable, Wanted

_UNKNOWN_RESOURCE = 17  # OrthancPluginErrorCode_UnknownResource
_UID = re.compile(r"[0-9][0-9.]{0,63}\Z")
_ORTHANC_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}\Z")
_JSON = "application/json"
_STORED = ("Success", "AlreadyStored")
_REPORT = Wanted(("application/dicom", *JSON))
_FOLDER = Path(__file__).resolve().parent
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'self'"
)


class OrthancRest:
    """Orthanc's REST API through the SDK: no socket, no credentials."""

    def get(self, uri: str) -> Any:
        return self._parsed(orthanc.RestApiGet, uri)

    def post(self, uri: str, body: Any) -> Any:
        return self._parsed(orthanc.RestApiPost, uri, json.dumps(body))

    def store(self, content: bytes) -> Any:
        return self._parsed(orthanc.RestApiPost, "/instances", content)

    def _parsed(self, call: Any, *arguments: Any) -> Any:
        try:
            return json.loads(call(*arguments))
        except orthanc.OrthancException as error:
            if error.args and error.args[0] == _UNKNOWN_RESOURCE:
                raise Gone from None
            raise OSError(str(error.args[-1]) if error.args else "Orthanc refused") from None


class Plugin:
    def __init__(self, configuration: dict[str, Any]) -> None:
        own = configuration.get("RadIR", {})
        self.forward = own.get("Forward", "store")
        if self.forward not in ("store", "pull", "off"):
            raise ValueError('RadIR.Forward is none of "store", "pull", "off"')
        self.dicom_web = "/" + str(configuration.get("DicomWeb", {}).get("Root", "dicom-web")).strip("/")
        self.rest = OrthancRest()
        url = str(own.get("Url", "http://127.0.0.1:8042"))
        self.service = Service(url, own.get("Token", ""), float(own.get("TimeBudget", 3.0)))
        folder = Path(own.get("QueueFolder") or configuration.get("StorageDirectory") or "OrthancStorage")
        folder.mkdir(parents=True, exist_ok=True)
        self.queue = Queue(folder / "radir-queue.sqlite")
        modality = own.get("Modality", "radir") if self.forward == "store" else None
        self.forwarder = Forwarder(
            self.rest, self.queue, self.service, modality, orthanc.LogWarning, self._deletions(own)
        )

    def _deletions(self, own: dict[str, Any]) -> Deletions | None:
        meaning = own.get("Deletions", "keep")
        if meaning not in ("keep", "follow"):
            raise ValueError('RadIR.Deletions is neither "keep" nor "follow"')
        grace_s = 3600.0 * float(own.get("DeletionGraceHours", 24.0))
        return Deletions(self.rest, self.queue, self.service, grace_s) if meaning == "follow" else None

    def start(self) -> None:
        """Start handing over in a thread, which is stopped before the interpreter ends.

        No callback is registered for changes or instances: while Orthanc stores, none of our code runs.
        """
        if self.forward != "off":
            self.forwarder.start()
            atexit.register(self.forwarder.stop)

    def similar(self, output: orthanc.RestOutput, uri: str, **request: Any) -> None:
        """GET /radir/similar/{Orthanc id or Study UID}?anatomy=…: rows. POST {"anatomy": …}: the report, kept here."""
        path = f"/dicom-web/studies/{self._study_uid(request['groups'][0])}/similar"
        if request["method"] == "GET":
            _relay(output, self.service.ask("GET", path + _query(request)))
        elif request["method"] == "POST":
            answer, kept = self._keep_report(path, request)
            if kept is None:
                _relay(output, answer)
            else:
                output.AnswerBuffer(json.dumps(kept).encode(), _JSON)
        else:
            output.SendMethodNotAllowed("GET,POST")

    def save(self, output: orthanc.RestOutput, uri: str, **request: Any) -> None:
        """POST /radir/api/studies/{Study UID}/report: what "Save to PACS" sends. The PACS is this Orthanc."""
        if request["method"] != "POST":
            output.SendMethodNotAllowed("POST")
            return
        answer, kept = self._keep_report(f"/dicom-web/studies/{request['groups'][0]}/similar", request)
        if kept is None:
            _relay(output, answer)
            return
        saved = {"stored": kept.get("Path"), "destination": "Orthanc", "job": None, "job_url": None}
        output.AnswerBuffer(json.dumps(saved).encode(), _JSON)

    def search(self, output: orthanc.RestOutput, uri: str, **request: Any) -> None:
        """GET /radir/dicom-web/studies?similarto=…: the QIDO form of the same query."""
        if request["method"] != "GET" or "similarto" not in request.get("get", {}):
            raise ValueError("ask GET with similarto")
        _relay(output, self.service.ask("GET", "/dicom-web/studies" + _query(request)))

    def status(self, output: orthanc.RestOutput, uri: str, **request: Any) -> None:
        """GET /radir/status: what is waiting, and whether the service answered lately. The service is not queried."""
        found = {
            "forward": self.forward,
            "queue": self.queue.summary(time.time()),
            "service": "left alone" if self.service.breaker.is_open else "in use",
            "destination": "left alone" if self.forwarder.breaker.is_open else "in use",
        }
        output.AnswerBuffer(json.dumps(found).encode(), _JSON)

    def panel(self, output: orthanc.RestOutput, uri: str, **request: Any) -> None:
        """GET /radir/panel?study={Orthanc id or Study UID}: a page with the sidebar, for anyone who can open a URL."""
        study = self._study_uid(unquote(request.get("get", {}).get("study", "")))
        page = (_FOLDER / "radir_panel.html").read_text("utf-8").replace("STUDY", html.escape(study))
        output.SetHttpHeader("Content-Security-Policy", _PAGE_POLICY)
        output.SetHttpHeader("Cache-Control", "no-store")
        output.AnswerBuffer(page.encode(), "text/html; charset=utf-8")

    def proxied(self, route: Route) -> Callable[..., None]:
        """The handler of a route that the service answers."""

        def answer(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
            if request["method"] != route.method:
                output.SendMethodNotAllowed(route.method)
                return
            path = route.path_of(uri)
            query = _query(request) if route.method == "GET" else ""
            accept = ", ".join(route.wanted.kinds or ("*/*",))
            found = self.service.ask(route.method, path + query, accept, route.wanted, request.get("body") or b"")
            if is_start(path):
                found = found._replace(body=at_home(found.body, self.dicom_web))
            _relay(output, found)

        return answer

    def _study_uid(self, name: str) -> str:
        if _ORTHANC_ID.match(name):
            return str(self.rest.get("/studies/" + name)["MainDicomTags"]["StudyInstanceUID"])
        if _UID.match(name):
            return name
        raise Gone

    def _keep_report(self, path: str, request: dict[str, Any]) -> tuple[Answer, dict[str, Any] | None]:
        """The service's answer, and Orthanc's answer on storing the report; None if there was no report."""
        query = _query(request)
        if "anatomy=" not in query:
            raise ValueError("name the region: anatomy")
        answer = self.service.ask("GET", path + query, "application/dicom, application/json;q=0.1", _REPORT)
        if answer.status != 200:
            return answer, None
        try:
            kept = self.rest.store(answer.body)
        except (Gone, OSError):
            raise Unavailable(502, "Orthanc did not take the report") from None
        if kept.get("Status") not in _STORED:  # a filter in Orthanc drops it, and Orthanc answers 200
            raise Unavailable(502, "Orthanc did not keep the report")
        return answer, kept


def guarded(handle: Callable[..., None]) -> Callable[..., None]:
    """``handle`` with every failure turned into an answer; pages of other sites cannot make it write."""

    def answer(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
        try:
            if request["method"] != "GET" and is_cross_site(request.get("headers", {})):
                _error(output, 403, "requests from pages of other sites are refused")
            else:
                handle(output, uri, **request)
        except Gone:
            _error(output, 404, "there is no such study")
        except ValueError as error:
            _error(output, 400, str(error))
        except Unavailable as error:
            _error(output, error.status, str(error))

    return answer


def _query(request: dict[str, Any]) -> str:
    """``?…`` from the parameters of a GET, or from a POST's body: Orthanc does not pass on those of a POST's URL.

    Orthanc 1.10 passes them on as they are in the URL, later releases decode them. Raises ValueError.
    """
    if request["method"] == "GET":
        found = {name: unquote(value) for name, value in request.get("get", {}).items()}
    else:
        try:
            found = json.loads(request.get("body") or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError("send the parameters as a JSON object of strings")
    return "?" + urlencode({str(name): str(value) for name, value in found.items()}, quote_via=quote) if found else ""


def _relay(output: orthanc.RestOutput, answer: Answer) -> None:
    for name in RELAYED:
        if name in answer.headers:
            output.SetHttpHeader(name.title(), answer.headers[name])
    if answer.status == 200:
        output.AnswerBuffer(answer.body, answer.content_type)
    else:
        _send(output, answer.status, answer.body)


def _error(output: orthanc.RestOutput, status: int, reason: str) -> None:
    _send(output, status, json.dumps({"error": {"code": "radir", "message": reason}}).encode())


def _send(output: orthanc.RestOutput, status: int, body: bytes) -> None:
    output.SetHttpHeader("Content-Type", _JSON)
    try:
        output.SendHttpStatus(status, body)
    except TypeError:  # up to release 4.1 of the Python plugin: a text, and the length of its bytes
        output.SendHttpStatus(status, body.decode("utf-8", "replace"), len(body))


def main() -> None:
    plugin = Plugin(json.loads(orthanc.GetConfiguration()))
    own = {
        "/status": plugin.status,
        "/panel": plugin.panel,
        "/similar/([^/]+)": plugin.similar,
        "/dicom-web/studies": plugin.search,
        "/dicom-web/studies/([^/]+)/similar": plugin.similar,
        "/api/studies/([0-9][0-9.]{0,63})/report": plugin.save,
    }
    for pattern, handle in own.items():
        orthanc.RegisterRestCallback(PREFIX + pattern, guarded(handle))
    for route in ROUTES:
        orthanc.RegisterRestCallback(route.pattern, guarded(plugin.proxied(route)))
    orthanc.ExtendOrthancExplorer((_FOLDER / "radir_explorer.js").read_text("utf-8"))
    plugin.start()


main()
