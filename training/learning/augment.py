"""Pictures as another day would show them: small turns, scales, shifts, gain and noise. Never a flip: sides matter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MOST_TURN_RAD = math.radians(5)
MOST_SCALE, MOST_SHIFT = 0.06, 0.06  # shares of the picture
MOST_GAIN, MOST_OFFSET = 0.12, 0.08  # in units of the network's input
NOISE = 0.02  # less than a fine line's contrast


class Augmentation:
    """MONAI's random transforms for images of ``shape``, 2D or 3D; geometry is one resampling, for two would blur a
    catheter away."""

    def __init__(self, shape: Sequence[int]) -> None:
        # takes seconds to import, and a training on synthetic patients varies nothing
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
        """Images [batch, 1, *shape] varied, each by a lot of its own; the same generator draws the same."""
        self._vary.set_random_state(seed=int(torch.randint(2**31, (1,), generator=generator)))
        return torch.stack([self._vary(image).as_tensor() for image in images])
