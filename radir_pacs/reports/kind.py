"""What a report is about, as the modalities of its study tell."""

from __future__ import annotations

from collections.abc import Iterable

from radir_pacs.types import ImageKind

_KINDS = {"CT": ImageKind.CT, "CR": ImageKind.CXR, "DX": ImageKind.CXR, "RG": ImageKind.CXR}  # PS3.3 C.7.3.1.1.1


def kind_of(modalities: Iterable[str]) -> ImageKind | None:
    """The kind of image a study with these modalities has; None when it has none of ours, or both."""
    kinds = {_KINDS[modality] for modality in modalities if modality in _KINDS}
    return kinds.pop() if len(kinds) == 1 else None
