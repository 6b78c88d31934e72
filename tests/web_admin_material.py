"""The administrator's pages as a browser asks them, over an archive with something in every state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from radir_pacs.callers import Role
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.query import Searcher
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import ImageKind, JobKind, StudyState
from radir_pacs.web.app import create_app
from tests.catalogue_material import MODEL, TESTER, add, claimed, encoded, header, receive, register

BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
HOSTILE = "<script>alert(1)</script>\"'>{{7*7}}"
NAME = "Secret^Patient"
FOLDERS = "studies models retraining quality feedback accounts tokens emergencies"
PAGES = tuple("/admin" + name for name in ("", *(f"/{folder}" for folder in FOLDERS.split())))


@contextmanager
def admin_app(settings: Settings, catalogue: Catalogue) -> Iterator[Flask]:
    settings.home.mkdir(parents=True, exist_ok=True)
    app = create_app(settings, catalogue, Searcher(catalogue, settings), BlobStore(settings.home / "blobs"))
    yield app
    app.extensions["radir"].decoder.close()


def see(client: FlaskClient, path: str, status: int = 200) -> str:
    answer = client.get(path, headers=BROWSER)
    assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
    return answer.text


def secret(client: FlaskClient, path: str = "/sign-in") -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get(path, headers=BROWSER).text)
    assert found is not None
    return found[1]


def send(client: FlaskClient, path: str, form_of: str, **fields: Any) -> TestResponse:
    """Send a form with the secret of the page that shows it."""
    return client.post(path, data={"csrf": secret(client, form_of), **fields}, headers=BROWSER)


def signed_in(app: Flask, catalogue: Catalogue, role: Role = Role.ADMINISTRATOR) -> tuple[FlaskClient, str]:
    token = catalogue.access_tokens.create(f"a {role}", role, by=TESTER)
    read_again(app)
    client = app.test_client()
    send(client, "/sign-in", "/sign-in", token=token)
    return client, token


def read_again(app: Flask) -> None:
    """Let the service read tokens and sessions now, as it does once a second."""
    app.extensions["radir"].bearers._read_s = float("-inf")
    app.extensions["radir"].sessions._fresh.clear()


def archive(catalogue: Catalogue) -> None:
    """A study that is found, one that failed, one of another kind, and a job that failed."""
    register(catalogue)
    encoded(catalogue, 1, patient_name=NAME, accession_number=HOSTILE, study_description=HOSTILE)
    catalogue.studies.mark_indexed()
    receive(catalogue, "2.25.1", "FINDINGS: Pleural effusion on the left.")
    add(catalogue, header(2, accession_number="ACC-2", patient_name=NAME))
    catalogue.studies.complete_now("2.25.2")
    job = claimed(catalogue, key="2.25.2")
    catalogue.jobs.fail(job, f"cannot be read: {HOSTILE}", reason_code=ReasonCode.DECODE_FAILED, retry=False)
    add(catalogue, header(3))
    catalogue.studies.set_state("2.25.3", StudyState.SKIPPED, "a knee", reason_code=ReasonCode.NOT_CHEST)
    send_job = claimed(catalogue, JobKind.SEND, "2.25.9")
    catalogue.jobs.fail(send_job, "the peer is away", reason_code=ReasonCode.PEER_UNREACHABLE, retry=False)
    catalogue.refusals.add("2.25.7", "not DICOM", 0xC000, HOSTILE, reason_code=ReasonCode.UNREADABLE)
    catalogue.processes.say_alive("worker-1", 4711, "UP", HOSTILE)


def begun(catalogue: Catalogue, plan: dict[str, Any] | None = None) -> int:
    """A retraining at its first step."""
    return catalogue.retraining.start(
        kind=ImageKind.CXR,
        depth="head",
        plan=plan or {"depth": "head"},
        plan_sha256="ab" * 32,
        champion=MODEL,
        started_by=HOSTILE,
        steps=("preflight", "train"),
    )
