"""Untrusted pixels, decoded in a child process with hard limits (P6)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.errors import DicomRefused
from radir_pacs.reasons import ReasonCode

_LIMITS = DecodeLimits()
_PIPE_BYTES = 1 << 20
_KEPT_SHARE = 0.5  # the share of its memory limit that a child may hold between two files
_SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# The child gets none of our settings and secrets.
_PASSED_ON = ("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV")


@dataclass(frozen=True, kw_only=True)
class DecodedFrames:
    """Stored values of all frames, before any LUT.

    pixels: [frames, rows, columns], or [frames, rows, columns, 3] for RGB; any integer or float type.
    photometric: as in Photometric Interpretation, "RGB" for every colour image of three samples.
    """

    pixels: npt.NDArray[Any]
    photometric: str


class _MayBeTheChild(DicomRefused):
    """A failure that earlier files may have caused, by what they left in the child's memory."""


class PixelDecoder:
    """Decodes files one after another in one child.

    The child is replaced when it dies, must be killed, failed to decode a file or has come to hold much memory: what
    one file left behind in it must not fail the next one. For the same reason a file that fails in a child that has
    decoded others is tried once more in a fresh one.

    A context manager; not for use by two threads at once. The child starts at the first ``decode``.
    """

    def __init__(self, limits: DecodeLimits = _LIMITS) -> None:
        self.limits = limits
        self._child: subprocess.Popen[bytes] | None = None
        self._requests = self._answers = -1
        self._fresh = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            os.close(self._requests)
            os.close(self._answers)
            self._child.kill()
            self._child.wait()
            self._child = None

    def decode(self, path: Path, *, coloured: bool = False) -> DecodedFrames:
        """All frames of the Part-10 file at ``path``; with ``coloured``, PALETTE COLOR comes as RGB of 8 bits.

        Raises DicomRefused when the file cannot be decoded, or when decoding it hangs, crashes or outgrows its limits:
        within twice ``limits.wall_s`` and a little.
        """
        while True:
            self._start()
            fresh = self._fresh
            try:
                return self._decode(path, coloured=coloured)
            except _MayBeTheChild:
                self.close()
                if fresh:
                    raise

    def _decode(self, path: Path, *, coloured: bool) -> DecodedFrames:
        deadline = time.monotonic() + self.limits.wall_s
        request = {"path": str(path.absolute()), "coloured": coloured}
        try:
            os.write(self._requests, json.dumps(request).encode() + b"\n")
            head, rest = self._line(deadline)
            frames = self._frames(head, rest, deadline)
        except TimeoutError as error:
            self.close()
            raise DicomRefused(
                f"decoding took longer than {self.limits.wall_s:g} s",
                dimse_status=0xA700,
                reason_code=ReasonCode.DECODE_TIMEOUT,
            ) from error
        except (EOFError, BrokenPipeError) as error:
            cause, code = self._cause_of_death()
            raise _MayBeTheChild(f"the decoder died ({cause})", reason_code=code) from error
        except (ValueError, KeyError, TypeError) as error:
            self.close()
            raise DicomRefused("the decoder's answer makes no sense", reason_code=ReasonCode.DECODER_CRASHED) from error
        except DicomRefused:
            raise
        except BaseException:  # an interrupt in the middle of an answer: what follows would be read as the next one
            self.close()
            raise
        self._fresh = False
        if self._address_space_bytes() > self.limits.memory_bytes * _KEPT_SHARE:
            self.close()
        return frames

    def _address_space_bytes(self) -> int:
        """How much of its limit the child holds now; 0 where the system neither tells this nor enforces the limit."""
        assert self._child is not None
        try:
            pages = int(Path(f"/proc/{self._child.pid}/statm").read_bytes().split()[0])
        except (OSError, ValueError, IndexError):
            return 0
        return pages * resource.getpagesize()

    def _start(self) -> None:
        if self._child is not None and self._child.poll() is None:
            return
        self.close()
        self._fresh = True
        child_requests, self._requests = os.pipe()
        self._answers, child_answers = os.pipe()
        _widen(self._answers)
        limits = (self.limits.memory_bytes, self.limits.cpu_s, self.limits.pixel_bytes)
        arguments = [str(number) for number in (child_requests, child_answers, *limits)]
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "radir_pacs.dicom.decode_child", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # codecs print messages that may quote the file
                stderr=subprocess.DEVNULL,
                pass_fds=(child_requests, child_answers),
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _SINGLE_THREADED,
            )
        except OSError:
            os.close(self._requests)
            os.close(self._answers)
            raise
        finally:
            os.close(child_requests)
            os.close(child_answers)

    def _read(self, buffer: memoryview, deadline: float) -> int:
        ready, _, _ = select.select([self._answers], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            raise TimeoutError
        count = os.readv(self._answers, [buffer])
        if count == 0:
            raise EOFError
        return count

    def _line(self, deadline: float) -> tuple[dict[str, Any], bytes]:
        """The first line of the answer, and whatever was read after it."""
        got = bytearray()
        buffer = memoryview(bytearray(1 << 12))
        while b"\n" not in got:
            got += buffer[: self._read(buffer, deadline)]
            if len(got) > 1 << 20:
                raise EOFError
        line, _, rest = bytes(got).partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer, rest

    def _frames(self, head: dict[str, Any], rest: bytes, deadline: float) -> DecodedFrames:
        if "error" in head:
            out_of_memory = head.get("code") == ReasonCode.DECODE_MEMORY
            code = ReasonCode.DECODE_MEMORY if out_of_memory else ReasonCode.DECODE_FAILED
            kind = DicomRefused if head.get("untouched") else _MayBeTheChild  # no codec ran: the child is sound
            raise kind(str(head["error"])[:200], reason_code=code)
        shape = tuple(int(n) for n in head["shape"])
        dtype = np.dtype(str(head["dtype"]))
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "iufb" or min(shape) < 1 or not len(rest) <= size <= self.limits.pixel_bytes:
            raise ValueError
        raw = bytearray(size)
        view = memoryview(raw)
        view[: len(rest)] = rest
        done = len(rest)
        while done < size:
            done += self._read(view[done:], deadline)
        pixels: npt.NDArray[Any] = np.frombuffer(raw, dtype).reshape(shape)
        return DecodedFrames(pixels=pixels, photometric=str(head["photometric"]))

    def _cause_of_death(self) -> tuple[str, ReasonCode]:
        """What ended the child. SIGKILL came from outside, since none of the child's own limits sends it."""
        assert self._child is not None
        try:
            status = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its pipe", ReasonCode.DECODER_CRASHED
        finally:
            self.close()
        if status >= 0:
            return f"exit status {status}", ReasonCode.DECODER_CRASHED
        code = ReasonCode.DECODER_KILLED if -status == signal.SIGKILL else ReasonCode.DECODER_CRASHED
        return signal.Signals(-status).name, code


def _widen(pipe: int) -> None:
    """Make room for a whole CT slice where the system allows it (Linux): fewer switches between the child and us."""
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
