"""The kind of image that a report is about, by the modalities of its study."""

from __future__ import annotations

from collections.abc import Iterable

from radir_pacs.types import ImageKind, kind_of_modality


def kind_of(modalities: Iterable[str]) -> ImageKind | None:
    """The kind of image in a study with these modalities; None when it has neither of our kinds, or both."""
    kinds = {kind for modality in modalities if (kind := kind_of_modality(modality)) is not None}
    return kinds.pop() if len(kinds) == 1 else None
