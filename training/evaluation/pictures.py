"""Network inputs as pictures for a page: a radiograph as it is, a CT as its middle coronal and axial slices."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, ImageDraw

from radir_pacs.anatomy import ROOT, outline
from radir_pacs.encode.network import view_index
from radir_pacs.types import ImageKind, View

from ..data.studies import StudySet
from .measures import F32, U8

HEIGHT = 190  # pixels of a picture on the page
OUTLINE = (255, 176, 0)
FULL = (0.5, 99.5)  # percentiles mapped to black and white


def picture(data: StudySet, row: int, key: str | None = None) -> str:
    """A JPEG as a data: address; the schematic outline of region ``key`` is drawn on a frontal or an axial view."""
    image = data.images[row, 0].astype(np.float32)
    if data.kind is ImageKind.CXR:
        frontal = data.views[row] == view_index(ImageKind.CXR, View.FRONTAL)
        return _address(_outlined(_grey(image), key if frontal else None, data.kind))
    slices, columns = image.shape[0] // 2, image.shape[1] // 2
    coronal = _grey(image[::-1, columns])  # the head above
    axial = _outlined(_grey(image[slices]), key, data.kind)
    both = Image.new("RGB", (coronal.width + axial.width + 4, HEIGHT))
    both.paste(coronal, (0, 0))
    both.paste(axial, (coronal.width + 4, 0))
    return _address(both)


def _grey(values: F32) -> Image.Image:
    low, high = np.percentile(values, FULL)
    levels: U8 = (255 * np.clip((values - low) / max(1e-6, float(high - low)), 0, 1)).astype(np.uint8)
    width = max(1, round(HEIGHT * values.shape[1] / values.shape[0]))
    return Image.fromarray(levels).resize((width, HEIGHT), Image.Resampling.BICUBIC).convert("RGB")


def _outlined(image: Image.Image, key: str | None, kind: ImageKind) -> Image.Image:
    if key is None or key == ROOT:
        return image
    points = [(x * image.width, y * image.height) for x, y in outline(key, kind)]
    ImageDraw.Draw(image).line([*points, points[0]], fill=OUTLINE, width=2)
    return image


def _address(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
