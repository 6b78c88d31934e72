"""What many quick tests share because it takes long to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from radir_pacs.dicom.pixels import PixelDecoder


@pytest.fixture(scope="session")
def decoder() -> Iterator[PixelDecoder]:
    """For tests of what comes out; its child is replaced when a test's file breaks it."""
    with PixelDecoder() as decoder:
        yield decoder
