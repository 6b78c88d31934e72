"""What an X-ray may suffer without another finding: cropping, turning, another window, text, another scanner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, rotate, zoom

from benchmarks.experiments.real_rankings import SIDE, Images
from radir_training.evaluation.measures import F32

CROP, TURN_DEGREES, GAMMA, COARSE = 0.08, 6.0, 1.8, 2  # share of each side; of the values; pixels
TEXTS = (((0.03, 0.03), "PORTABLE  AP SUPINE"), ((0.60, 0.95), "30.11.2019  14:05"))


def _cropped(image: F32) -> F32:
    edge = round(CROP * SIDE)
    return np.asarray(zoom(image[edge:-edge, edge:-edge], SIDE / (SIDE - 2 * edge), order=1), np.float32)


def _turned(image: F32) -> F32:
    return np.asarray(rotate(image, TURN_DEGREES, reshape=False, order=1, mode="nearest"), np.float32)


def _windowed(image: F32) -> F32:
    low, high = float(image.min()), float(image.max())
    return np.asarray(((image - low) / (high - low)) ** GAMMA, np.float32)


def _written_on(image: F32) -> F32:
    picture = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(picture)
    for (across, down), text in TEXTS:
        draw.text((across * SIDE, down * SIDE), text, fill=255)
    return np.where(np.asarray(picture) > 0, image.max(), image)


def _rescanned(image: F32) -> F32:
    """Coarser, and with its edges enhanced."""
    coarse = gaussian_filter(image, COARSE / 2)
    return np.asarray(coarse + 0.8 * (coarse - gaussian_filter(coarse, 4 * COARSE)), np.float32)


DISTURBANCES: dict[str, Callable[[F32], F32]] = {
    "none": lambda image: image,
    "cropped by 8 % of each side": _cropped,
    "turned by 6 degrees": _turned,
    "another window": _windowed,
    "burned-in text": _written_on,
    "another scanner": _rescanned,
}


def disturbed(images: Images, name: str) -> Images:
    """All images so disturbed, standardised again; what is margin stays 0 but where it is cropped or turned away."""
    data = images.by_side[SIDE]
    found = np.empty_like(data.images)
    for row, image in enumerate(data.images[:, 0].astype(np.float32)):
        content = image != 0
        changed = DISTURBANCES[name](np.where(content, image, image.min()))
        if name.startswith(("cropped", "turned")):
            content = DISTURBANCES[name](content.astype(np.float32)) > 0.5
        mean, spread = changed[content].mean(), changed[content].std()
        found[row, 0] = np.where(content, (changed - mean) / spread, 0)
    return replace(images, by_side={SIDE: replace(data, images=found)})
