"""A CT series as one Volume: planes ordered by position, gaps found, Hounsfield units on LPS axes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from radir_pacs.dicom.lps_axes import on_lps_axes, patient_axes
from radir_pacs.dicom.pixels import DecodedFrames, PixelDecoder
from radir_pacs.dicom.slices import F64, Flaw, Plane, hounsfield, planes_of
from radir_pacs.errors import Quarantined, Skipped
from radir_pacs.image_notes import ImageNote, ImageNoteCode, image_note
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import F32, ImageKind, ImageRef, InstanceHeader, Volume


@dataclass(frozen=True, kw_only=True)
class CtRules:
    """The rules by which a series counts as a volume."""

    fewest_slices: int = 8
    same_position_mm: float = 0.01
    uneven: float = 0.05  # spacing may differ from the median by this share before the slices are resampled
    gap_factor: float = 1.5  # a step this many times the median is a gap
    largest_gap_mm: float = 15.0
    most_missing: float = 0.1  # share of all slices
    stray_share: float = 0.2  # planes of another size or orientation that may be dropped
    oblique_deg: float = 25.0
    tilt_deg: float = 1.0
    most_voxels: int = 400_000_000  # 1.6 GB; beyond it slices are thinned out


_RULES = CtRules()
_PARALLEL = math.cos(math.radians(1))


def read_ct_series(
    headers: Sequence[InstanceHeader], paths: Mapping[str, Path], decoder: PixelDecoder, rules: CtRules = _RULES
) -> Volume:
    """The volume of one series; ``paths`` by SOP Instance UID.

    Order is by position along the normal, never by Instance Number. Sagittal and coronal acquisitions are permuted to
    LPS axes; ``sop_instance_uids`` still follows the acquired planes. Raises Skipped for what is not a volume (too few
    slices, scouts, oblique, no Hounsfield units), Quarantined for an incomplete volume, DicomRefused when pixels cannot
    be decoded.
    """
    notes: list[ImageNote] = []
    found = [plane for header in headers for plane in planes_of(header, paths[header.sop_uid])]
    planes = [plane for plane in found if isinstance(plane, Plane)]
    flaws = [flaw for flaw in found if isinstance(flaw, Flaw)]
    if len(planes) < rules.fewest_slices:
        raise Skipped(
            f"CT series of {len(planes)} usable slices, fewer than {rules.fewest_slices}{_counted(flaws)}",
            reason_code=ReasonCode.TOO_FEW_SLICES,
        )
    planes = _uniform(planes, rules, notes)
    planes = _ordered(planes, rules, notes)
    if len(planes) < rules.fewest_slices:
        raise Skipped(
            f"CT series of {len(planes)} slice positions, fewer than {rules.fewest_slices}",
            reason_code=ReasonCode.TOO_FEW_SLICES,
        )
    if not_hounsfield := [plane.not_hounsfield for plane in planes if plane.not_hounsfield is not None]:
        raise Skipped(
            f"CT series without Hounsfield units{_counted(not_hounsfield)}", reason_code=ReasonCode.NO_HOUNSFIELD
        )
    at_mm = _positions_mm(planes)
    step_mm = _step_mm(at_mm, rules, notes)
    grid_mm = _grid_mm(at_mm, step_mm, rules, notes, planes[0])
    _permutation(planes[0], rules)  # before decoding: an oblique series is refused cheaply
    voxels, nearest = _stack(planes, at_mm, grid_mm, decoder)
    _note_tilt(planes, rules, notes)
    return _on_lps_axes(planes, voxels, nearest, grid_mm, at_mm, rules, notes)


def _counted(flaws: Sequence[Flaw]) -> str:
    """The causes with how many slices have each, the most common first."""
    counted = Counter(flaws).most_common()
    return ": " + ", ".join(f"{flaw.words()} ({count})" for flaw, count in counted) if counted else ""


def _uniform(planes: list[Plane], rules: CtRules, notes: list[ImageNote]) -> list[Plane]:
    """The planes of the most common size, spacing and orientation."""
    groups: list[list[Plane]] = []
    for plane in planes:
        group = next((group for group in groups if _alike(group[0], plane)), None)
        if group is None:
            groups.append([plane])
        else:
            group.append(plane)
    common = max(groups, key=len)
    strays = len(planes) - len(common)
    if strays > rules.stray_share * len(planes):
        raise Quarantined(
            "the slices of the CT series differ in size, spacing or orientation", reason_code=ReasonCode.MIXED_SLICES
        )
    if strays:
        notes.append(image_note(ImageNoteCode.STRAY_SLICES, count=strays))
    if rules.fewest_slices * common[0].size_px[0] * common[0].size_px[1] > rules.most_voxels:
        raise Quarantined(
            "the slices of the CT series are larger than the limit allows", reason_code=ReasonCode.TOO_LARGE
        )
    return common


def _alike(a: Plane, b: Plane) -> bool:
    return (
        a.size_px == b.size_px
        and np.allclose(a.spacing_mm, b.spacing_mm, rtol=1e-3, atol=0)
        and float(a.row @ b.row) > _PARALLEL
        and float(a.column @ b.column) > _PARALLEL
    )


def _ordered(planes: list[Plane], rules: CtRules, notes: list[ImageNote]) -> list[Plane]:
    """One plane per position, ascending along the normal. Of several phases, the first that covers most positions."""
    normal = planes[0].normal

    def at(plane: Plane) -> float:
        return float(plane.origin @ normal)

    planes = sorted(planes, key=lambda plane: (at(plane), plane.phase, plane.instance_number, plane.header.sop_uid))
    positions = 1 + sum(at(b) - at(a) > rules.same_position_mm for a, b in pairwise(planes))
    if positions == len(planes):
        return planes
    phases: dict[str, list[Plane]] = {}
    for plane in planes:
        phases.setdefault(plane.phase, []).append(plane)
    whole = [phase for phase in phases.values() if len(phase) >= 0.9 * positions]
    if len(whole) > 1:
        notes.append(image_note(ImageNoteCode.SEVERAL_PHASES, count=len(whole)))
        planes = whole[0]
    kept = [planes[0]]
    for plane in planes[1:]:
        if at(plane) - at(kept[-1]) > rules.same_position_mm:
            kept.append(plane)
    if len(kept) < len(planes):
        notes.append(image_note(ImageNoteCode.SAME_POSITION, count=len(planes) - len(kept)))
    return kept


def _positions_mm(planes: Sequence[Plane]) -> F64:
    normal = planes[0].normal
    return np.asarray([plane.origin @ normal for plane in planes])


def _step_mm(at_mm: F64, rules: CtRules, notes: list[ImageNote]) -> float:
    """The median distance between slices, after a check for gaps."""
    steps = np.diff(at_mm)
    step_mm = float(np.median(steps))
    gaps = steps[steps > rules.gap_factor * step_mm]
    if len(gaps):
        missing = int(np.round(gaps / step_mm - 1).sum())
        widest = float(gaps.max())
        if widest > rules.largest_gap_mm or missing > rules.most_missing * (len(at_mm) + missing):
            raise Quarantined(
                f"the CT series has gaps: about {missing} slices missing, the widest gap {widest:.1f} mm",
                reason_code=ReasonCode.MISSING_SLICES,
            )
        notes.append(image_note(ImageNoteCode.GAPS_FILLED, count=missing, widest_mm=widest))
    return step_mm


def _grid_mm(at_mm: F64, step_mm: float, rules: CtRules, notes: list[ImageNote], plane: Plane) -> F64:
    """Positions of the volume's slices: as acquired when even, else on an even grid; thinned out when too many."""
    if np.abs(np.diff(at_mm) - step_mm).max() <= rules.uneven * step_mm:
        grid = at_mm
    else:
        count = round(float(at_mm[-1] - at_mm[0]) / step_mm) + 1
        grid = np.linspace(at_mm[0], at_mm[-1], count)
        if all(note.code is not ImageNoteCode.GAPS_FILLED for note in notes):  # that note already implies it
            notes.append(image_note(ImageNoteCode.UNEVEN_SPACING))
    every = math.ceil(len(grid) * plane.size_px[0] * plane.size_px[1] / rules.most_voxels)
    if every > 1:
        notes.append(image_note(ImageNoteCode.THINNED, every=every))
        grid = grid[::every]
    return grid


def _stack(planes: Sequence[Plane], at_mm: F64, grid_mm: F64, decoder: PixelDecoder) -> tuple[F32, list[int]]:
    """Voxels [slice, row, column] in HU at ``grid_mm``, linear between planes, and each slice's nearest plane."""
    reader = _PlaneReader(decoder)
    voxels = np.empty((len(grid_mm), *planes[0].size_px), np.float32)
    nearest = []
    for index, at in enumerate(grid_mm):
        above = min(int(np.searchsorted(at_mm, at)), len(planes) - 1)
        below = max(above - 1, 0)
        span = float(at_mm[above] - at_mm[below])
        share = float(at - at_mm[below]) / span if span else 1.0
        nearest.append(above if share >= 0.5 else below)
        if share > 0.999:
            voxels[index] = reader.read(planes[above])
        elif share < 0.001:
            voxels[index] = reader.read(planes[below])
        else:
            voxels[index] = (1 - share) * reader.read(planes[below]) + share * reader.read(planes[above])
    return voxels, nearest


class _PlaneReader:
    """Decodes planes in order, keeping the last two planes and the last multi-frame instance."""

    def __init__(self, decoder: PixelDecoder) -> None:
        self.decoder = decoder
        self.recent: dict[tuple[str, int], F32] = {}
        self.frames: tuple[str, DecodedFrames] | None = None

    def read(self, plane: Plane) -> F32:
        key = (plane.header.sop_uid, plane.frame)
        if key not in self.recent:
            while len(self.recent) > 1:
                del self.recent[next(iter(self.recent))]
            self.recent[key] = hounsfield(self._stored(plane).pixels[plane.frame], plane)
        return self.recent[key]

    def _stored(self, plane: Plane) -> DecodedFrames:
        if self.frames is None or self.frames[0] != plane.header.sop_uid:
            frames = self.decoder.decode(plane.path)
            if frames.pixels.ndim != 3 or frames.pixels.shape[1:] != plane.size_px:
                raise Quarantined(
                    "a CT slice decodes to another size than its header says", reason_code=ReasonCode.DECODE_FAILED
                )
            self.frames = (plane.header.sop_uid, frames)
        return self.frames[1]


def _note_tilt(planes: Sequence[Plane], rules: CtRules, notes: list[ImageNote]) -> None:
    """A gantry tilt shows as slices that shift sideways along their stack."""
    along = planes[-1].origin - planes[0].origin
    cosine = abs(float(along @ planes[0].normal)) / max(float(np.linalg.norm(along)), 1e-9)
    tilt_deg = math.degrees(math.acos(min(cosine, 1.0)))
    if tilt_deg > rules.tilt_deg:
        notes.append(image_note(ImageNoteCode.TILTED, degrees=tilt_deg))


def _permutation(plane: Plane, rules: CtRules) -> list[int]:
    """For the array axes (slice, row, column): the patient axis (0 = x, 1 = y, 2 = z) each runs along."""
    axes = patient_axes(np.stack((plane.normal, plane.column, plane.row)), rules.oblique_deg)
    if axes is None:
        raise Skipped("the CT series is oblique", reason_code=ReasonCode.OBLIQUE)
    return axes


def _on_lps_axes(
    planes: Sequence[Plane],
    voxels: F32,
    nearest: Sequence[int],
    grid_mm: F64,
    at_mm: F64,
    rules: CtRules,
    notes: list[ImageNote],
) -> Volume:
    """The volume on the patient's axes, with the pictures of its slices."""
    first, last = planes[0], planes[-1]
    slice_mm = float(grid_mm[-1] - grid_mm[0]) / (len(grid_mm) - 1)
    stack = (last.origin - first.origin) / float(at_mm[-1] - at_mm[0])  # mm moved per mm along the normal
    # Columns: LPS mm per step along (slice, row, column) index.
    steps = np.stack((stack * slice_mm, first.column * first.spacing_mm[0], first.row * first.spacing_mm[1]), axis=1)
    turned = on_lps_axes(voxels, steps, first.origin, _permutation(first, rules))
    images = [ImageRef(sop_uid=planes[index].header.sop_uid, frame=planes[index].frame + 1) for index in nearest]
    if turned.flipped:
        images.reverse()
    axial = turned.order[0] == 0
    if not axial:
        notes.append(image_note(ImageNoteCode.NOT_AXIAL))
    return Volume(
        kind=ImageKind.CT,
        voxels=turned.voxels,
        spacing_mm=turned.spacing_mm,
        affine=turned.affine,
        study_uid=first.header.study_uid,
        series_uid=first.header.series_uid,
        sop_instance_uids=tuple(image.sop_uid for image in images),
        slice_images=tuple(map(str, images)) if axial else (),
        warnings=tuple(notes),
    )
