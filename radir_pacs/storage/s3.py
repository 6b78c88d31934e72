"""Objects in a bucket of S3 or of a server that speaks it, by obstore: multipart, checksums, retries, within bounds.

Only this file knows obstore (ADR 0034).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from radir_pacs.config import Settings
from radir_pacs.errors import NotFound, SettingError, StorageFailed

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

SCHEME = "s3://"
_PIECE_BYTES = 1 << 20
_PART_BYTES = 8 << 20  # of a multipart upload; S3 allows 10,000 of them: objects of 78 GiB
_TRIES, _GIVES_UP = 4, timedelta(seconds=20)  # the sender of an instance waits
_PAGE = 1000
_SILENCE = timedelta(seconds=10)  # of a reader: until the first byte, and between two pieces
_SMALL_BYTES = 1 << 20
_SMALL_WRITTEN = timedelta(seconds=20)
_PART_WRITTEN = timedelta(seconds=60)  # four at a time: from 4.5 Mbit/s on


@dataclass(frozen=True, kw_only=True)
class S3Address:
    """Where a bucket is, and who asks. Without a key the machine's role says who, as usual on AWS."""

    url: str  # s3://bucket/prefix
    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str, settings: Settings) -> Self:
        """Raises SettingError for what is not of the form s3://bucket or s3://bucket/prefix."""
        bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
        has_key = "@" in bucket or (":" in bucket and "@" in url)  # a secret with a / ends in the prefix
        if not url.startswith(SCHEME) or not bucket or ".." in prefix or has_key:
            shown = "it" if "@" in url else repr(url)
            raise SettingError(f"{shown} is not of the form s3://bucket or s3://bucket/prefix")
        return cls(
            url=url,
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            access_key_id=settings.s3_access_key_id,
            secret_access_key=settings.s3_secret_access_key,
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    name: str
    size_bytes: int
    modified_at: datetime


class Bucket:
    """Names are relative to the prefix. Every method raises StorageFailed when the server refuses or stays away."""

    def __init__(self, address: S3Address) -> None:
        bucket, _, prefix = address.url.removeprefix(SCHEME).partition("/")
        self._prefix = prefix.strip("/")
        given: dict[str, Any] = {
            "endpoint": address.endpoint,
            "region": address.region or "us-east-1",
            "access_key_id": address.access_key_id,
            "secret_access_key": address.secret_access_key,
        }
        config: dict[str, Any] = {name: value for name, value in given.items() if value}
        config["checksum_algorithm"] = "SHA256"  # the server refuses what was altered on its way
        config["virtual_hosted_style_request"] = False

        self._named = f"the object store{f' at {address.endpoint}' if address.endpoint else ''}, bucket {bucket}"

        def store(**limits: timedelta) -> S3Store:
            client = {"allow_http": address.endpoint.startswith("http://"), "connect_timeout": timedelta(seconds=5)}
            return S3Store(
                bucket,
                config=cast("S3Config", config),
                client_options=cast("ClientConfig", client | limits),
                retry_config={"max_retries": _TRIES, "retry_timeout": _GIVES_UP},
            )

        self._reader = store(read_timeout=_SILENCE, timeout=_PART_WRITTEN)
        # read_timeout runs while a body is written, too: writers have a limit of the whole request instead
        self._writer, self._writer_of_small = store(timeout=_PART_WRITTEN), store(timeout=_SMALL_WRITTEN)

    def silence(self, name: str) -> str:
        """Why the bucket cannot be used, and what to do; empty where the object ``name`` can be read, or is missing.

        To a key that may not list a bucket, S3 refuses what is missing (403), so ``name`` is one that use makes.
        """
        try:
            if any(True for _ in self.stream(name)):
                return ""
        except NotFound:  # in a new bucket, and in one that is missing
            pass
        except StorageFailed as failed:
            return f"{self._named}: {failed}"
        try:
            next(self.pages(""), None)
        except StorageFailed:
            return f"{self._named}: there is no such bucket, or the key may not list it; make it, or correct blob_store"
        return ""

    def put(self, name: str, content: Path | Iterable[bytes]) -> None:
        """Store an object in place of one that stands: all of it when this returns, else none.

        Raises what ``content`` raises.
        """
        failures: list[BaseException] = []
        given = content if isinstance(content, Path) else _watched(content, failures)
        store = self._writer_of_small if _is_small(content) else self._writer
        with _errors():
            try:
                obstore.put(store, self._key(name), given, chunk_size=_PART_BYTES, max_concurrency=4)
            except Exception:  # of the content, of which the library may have made another error
                if failures:
                    raise failures[0] from None
                raise

    def stream(self, name: str) -> Iterator[bytes]:
        """Raises NotFound."""
        with _errors():
            try:
                answer = obstore.get(self._reader, self._key(name))
            except (NotFoundError, FileNotFoundError):
                raise NotFound(f"there is no {name}") from None
            for piece in answer.stream(min_chunk_size=_PIECE_BYTES):
                yield bytes(piece)

    def head(self, name: str) -> Found | None:
        with _errors():
            try:
                told = obstore.head(self._reader, self._key(name))
            except (NotFoundError, FileNotFoundError):
                return None
        return Found(name=name, size_bytes=told["size"], modified_at=told["last_modified"])

    def pages(self, folder: str) -> Iterator[list[Found]]:
        """The objects below a folder, "" for all, in pages."""
        with _errors():
            for page in obstore.list(self._reader, prefix=self._key(folder) or None, chunk_size=_PAGE):
                yield [
                    Found(
                        name=told["path"].removeprefix(self._prefix).lstrip("/"),
                        size_bytes=told["size"],
                        modified_at=told["last_modified"],
                    )
                    for told in page
                ]

    def delete(self, name: str) -> None:
        """One that is not there is no error."""
        with _errors(), contextlib.suppress(NotFoundError, FileNotFoundError):
            obstore.delete(self._reader, self._key(name))

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}".strip("/")


def _is_small(content: Path | Iterable[bytes]) -> bool:
    """Where its size is known before it is read."""
    if isinstance(content, Path):
        return content.stat().st_size <= _SMALL_BYTES
    return isinstance(content, list) and sum(map(len, content)) <= _SMALL_BYTES


def _watched(content: Iterable[bytes], failures: list[BaseException]) -> Iterator[bytes]:
    try:
        yield from content
    except BaseException as error:  # raised again where the library ends
        failures.append(error)
        raise


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """The server's messages may name keys and hosts: only the kind of the error is passed on."""
    try:
        yield
    except (UnauthenticatedError, PermissionDeniedError) as error:
        raise StorageFailed(
            "the object store refuses the key, or what it was asked; correct s3_access_key_id and"
            " its secret, or what that key may do"
        ) from error
    except BaseError as error:
        raise StorageFailed("the object store does not answer well: start it, or correct s3_endpoint") from error
