"""Reading the files of an index: nothing is used before its hash was checked, on this machine, since it last changed.

A check of a whole segment is noted beside it, with what the system says about each file (inode, size, times): opening
compares that, which takes microseconds, and hashes only what has no note or changed since. Bytes that change beneath
the file system escape such a note. `check_folder` reads everything again in the background, and the files of a
partition that a process had open when it crashed are hashed before anyone maps them again.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import fcntl
import functools
import hashlib
import json
import math
import mmap
import os
import secrets
import stat
import time
import weakref
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from radir_pacs import durable
from radir_pacs.errors import IndexRefused, RadirError, StorageFailed
from radir_pacs.index.manifest import MANIFEST, MANIFEST_MAX_BYTES, FileRecord

_CHUNK_BYTES = 4 << 20
_NOTE = "checked.json"
_TRACE_PREFIX = ".in-use-"
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_longlong)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_MAP_FAILED = ctypes.c_void_p(-1).value
_OF_THE_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EIO})
_SETTLED_NS = 1_000_000_000  # a change within so short a time of the check might have left the same times


def regular_file(path: Path) -> BufferedReader:
    """Open a regular file for reading: no link is followed, and a pipe or device does not block.

    Raises IndexRefused for what is no such file, StorageFailed where it cannot be told, as without free descriptors.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _fault(error, f"{path.name} of the index cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise IndexRefused(f"{path.name} of the index is not a file")
    return os.fdopen(handle, "rb")


def _fault(error: OSError, text: str) -> RadirError:
    """The file is to blame, or this process, which lacks a descriptor or a right: that refuses a build for nobody."""
    return IndexRefused(text) if error.errno in _OF_THE_FILE else StorageFailed(text)


def read_manifest_file(folder: Path) -> bytes:
    """The text of a folder's manifest. Raises IndexRefused."""
    with regular_file(folder / MANIFEST) as file:
        text = file.read(MANIFEST_MAX_BYTES + 1)
    if len(text) > MANIFEST_MAX_BYTES:
        raise IndexRefused("the manifest of the index is too large")
    return text


def check_file(path: Path, expected: FileRecord, rest: Callable[[int], None] = lambda _: None) -> os.stat_result:
    """Read it all; what the system said about it before. Raises IndexRefused when it is not what was built.

    ``rest`` is called with the number of bytes after each chunk, and may sleep, or raise to end the check.
    """
    sha256 = hashlib.sha256()
    with regular_file(path) as file:
        found = os.fstat(file.fileno())
        if found.st_size != expected.size_bytes:
            raise IndexRefused(f"{path.name} of the index has another size than when it was built")
        try:
            while chunk := file.read(_CHUNK_BYTES):
                sha256.update(chunk)
                rest(len(chunk))
        except OSError as error:
            raise _fault(error, f"{path.name} of the index cannot be read: {error.strerror}") from error
    if sha256.hexdigest() != expected.sha256:
        raise IndexRefused(f"{path.name} of the index was altered")
    return found


def check_folder(folder: Path, files: Mapping[str, FileRecord], rest: Callable[[int], None] = lambda _: None) -> None:
    """Read every file and note that they are right. Raises IndexRefused, and then no note is left."""
    began_ns = time.time_ns()
    try:
        found = {name: _times(check_file(folder / name, record, rest)) for name, record in files.items()}
    except IndexRefused:
        with contextlib.suppress(OSError):
            (folder / _NOTE).unlink()
        raise
    with contextlib.suppress(OSError):  # another user's folder, or a full disk: the next opening hashes again
        durable.replace(folder / _NOTE, json.dumps({"at_ns": began_ns, "files": found}).encode())


def is_noted(folder: Path, files: Mapping[str, FileRecord]) -> bool:
    """Whether a check of these files was noted and none changed since. Raises IndexRefused for what is no file."""
    found = {}
    for name, record in files.items():
        with regular_file(folder / name) as file:
            status = os.fstat(file.fileno())
        if status.st_size != record.size_bytes:
            raise IndexRefused(f"{name} of the index has another size than when it was built")
        found[name] = _times(status)
    try:
        note = json.loads((folder / _NOTE).read_bytes())
        settled = all(times[-1] + _SETTLED_NS < note["at_ns"] for times in found.values())
        return bool(settled and note["files"] == found)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def open_checked(folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Raises IndexRefused unless the files are what was built, by a noted check or by one now.

    From now on, a trace beside the segments says that this process uses them, until it ends in good order.
    """
    _forget_after_a_crash(folder.parent)
    if not is_noted(folder, files):
        check_folder(folder, files)
    _leave_trace(folder.parent)


@functools.cache
def _leave_trace(segments: Path) -> None:
    """One file per partition, locked: the kernel drops the lock when the process ends, however it ends."""
    name = secrets.token_hex(8)
    path, before = segments / f"{_TRACE_PREFIX}{name}", segments / f".new-{name}"  # nobody looks at that one
    try:
        handle = os.open(before, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        before.rename(path)
    except OSError:  # another user's folder
        return
    _traces.append((path, os.getpid()))


def remove_open_marks() -> None:
    """This process ends in good order: for one that ends by `os._exit`, which calls nothing by itself."""
    while _traces:
        path, pid = _traces.pop()
        if os.getpid() == pid:  # not in a forked child, which shares the lock
            with contextlib.suppress(OSError):
                path.unlink()


_traces: list[tuple[Path, int]] = []
atexit.register(remove_open_marks)


def _forget_after_a_crash(segments: Path) -> None:
    """Where a process ended without removing its trace, no note beside these segments counts any more."""
    for path in segments.glob(f"{_TRACE_PREFIX}*"):
        try:
            handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for note in segments.glob(f"*/{_NOTE}"):  # before the trace goes
                with contextlib.suppress(OSError):
                    note.unlink()
            with contextlib.suppress(OSError):
                path.unlink()
        except BlockingIOError:  # it lives
            pass
        finally:
            os.close(handle)


def map_file(path: Path, dtype: str, shape: tuple[int, ...]) -> Any:
    """The file as a read-only array, mapped. Raises IndexRefused.

    Not by `numpy.memmap`, which keeps a descriptor of each file: select() takes none beyond 1,023.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:  # an empty file cannot be mapped
        return np.empty(shape, dtype)
    with regular_file(path) as file:
        address = _LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    if address in (None, _MAP_FAILED):
        raise StorageFailed(f"{path.name} of the index cannot be mapped: {os.strerror(ctypes.get_errno())}")
    content = (ctypes.c_uint8 * size).from_address(address)
    weakref.finalize(content, _LIBC.munmap, address, size).atexit = False
    array = np.frombuffer(memoryview(content), dtype).reshape(shape)
    array.flags.writeable = False
    return array


def _times(status: os.stat_result) -> list[int]:
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
