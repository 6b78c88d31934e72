"""The web service on a free loopback port, as its clients meet it: waitress, a real catalogue, real blobs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import psycopg
import pydicom
import pytest
import requests
from argon2 import PasswordHasher
from dicomweb_client import DICOMwebClient
from flask import Flask
from psycopg.conninfo import make_conninfo
from pydicom.dataset import Dataset

from radir_pacs.access import passwords
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.delivery.destination import Destination
from radir_pacs.query import Searcher
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.web.app import create_app
from radir_pacs.web.server import make_server
from tests.conftest import free_port
from tests.integration.listening import listening

USUAL_HASHER, CHEAP_HASHER = passwords._hasher, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign-in takes 0.2 s of processor time with the usual parameters (tests/integration/test_sign_in.py)."""
    hash_with(monkeypatch, CHEAP_HASHER)


def hash_with(monkeypatch: pytest.MonkeyPatch, hasher: PasswordHasher) -> None:
    """Of passwords, in this process."""
    monkeypatch.setattr(passwords, "_hasher", hasher)
    passwords._stand_in.cache_clear()


@dataclass(frozen=True, kw_only=True)
class Web:
    """A running web service and its parts."""

    settings: Settings
    catalogue: Catalogue
    blobs: BlobStore
    app: Flask
    stop: Callable[[], None]
    end: Callable[[], None]  # returns when the last request has its line in the log: its answer may arrive before that

    @property
    def root(self) -> str:
        return self.settings.public_url

    @property
    def base(self) -> str:
        return self.root + "/dicom-web"

    @property
    def client(self) -> DICOMwebClient:
        return DICOMwebClient(url=self.base)

    def get(self, path: str, accept: str = "", **options: Any) -> requests.Response:
        """GET below the service root; without ``accept`` no Accept header is sent."""
        return self.ask("GET", path, accept, **options)

    def ask(self, method: str, path: str, accept: str = "", **options: Any) -> requests.Response:
        headers = {"Accept": accept or None} | options.pop("headers", {})
        return requests.request(method, self.base + path, headers=headers, timeout=30, **options)

    def store(self, *instances: Dataset) -> None:
        """Store instances, each of which must be accepted."""
        for ds in instances:
            body = part10(ds)
            answer = requests.post(
                self.base + "/studies", body, headers={"Content-Type": "application/dicom"}, timeout=30
            )
            assert answer.status_code == 200, answer.text


def part10(ds: Dataset) -> bytes:
    with BytesIO() as file:
        pydicom.dcmwrite(file, ds, enforce_file_format=True)
        return file.getvalue()


@contextmanager
def running(settings: Settings, catalogue: Catalogue) -> Iterator[Web]:
    """A web service with these settings, until the end of the body."""
    blobs = BlobStore(settings.home / "blobs")
    app = create_app(settings, catalogue, Searcher(catalogue, settings), blobs)
    server = make_server(app, settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()

    def end() -> None:
        server.stop()
        thread.join(30)

    try:
        yield Web(settings=settings, catalogue=catalogue, blobs=blobs, app=app, stop=server.stop, end=end)
    finally:
        end()
        app.extensions["radir"].decoder.close()


@pytest.fixture
def serve(settings: Settings, catalogue: Catalogue) -> Iterator[Callable[..., Web]]:
    """A function that starts a web service with changed settings."""
    with ExitStack() as stack:

        def start(**changes: Any) -> Web:
            defaults: dict[str, Any] = {"web_port": free_port(), "web_threads": 4}
            return stack.enter_context(running(replace(settings, **(defaults | changes)), catalogue))

        yield start


@pytest.fixture
def web(serve: Callable[..., Web]) -> Web:
    return serve()


@pytest.fixture(scope="module")
def shared_web(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """One service and database for all tests of a module that only read."""
    name = f"radir_module_{free_port()}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE radir_template".encode())
    settings = Settings(
        home=tmp_path_factory.mktemp("home"),
        database_url=make_conninfo(postgres, dbname=name),
        web_port=free_port(),
        web_threads=4,
    )
    with Catalogue.open(settings) as catalogue, running(settings, catalogue) as web:
        yield web
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return BlobStore(settings.home / "blobs")


@pytest.fixture
def listen(settings: Settings, catalogue: Catalogue, blobs: BlobStore) -> Iterator[Callable[..., Destination]]:
    """A function that starts a listener with changed settings and gives its destination."""
    with ExitStack() as stack:

        def start(**changes: Any) -> Destination:
            changed = {"listener_port": free_port()} | changes
            return stack.enter_context(listening(replace(settings, **changed), catalogue, blobs))[0]

        yield start
