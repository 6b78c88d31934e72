"""One Orthanc beside one stack for all tests of this folder, with the same studies in both: that takes a minute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from radir_pacs.cli.viewer import install
from radir_pacs.config import Settings
from tests.acceptance.orthanc_house import Hospital, House, running_house
from tests.services import ROOT, need
from tests.stack import running_stack


@pytest.fixture(scope="package")
def house(fewer_cts: Hospital, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """OHIF is there too, as npm has it."""
    need("npm")
    ohif = str(ROOT / ".cache" / "ohif")
    install(Settings(home=tmp_path_factory.mktemp("unused"), ohif_folder=ohif))
    with (
        running_stack(tmp_path_factory.mktemp("stack"), ohif_folder=ohif) as stack,
        running_house(stack, fewer_cts, tmp_path_factory.mktemp("orthanc")) as started,
    ):
        yield started
