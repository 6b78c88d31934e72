"""A bell ends a poll, whoever rings it, and is quiet once it was heard."""

from __future__ import annotations

import os
import select
import threading
from pathlib import Path

from radir_pacs.listener.bell import Bell

_AT_ONCE_MS, _LONG_MS = 0, 20_000


def polled(bell: Bell) -> select.poll:
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    return poll


def test_a_thread_that_polls_hears_another_that_rings() -> None:
    bell = Bell()
    poll = polled(bell)
    threading.Thread(target=bell.ring).start()
    assert poll.poll(_LONG_MS) == [(bell.fileno(), select.POLLIN)]
    bell.ring()
    bell.hear()
    assert poll.poll(_AT_ONCE_MS) == [], "both rings were heard"
    bell.hear()  # nothing rang


def test_who_rings_a_bell_that_is_closed_touches_nobody_elses_file(tmp_path: Path) -> None:
    bell = Bell()
    handle = bell.fileno()
    bell.close()
    bell.close()
    reused = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        assert reused == handle, "the kernel gives the lowest number, or this test shows nothing"
        bell.ring()
        assert (tmp_path / "file").read_bytes() == b""
    finally:
        os.close(reused)


def test_a_bell_that_nobody_closed_leaves_no_handle() -> None:
    handle = Bell().fileno()
    assert not Path(f"/proc/self/fd/{handle}").exists()
