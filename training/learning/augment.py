"""Augmentation: small rotations, scalings, shifts, gain and noise. Never a flip, since left and right matter."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

MOST_TURN_RAD = math.radians(5)
MOST_SCALE, MOST_SHIFT = 0.06, 0.06  # shares of the picture
MOST_GAIN, MOST_OFFSET = 0.12, 0.08  # in units of the network's input
NOISE = 0.02  # less than the contrast of a fine line
_UNUSED_BY_TRANSFORMS = ("transformers", "pandas", "matplotlib", "tensorboard")


class Augmentation:
    """MONAI's random transforms for images of ``shape``, 2D or 3D; the geometric transforms are one
    resampling, since two would blur catheters away."""

    def __init__(self, shape: Sequence[int]) -> None:
        # takes seconds to import; a training on synthetic patients does not need it
        with _seeming_absent(_UNUSED_BY_TRANSFORMS):
            from monai.transforms.compose import Compose
            from monai.transforms.intensity.array import RandGaussianNoise, RandScaleIntensity, RandShiftIntensity
            from monai.transforms.spatial.array import RandAffine

        axes = len(shape)
        self._vary = Compose(
            [
                RandAffine(
                    prob=1,
                    rotate_range=[MOST_TURN_RAD] * (1 if axes == 2 else 3),
                    translate_range=[MOST_SHIFT * n for n in shape],
                    scale_range=[MOST_SCALE] * axes,
                    padding_mode="border",
                ),
                RandScaleIntensity(MOST_GAIN, prob=1),
                RandShiftIntensity(MOST_OFFSET, prob=1),
                RandGaussianNoise(prob=1, std=NOISE, sample_std=False),
            ]
        )

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images [batch, 1, *shape], each transformed at random; the same generator state gives the same result."""
        self._vary.set_random_state(seed=int(torch.randint(2**31, (1,), generator=generator)))
        return torch.stack([self._vary(image).as_tensor() for image in images])


@contextmanager
def _seeming_absent(names: Sequence[str]) -> Iterator[None]:
    """Whoever imports these libraries meanwhile takes them for not installed, unless they are loaded already.

    MONAI imports whatever it finds for networks and plots that we do not use: two thirds of the time of its import.
    What it has looked for in vain stays absent for MONAI alone.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # not to be imported (Python's reference, 5.3.1)
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
