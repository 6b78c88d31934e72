"""The file that receives the data set of a C-STORE. Writing to it never raises; it remembers the failure instead.

If an instance is too large or the disk is full, the peer gets a status (PS3.4 B.2.3) and the connection stays open.
Whatever arrives after the failure is read and discarded.
"""

from __future__ import annotations

from radir_pacs.errors import RadirError, StorageFailed, TooLarge
from radir_pacs.listener.c_store import StoreRequest
from radir_pacs.storage.blobs import BlobStore, IncomingBlob

_MIB = 1 << 20


class InstanceFile:
    """A blob that begins with ``head`` and receives the data set. ``failure`` says why the instance cannot be kept."""

    def __init__(self, request: StoreRequest, blobs: BlobStore, head: bytes, *, most_bytes: int) -> None:
        self.request = request
        self.failure: RadirError | None = request.refusal
        self.blob: IncomingBlob | None = None
        self._most_bytes, self._bytes = most_bytes, 0
        if self.failure is None:
            try:
                self.blob = blobs.incoming()
                self.blob.write(head)
            except StorageFailed as error:
                self._fail(error)

    def write(self, data: bytes | memoryview) -> None:
        """Append a fragment of the data set."""
        self._bytes += len(data)
        if self._bytes > self._most_bytes and self.failure is None:
            self._fail(TooLarge(f"the instance is larger than max_instance_mib, {self._most_bytes // _MIB} MiB"))
        if self.blob is not None:
            try:
                self.blob.write(data)
            except StorageFailed as error:
                self._fail(error)

    def _fail(self, error: RadirError) -> None:
        """Free the space at once for other senders."""
        self.failure = error
        self.discard()

    def discard(self) -> None:
        """Remove the file unless it was kept."""
        if self.blob is not None:
            self.blob.discard()
            self.blob = None
