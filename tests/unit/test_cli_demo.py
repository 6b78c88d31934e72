"""The demo tells how far it has come where no progress bar can move, as in the log of a build."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from radir_pacs.catalogue import Overview
from radir_pacs.cli import demo
from radir_pacs.types import StudyState


class Catalogue:
    """Indexes one of three studies per look."""

    def __init__(self) -> None:
        self.looks: Iterator[int] = iter(range(4))

    def overview(self) -> Overview:
        done = next(self.looks)
        return Overview(
            processes=(),
            studies={StudyState.INDEXED: done, StudyState.STABLE: 3 - done},
            jobs=(),
            encodings={},
            unread_reports={},
            refusals_last_day=0,
            oldest_open_job_s=None,
        )


def test_progress_is_told_line_by_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_SAY_EVERY_S", 0.0)
    demo._wait(Catalogue(), threading.Event())  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert [f"encoding and indexing: {n} of 3 studies" in said for n in range(3)] == [True] * 3
