"""The vector engines that the tests run against: files, the database's pgvector, a Milvus server of their own."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from radir_pacs.config import Settings
from radir_pacs.errors import EngineAway
from radir_pacs.index.engine import LOCAL, MILVUS, PGVECTOR
from radir_pacs.index.milvus import MilvusEngine
from tests.integration.listening import wait_for
from tests.services import IN_CI

OUTSIDE = (PGVECTOR, MILVUS)
ENGINES = (LOCAL, *OUTSIDE)
START_S = 60.0


class MilvusServer:
    """milvus-lite as a server: Milvus' protocol in one process, durable in a folder."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.url = f"http://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """While it runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        program = Path(sys.executable).with_name("milvus-lite")
        command = [str(program), "server", "--data-dir", str(self.folder), "--host", "127.0.0.1"]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._answers, START_S)

    def _answers(self) -> bool:
        engine = MilvusEngine(Settings(milvus_url=self.url), "0")
        with contextlib.closing(engine), contextlib.suppress(EngineAway):
            return bool(engine.check())
        return False

    def kill(self) -> None:
        """As by kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def has_milvus() -> None:
    """Without milvus-lite a test skips, or fails where CI=true."""
    if importlib.util.find_spec("milvus_lite") is None or importlib.util.find_spec("pymilvus") is None:
        reason = "milvus-lite and pymilvus are not installed"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)


@contextlib.contextmanager
def milvus_server(folder: Path, port: int) -> Iterator[MilvusServer]:
    has_milvus()
    server = MilvusServer(folder, port)
    try:
        server.start()
        yield server
    finally:
        server.kill()
