"""One stack per test file: starting it takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hospital_material import usual_hospital
from tests.machines.acceptance import reason_against
from tests.stack import MACHINES, Stack, running_stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On three machines a test runs unless the table says why it does not."""
    if os.environ.get(MACHINES) == "3":
        here = Path(__file__).parent
        for item in items:
            if not item.path.is_relative_to(here):
                continue
            if reason := reason_against(item.path.relative_to(here).as_posix(), item.name):
                item.add_marker(pytest.mark.skip(reason=f"not on three machines: {reason}"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as started:
        yield started


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A small synthetic hospital: its folder, and the truth of its studies."""
    return usual_hospital(tmp_path_factory)


@pytest.fixture(scope="session")
def fewer_cts(hospital: tuple[Path, list[dict[str, Any]]]) -> tuple[Path, list[dict[str, Any]]]:
    """All radiographs of that hospital and two of its CTs, whose 60 slices each take long to send and encode."""
    folder, studies = hospital
    cts = [study for study in studies if study["kind"] == "CT"][:2]
    return folder, [study for study in studies if study["kind"] != "CT" or study in cts]
