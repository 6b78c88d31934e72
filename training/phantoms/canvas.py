"""A grid of voxels in patient space and the brushes that paint on it.

Space is LPS millimetres as in DICOM: x to the patient's left, y to the back, z to the head; the carina is the origin.
Every brush works inside its own bounding window, so its cost depends on the structure's size, not the chest's.
A brush returns *coverage*: the fraction of each voxel the shape fills, softened over one voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radir_pacs.types import F32

Window = tuple[slice, slice, slice]
Points = npt.ArrayLike
Tissue = float | np.floating | F32  # one HU for all voxels, or one each


@dataclass(frozen=True, kw_only=True)
class Size:
    """The resolution of a chest. Radiographs are ``pixels`` square; CT slices are ``slice_voxels`` voxels thick."""

    name: str
    pixels: int
    voxel_mm: float
    slice_voxels: int

    @property
    def field_mm(self) -> float:
        return self.pixels * self.voxel_mm


SIZES = {
    size.name: size
    for size in (
        Size(name="tiny", pixels=64, voxel_mm=5.6, slice_voxels=1),
        Size(name="small", pixels=128, voxel_mm=2.8, slice_voxels=2),
        Size(name="medium", pixels=256, voxel_mm=1.4, slice_voxels=2),
        Size(name="large", pixels=512, voxel_mm=0.7, slice_voxels=3),
    )
}
TOP_MM = 150.0  # upper edge of the field above the carina


@dataclass(frozen=True)
class Axes:
    """Voxel centres in mm along z (feet to head), y (front to back), x (right to left)."""

    z: F32
    y: F32
    x: F32
    voxel_mm: float

    @classmethod
    def covering(cls, size: Size, depth_mm: float) -> Axes:
        """Axes of the whole field; ``depth_mm`` is the distance front to back that must fit."""
        h = size.voxel_mm
        ny = min(size.pixels, int(np.ceil(depth_mm / h / 4)) * 4)
        centred = (np.arange(size.pixels, dtype=np.float32) - (size.pixels - 1) / 2) * h
        z = TOP_MM - size.field_mm + (np.arange(size.pixels, dtype=np.float32) + 0.5) * h
        y = (np.arange(ny, dtype=np.float32) - (ny - 1) / 2) * h
        return cls(z.astype(np.float32), y.astype(np.float32), centred.astype(np.float32), h)

    def slab(self, start: int, stop: int) -> Axes:
        return Axes(self.z[start:stop], self.y, self.x, self.voxel_mm)


class Canvas:
    """A slab being painted: ``hu`` in Hounsfield units and ``lung``, the fraction of aerated lung, both [z, y, x]."""

    def __init__(self, axes: Axes) -> None:
        shape = (len(axes.z), len(axes.y), len(axes.x))
        self.axes = axes
        self.hu: F32 = np.full(shape, -1000, np.float32)
        self.lung: F32 = np.zeros(shape, np.float32)

    def window(self, low: Points, high: Points) -> Window | None:
        """Slices that hold the box between two (x, y, z) corners plus a voxel; None when it misses the slab."""
        slices = []
        for axis, lo, hi in zip(
            (self.axes.z, self.axes.y, self.axes.x), np.asarray(low)[::-1], np.asarray(high)[::-1], strict=True
        ):
            h = self.axes.voxel_mm
            start = max(0, int(np.floor((lo - float(axis[0])) / h)))
            stop = min(len(axis), int(np.ceil((hi - float(axis[0])) / h)) + 1)
            if start >= stop:
                return None
            slices.append(slice(start, stop))
        return slices[0], slices[1], slices[2]

    def coordinates(self, window: Window) -> tuple[F32, F32, F32]:
        """x, y, z of a window, shaped to broadcast against [z, y, x]."""
        zs, ys, xs = window
        return self.axes.x[None, None, xs], self.axes.y[None, ys, None], self.axes.z[zs, None, None]

    def soften(self, inside_mm: np.ndarray) -> F32:
        """Coverage from a signed distance that is positive inside."""
        covered: F32 = np.clip(inside_mm * np.float32(1 / self.axes.voxel_mm) + np.float32(0.5), 0, 1)
        return covered

    def paint(self, window: Window, coverage: F32, hu: Tissue) -> None:
        """Cover with tissue, which replaces lung."""
        view = self.hu[window]
        view += coverage * (hu - view)
        self.lung[window] *= 1 - coverage

    def infiltrate(self, window: Window, amount: F32, hu: Tissue) -> None:
        """Blend towards ``hu`` only where there is aerated lung, which stays lung."""
        view = self.hu[window]
        view += amount * self.lung[window] * (hu - view)

    def ellipsoid(
        self, centre: Points, radii: Points, turn: npt.NDArray[np.floating] | None = None
    ) -> tuple[Window, F32] | None:
        """Coverage of an ellipsoid; ``turn`` is a rotation matrix whose rows are the ellipsoid's own axes."""
        c, r = np.asarray(centre, np.float32), np.asarray(radii, np.float32)
        reach = r if turn is None else np.sqrt(((turn.T * r) ** 2).sum(axis=1))
        window = self.window(c - reach, c + reach)
        if window is None:
            return None
        x, y, z = self.coordinates(window)
        if turn is None:
            square = ((x - c[0]) / r[0]) ** 2 + ((y - c[1]) / r[1]) ** 2 + ((z - c[2]) / r[2]) ** 2
        else:
            rows = (turn / r[:, None]).astype(np.float32)
            square = sum((row[0] * (x - c[0]) + row[1] * (y - c[1]) + row[2] * (z - c[2])) ** 2 for row in rows)
        return window, self.soften((1 - np.sqrt(square)) * float(r.min()))

    def capsule(
        self, a: Points, b: Points, radius_a: float, radius_b: float | None = None
    ) -> tuple[Window, F32] | None:
        """Coverage of a round tube from ``a`` to ``b`` whose radius runs from ``radius_a`` to ``radius_b``."""
        p, q = np.asarray(a, np.float32), np.asarray(b, np.float32)
        end = radius_a if radius_b is None else radius_b
        reach = max(radius_a, end) + self.axes.voxel_mm / 2
        window = self.window(np.minimum(p, q) - reach, np.maximum(p, q) + reach)
        if window is None:
            return None
        x, y, z = self.coordinates(window)
        d = q - p
        length_squared = float(d @ d) or 1e-6
        t = np.clip(((x - p[0]) * d[0] + (y - p[1]) * d[1] + (z - p[2]) * d[2]) * (1 / length_squared), 0, 1)
        distance = np.sqrt((x - p[0] - t * d[0]) ** 2 + (y - p[1] - t * d[1]) ** 2 + (z - p[2] - t * d[2]) ** 2)
        # A tube thinner than a voxel fills only its share of the voxel.
        share = min(1.0, np.pi * max(radius_a, end) ** 2 / self.axes.voxel_mm**2)
        return window, np.float32(share) * self.soften(radius_a + t * (end - radius_a) - distance)

    def tube(self, points: Points, radii: float | Points, hu: Tissue) -> None:
        """Paint a polyline of capsules; ``radii``: one for all, or one per point."""
        path = np.asarray(points, np.float32)
        widths = np.broadcast_to(np.asarray(radii, np.float32), (len(path),))
        for i in range(len(path) - 1):
            shape = self.capsule(path[i], path[i + 1], float(widths[i]), float(widths[i + 1]))
            if shape is not None:
                self.paint(*shape, hu)

    def ball(self, centre: Points, radii: Points, hu: Tissue, turn: npt.NDArray[np.floating] | None = None) -> None:
        """Paint an ellipsoid."""
        shape = self.ellipsoid(centre, radii, turn)
        if shape is not None:
            self.paint(*shape, hu)


def smooth_path(points: Points, pieces: int) -> F32:
    """A Catmull-Rom curve through ``points``, with ``pieces`` segments between neighbours."""
    p = np.asarray(points, np.float32)
    padded = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    t = np.linspace(0, 1, pieces, endpoint=False, dtype=np.float32)[:, None]
    curve = []
    for i in range(len(p) - 1):
        a, b, c, d = padded[i : i + 4]
        curve.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    path: F32 = np.vstack([*curve, p[-1:]]).astype(np.float32)
    return path


def rotation(yaw: float, pitch: float, roll: float) -> npt.NDArray[np.float64]:
    """Rotation matrix from angles in degrees about z, x and y, whose rows are the turned axes."""
    a, b, c = np.radians([yaw, pitch, roll])
    about_z = np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(c), 0, -np.sin(c)], [0, 1, 0], [np.sin(c), 0, np.cos(c)]])
    turned: npt.NDArray[np.float64] = about_z @ about_x @ about_y
    return turned


class Noise:
    """A smooth random field over the whole field of view, the same at every voxel size."""

    def __init__(self, rng: np.random.Generator, grain_mm: float, extent_mm: float = 400) -> None:
        self.grain_mm = grain_mm
        cells = int(np.ceil(extent_mm / grain_mm)) + 3
        self.knots = rng.standard_normal((cells, cells, cells), dtype=np.float32)

    def __call__(self, x: F32, y: F32, z: F32) -> F32:
        """Values at the broadcast grid of 1-D coordinates, as [z, y, x]; about unit variance."""
        cells = len(self.knots)
        xs, ys, zs = np.ravel(x), np.ravel(y), np.ravel(z)
        depth = ys / self.grain_mm + cells / 2
        near = np.floor(depth).astype(int)
        # Each layer of knots is shifted differently, or a projection would line them up into a visible grid.
        layers = {}
        for k in range(int(near.min()), int(near.max()) + 2):
            across = self.knots[k % cells] @ self._weights(xs + np.float32(3.7 * k), cells).T
            layers[k] = self._weights(zs - np.float32(5.3 * k), cells) @ across
        field = np.empty((len(zs), len(ys), len(xs)), np.float32)
        for j, k in enumerate(near):
            t = depth[j] - k
            t = np.float32(t * t * (3 - 2 * t))
            np.multiply(layers[k], np.float32(1.6) * (1 - t), out=field[:, j, :])
            field[:, j, :] += layers[k + 1] * (np.float32(1.6) * t)
        return field

    def _weights(self, at: F32, cells: int) -> F32:
        position = at / self.grain_mm + (cells - 1) / 2
        left = np.floor(position).astype(int)
        fraction = position - left
        fraction = fraction * fraction * (3 - 2 * fraction)
        weights = np.zeros((len(at), cells), np.float32)
        rows = np.arange(len(at))
        weights[rows, left % cells] = 1 - fraction
        weights[rows, (left + 1) % cells] = fraction
        return weights
