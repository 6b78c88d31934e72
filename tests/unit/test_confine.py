"""A confined process can read and compute, and nothing else."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import ROOT

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="Landlock and seccomp are Linux's")

ATTEMPTS = {
    "write a file": "open(folder + '/new', 'w')",
    "append to a file": "open(folder + '/there', 'a')",
    "remove a file": "os.remove(folder + '/there')",
    "rename a file": "os.rename(folder + '/there', folder + '/elsewhere')",
    "shorten a file": "os.truncate(folder + '/there', 0)",
    "change a file's mode": "os.chmod(folder + '/there', 0o777)",
    "make a folder": "os.mkdir(folder + '/new')",
    "make a link": "os.symlink(folder + '/there', folder + '/link')",
    "open a TCP socket": "socket.socket()",
    "open a UDP socket": "socket.socket(type=socket.SOCK_DGRAM)",
    "open a local socket": "socket.socket(socket.AF_UNIX)",
    "run a program": "os.execv(sys.executable, [sys.executable, '-c', ''])",
    "start a process": "os.posix_spawn(sys.executable, [sys.executable, '-c', ''], {})",
    "fork": "os.fork() or os._exit(0)",
    "signal its parent": "os.kill(os.getppid(), 0)",
    "read its parent's settings": "open(f'/proc/{os.getppid()}/environ').read()",
    "write from a thread": "threaded(lambda: open(folder + '/new', 'w'))",
}
CHILD = """
import os, socket, sys, threading
from radir_pacs.confine import confine
folder, attempts = sys.argv[1], eval(sys.argv[2])
def threaded(act):
    failed = []
    def run():
        try: act()
        except OSError as error: failed.append(error)
    thread = threading.Thread(target=run); thread.start(); thread.join()
    if failed: raise failed[0]
if not confine(2**34, 2**20):
    print('not confined'); sys.exit(3)
for name, attempt in attempts.items():
    try: eval(attempt)
    except PermissionError: continue
    except OSError as error: print(name, error); continue
    print(name)
print('read:', open(folder + '/there').read())
"""


def test_a_confined_process_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("kept")
    done = subprocess.run(
        [sys.executable, "-B", "-c", CHILD, str(tmp_path), repr(ATTEMPTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 3:
        pytest.skip("this kernel has no Landlock or no seccomp")
    assert done.stdout == "read: kept\n", done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
