"""Radiographs from the volume: parallel beams, Beer-Lambert, scatter, quantum noise, the processing of a DX unit."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from radir_pacs.types import F32

WATER_PER_MM = 0.0185  # attenuation of water at the effective energy of a 120 kV chest beam
# of the range up to the 99.8th percentile: otherwise bone saturates and vertebrae cannot be distinguished
HEADROOM = 1.1
BONE_EXCESS = 0.42  # how much more bone attenuates than its density in HU suggests


def attenuation(hu: F32) -> F32:
    """Linear attenuation in 1/mm of tissue given in HU."""
    dense = np.maximum(hu - 90, 0)
    mu: F32 = np.maximum(hu + 1000 + BONE_EXCESS * dense, 0) * np.float32(WATER_PER_MM / 1000)
    return mu


def expose(path: F32, pixel_mm: float, rng: np.random.Generator, photons_per_mm2: float = 20000.0) -> F32:
    """Line integrals [row, column] to a detector's reading as -log of the signal."""
    primary = np.exp(-path)
    scatter = gaussian_filter(primary, 28 / pixel_mm, mode="nearest") * 0.32 + 0.002
    signal = gaussian_filter(primary, 0.35, mode="nearest") + scatter
    photons = signal * (photons_per_mm2 * min(pixel_mm, 1.5) ** 2 * 4)
    noisy = photons + rng.standard_normal(path.shape).astype(np.float32) * np.sqrt(photons)
    reading: F32 = -np.log(np.maximum(noisy, 1) / (photons_per_mm2 * min(pixel_mm, 1.5) ** 2 * 4)).astype(np.float32)
    return reading


def present(reading: F32, pixel_mm: float) -> F32:
    """For-presentation values in [0, 1], bright is dense: range compressed, edges enhanced, then an S-shaped curve."""
    wide = gaussian_filter(reading, 25 / pixel_mm, mode="nearest")
    fine = gaussian_filter(reading, max(0.8, 3.0 / pixel_mm), mode="nearest")
    flat = reading - 0.6 * wide + 0.35 * (reading - fine)
    body = reading > 0.35
    low, high = np.percentile(flat[body], [1.5, 99.8])
    value = (flat - low) / ((high - low) * HEADROOM)
    shown: F32 = (1 / (1 + np.exp(-4.3 * (value - 0.52)))).astype(np.float32)
    bottom, top = 1 / (1 + np.exp(4.3 * 0.56)), 1 / (1 + np.exp(-4.3 * 0.56))
    shown = np.clip((shown - np.float32(bottom)) / np.float32(top - bottom), 0, 1)
    return np.where(reading < 0.2, shown * 0.3, shown).astype(np.float32)
