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
    """The images of one study. ``files``: all the files they are made from."""

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def reading(self) -> str:
        """How the files are read, where the files alone do not determine it: part of the cache's key."""
        ...

    def volumes(self, kind: ImageKind, decoder: PixelDecoder) -> list[Volume]:
        """At least one. Raises RadirError, OSError."""
        ...


@dataclass(frozen=True, kw_only=True)
class FoundStudy:
    """``study`` and ``patient`` are unique within the folder. ``said``: labels as statements, used where the report has
    none. ``true``: the true findings of synthetic patients."""

    study: str
    patient: str
    content: Content
    report: str = ""
    said: Said = field(default_factory=dict)
    true: Said | None = None


@dataclass(kw_only=True)
class Found:
    """``left_out``: counts of files or rows by reason; reasons name nobody. ``looked_for``: for the message that
    nothing was found."""

    studies: list[FoundStudy]
    left_out: Counter[str]
    looked_for: str


_QUOTED = re.compile(r"\s*(['\"]).*?\1")


def plain(reason: object) -> str:
    """A reason without what it quotes, since file names and cells may name a patient."""
    return _QUOTED.sub("", str(reason))[:120]
