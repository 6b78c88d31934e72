"""Untrusted pixels, decoded in a child process with hard limits (P6)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
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
_SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# The child sees no setting and no secret of ours.
_PASSED_ON = ("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV")


@dataclass(frozen=True, kw_only=True)
class DecodedFrames:
    """Stored values of all frames, before any LUT.

    pixels: [frames, rows, columns], or [frames, rows, columns, 3] for RGB; any integer or float type.
    photometric: as in Photometric Interpretation, "RGB" for every colour image of three samples.
    """

    pixels: npt.NDArray[Any]
    photometric: str


class PixelDecoder:
    """Decodes files one after another in one child, which is replaced when it dies or must be killed.

    A context manager; not for use by two threads at once. The child starts at the first ``decode``.
    """

    def __init__(self, limits: DecodeLimits = _LIMITS) -> None:
        self.limits = limits
        self._child: subprocess.Popen[bytes] | None = None
        self._requests = self._answers = -1

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

    def interrupt(self) -> None:
        """From another thread: the decode in hand, if there is one, soon raises DicomRefused."""
        if (child := self._child) is not None:
            child.kill()

    def decode(self, path: Path) -> DecodedFrames:
        """All frames of the Part-10 file at ``path``.

        Raises DicomRefused, within ``limits.wall_s`` and a little, when the file cannot be decoded, or when decoding
        it hangs, crashes or outgrows its limits.
        """
        self._start()
        deadline = time.monotonic() + self.limits.wall_s
        try:
            os.write(self._requests, json.dumps(str(path.absolute())).encode() + b"\n")
            head, rest = self._line(deadline)
            return self._frames(head, rest, deadline)
        except TimeoutError as error:
            self.close()
            raise DicomRefused(
                f"decoding took longer than {self.limits.wall_s:g} s",
                dimse_status=0xA700,
                reason_code=ReasonCode.DECODE_TIMEOUT,
            ) from error
        except (EOFError, BrokenPipeError) as error:
            cause, code = self._cause_of_death()
            raise DicomRefused(f"the decoder died ({cause})", reason_code=code) from error
        except (ValueError, KeyError, TypeError) as error:
            self.close()
            raise DicomRefused("the decoder's answer makes no sense", reason_code=ReasonCode.DECODER_CRASHED) from error
        except DicomRefused:
            raise
        except BaseException:  # an interrupt in the middle of an answer: what follows would be read as the next one
            self.close()
            raise

    def _start(self) -> None:
        if self._child is not None and self._child.poll() is None:
            return
        self.close()
        child_requests, self._requests = os.pipe()
        self._answers, child_answers = os.pipe()
        _widen(self._answers)
        limits = (self.limits.memory_bytes, self.limits.cpu_s, self.limits.pixel_bytes)
        arguments = [str(number) for number in (child_requests, child_answers, *limits)]
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "radir_pacs.dicom.decode_child", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # codecs print what they think, and it may quote the file
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
        """The answer's first line, and what was read behind it."""
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
            raise DicomRefused(str(head["error"])[:200], reason_code=code)
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
        """What ended the child. SIGKILL comes from outside, since none of its own limits sends it."""
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
    """Room for a whole CT slice where the system lets us (Linux): fewer turns between the child and us."""
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
