"""Which image of a study shows a region: for a CT the slices where it lies, otherwise the image that was encoded."""

from __future__ import annotations

from radir_pacs import anatomy
from radir_pacs.catalogue import EncodingOwner
from radir_pacs.types import Encoding, ImageRef


def slices_of(encoded: Encoding | EncodingOwner, region: str) -> tuple[ImageRef, ...]:
    """The slices of the encoded series that show ``region``, the best one first.

    Empty for a radiograph, and for a CT that was encoded before slices were recorded.
    """
    return anatomy.slices_of(encoded.slices, region) if encoded.slices is not None else ()


def picture_of(encoded: Encoding | EncodingOwner, region: str) -> ImageRef:
    """The one image that shows ``region`` best."""
    return next(iter(slices_of(encoded, region)), ImageRef(sop_uid=encoded.sop_uid))
