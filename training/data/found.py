"""What is found in a folder before a pixel is read."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.types import ImageKind, Volume

from .statements import Said


class Content(Protocol):
    """The images of one study. ``files`` are all that they are made of."""

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def reading(self) -> str:
        """How the files are read, where that does not follow from them: a part of the cache's key."""
        ...

    def volumes(self, kind: ImageKind, decoder: PixelDecoder) -> list[Volume]:
        """At least one. Raises RadirError, OSError."""
        ...


@dataclass(frozen=True, kw_only=True)
class FoundStudy:
    """``study`` and ``patient`` are names that hold within the folder. ``said``: labels as statements, which count
    where the report says nothing. ``true``: what is there, of synthetic patients."""

    study: str
    patient: str
    content: Content
    report: str = ""
    said: Said = field(default_factory=dict)
    true: Said | None = None


@dataclass(kw_only=True)
class Found:
    """``left_out``: how many files or rows, by reason; reasons name nobody. ``looked_for``: to say when nothing is."""

    studies: list[FoundStudy]
    left_out: Counter[str]
    looked_for: str


_QUOTED = re.compile(r"\s*(['\"]).*?\1")


def plain(reason: object) -> str:
    """A reason without what it quotes, since file names and cells may name a patient."""
    return _QUOTED.sub("", str(reason))[:120]
