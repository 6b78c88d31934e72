"""What stands in a backup's place, and how it is read.

radir-backup.json             the format, the backup's own id, which key it was written with
objects/ab/<name>             a file's content, once, however many snapshots name it: the DICOM files and what
                              stands in the home folder; ab: the first two letters of its SHA-256
snapshots/<name>/database     pg_dump's custom format
snapshots/<name>/blobs        a line per DICOM file, "<SHA-256> <bytes>", by hash
snapshots/<name>/manifest     JSON, written last: a snapshot without it is none
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Self

from radir_pacs.backup.places import BackupPlace
from radir_pacs.backup.sealing import Sealing
from radir_pacs.errors import BackupDamaged, BadInput, NotFound, SettingError

FORMAT = 1
HEAD = "radir-backup.json"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object that is named by the snapshot, and what is in it."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class KeptFile:
    """A file of the home folder. ``path``: below it."""

    path: str
    sha256: str
    size_bytes: int
    mode: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a snapshot holds. ``tables``: rows by table. ``damaged``: blobs that were already damaged or gone."""

    name: str
    made_at: datetime
    version: str
    schema_version: int
    tables: dict[str, int]
    database: StoredObject
    blobs: StoredObject
    blob_count: int
    blob_bytes: int
    files: list[KeptFile] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), default=str).encode()

    @classmethod
    def from_json(cls, name: str, text: bytes) -> Self:
        """Raises BackupDamaged."""
        try:
            told = json.loads(text)
            return cls(
                **told
                | {
                    "made_at": datetime.fromisoformat(told["made_at"]),
                    "database": StoredObject(**told["database"]),
                    "blobs": StoredObject(**told["blobs"]),
                    "files": [KeptFile(**file) for file in told["files"]],
                }
            )
        except (ValueError, TypeError, KeyError):
            raise BackupDamaged(name) from None


class Measured:
    """Passes bytes on, and knows their hash and size at the end."""

    def __init__(self, content: Iterable[bytes]) -> None:
        self._content, self._hash, self._size_bytes = content, hashlib.sha256(), 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._content:
            self._hash.update(piece)
            self._size_bytes += len(piece)
            yield piece

    @property
    def part(self) -> StoredObject:
        return StoredObject(sha256=self._hash.hexdigest(), size_bytes=self._size_bytes)


class Repository:
    """A backup: its place, and the key it is written with."""

    def __init__(self, place: BackupPlace, sealing: Sealing) -> None:
        self._place, self._sealing = place, sealing

    @classmethod
    def open(cls, place: BackupPlace, key: bytes | None, *, make: bool = False) -> Self:
        """Raises NotFound where there is no backup (``make``: begin one), SettingError for the wrong key."""
        try:
            head = json.loads(b"".join(place.get(HEAD)))
            format_, backup_id, encrypted, fingerprint = (head[k] for k in ("format", "id", "encrypted", "key"))
        except NotFound:
            if not make:
                raise NotFound(f"there is no backup in {place}: name the folder that radir backup was given") from None
            if place.sizes(""):
                raise BadInput(f"in {place} are other files, and no backup: name an empty folder") from None
            return cls._begun(place, Sealing(key))
        except (ValueError, KeyError, TypeError):
            raise BackupDamaged(HEAD) from None
        if format_ != FORMAT:
            raise BadInput(f"the backup has format {format_}, this program knows {FORMAT}: update it")
        if bool(encrypted) != (key is not None):
            needs = "encrypted: set backup_key to its key's file" if encrypted else "not encrypted: unset backup_key"
            raise SettingError(f"backup_key: the backup is {needs}")
        sealing = Sealing(key)
        if encrypted and sealing.fingerprint(backup_id) != fingerprint:
            raise SettingError("backup_key: this is not the key that the backup was written with")
        return cls(place, sealing)

    @classmethod
    def _begun(cls, place: BackupPlace, sealing: Sealing) -> Self:
        backup_id = secrets.token_hex(16)
        fingerprint = sealing.fingerprint(backup_id) if sealing.encrypts else ""
        head = {"format": FORMAT, "id": backup_id, "encrypted": sealing.encrypts, "key": fingerprint}
        place.put(HEAD, [json.dumps(head).encode()])
        return cls(place, sealing)

    def snapshots(self) -> list[str]:
        """Names of the whole ones, the oldest first."""
        found = [name.split("/") for name in self._place.sizes("snapshots")]
        return sorted(parts[1] for parts in found if len(parts) == 3 and parts[2] == "manifest")

    def manifest(self, snapshot: str | None = None) -> Manifest:
        """Of one snapshot, by default the newest. Raises NotFound, BackupDamaged."""
        known = self.snapshots()
        if not known or (snapshot is not None and snapshot not in known):
            names = f"; there are {', '.join(known)}" if known else ""
            raise NotFound(
                f"the backup in {self._place} has no {'snapshot ' + snapshot if snapshot else 'whole snapshot'}{names}"
            )
        name = f"snapshots/{snapshot or known[-1]}/manifest"
        return Manifest.from_json(name, b"".join(self._read(name)))

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest: the snapshot is whole from now on."""
        self._write(f"snapshots/{manifest.name}/manifest", [manifest.to_json()])

    def write_part(self, snapshot: str, part: str, content: Iterable[bytes]) -> StoredObject:
        """Write "database" or "blobs" of a snapshot."""
        measured = Measured(content)
        self._write(f"snapshots/{snapshot}/{part}", measured)
        return measured.part

    def read_part(self, manifest: Manifest, part: str) -> Iterator[bytes]:
        """Raises NotFound, and BackupDamaged at the end too: until then it may not be what was written."""
        expected = {"database": manifest.database, "blobs": manifest.blobs}[part]
        name = f"snapshots/{manifest.name}/{part}"
        return _checked(name, self._read(name), expected.sha256)

    def blobs_of(self, manifest: Manifest) -> Iterator[tuple[str, int | None]]:
        """(SHA-256, bytes where they are known) of each DICOM file. Raises as `read_part`."""
        rest = b""
        for piece in self.read_part(manifest, "blobs"):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                sha256, _, size = line.decode().partition(" ")
                yield sha256, int(size) if size else None

    def standing(self, first_letters: str) -> dict[str, int]:
        """Objects of files whose SHA-256 begins with these two letters, and their sizes."""
        return self._place.sizes(f"objects/{first_letters}")

    def stands(self, standing: dict[str, int], sha256: str, size_bytes: int | None) -> bool:
        """Whether the object is there, whole as far as its size tells."""
        found = standing.get(self._object(sha256))
        return found is not None and (size_bytes is None or found == self._sealing.size_bytes(size_bytes))

    def write_file(self, sha256: str, content: Iterable[bytes]) -> None:
        """Nothing stands where ``content`` raises."""
        self._write(self._object(sha256), content)

    def read_file(self, sha256: str) -> Iterator[bytes]:
        """Raises as `read_part`."""
        name = self._object(sha256)
        return _checked(name, self._read(name), sha256)

    def remove_file(self, sha256: str) -> None:
        """Remove a file's object, which the next backup writes again."""
        self._place.delete(self._object(sha256))

    def forget(self, keep: int) -> tuple[int, int]:
        """Remove all snapshots but the ``keep`` newest, and what only they named; returns (snapshots, objects)."""
        known = self.snapshots()
        going = known[:-keep]
        for snapshot in going:
            self._place.delete(f"snapshots/{snapshot}/manifest")  # first: what is half removed is no snapshot
        for name in self._place.sizes("snapshots"):
            if name.split("/")[1] not in known[-keep:]:
                self._place.delete(name)
        named: set[str] = set()
        for snapshot in known[-keep:]:
            manifest = self.manifest(snapshot)
            named.update(self._object(sha256) for sha256, _ in self.blobs_of(manifest))
            named.update(self._object(file.sha256) for file in manifest.files)
        unnamed = [name for name in self._place.sizes("objects") if name not in named]
        for name in unnamed:
            self._place.delete(name)
        return len(going), len(unnamed)

    def _object(self, sha256: str) -> str:
        return f"objects/{sha256[:2]}/{self._sealing.name(sha256)}"

    def _write(self, name: str, content: Iterable[bytes]) -> None:
        self._place.put(name, self._sealing.sealed(name, content))

    def _read(self, name: str) -> Iterator[bytes]:
        return self._sealing.opened(name, self._place.get(name))


def _checked(name: str, content: Iterator[bytes], sha256: str) -> Iterator[bytes]:
    measured = Measured(content)
    yield from measured
    if measured.part.sha256 != sha256:
        raise BackupDamaged(name)
