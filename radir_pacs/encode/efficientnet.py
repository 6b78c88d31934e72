"""EfficientNet-lite up to the last stage of stride 16, its batch norms folded into the convolutions.

M. Tan, Q. Le, "EfficientNet", ICML 2019, in the "lite" variants of its authors: no squeeze and excitation, ReLU6 in
place of swish. The stages of stride 32, which hold three quarters of the weights, are left out: at a region of a
radiograph, those of stride 16 tell more (docs/adr/0031).
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from .config import BACKBONES

FIRST_WIDTH = 32
# repeats, kernel, stride, expansion, width of each stage, before scaling
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))


def rounded_width(width: int, scale: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth too small."""
    scaled = width * scale
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


class Convolution(nn.Module):
    """Padded as in TensorFlow: of an odd margin the larger half lies below and to the right."""

    def __init__(
        self, width_in: int, width: int, kernel: int, *, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.active = kernel, stride, active
        self.conv = nn.Conv2d(width_in, width, kernel, stride=stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        margins = [
            max(0, (math.ceil(n / self.stride) - 1) * self.stride + self.kernel - n) for n in (x.shape[2], x.shape[3])
        ]
        if any(margin % 2 for margin in margins):
            x = functional.pad(x, [side for margin in margins[::-1] for side in (margin // 2, margin - margin // 2)])
            margins = [0, 0]
        conv, half = self.conv, [margin // 2 for margin in margins]  # a margin within the convolution costs no copy
        out = functional.conv2d(x, conv.weight, conv.bias, conv.stride, half, conv.dilation, conv.groups)
        return functional.relu6(out, inplace=True) if self.active else out


class InvertedBottleneck(nn.Module):
    """Expansion, depthwise convolution, projection; around them a shortcut where the shape stays."""

    def __init__(self, width_in: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.expand = Convolution(width_in, inner, 1) if expansion > 1 else None
        self.depthwise = Convolution(inner, inner, kernel, stride=stride, groups=inner)
        self.project = Convolution(inner, width, 1, active=False)
        self.shortcut = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else self.expand(x)
        out: Tensor = self.project(self.depthwise(inner))
        return x + out if self.shortcut else out


class EfficientNetLite(nn.Module):
    """Images [batch, 3, rows, columns] in [-1, 1] to features [batch, ``width``, rows / 16, columns / 16]."""

    def __init__(self, name: str) -> None:
        """``name``: one of BACKBONES. Raises KeyError."""
        super().__init__()
        wider, deeper = BACKBONES[name]
        self.stem = Convolution(3, FIRST_WIDTH, 3, stride=2)
        self.blocks = nn.ModuleList()
        last = FIRST_WIDTH
        for number, (repeats, kernel, stride, expansion, stage_width) in enumerate(STAGES):
            width = rounded_width(stage_width, wider)
            for repeat in range(math.ceil(repeats * deeper) if number else repeats):
                self.blocks.append(InvertedBottleneck(last, width, kernel, 1 if repeat else stride, expansion))
                last = width
        self.width = last

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x
