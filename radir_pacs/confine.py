"""Gives up, for this process and permanently, every right that could do harm; then runs a module on a stranger's file.

``python -m radir_pacs.confine MODULE MEMORY_BYTES FILE_BYTES ARGUMENT…`` calls ``MODULE.main(confined, arguments)``.
This module imports no library, since Landlock does not hold for threads that libraries started before.

After ``confine`` no file can be written, made, removed or run, no socket opened, no process started, signalled or
looked into, no privilege used. Files can be read, and what was open before can be used: that is how an answer gets out.
Linux only: Landlock for the file system, seccomp for the rest; both work without privileges, in containers too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # Landlock's system calls, the same on every architecture
_ASK_VERSION = 1
_DIE_WITH_PARENT, _NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 1, 38, 22, 2
_CAPABILITY_VERSION = 0x20080522
_READ_FILE_AND_FOLDER = 0b1100  # the two of Landlock's file rights that remain

# Rights to files, to TCP and to others' signals that a version of Landlock knows.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_NEWEST_FILE_RIGHTS = 16

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_CLONE_THREAD = 0x10000
_FOREIGN_ABI = 0x40000000  # x32's numbers, on x86_64
_DENIED = {
    "x86_64": (
        *(41, 42, 49, 53),  # socket, connect, bind, socketpair
        *(57, 58, 59, 322),  # fork, vfork, execve, execveat
        *(62, 129, 200, 234, 297, 424),  # kill and its kin
        *(101, 310, 311, 438),  # ptrace, process_vm_readv and _writev, pidfd_getfd
        *(76, 90, 91, 92, 93, 94, 132, 188, 189, 190, 197, 198, 199, 235, 260, 261, 268, 280, 452),  # truncate, chmod …
        *(425, 426, 427, 321, 298, 323),  # io_uring, bpf, perf_event_open, userfaultfd
    ),
    "aarch64": (
        *(198, 203, 200, 199),
        *(221, 281),
        *(129, 130, 131, 138, 240, 424),
        *(117, 270, 271, 438),
        *(45, 52, 53, 54, 55, 5, 6, 7, 14, 15, 16, 88, 452),
        *(425, 426, 427, 280, 241, 282),
    ),
}


def confine(memory_bytes: int, file_bytes: int) -> bool:
    """Whether all of it took effect; the limits on memory and file size are set in any case."""
    for which, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):
            resource.setrlimit(which, (value, value))
    if platform.system() != "Linux" or platform.machine() not in _ARCHITECTURES:
        return False
    if sum(1 for _ in Path("/proc/self/task").iterdir()) > 1:
        return False  # the other threads would keep their rights
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_DIE_WITH_PARENT, ctypes.c_ulong(signal.SIGKILL))  # nobody else would end it
    if libc.prctl(_NO_NEW_PRIVILEGES, *(ctypes.c_ulong(n) for n in (1, 0, 0, 0))):
        return False
    return _drop_capabilities(libc) and _landlock(libc) and _seccomp(libc)


def _drop_capabilities(libc: ctypes.CDLL) -> bool:
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    return bool(libc.capset(header, bytes(24)) == 0)


def _landlock(libc: ctypes.CDLL) -> bool:
    """Handles every right that this kernel knows, and grants only reading."""
    version = libc.syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint(_ASK_VERSION))
    if version < 1:
        return False
    files = ((1 << _FILE_RIGHTS.get(version, _NEWEST_FILE_RIGHTS)) - 1) & ~_READ_FILE_AND_FOLDER
    fields = [files] + ([0b11] if version >= 4 else []) + ([0b11] if version >= 6 else [])
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    size = ctypes.c_size_t(len(attributes))
    ruleset = libc.syscall(ctypes.c_long(_CREATE_RULESET), attributes, size, ctypes.c_uint(0))
    if ruleset < 0:
        return False
    try:
        return bool(libc.syscall(ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint(0)) == 0)
    finally:
        os.close(ruleset)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _seccomp(libc: ctypes.CDLL) -> bool:
    code = _filter(platform.machine())
    program = _Program(len(code) // 8, code)
    return bool(libc.prctl(_SET_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.byref(program), 0, 0) == 0)


def _filter(machine: str) -> bytes:
    """A BPF program over ``struct seccomp_data``: number at byte 0, architecture at 4, first argument at 16."""
    allow, deny = (0x7FFF0000, 0x00050000 | errno.EPERM)

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    load, equal, at_least, has_bit, back = 0x20, 0x15, 0x35, 0x45, 0x06
    steps = [
        step(load, 4),
        step(equal, _ARCHITECTURES[machine], 1, 0),
        step(back, deny),
        step(load, 0),
        step(at_least, _FOREIGN_ABI, 0, 1),
        step(back, deny),
        step(equal, _CLONE3, 0, 1),
        step(back, 0x00050000 | errno.ENOSYS),  # libc then takes clone, whose flags can be seen
        step(equal, _CLONE[machine], 0, 4),
        step(load, 16),
        step(has_bit, _CLONE_THREAD, 0, 1),
        step(back, allow),
        step(back, deny),
    ]
    for number in _DENIED[machine]:
        steps += [step(equal, number, 0, 1), step(back, deny)]
    return b"".join([*steps, step(back, allow)])


if __name__ == "__main__":
    is_confined = confine(int(sys.argv[2]), int(sys.argv[3]))
    import_module(sys.argv[1]).main(is_confined, sys.argv[4:])
