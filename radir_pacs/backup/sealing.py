"""What a backup's objects are encrypted with: AES-256-GCM in chunks, each object under a key of its own.

An object is a mark, 16 random bytes, and chunks of 1 MiB with their tags. Its key is HKDF-SHA256 of the backup's key,
the random bytes and the object's name, so that no object passes for another. A chunk's nonce is its number and whether
it is the last one (the STREAM construction; Hoang, Reyhanitabar, Rogaway, Vizár 2015), so that none is missing, moved
or left off the end. Names of files are keyed hashes: whoever reads the backup cannot tell whether it holds a file that
they have.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from radir_pacs import durable
from radir_pacs.errors import BackupDamaged, SettingError

CHUNK_BYTES = 1 << 20
_KEY_BYTES, _SALT_BYTES, _TAG_BYTES, _NONCE_BYTES = 32, 16, 16, 12
_MARK = b"RADIRB1\n"


class Sealing:
    """How the objects of one backup are named and written. ``key``: 32 bytes; None: they are not encrypted."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    @property
    def encrypts(self) -> bool:
        return self._key is not None

    def fingerprint(self, backup_id: str) -> str:
        """What tells one key from another, and nothing about it."""
        return self._keyed(b"backup " + backup_id.encode())

    def name(self, sha256: str) -> str:
        """The object that holds the content with that hash."""
        return sha256 if self._key is None else self._keyed(b"content " + sha256.encode())

    def size_bytes(self, content_bytes: int) -> int:
        """Of the object for so much content."""
        if self._key is None:
            return content_bytes
        chunks = max(-(-content_bytes // CHUNK_BYTES), 1)
        return len(_MARK) + _SALT_BYTES + content_bytes + chunks * _TAG_BYTES

    def sealed(self, name: str, content: Iterable[bytes]) -> Iterator[bytes]:
        """The object's bytes."""
        if self._key is None:
            yield from content
            return
        salt = os.urandom(_SALT_BYTES)
        cipher = self._cipher(salt, name)
        yield _MARK + salt
        for number, (chunk, is_last) in enumerate(_even(content, CHUNK_BYTES)):
            yield cipher.encrypt(_nonce(number, is_last), chunk, None)

    def opened(self, name: str, object_: Iterable[bytes]) -> Iterator[bytes]:
        """The content of an object. Raises BackupDamaged when it is not what was sealed under this name and key."""
        if self._key is None:
            yield from object_
            return
        pieces = iter(object_)
        head = b""
        while len(head) < len(_MARK) + _SALT_BYTES and (more := next(pieces, b"")):
            head += more
        salt, rest = head[len(_MARK) : len(_MARK) + _SALT_BYTES], head[len(_MARK) + _SALT_BYTES :]
        if not head.startswith(_MARK) or len(salt) < _SALT_BYTES:
            raise BackupDamaged(name)
        cipher = self._cipher(salt, name)
        for number, (chunk, is_last) in enumerate(_even(_joined(rest, pieces), CHUNK_BYTES + _TAG_BYTES)):
            try:
                yield cipher.decrypt(_nonce(number, is_last), chunk, None)
            except InvalidTag:
                raise BackupDamaged(name) from None

    def _keyed(self, text: bytes) -> str:
        return hmac.new(self._key or b"", text, hashlib.sha256).hexdigest()

    def _cipher(self, salt: bytes, name: str) -> AESGCM:
        assert self._key is not None
        made = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=b"object " + name.encode())
        return AESGCM(made.derive(self._key))


def make_key(path: Path) -> bool:
    """Make a key file, readable by its owner only; False: it is there already. Raises OSError."""
    return durable.create(path, os.urandom(_KEY_BYTES).hex().encode() + b"\n", mode=0o600)


def read_key(path: Path) -> bytes:
    """Raises SettingError for a file that is not one of `make_key`."""
    try:
        key = bytes.fromhex(path.read_text("ascii"))
    except OSError as error:
        raise SettingError(f"backup_key: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingError(f"backup_key: {path} holds no key; make one with: radir backup --make-key FILE")
    return key


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(_NONCE_BYTES - 1, "big") + bytes([is_last])


def _joined(first: bytes, others: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from others


def _even(pieces: Iterable[bytes], size_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Pieces of equal size and whether each is the last, which may be shorter; at least one."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) > size_bytes:
            yield bytes(held[:size_bytes]), False
            del held[:size_bytes]
    yield bytes(held), True
