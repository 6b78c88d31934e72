"""A child process that reads studies for a worker, and the worker's handle on it.

Reading is Python for the most part, so threads of one process would wait for one another. The two exchange pickles, and
images as raw bytes: the child is our own program as much as the worker is, and what a hostile file can do ends in the
decoding child below it. The child ends when the worker does.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from radir_pacs.config import ENV_PREFIX
from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.dicom.rules import Rules
from radir_pacs.encode import EncoderInput
from radir_pacs.errors import DicomRefused
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage import blobs_at
from radir_pacs.storage.s3 import S3Address

from .study_reader import Content, Preparing, StudyReader

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, kw_only=True)
class ReadingSetup:
    """What a reader needs, in whichever process; as in ``StudyReader``."""

    blobs: Path
    limits: DecodeLimits
    lut_shape_senders: tuple[str, ...] = ()
    bucket: S3Address | None = None
    cache_bytes: int = 0
    rules: Rules | None = None  # None: the built-in ones

    def reader(self) -> StudyReader:
        """A reader in this process."""
        blobs = blobs_at(self.blobs, self.bucket, self.cache_bytes)
        return StudyReader(blobs, self.limits, lut_shape_senders=self.lut_shape_senders, rules=self.rules)


class ReadingChild:
    """Reads as a ``StudyReader`` does, in a process of its own, which is started again when it died."""

    def __init__(self, setup: ReadingSetup) -> None:
        self._setup = setup
        self._child: subprocess.Popen[bytes] | None = None
        self._link: Connection | None = None

    def read(
        self, content: Content, preparing: Preparing, *, alone: bool = False, last_attempt: bool = True
    ) -> list[EncoderInput]:
        """As ``StudyReader.read``; raises DicomRefused too when the child dies."""
        try:
            link = self._started()
            link.send((content, preparing, alone, last_attempt))
            answer = link.recv()
            if isinstance(answer, Exception):
                raise answer
            return [replace(one, image=_image(link, shape)) for one, shape in answer]
        except (EOFError, ConnectionError):
            self.close()
            raise DicomRefused("the process that read the study died", reason_code=ReasonCode.DECODER_KILLED) from None

    def close(self) -> None:
        """End the child, whatever it does; from any thread."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    def _started(self) -> Connection:
        if self._child is not None and self._child.poll() is None and self._link is not None:
            return self._link
        if self._link is not None:
            self._link.close()
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "radir_workers.reading_child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
                | _ONE_THREAD,
            )
        self._link = Connection(ours.detach())
        self._link.send(self._setup)
        return self._link


def _image(link: Connection, shape: tuple[int, ...]) -> np.ndarray:
    image = np.empty(math.prod(shape), np.float32)
    link.recv_bytes_into(image)
    return image.reshape(shape)


def main(link: Connection) -> None:
    """Read what is asked for until the worker closes its end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the worker ends what it has in hand, and with it this process
    setup: ReadingSetup = link.recv()
    reader = setup.reader()
    try:
        while True:
            content, preparing, alone, last_attempt = link.recv()
            try:
                inputs = reader.read(content, preparing, alone=alone, last_attempt=last_attempt)
            except Exception as error:  # the edge of the process: the worker decides
                link.send(error)
                continue
            link.send([(replace(one, image=one.image[:0]), one.image.shape) for one in inputs])
            for one in inputs:
                link.send_bytes(np.ascontiguousarray(one.image).reshape(-1).view(np.uint8).data)
    except (EOFError, ConnectionError):
        pass
    finally:
        reader.close()


if __name__ == "__main__":
    with Connection(int(sys.argv[1])) as connection:
        main(connection)
