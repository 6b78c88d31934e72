"""Windows onto an image and its fine details, shown to the network beside the image itself.

A catheter is a pixel wide and a tenth as bright as a lung is against the heart: a first convolution that sees only the
image learns it long after lungs and heart (docs/results/training.md). Given as a separate input, the
detail that a blur removes, rescaled to the image's contrast, is learned just as early. A lymph node beside a vessel is
a twentieth of the range from air to bone: as for a radiologist, a CT is shown again with a narrow range of densities
spread over all greys.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SPREAD = 2.0  # of a band relative to its mean size, roughly: most of an image has no details
LEAST = 0.01  # mean size of what counts as no detail at all, in units of the network's input


class Bands(nn.Module):
    """Images [batch, 1, *shape] to [batch, 1 + len(windows) + len(widths), *shape]: themselves, then each window
    (centre, half width; a CT's input is HU / 1000), then what each wider blur takes away.

    A band is divided by its own mean size, image by image. A blur is a mean over an odd number of voxels along each
    axis, the border repeated; as matrices along the axes it is forty times as fast as torch's pooling of a volume.
    """

    def __init__(
        self, shape: Sequence[int], widths: Sequence[int], windows: Sequence[tuple[float, float]] = ()
    ) -> None:
        super().__init__()
        self.axes, self.widths, self.windows = len(shape), tuple(widths), tuple(windows)
        for width in self.widths:
            for axis, n in enumerate(shape):
                self.register_buffer(f"blur_{width}_{axis}", blur_matrix(n, width), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if not self.widths and not self.windows:
            return images
        every = tuple(range(1, images.ndim))
        with torch.autocast(images.device.type, enabled=False):  # a band is a difference of nearly equal numbers
            shown, last = [images.float()], images.float()
            shown += [((last - centre) / half).clamp(-1, 1) for centre, half in self.windows]
            for width in self.widths:
                blurred = self._blurred(last, width)
                band = last - blurred
                shown.append(band / (SPREAD * band.abs().mean(every, keepdim=True) + LEAST))
                last = blurred
        return torch.cat(shown, 1)

    def _blurred(self, images: Tensor, width: int) -> Tensor:
        shape = images.shape
        for axis in range(self.axes):
            matrix = self.get_buffer(f"blur_{width}_{axis}")
            last = axis == self.axes - 1
            images = images @ matrix.T if last else (matrix @ images.flatten(axis + 3)).reshape(shape)
        return images


def blur_matrix(n: int, width: int) -> Tensor:
    """The mean over ``width`` neighbours of a line of ``n`` voxels as a matrix [n, n]; the ends repeat."""
    matrix, line = torch.zeros(n, n), torch.arange(n)
    for step in range(-(width // 2), width // 2 + 1):
        matrix[line, (line + step).clamp(0, n - 1)] += 1 / width
    return matrix
