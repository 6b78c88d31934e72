# RadIR in Orthanc: hands stable studies over and shows similar cases.
# Copyright (C) 2026 the RadIR-PACS authors
#
# This program is free software: you can redistribute it and/or modify it under the terms of the GNU Affero General
# Public License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any
# later version. It runs inside Orthanc's Python plugin, which is under that licence; the service that it talks to over
# the network is a program of its own, under its own licence.
"""Entry of the plugin: reads the configuration, registers the routes and the change callback."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import orthanc
from radir_forward import Forwarder, Gone
from radir_queue import Queue
from radir_service import Service, Unavailable

_UNKNOWN_RESOURCE = 17  # OrthancPluginErrorCode_UnknownResource
_UID = re.compile(r"[0-9][0-9.]{0,63}\Z")
_ORTHANC_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}\Z")
_JSON = "application/json"


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
        self.url = str(own.get("Url", "http://127.0.0.1:8042")).rstrip("/")
        self.public_url = str(own.get("PublicUrl", self.url)).rstrip("/")
        self.forward = own.get("Forward", "store")
        if self.forward not in ("store", "pull", "off"):
            raise ValueError('RadIR.Forward is none of "store", "pull", "off"')
        self.rest = OrthancRest()
        self.service = Service(self.url, own.get("Token", ""), float(own.get("TimeBudget", 3.0)))
        folder = Path(own.get("QueueFolder") or configuration.get("StorageDirectory") or "OrthancStorage")
        folder.mkdir(parents=True, exist_ok=True)
        self.queue = Queue(folder / "radir-queue.sqlite")
        modality = own.get("Modality", "radir") if self.forward == "store" else None
        self.forwarder = Forwarder(self.rest, self.queue, self.service, modality, orthanc.LogWarning)

    def on_change(self, change: int, level: int, resource: str) -> None:
        """Called by Orthanc for each change: nothing is done here but waking somebody."""
        if self.forward == "off":
            return
        if change == orthanc.ChangeType.ORTHANC_STARTED:
            self.forwarder.start()
        elif change == orthanc.ChangeType.STABLE_STUDY:
            self.forwarder.wake()
        elif change == orthanc.ChangeType.ORTHANC_STOPPED and self.forwarder.is_alive():
            self.forwarder.stop()

    def similar(self, output: Any, uri: str, **request: Any) -> None:
        """GET /radir/similar/{Orthanc id or Study UID}?anatomy=…: rows. POST {"anatomy": …}: the report, kept here."""
        try:
            study_uid = self._study_uid(request["groups"][0])
            path = f"/dicom-web/studies/{study_uid}/similar?{_query(request)}"
            if request["method"] == "POST":
                self._keep_report(output, path)
            elif request["method"] == "GET":
                _relay(output, self.service.ask("GET", path))
            else:
                output.SendMethodNotAllowed("GET,POST")
        except Gone:
            _error(output, 404, "there is no such study")
        except ValueError:
            _error(output, 400, "send the parameters as a JSON object of texts")
        except Unavailable as error:
            _error(output, error.status, str(error))

    def search(self, output: Any, uri: str, **request: Any) -> None:
        """GET /radir/dicom-web/studies?similarto=…: the QIDO form of the same query."""
        if request["method"] != "GET" or "similarto" not in request.get("get", {}):
            _error(output, 400, "ask GET with similarto")
            return
        try:
            _relay(output, self.service.ask("GET", "/dicom-web/studies?" + _query(request)))
        except Unavailable as error:
            _error(output, error.status, str(error))

    def status(self, output: Any, uri: str, **request: Any) -> None:
        """GET /radir/status: what waits, and whether the service was heard of lately. It is not asked for this."""
        found = {
            "forward": self.forward,
            "queue": self.queue.summary(time.time()),
            "service": "left alone" if self.service.breaker.is_open else "in use",
            "destination": "left alone" if self.forwarder.breaker.is_open else "in use",
        }
        output.AnswerBuffer(json.dumps(found), _JSON)

    def explorer(self) -> str:
        """The script of button and panel in Orthanc Explorer."""
        script = (Path(__file__).resolve().parent / "radir_explorer.js").read_text("utf-8")
        return f"const RADIR_PUBLIC_URL = {json.dumps(self.public_url)};\n{script}"

    def _study_uid(self, name: str) -> str:
        if _ORTHANC_ID.match(name):
            return str(self.rest.get("/studies/" + name)["MainDicomTags"]["StudyInstanceUID"])
        if _UID.match(name):
            return name
        raise Gone

    def _keep_report(self, output: Any, path: str) -> None:
        answer = self.service.ask("GET", path, "application/dicom, application/json;q=0.1")
        if answer.status != 200:
            _relay(output, answer)
            return
        try:
            output.AnswerBuffer(json.dumps(self.rest.store(answer.body)), _JSON)
        except OSError:
            _error(output, 502, "Orthanc did not take the report")


def _query(request: dict[str, Any]) -> str:
    """The parameters of a GET, or of a POST from its body: Orthanc hands none over that stand in a POST's URL.

    Orthanc 1.10 gives them as they stand in the URL, later releases decoded. Raises ValueError.
    """
    if request["method"] == "GET":
        return urlencode({name: unquote(value) for name, value in request.get("get", {}).items()}, quote_via=quote)
    sent = json.loads(request.get("body") or b"{}")
    if not isinstance(sent, dict):
        raise ValueError("not an object")
    return urlencode({str(name): str(value) for name, value in sent.items()}, quote_via=quote)


def _relay(output: Any, answer: Any) -> None:
    if answer.warning:
        output.SetHttpHeader("Warning", answer.warning)
    if answer.status == 200:
        output.AnswerBuffer(answer.body, answer.content_type.partition(";")[0])
    else:
        _send(output, answer.status, answer.body)


def _error(output: Any, status: int, reason: str) -> None:
    _send(output, status, json.dumps({"error": {"code": "radir", "message": reason}}).encode())


def _send(output: Any, status: int, body: bytes) -> None:
    output.SetHttpHeader("Content-Type", _JSON)
    text = body.decode("utf-8", "replace")
    try:
        output.SendHttpStatus(status, text, len(text.encode()))
    except TypeError:  # a release of the plugin that takes the length from the body
        output.SendHttpStatus(status, text)


def main() -> None:
    plugin = Plugin(json.loads(orthanc.GetConfiguration()))
    orthanc.RegisterOnChangeCallback(plugin.on_change)
    orthanc.RegisterRestCallback("/radir/status", plugin.status)
    orthanc.RegisterRestCallback("/radir/similar/([^/]+)", plugin.similar)
    orthanc.RegisterRestCallback("/radir/dicom-web/studies", plugin.search)
    orthanc.RegisterRestCallback("/radir/dicom-web/studies/([^/]+)/similar", plugin.similar)
    orthanc.ExtendOrthancExplorer(plugin.explorer())


main()
