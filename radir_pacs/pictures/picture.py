"""A JPEG or PNG file of a radiograph as a checked grey picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from radir_pacs.errors import BadInput

from .image_table import Row
from .write_dx import Picture

_MOST_PIXELS = 100_000_000
_FEWEST_PX = 64
_ASSUMED_FIELD_MM = 400.0


def read_picture(row: Row) -> Picture:
    """The picture that ``row`` names. Raises BadInput when it is not a readable, plausible JPEG or PNG."""
    try:
        with Image.open(row.image, formats=("JPEG", "PNG")) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise BadInput("the picture has more than 100 million pixels")
            lossy = image.format == "JPEG"
            pixels = _grey(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"image {row.image.name[:80]!r} is not a readable JPEG or PNG") from error
    if min(pixels.shape) < _FEWEST_PX or pixels.min() == pixels.max():
        raise BadInput("the picture is too small or one flat shade")
    width = pixels.shape[1]
    known = row.spacing_mm is not None
    field_mm = (row.spacing_mm or 0) * (row.original_width_px or width) if known else _ASSUMED_FIELD_MM
    return Picture(
        key=row.image.stem,
        pixels=pixels,
        view=row.view,
        spacing_mm=field_mm / width,
        spacing_assumed=not known,
        compression_ratio=max(pixels.nbytes / row.image.stat().st_size, 1.0) if lossy else None,
    )


def _grey(image: Image.Image) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    if image.mode.startswith("I"):  # PNG of 16 bits
        return np.asarray(image.convert("I")).clip(0, 65535).astype(np.uint16)
    return np.asarray(image.convert("L"))
