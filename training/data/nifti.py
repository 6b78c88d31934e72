"""A CT volume from a NIfTI file (.nii or .nii.gz, NIfTI-1 or -2), as one from DICOM would be: Hounsfield units on
the patient's axes.

nibabel interprets the header. Voxels are then read slice by slice, so that a compressed file grows to no more than
its header announces, within the limits, and a series costs the memory of its volume.

A file says by ``sform_code`` or ``qform_code`` how it lies in the patient. CT-RATE's first files do not: their header
is blank (1 mm, no position) and their values are stored ones; both are told by the collection's table of metadata.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from radir_pacs.dicom.ct_series import CtRules
from radir_pacs.dicom.lps_axes import F64, on_lps_axes, patient_axes
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.errors import BadInput
from radir_pacs.types import F32, ImageKind, Volume

Header = Any  # a Nifti1Header or Nifti2Header of nibabel, whose methods have no types
SUFFIXES = (".nii", ".nii.gz")
_MOST_BYTES = 1 << 32  # of stored voxels: 1024 x 1024 x 1000 of four bytes
_MOST_ALONG = 32_767  # voxels along one axis: what NIfTI-1 can count
_MOST_BEFORE = 1 << 24  # bytes of header and extensions before the voxels
_SPACING_MM = (0.05, 20.0)
_APART = 0.05  # share by which pixdim may differ from the affine
_AIR_HU = -300.0  # something in a CT is as dark: the air in the lungs
_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # a unit of xyzt_units: unknown, metre, millimetre, micrometre
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's axes point right, front and up


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a table says of a volume whose own header is blank: spacing_mm of (x, y, z), orientation as Image
    Orientation (Patient), position as Image Position (Patient); HU = slope x stored value + intercept."""

    spacing_mm: tuple[float, float, float]
    orientation: tuple[float, ...]
    position: tuple[float, float, float]
    slope: float
    intercept: float


@dataclass(frozen=True, kw_only=True)
class NiftiContent:
    """One NIfTI file as the images of a study."""

    file: Path
    told: Told | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    @property
    def reading(self) -> str:
        return f"nifti {json.dumps(asdict(self.told)) if self.told else ''}"

    def volumes(self, kind: ImageKind, decoder: PixelDecoder) -> list[Volume]:
        """Raises BadInput, OSError."""
        if kind is not ImageKind.CT:
            raise BadInput("a NIfTI volume is not a radiograph")
        return [read_nifti(self.file, self.told)]


def is_nifti(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def check_installed() -> None:
    """Raise BadInput where nibabel is missing."""
    if find_spec("nibabel") is None:
        raise BadInput("NIfTI files need nibabel: pip install -e '.[nifti]' in the clone")


def read_nifti(path: Path, told: Told | None = None, rules: CtRules | None = None) -> Volume:
    """The CT volume of one file; ``told`` counts where the header is blank. A volume of more voxels than the rules
    allow is thinned out, as a series of slices is.

    Raises BadInput for what is no CT volume or beyond a limit, with a reason that names nobody; OSError.
    """
    rules = rules or CtRules()
    with _opened(path) as file:
        header = _header(file)
        shape, dtype, first_byte = _layout(header, rules)
        steps, origin, slope, intercept = _geometry(header, told)
        every = math.ceil(math.prod(shape) / rules.most_voxels)
        file.seek(first_byte)
        voxels = _read(file, shape, dtype, every, slope, intercept)
    if voxels.min() > _AIR_HU:
        raise BadInput("the values of the NIfTI volume are not Hounsfield units: nothing is as dark as air")
    steps = steps[:, ::-1] * (every, 1, 1)  # of the array axes (k, j, i)
    axes = patient_axes((steps / np.linalg.norm(steps, axis=0)).T, rules.oblique_deg)
    if axes is None:
        raise BadInput("the NIfTI volume is oblique")
    turned = on_lps_axes(voxels, steps, origin, axes)
    return Volume(
        kind=ImageKind.CT,
        voxels=turned.voxels,
        spacing_mm=turned.spacing_mm,
        affine=turned.affine,
        study_uid="",
        series_uid="",
        sop_instance_uids=("",) * len(turned.voxels),
    )


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file's uncompressed bytes; whatever is wrong with them is BadInput."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BadInput("the NIfTI file is truncated or corrupt") from error


def _header(file: BinaryIO) -> Header:
    import nibabel  # here: an optional library

    block = file.read(540)
    sizes = {int.from_bytes(block[:4], order) for order in ("little", "big")}
    kinds: tuple[tuple[Any, int, bytes], ...] = (
        (nibabel.Nifti1Header, 348, b"n+1"),
        (nibabel.Nifti2Header, 540, b"n+2"),
    )
    for kind, size, magic in kinds:
        if size in sizes and len(block) >= size:
            header = kind(block[:size], check=False)
            if header["magic"].tobytes()[:3] == magic:
                return header
    raise BadInput("not a NIfTI file with its voxels in it")


def _layout(header: Header, rules: CtRules) -> tuple[tuple[int, int, int], np.dtype[Any], int]:
    """Numbers of voxels along (i, j, k), how one is stored, and where the first is."""
    dim = [int(number) for number in header["dim"]]
    axes = dim[0]
    if not 3 <= axes <= 7 or any(number != 1 for number in dim[4 : axes + 1]):
        raise BadInput(f"a NIfTI file of {axes} dimensions, not one volume")
    i, j, k = dim[1:4]
    if min(i, j, k) < rules.fewest_slices or max(i, j, k) > _MOST_ALONG:
        raise BadInput(f"a NIfTI volume of {i} x {j} x {k} voxels")
    try:
        dtype = np.dtype(header.get_data_dtype())
        first_byte = int(header["vox_offset"])
    except (ValueError, KeyError, OverflowError, _header_error()) as error:
        raise BadInput("the NIfTI header is not valid") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise BadInput("the NIfTI voxels are no single numbers")
    if i * j * k * dtype.itemsize > _MOST_BYTES or rules.fewest_slices * i * j > rules.most_voxels:
        raise BadInput("the NIfTI volume is larger than the limit allows")
    if not int(header["sizeof_hdr"]) <= first_byte <= _MOST_BEFORE:
        raise BadInput("the NIfTI header is not valid")
    return (i, j, k), dtype, first_byte


def _header_error() -> type[Exception]:
    from nibabel.spatialimages import HeaderDataError

    return cast(type[Exception], HeaderDataError)


def _geometry(header: Header, told: Told | None) -> tuple[F64, F64, float, float]:
    """LPS mm per step along (i, j, k) as columns, LPS mm of the first voxel, slope and intercept to HU."""
    try:
        slope, intercept = header.get_slope_inter()
        affine: F64 = np.asarray(header.get_best_affine(), np.float64)
    except (ValueError, _header_error()) as error:
        raise BadInput("the NIfTI header has no valid affine or scaling") from error
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    pixdim: F64 = np.asarray(header["pixdim"][1:4], np.float64)
    coded = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    if not coded or (told is not None and np.array_equal(pixdim, np.ones(3))):
        if told is None:
            raise BadInput("the NIfTI header does not say how the volume lies, and no table of metadata names it")
        affine = _affine(told)
        slope, intercept = told.slope * slope, told.slope * intercept + told.intercept
    else:
        affine = _LPS @ affine
        affine[:3] *= _MM.get(int(header["xyzt_units"]) & 7, math.nan)
        pixdim *= _MM.get(int(header["xyzt_units"]) & 7, math.nan)
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if not np.allclose(lengths, np.abs(pixdim), rtol=_APART, atol=0):
            raise BadInput("the spacing and the affine of the NIfTI header contradict each other")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not ((_SPACING_MM[0] <= lengths) & (lengths <= _SPACING_MM[1])).all():
        raise BadInput("the NIfTI volume has no possible spacing")
    if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
        raise BadInput("the NIfTI volume has no valid slope and intercept")
    return affine[:3, :3], affine[:3, 3], slope, intercept


def _affine(told: Told) -> F64:
    """Voxel index to LPS mm: i runs along the rows of a slice, j along its columns, k along their normal."""
    row, column = np.array(told.orientation[:3]), np.array(told.orientation[3:])
    affine = np.eye(4)
    affine[:3, :3] = np.stack((row, column, np.cross(row, column)), axis=1) * told.spacing_mm
    affine[:3, 3] = told.position
    return affine


def _read(
    file: BinaryIO, shape: tuple[int, int, int], dtype: np.dtype[Any], every: int, slope: float, intercept: float
) -> F32:
    """HU [k, j, i], of every nth slice; i runs fastest in the file."""
    i, j, k = shape
    voxels = np.empty((math.ceil(k / every), j, i), np.float32)
    size = i * j * dtype.itemsize
    for number in range(k):
        stored = file.read(size)
        if len(stored) < size:
            raise BadInput("the NIfTI file is truncated or corrupt")
        if number % every:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            plane = np.frombuffer(stored, dtype).reshape(j, i).astype(np.float32) * np.float32(slope)
            plane += np.float32(intercept)
        if not np.isfinite(plane).all():
            raise BadInput("the NIfTI volume has values that are not numbers")
        voxels[number // every] = plane
    return voxels
