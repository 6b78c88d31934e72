"""Vectors to judge: those of a bundle, or precomputed ones from a file.

The file is a NumPy archive (.npz) of float arrays: ``image`` [n, dim] the whole image, ``report`` [n, dim] the report
of each image, and any region by its key or name [n, dim]; ``report:<region>`` a report under that region. Rows are in
the order of the data. In a data set of the MIMIC-IR layout that is the order of ``<split>_caption.csv``, and for a
region the order of its own list, unless ``paths`` [n] (text) names the rows of all arrays. ``kind`` ("CXR" or "CT") is
optional. Every array but ``image`` may be missing.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from radir_pacs import anatomy
from radir_pacs.anatomy import ROOT
from radir_pacs.encode import Bundle
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.errors import BadInput, UnknownRegion

from ..data.studies import StudySet
from .measures import F32, I64

BATCH = 32
REPORT_TOKENS = 128
Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Unit vectors float32 [n, dim] of n images. A region that a model does not know gets the vectors of the
    nearest one above it, in the end those of the whole image. ``reports``: by region, ROOT the whole report; empty
    without a text tower."""

    image: F32
    regions: Mapping[str, F32] = field(default_factory=dict)
    reports: Mapping[str, F32] = field(default_factory=dict)

    def of(self, key: str) -> F32:
        if key == ROOT:
            return self.image
        above = (found.key for found in anatomy.ancestors(key)) if _known(key) else ()
        return next((self.regions[name] for name in (key, *above) if name in self.regions), self.image)

    def pair(self, key: str) -> tuple[F32, F32] | None:
        """Images and reports that can be compared under ``key``; None without a text tower."""
        if key != ROOT and key in self.reports:
            return self.of(key), self.reports[key]
        return (self.image, self.reports[ROOT]) if ROOT in self.reports else None

    def subset(self, rows: I64) -> Embeddings:
        """The vectors of some of the images."""
        return Embeddings(
            image=self.image[rows],
            regions={key: found[rows] for key, found in self.regions.items()},
            reports={key: found[rows] for key, found in self.reports.items()},
        )

    def unconditional(self) -> Embeddings:
        """The same model with its whole-image vectors only."""
        return Embeddings(image=self.image, reports={key: found for key, found in self.reports.items() if key == ROOT})


def encoded(
    bundle: Bundle, data: StudySet, progress: Progress = lambda done: None, *, keys: Sequence[str] | None = None
) -> Embeddings:
    """A bundle's vectors of every image and report; ``progress`` gets the number of images done. ``keys``: the only
    regions that will be queried. Raises BadInput."""
    check_fits(bundle, data)
    bundle_keys = [region.key for region in bundle.regions]
    needed = set(bundle_keys)
    if keys is not None:
        needed = {ROOT, *keys, *(above.key for key in keys if _known(key) for above in anatomy.ancestors(key))}
    rows = [number for number, key in enumerate(bundle_keys) if key in needed]
    vectors = _image_vectors(bundle, data, rows, progress)
    if not np.isfinite(vectors).all():
        raise BadInput(f"{bundle.model_id} gives vectors that are not finite for these images")
    regions = {bundle_keys[row]: vectors[:, i] for i, row in enumerate(rows)}
    return Embeddings(
        image=regions[ROOT],
        regions={key: found for key, found in regions.items() if key != ROOT},
        reports={ROOT: found} if (found := report_vectors(bundle, data.reports)) is not None else {},
    )


def check_fits(bundle: Bundle, data: StudySet) -> None:
    """Raise BadInput where these images do not fit the bundle."""
    if data.kind is not bundle.kind:
        raise BadInput(f"{bundle.model_id} encodes {bundle.kind}, not {data.kind}")
    if data.encoded or data.features:
        return  # whose tokens they are is for the caller to know: nothing in them tells
    if data.images.shape[2:] != bundle.preprocessing.shape:
        raise BadInput(f"{bundle.model_id} takes images of {bundle.preprocessing.shape}, these have another shape")


@torch.inference_mode()
def _image_vectors(bundle: Bundle, data: StudySet, rows: Sequence[int], progress: Progress) -> F32:
    """Float32 [n, rows, dim] of these rows of the bundle's regions."""
    chosen = torch.tensor(rows)
    network, queries = bundle.network.eval(), bundle.queries()[chosen]
    parts = []
    for images, views in batches(data, progress):
        if data.encoded and isinstance(network, RadirNetwork):
            found = network.from_kept(images, queries, chosen)
        else:
            found = network(images, views, data.kind, queries, chosen)
        parts.append(found.vectors.float().numpy())
    return np.concatenate(parts)


def batches(data: StudySet, progress: Progress) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and views, BATCH studies at a time; ``progress`` gets the number done."""
    for start in range(0, len(data), BATCH):
        images = torch.from_numpy(data.images[start : start + BATCH].astype(np.float32))
        yield images, torch.from_numpy(data.views[start : start + BATCH])
        progress(min(len(data), start + BATCH))


@torch.inference_mode()
def report_vectors(bundle: Bundle, reports: Sequence[str]) -> F32 | None:
    """Unit vectors float32 [n, dim]; equal texts are encoded once. None for a network without a text encoder."""
    if not isinstance(bundle.network, RadirNetwork):
        return None
    texts = list(dict.fromkeys(reports))
    parts = []
    for start in range(0, len(texts), BATCH):
        ids = torch.tensor(bundle.tokenizer.batch(texts[start : start + BATCH], limit=REPORT_TOKENS))
        parts.append(bundle.network.report_vectors(ids).float().numpy())
    number = {text: i for i, text in enumerate(texts)}
    found: F32 = np.concatenate(parts)[[number[text] for text in reports]]
    return found


def from_file(
    path: Path,
    rows: int,
    paths: Sequence[str] = (),
    lists: Mapping[str, I64] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Embeddings:
    """Precomputed vectors for ``rows`` images, which ``paths`` name where they have names; ``lists``: rows of each
    region's list, where there are lists. ``tell`` gets a line per array that no query uses. Raises BadInput."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path.name} is no archive of arrays: {type(error).__name__}") from None
    arrays.pop("kind", None)
    named = arrays.pop("paths", None)
    if "image" not in arrays:
        raise BadInput(f"{path.name} has no array 'image'")
    order = _order(path.name, named, paths) if named is not None and paths else None
    image, reports, regions = np.empty((0, 0), np.float32), dict[str, F32](), dict[str, F32]()
    read = set[tuple[bool, str]]()
    for name, array in arrays.items():
        of_reports, key = _meant(f"{path.name}: {name!r}", name, lists or {})
        if key != ROOT and not _known(key) and key not in (lists or {}):
            tell(f"{path.name}: {name!r} is no region here, so it is not used: `radir regions` lists them")
            continue
        listed = np.arange(rows) if lists is None or order is not None else lists.get(key, np.arange(rows))
        found = _unit(f"{path.name}: {name!r}", array, rows, order, listed)
        if (of_reports, key) in read:
            raise BadInput(f"{path.name}: {name!r} is the second array for {key}")
        read.add((of_reports, key))
        if of_reports:
            reports[key] = found
        elif key == ROOT:
            image = found
        else:
            regions[key] = found
    for key, found in reports.items():
        mine = image if key == ROOT else regions.get(key, image)
        if found.shape[1] != mine.shape[1]:
            raise BadInput(f"{path.name}: reports have {found.shape[1]} numbers and images {mine.shape[1]}")
    return Embeddings(image=image, regions=regions, reports=reports)


def _meant(what: str, name: str, lists: Collection[str]) -> tuple[bool, str]:
    """Whether an array holds vectors of reports, and its region. A list's own name may hold a colon."""
    if name in ("image", "report"):
        return name == "report", ROOT
    if name in lists:
        return False, name
    where, colon, region = name.partition(":")
    if colon and where != "report":
        raise BadInput(f"{what}: only 'report' may stand before the colon")
    return bool(colon), _key(region if colon else name)


def _order(name: str, named: npt.NDArray[np.generic], paths: Sequence[str]) -> I64:
    """The file's row of each image."""
    row = {str(path): i for i, path in enumerate(named)}
    missing = sum(path not in row for path in paths)
    if missing:
        raise BadInput(f"{name} has no vector for {missing} of {len(paths)} images")
    return np.array([row[path] for path in paths], np.int64)


def _unit(what: str, array: npt.NDArray[np.generic], rows: int, order: I64 | None, listed: I64) -> F32:
    """Float32 [rows, dim]; zero where a region's list does not have the image."""
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise BadInput(f"{what} is not a table of vectors")
    if order is not None and len(array) > order.max(initial=-1):
        array = array[order]
    if len(array) != len(listed):
        raise BadInput(f"{what} has {len(array)} rows where the data have {len(listed)} images")
    taken = array.astype(np.float32)
    length = np.linalg.norm(taken, axis=1, keepdims=True)
    if not np.isfinite(length).all() or not (length > 0).all():
        raise BadInput(f"{what} holds a vector that is zero or not finite")
    whole = np.zeros((rows, taken.shape[1]), np.float32)
    whole[listed] = taken / length
    return whole


def _key(name: str) -> str:
    """The key of a region by any of its names; another name is returned unchanged."""
    try:
        return anatomy.look_up(name.replace("_", " ")).key
    except UnknownRegion:
        return name


def _known(key: str) -> bool:
    return any(region.key == key for region in anatomy.regions())
