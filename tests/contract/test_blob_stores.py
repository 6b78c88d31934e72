"""What every store of blobs promises, and every place of a backup: on a folder, and on buckets of two S3 servers.

moto answers as AWS does, errors included; rclone is a server that keeps its objects in files and checks signatures.

Besides: what only a server can do, as staying away, breaking off and altering bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from radir_pacs.backup.places import BackupPlace, BucketPlace, FolderPlace
from radir_pacs.cli.supervisor import Supervisor
from radir_pacs.config import Settings
from radir_pacs.errors import BlobDamaged, NotFound, StorageFailed
from radir_pacs.storage import s3, s3_blobs
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.storage.s3 import Bucket, S3Address
from radir_pacs.storage.s3_blobs import S3BlobStore
from tests.conftest import free_port
from tests.s3_server import s3_server
from tests.unit.test_blobs import make_old

LARGE = bytes(range(256)) * (1 << 15) * 3  # 24 MiB: three parts of a multipart upload
Stores = Callable[[], BlobStore]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The endpoint of an S3 server with the bucket "radir"."""
    with s3_server() as endpoint:
        yield endpoint


def address(endpoint: str, prefix: str) -> S3Address:
    return S3Address(url=f"s3://radir/{prefix}", endpoint=endpoint, access_key_id="test", secret_access_key="test")


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of rclone's S3 server with the same bucket."""
    folder, port = tmp_path_factory.mktemp("rclone"), free_port()
    (folder / "s3" / "radir").mkdir(parents=True)
    program = str(Path(sys.executable).with_name("rclone"))
    words = ["serve", "s3", str(folder / "s3"), "--addr", f"127.0.0.1:{port}", "--auth-key", "test,test"]
    environment = {"HOME": str(folder), "RCLONE_CONFIG": "/dev/null"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *words], env=environment, stdout=log, stderr=log)
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=["folder", "server", "rclone"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """Makes stores of the same blobs, each as on a machine of its own where the blobs are in a bucket."""
    if request.param == "folder":
        return lambda: BlobStore(tmp_path / "blobs")
    made = iter(range(100))
    where = address(request.getfixturevalue(request.param), tmp_path.name)
    return lambda: S3BlobStore(tmp_path / f"machine{next(made)}", where, most_bytes=1 << 30, installation="one")


@pytest.mark.parametrize("content", [b"", b"DICM", LARGE], ids=["empty", "small", "multipart"])
def test_what_was_acknowledged_is_read_everywhere_at_once(stores: Stores, content: bytes) -> None:
    sha256, size_bytes = stores().put(content)
    assert (sha256, size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    elsewhere = stores()
    assert elsewhere.intact(sha256).read_bytes() == content
    assert stores().path(sha256).read_bytes() == content
    assert b"".join(stores().read(sha256)) == content
    assert elsewhere.size(sha256) == len(content)
    assert elsewhere.usage(int(sha256[:2], 16))[0] >= 1


def test_what_is_not_there_is_damaged(stores: Stores) -> None:
    store, sha256 = stores(), "0" * 64
    with pytest.raises(BlobDamaged):
        store.intact(sha256)
    with pytest.raises(BlobDamaged):
        b"".join(store.read(sha256))
    assert not store.path(sha256).exists()
    assert store.size(sha256) == 0
    for method in (store.path, store.intact):
        with pytest.raises(ValueError, match="SHA-256"):
            method("../../etc/passwd")


def test_half_a_blob_is_none(stores: Stores) -> None:
    store = stores()
    with pytest.raises(RuntimeError), store.incoming() as incoming:
        incoming.write(b"half")
        raise RuntimeError
    assert not any(path.is_file() for path in store.root.rglob("*"))
    assert stores().size(hashlib.sha256(b"half").hexdigest()) == 0


def test_only_what_nobody_names_is_removed_and_only_when_it_is_old(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores()
    known, unknown = (store.put(content)[0] for content in (b"known", b"unknown"))
    assert not store.delete(unknown), "its row may be on its way"
    assert store.sweep(lambda hashes: frozenset(hashes) & {known}) == 0
    monkeypatch.setattr(s3_blobs, "YOUNG_THERE_S", -1.0)
    for sha256 in (known, unknown):
        make_old(store.place(sha256))
    assert store.sweep(lambda hashes: frozenset(hashes) & {known}) == 1
    elsewhere = stores()
    assert elsewhere.intact(known).read_bytes() == b"known"
    with pytest.raises(BlobDamaged):
        elsewhere.intact(unknown)
    assert store.delete(known)
    assert store.delete(known), "gone is gone"


def test_another_installation_removes_nothing_in_a_bucket(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that was restored or copied takes what came since for files that nobody names."""
    monkeypatch.setattr(s3_blobs, "YOUNG_THERE_S", -1.0)
    monkeypatch.setattr(s3_blobs, "_OWNED_S", -1.0)
    where = address(server, tmp_path.name)
    live, other, nobody = (
        S3BlobStore(tmp_path / name, where, most_bytes=0, installation=name) for name in ("live", "other", "")
    )
    sha256, _ = live.put(b"came since")
    for stranger in (other, nobody):
        assert not stranger.delete(sha256)
        with pytest.raises(StorageFailed, match="another installation"):
            stranger.sweep(lambda hashes: frozenset())
    with pytest.raises(StorageFailed, match="another installation"):
        other.put(b"would be swept by the one that lives")
    assert b"".join(live.read(sha256)) == b"came since"
    other.take_over()
    assert not live.delete(sha256), "the earlier one is another by now"
    assert other.delete(sha256)


def test_a_machine_keeps_what_it_used_lately_and_no_more(server: str, tmp_path: Path) -> None:
    store = S3BlobStore(tmp_path / "here", address(server, tmp_path.name), most_bytes=0, installation="one")
    old, young = (store.put(content)[0] for content in (b"old", b"young"))
    make_old(store.place(old))
    store.sweep(lambda hashes: frozenset(hashes))
    assert not store.place(old).exists()
    assert store.place(young).exists(), "somebody may be about to open it"
    assert store.path(old).read_bytes() == b"old", "fetched again"
    store.place(old).write_bytes(b"damaged here")
    assert store.intact(old).read_bytes() == b"old", "the copy is damaged, what was stored is not"


def trimmed(supervisor: Supervisor) -> None:
    supervisor._trim_copies()
    assert supervisor._trimming is not None
    supervisor._trimming.join()


def test_a_machine_without_the_relay_is_trimmed_too(server: str, tmp_path: Path) -> None:
    where = address(server, tmp_path.name)
    settings = Settings(home=tmp_path / "home", blob_store=where.url, blob_cache_mib=256)
    store = S3BlobStore(settings.home / "blobs", where, most_bytes=0, installation="one")
    unused, kept = (store.put(content)[0] for content in (b"unused", b"kept"))
    with store.place(unused).open("r+b") as file:
        file.truncate(2 << 20)  # more than the share of its part
    left = store.incoming_folder / "0123"
    left.touch()
    for path in (store.place(unused), store.place(kept)):
        make_old(path)
    os.utime(left, (0, 0))
    supervisor = Supervisor(settings, roles=())
    trimmed(supervisor)
    assert [path.exists() for path in (store.place(unused), store.place(kept), left)] == [False, True, False]
    make_old(store.place(kept))
    with store.place(kept).open("r+b") as file:
        file.truncate(2 << 20)
    trimmed(supervisor)
    assert store.place(kept).exists(), "once a minute"


def test_what_the_server_lost_or_altered_is_never_believed(server: str, tmp_path: Path) -> None:
    where = address(server, tmp_path.name)
    sha256, _ = S3BlobStore(tmp_path / "a", where, most_bytes=0).put(b"as stored")
    Bucket(where).put(f"{sha256[:2]}/{sha256}", [b"altered"])
    elsewhere = S3BlobStore(tmp_path / "b", where, most_bytes=0)
    for read in (lambda: elsewhere.intact(sha256), lambda: list(elsewhere.read(sha256))):
        with pytest.raises(BlobDamaged):
            read()
    assert not elsewhere.path(sha256).exists()


class Proxy:
    """Between us and the server; the first connections are cut, or all while ``is_cut``."""

    def __init__(self, endpoint: str, *, cuts: int = 0) -> None:
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._server, self.cuts, self.is_cut = (host, int(port)), cuts, False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listening.accept()
                if self.is_cut or self.cuts > 0:
                    self.cuts -= 1
                    ours.recv(100)
                    ours.close()
                    continue
                theirs = socket.create_connection(self._server)
                for pair in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self.is_cut:
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_lost_connection_is_tried_again_or_told(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: nothing is acknowledged that the server has not; what is refused leaves nothing behind."""
    proxy = Proxy(server, cuts=2)
    where = address(proxy.endpoint, tmp_path.name)
    sha256, _ = S3BlobStore(tmp_path / "a", where, most_bytes=0).put(LARGE)
    assert Bucket(address(server, tmp_path.name)).head(f"{sha256[:2]}/{sha256}") is not None, "after two cuts"
    monkeypatch.setattr(s3, "_TRIES", 1)
    store = S3BlobStore(tmp_path / "b", where, most_bytes=0)
    proxy.is_cut = True
    with pytest.raises(StorageFailed):
        store.put(b"never acknowledged")
    with pytest.raises(StorageFailed):
        store.path(sha256)
    assert not list(store.incoming_folder.iterdir())
    proxy.is_cut = False
    assert store.path(sha256).stat().st_size == len(LARGE), "back by itself"
    proxy.close()


def test_a_server_that_takes_long_to_read_is_waited_for_longer_than_one_that_is_silent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(s3, "_SILENCE", timedelta(seconds=1))
    monkeypatch.setattr(s3, "_TRIES", 0)
    began, go_on = threading.Event(), threading.Event()
    uploads: list[int] = []

    class Slow(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            began.set()
            go_on.wait(60)
            uploads.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("ETag", '"one"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            go_on.wait(60)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    bucket = Bucket(address(f"http://127.0.0.1:{server.server_port}", "slow"))
    (tmp_path / "large").write_bytes(LARGE[: 7 << 20])
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(bucket.put, "large", tmp_path / "large")
        assert began.wait(60)
        with pytest.raises(StorageFailed):
            bucket.head("large")  # after a second
        go_on.set()
        assert writing.result(60) is None
    assert uploads == [7 << 20]
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["folder", "server", "rclone"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> BackupPlace:
    if request.param == "folder":
        return FolderPlace(tmp_path / "backup")
    return BucketPlace(address(request.getfixturevalue(request.param), f"{tmp_path.name}-backup"))


def test_a_place_holds_objects_that_are_whole_or_absent(place: BackupPlace) -> None:
    assert place.sizes("") == {}
    place.put("objects/ab/one", [b"first ", b"content"])
    place.put("objects/ab/one", [b"second"])
    place.put("snapshots/x/manifest", [LARGE[: 9 << 20], LARGE[9 << 20 :]])

    def breaks() -> Iterator[bytes]:
        yield os.urandom(9 << 20)
        raise BlobDamaged("0" * 64)

    with pytest.raises(BlobDamaged):
        place.put("objects/ab/half", breaks())
    assert b"".join(place.get("objects/ab/one")) == b"second"
    assert b"".join(place.get("snapshots/x/manifest")) == LARGE
    assert place.sizes("objects/ab") == {"objects/ab/one": 6}
    assert place.sizes("") == {"objects/ab/one": 6, "snapshots/x/manifest": len(LARGE)}
    with pytest.raises(NotFound):
        b"".join(place.get("objects/ab/half"))
    for _ in range(2):
        place.delete("objects/ab/one")
    assert place.sizes("objects") == {}


def test_a_bucket_that_lets_us_not_in_says_why(rclone: str, server: str) -> None:
    right = address(rclone, "silence")
    assert Bucket(right).silence(s3_blobs.OWNER) == ""
    other_key = replace(right, secret_access_key="other")
    said = Bucket(other_key).silence(s3_blobs.OWNER)
    assert "refuses the key, or what it was asked; correct s3_access_key_id and its secret" in said
    missing = replace(address(server, "silence"), url="s3://nothing/silence")
    said = Bucket(missing).silence(s3_blobs.OWNER)
    assert "bucket nothing" in said and "correct blob_store" in said


def test_a_key_that_may_read_and_write_but_not_list_is_let_in() -> None:
    """As S3 answers it: 403 for what is missing (GetObject, Permissions)."""

    class NoList(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/radir/x/owner" else 403)
            self.send_header("Content-Length", "2")
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Tue, 01 Dec 2026 00:00:00 GMT")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"us")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), NoList) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{served.server_port}"
            assert Bucket(address(endpoint, "x")).silence(s3_blobs.OWNER) == ""
            assert "or what it was asked" in Bucket(address(endpoint, "new")).silence(s3_blobs.OWNER)
        finally:
            served.shutdown()
            thread.join()
