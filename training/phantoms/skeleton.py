"""Ribs, spine, sternum, clavicles, scapulae and the heads of the humeri."""

from __future__ import annotations

import numpy as np

from radir_pacs.types import F32

from .canvas import Canvas, smooth_path
from .findings import PhantomFinding
from .patient import CAVITY_POWER, Chest

RIB_PITCH_MM = 23.5
FIRST_RIB_MM = 88.0  # height of the first rib at the spine
CORTEX_HU, MARROW_HU, CARTILAGE_HU = 820.0, 230.0, 105.0
CALLUS_HU, HAEMATOMA_HU = 700.0, 55.0
_VERTEBRA_MM = 23.5
PARASPINAL_MM = 28.0  # from the midline to the lungs' edge beside the spine


def paint_skeleton(canvas: Canvas, chest: Chest) -> None:
    paint_ribs(canvas, chest)
    paint_spine(canvas, chest)
    _paint_sternum(canvas, chest)
    for side in (-1, 1):
        _paint_clavicle(canvas, chest, side)
        _paint_scapula(canvas, chest, side)


def rib_numbers(chest: Chest, z: F32, angle: F32) -> tuple[F32, F32]:
    """The course of the ribs: a continuous rib number and the height of rib number 1 + n at ``angle``.

    ``angle`` runs from 0 at the spine to pi at the sternum. Upper ribs slope less from back to front.
    """
    p = chest.patient
    turn = angle / np.float32(np.pi)
    fall = np.float32(p.rib_drop_mm) * (turn**1.4) - 7 * np.sin(np.minimum(turn * 6, np.pi))
    number = np.full_like(z, 5.0)
    for _ in range(3):
        number = 1 + (FIRST_RIB_MM * p.scale - z - fall * _steepness(number)) / np.float32(RIB_PITCH_MM * p.scale)
    return number, fall


def _steepness(number: np.ndarray) -> F32:
    steep: F32 = (1 - 0.62 * np.exp(-np.maximum(number - 1, 0) / 2.2)).astype(np.float32)
    return steep


def rib_height(chest: Chest, number: int, angle: float) -> float:
    """Height in mm of the middle of a rib at ``angle``."""
    p = chest.patient
    turn = angle / np.pi
    fall = p.rib_drop_mm * turn**1.4 - 7 * np.sin(min(turn * 6, np.pi))
    steep = float(_steepness(np.array([number]))[0])
    return float(FIRST_RIB_MM * p.scale - (number - 1) * RIB_PITCH_MM * p.scale - fall * steep)


def paint_ribs(canvas: Canvas, chest: Chest) -> None:
    """All ribs at once: bands on the shell of the rib cage, evaluated only where the shell is."""
    p, axes = chest.patient, canvas.axes
    width, depth, centre = chest.cavity(axes.z)
    below = int(np.searchsorted(axes.z, p.apex_mm + 22))
    if below == 0:
        return
    power = chest.cavity_power(axes.slab(0, below))
    reach = ((1 + 11.5 / np.minimum(width, depth)) ** CAVITY_POWER)[:below, None, None]
    near = np.nonzero((power > 1) & (power < reach))
    k, j, i = near
    xs, ys, zs = np.abs(axes.x[i]), axes.y[j] - centre[k], axes.z[k]
    # Distance outside the pleura along the ray from the centre of the slice.
    outside = np.hypot(xs, ys) * (1 - power[near] ** (-1 / CAVITY_POWER))
    angle = np.arctan2(xs / width[k], ys / depth[k]).astype(np.float32)
    side = np.sign(axes.x[i])
    number, _ = rib_numbers(chest, zs, angle)
    number = number + _breaks(chest, number, angle, side)
    rib = np.clip(np.round(number), 1, 12)
    pitch = np.float32(RIB_PITCH_MM * p.scale)
    thick = np.where(rib <= 2, 4.0, 3.9) * p.scale
    # A band inclined along its course is taller when measured vertically.
    tall = (6.3 + 2.2 * np.sin(angle)) * p.scale
    tall = np.where(rib >= 11, tall * 0.8, tall)
    up, out = (number - rib) * pitch / tall, (outside - 5.5) / thick
    radius = np.sqrt(up * up + out * out)
    edge = (1 - radius) * np.float32(3.9 * p.scale)
    coverage = np.clip(edge / axes.voxel_mm + 0.5, 0, 1) * min(1.0, 7.5 / axes.voxel_mm)
    coverage *= _rib_ends(rib, angle, xs)
    bone = np.where(edge > 1.3, MARROW_HU, CORTEX_HU) if axes.voxel_mm < 1 else np.float32(760)
    bone = np.asarray(bone, np.float32) * np.float32(p.bone_density)
    join = _cartilage_from(rib)
    cartilage = CARTILAGE_HU + 2.2 * max(0, p.age_years - 45)
    hu = np.where(angle > join, np.float32(cartilage), bone)
    canvas.hu[near] += (coverage * (hu - canvas.hu[near])).astype(np.float32)
    canvas.lung[near] *= (1 - coverage).astype(np.float32)
    _paint_healing(canvas, chest)


def _cartilage_from(rib: F32) -> F32:
    """The angle at which a rib turns into cartilage."""
    angle: F32 = np.interp(rib, [1, 2, 5, 7, 10, 11, 12], [2.75, 2.72, 2.62, 2.5, 2.15, 1.9, 1.5]).astype(np.float32)
    return angle


def _rib_ends(rib: F32, angle: F32, xs: F32) -> F32:
    """1 where a rib exists along its course: from beside the spine, to the sternum for the true ribs."""
    last = np.where(rib >= 11, _cartilage_from(rib), np.where(rib >= 8, 2.75, 3.05))
    along: F32 = (np.clip((last - angle) * 25, 0, 1) * np.clip((xs - 15) / 4, 0, 1)).astype(np.float32)
    return along


def fracture_place(finding: PhantomFinding) -> tuple[tuple[int, ...], float]:
    """The broken ribs (numbers) and the angle of the break."""
    first = 4 + int(finding.at[0] * 4)
    return tuple(range(first, first + (1, 2, 4)[finding.severity - 1])), 0.7 + 0.55 * finding.at[1]


def _breaks(chest: Chest, number: F32, angle: F32, side: F32) -> F32:
    """A shift of the rib number beyond each break: the outer fragment steps down and a gap opens."""
    shift = np.zeros_like(number)
    for finding in chest.findings:
        if finding.concept != "rib_fracture":
            continue
        ribs, at = fracture_place(finding)
        mine = (side == finding.side) & (np.round(number) >= ribs[0]) & (np.round(number) <= ribs[-1])
        beyond = np.clip((angle - at) / 0.03, 0, 1) * np.clip((at + 0.55 - angle) / 0.4, 0, 1)
        shift += mine * beyond * (0.16 + 0.07 * finding.severity)
        shift += mine * (np.abs(angle - at) < 0.022) * 0.5
    return shift.astype(np.float32)


def _paint_healing(canvas: Canvas, chest: Chest) -> None:
    """The signs of a fracture some weeks old whose edges are invisible: blood under the pleura, which bulges into the
    lung (the extrapleural sign), and callus one and a half times as high as the rib."""
    for finding in chest.findings:
        if finding.concept == "rib_fracture":
            ribs, angle = fracture_place(finding)
            for rib in ribs:
                centre = rib_place(chest, rib, angle, finding.side)
                _paint_blood(canvas, centre, [17.0 + 2 * finding.severity] * 3)
                canvas.ball(centre, [7.5 + 1.0 * finding.severity] * 3, CALLUS_HU * chest.patient.bone_density)


def _paint_blood(canvas: Canvas, centre: np.ndarray, radii: list[float]) -> None:
    """An ellipsoid of blood in place of lung."""
    shape = canvas.ellipsoid(centre, radii)
    if shape is not None:
        window, coverage = shape
        blood = coverage * canvas.lung[window]
        canvas.hu[window] += blood * (HAEMATOMA_HU - canvas.hu[window])
        canvas.lung[window] -= blood


def rib_place(chest: Chest, rib: int, angle: float, side: int) -> np.ndarray:
    """A point (x, y, z) in the middle of a rib."""
    z = rib_height(chest, rib, angle)
    width, depth, centre = (float(values[0]) for values in chest.cavity(np.asarray([z], np.float32)))
    return np.array([side * (width + 5.5) * np.sin(angle), centre + (depth + 5.5) * np.cos(angle), z])


def paint_spine(canvas: Canvas, chest: Chest) -> None:
    """Vertebral bodies with discs, canal, pedicles, transverse and spinous processes."""
    p = chest.patient
    window = canvas.window((-44, -10, -400), (44, 190, 400))
    if window is None:
        return
    x, y, z = canvas.coordinates(window)
    centre_x, centre_y = chest.spine(canvas.axes.z)
    x, y = x - centre_x[:, None, None].astype(np.float32), y - centre_y[:, None, None].astype(np.float32)
    pitch = _VERTEBRA_MM * p.scale
    phase = (z + 11) / pitch
    within = (phase - np.floor(phase) - 0.5) * pitch  # mm from the middle of the vertebra
    intact = np.float32(pitch / 2 - 2.6)
    half_height = _half_heights(chest, np.floor(phase), y, intact)
    grow = 1 + np.clip(-z / 900, -0.12, 0.2)
    wide, deep = 15.5 * p.scale * grow, 14.5 * p.scale * grow
    waist = 1 - 0.1 * (1 - np.abs(within) / (pitch / 2)) * 1.5
    ring = (1 - np.sqrt((x / (wide * waist)) ** 2 + (y / (deep * waist)) ** 2)) * deep
    body = np.minimum(ring, half_height - np.abs(within))
    dens = np.float32(p.bone_density)
    shell = np.clip((2.2 - body) / 1.5, 0, 1)
    canvas.paint(window, canvas.soften(ring - 0.5), 75.0)  # discs first
    impacted = intact / half_height  # the bone of a crushed vertebra is compressed into less height
    canvas.paint(window, canvas.soften(body), ((175 + 210 * shell) * dens * impacted).astype(np.float32))
    back = y - deep
    canal = 8.5 - np.hypot(x, back - 8)
    arch = np.minimum(12.5 - np.hypot(x, back - 8), 8.0 - np.abs(within + 1))
    canvas.paint(window, canvas.soften(arch), 210 * dens)
    spinous = np.minimum(np.minimum(3.0 - np.abs(x), 17 - np.abs(back - 34)), 6.0 - np.abs(within + (back - 15) * 0.3))
    canvas.paint(window, canvas.soften(spinous.astype(np.float32)), 130 * dens)
    lateral = np.hypot(back - 9 - 0.25 * np.abs(x), within - 2)
    transverse = np.minimum(5.0 - lateral, np.minimum(32 * p.scale - np.abs(x), np.abs(x) - 7))
    canvas.paint(window, canvas.soften(transverse.astype(np.float32)), 240 * dens)
    canvas.paint(window, canvas.soften(canal), 22.0)
    _paint_swelling(canvas, chest)


def _paint_swelling(canvas: Canvas, chest: Chest) -> None:
    """Blood beside a crushed vertebra, which pushes the paraspinal lines into the lungs, one more than the other: what
    a frontal radiograph shows of a fresh fracture before it shows the vertebra."""
    s = chest.patient.scale
    for finding in chest.findings:
        if finding.concept == "vertebral_compression":
            z = (compressed_level(finding) + 0.5) * _VERTEBRA_MM * s - 11
            x, y = (float(values[0]) for values in chest.spine(np.asarray([z])))
            off = 8 * (finding.at[1] - 0.5)
            beyond = 4.0 + 4 * finding.severity  # mm that the lines are pushed out
            radii = [(PARASPINAL_MM + beyond) * s, 24.0 * s, (24.0 + 2 * finding.severity) * s]
            _paint_blood(canvas, np.array([x + off * s, y, z]), radii)


def _half_heights(chest: Chest, level: F32, y: F32, intact: np.float32) -> F32:
    """Half the height of each vertebral body, lower in front where one is crushed."""
    half = np.full(np.broadcast_shapes(level.shape, y.shape), intact, np.float32)
    for finding in chest.findings:
        if finding.concept == "vertebral_compression":
            crushed = level == compressed_level(finding)
            loss = (0.25, 0.42, 0.62)[finding.severity - 1]
            wedge = np.clip(0.75 - y / 24, 0.45, 1.25)
            half = np.where(crushed, half * (1 - loss * wedge), half).astype(np.float32)
    return half


def compressed_level(finding: PhantomFinding) -> int:
    """Index of the crushed vertebra, counted from the one at the carina."""
    return -6 + int(finding.at[0] * 5)


def _paint_sternum(canvas: Canvas, chest: Chest) -> None:
    p = chest.patient
    heights = np.linspace(62, -92, 8) * p.scale
    _, depth, centre = chest.cavity(heights.astype(np.float32))
    for i in range(7):
        wide = (24, 21, 13, 13, 15, 16, 12)[i] * p.scale
        middle = ((centre[i] - depth[i]) + (centre[i + 1] - depth[i + 1])) / 2 - 7
        half = (heights[i] - heights[i + 1]) / 2
        shape = canvas.ellipsoid((0, middle, (heights[i] + heights[i + 1]) / 2), (wide, 6.0, half * 1.25))
        if shape is not None:
            canvas.paint(*shape, 170 * p.bone_density)


def _paint_clavicle(canvas: Canvas, chest: Chest, side: int) -> None:
    p = chest.patient
    s = p.scale
    front = -0.52 * p.half_depth_mm
    points = [
        (17, front - 12, 58),
        (45, front - 14, 66),
        (85, front + 6, 77),
        (118, front + 34, 88),
        (148, front + 42, 93),
    ]
    path = smooth_path([(side * x * s, y, z * s) for x, y, z in points], 3)
    radii = np.interp(np.linspace(0, 1, len(path)), [0, 0.12, 0.5, 1], [9, 7.4, 6.6, 7.2]) * s
    canvas.tube(path, radii, 780 * p.bone_density)
    canvas.tube(path[1:], radii[1:] * 0.45, 420 * p.bone_density)


def _paint_scapula(canvas: Canvas, chest: Chest, side: int) -> None:
    p = chest.patient
    s = p.scale
    depth = p.half_depth_mm
    upper, lower = (100 * s, depth + 6, 74 * s), (126 * s, depth + 2, -62 * s)
    socket = (150 * s, 0.45 * depth, 58 * s)
    corners = np.asarray([(side * x, y, z) for x, y, z in (upper, lower, socket)], np.float32)
    dens = p.bone_density
    _paint_plate(canvas, corners, 1.6, 420 * dens)
    canvas.tube([corners[0], corners[1]], 2.6, 520 * dens)
    canvas.tube([corners[1], corners[2]], [3.0, 5.5], 560 * dens)
    root = (side * 106 * s, depth + 8, 46 * s)
    tip = (side * 168 * s, 0.42 * depth, 92 * s)
    canvas.tube([root, (side * 140 * s, depth + 4, 74 * s), tip], [3, 4.2, 7], 480 * dens)
    coracoid = (side * 138 * s, -0.05 * depth, 70 * s)
    canvas.tube([corners[2], coracoid], [8, 5], 430 * dens)
    head = (side * 171 * s, 0.32 * depth, 58 * s)
    canvas.ball(head, (23 * s, 23 * s, 24 * s), 520 * dens)
    canvas.ball(head, (20.5 * s, 20.5 * s, 21.5 * s), 210 * dens)


def _paint_plate(canvas: Canvas, corners: F32, half_thickness: float, hu: float) -> None:
    """A thin triangle of bone."""
    window = canvas.window(corners.min(axis=0) - 4, corners.max(axis=0) + 4)
    if window is None:
        return
    x, y, z = canvas.coordinates(window)
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    normal = normal / np.linalg.norm(normal)

    def off(point: F32, direction: F32) -> F32:
        return np.asarray(
            (x - point[0]) * direction[0] + (y - point[1]) * direction[1] + (z - point[2]) * direction[2], np.float32
        )

    # Slightly bowed, hugging the ribs.
    inside = half_thickness - np.abs(off(corners[0], normal))
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        inward = np.cross(normal, corners[b] - corners[a])
        inward = inward / np.linalg.norm(inward) * np.sign(inward @ (corners[c] - corners[a]))
        inside = np.minimum(inside, off(corners[a], inward))
    share = min(1.0, 2 * half_thickness / canvas.axes.voxel_mm)
    canvas.paint(window, np.float32(share) * canvas.soften(inside), hu)
