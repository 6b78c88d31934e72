"""Augmentation: small rotations, scalings, shifts, gain and noise. Never a flip, since left and right matter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MOST_TURN_RAD = math.radians(5)
MOST_SCALE, MOST_SHIFT = 0.06, 0.06  # shares of the picture
MOST_GAIN, MOST_OFFSET = 0.12, 0.08  # in units of the network's input
NOISE = 0.02  # less than the contrast of a fine line


class Augmentation:
    """MONAI's random transforms for images of ``shape``, 2D or 3D; the geometric transforms are one
    resampling, since two would blur catheters away."""

    def __init__(self, shape: Sequence[int]) -> None:
        # takes seconds to import; a training on synthetic patients does not need it
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
