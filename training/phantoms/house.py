"""Hospitals that differ: how their scanner shows a chest, what their patients have, how their radiologists write.

What a network learned at one need not hold at another; with two of them that can be measured where the truth is known.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from radir_pacs.types import F32

from .images import Images

FIRST, OTHER = "first", "other"
CT_NOISE_HU = 18.0  # in addition to what every CT has


@dataclass(frozen=True, kw_only=True)
class Look:
    """What another unit's processing does to a radiograph in [0, 1], and to a CT in HU.

    gamma bends the grey scale; sharpen is the weight of details below ``detail_mm``; shade darkens one side, as the
    heel effect does; noise is its standard deviation. blur_mm is the kernel of the CT.
    """

    gamma: float = 1.0
    sharpen: float = 0.0
    detail_mm: float = 6.0
    shade: float = 0.0
    noise: float = 0.0
    blur_mm: float = 0.0


@dataclass(frozen=True, kw_only=True)
class House:
    """``mix``: how much more often than in the catalogue a concept is drawn; 1 where it is not named. ``phrases``: a
    file of wordings that take the place of those in ``phrases.toml``."""

    name: str
    manufacturer: str = "RadIR-PACS"
    look: Look | None = None
    mix: Mapping[str, float] = field(default_factory=dict)
    phrases: str | None = None

    def seen(self, images: Images, rng: np.random.Generator) -> Images:
        """The images as this hospital's units show them."""
        if self.look is None:
            return images
        pixel_mm = images.radiograph_spacing_mm[1]
        return replace(
            images,
            frontal=_radiograph(images.frontal, self.look, pixel_mm, rng),
            lateral=_radiograph(images.lateral, self.look, pixel_mm, rng),
            ct=_ct(images.ct, self.look, images.ct_spacing_mm[1], rng),
        )


HOUSES = {
    FIRST: House(name=FIRST),
    OTHER: House(
        name=OTHER,
        manufacturer="Other vendor",
        look=Look(gamma=1.7, sharpen=1.4, shade=0.25, noise=0.035, blur_mm=1.6),
        mix={
            "effusion": 0.5,
            "cardiomegaly": 0.5,
            "nodule": 0.6,
            "pneumothorax": 0.5,
            "consolidation": 1.6,
            "ground_glass": 2.5,
            "atelectasis": 2.0,
            "oedema": 1.8,
            "fibrosis": 2.5,
            "central_line": 3.0,
            "endotracheal_tube": 3.0,
            "nasogastric_tube": 2.0,
        },
        phrases="phrases_other.toml",
    ),
}


@cache
def phrases(house: str = FIRST) -> dict[str, Any]:
    """What radiologists of a hospital write, by concept; see ``phrases.toml``."""
    folder = files(__package__)
    book: dict[str, Any] = tomllib.loads((folder / "phrases.toml").read_text(encoding="utf-8"))
    own = HOUSES[house].phrases
    if own is not None:
        for concept, wordings in tomllib.loads((folder / own).read_text(encoding="utf-8")).items():
            book[concept] = {**book[concept], **wordings}
    return book


def _radiograph(picture: F32, look: Look, pixel_mm: float, rng: np.random.Generator) -> F32:
    if not picture.size:
        return picture
    plane = picture[0] ** look.gamma
    plane = plane + look.sharpen * (plane - gaussian_filter(plane, look.detail_mm / pixel_mm, mode="nearest"))
    plane = plane * np.linspace(1 - look.shade, 1, plane.shape[1], dtype=np.float32)[None]
    plane = plane + rng.standard_normal(plane.shape, dtype=np.float32) * look.noise
    shown: F32 = np.clip(plane, 0, 1).astype(np.float32)[None]
    return shown


def _ct(scan: F32, look: Look, pixel_mm: float, rng: np.random.Generator) -> F32:
    if not scan.size:
        return scan
    shown = np.stack([gaussian_filter(plane, look.blur_mm / pixel_mm, mode="nearest") for plane in scan])
    shown += rng.standard_normal(shown.shape, dtype=np.float32) * np.float32(CT_NOISE_HU)
    noisy: F32 = np.clip(shown, -1024, 3071).astype(np.float32)
    return noisy
