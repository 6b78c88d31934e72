"""Synthetic patients as studies in memory.

They are drawn once and cached in shards, so that interrupted drawing resumes where it stopped. The name of a shard is a
hash of everything its content depends on, including the version of the phantoms' appearance.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from radir_pacs.encode import NetworkConfig, Preprocessing
from radir_pacs.encode.network import view_index
from radir_pacs.encode.preprocess import preprocess
from radir_pacs.errors import BadInput
from radir_pacs.types import F32, ImageKind, View, Volume

from ..phantoms import SIZES, PhantomStudy, sample
from ..phantoms.course import draw_patient
from ..phantoms.house import FIRST, HOUSES
from ..phantoms.statements import true_items
from .shards import Shard, read_notes, read_shard, write_shard
from .statements import mined
from .studies import StudySet

SHARD_PATIENTS = 50
LOOK = 1  # version of patients and inputs; raise it when either changes (tests/training/test_phantom_look.py)
LATERAL_EVERY = 4  # every fourth patient has a lateral view too


def phantom_set(
    config: NetworkConfig,
    kind: ImageKind,
    *,
    patients: int,
    seed: int,
    cache: Path,
    processes: int = 1,
    house: str = FIRST,
    progress: Callable[[int], None] = lambda done: None,
) -> StudySet:
    """The first ``patients`` of the synthetic hospital ``seed``, one visit each, from the cache where it holds them.

    ``progress`` is called with the number of patients that are ready. Raises BadInput, OSError.
    """
    if patients < 1:
        raise BadInput("a data set has at least one patient")
    folders = draw_phantoms(
        config,
        [kind],
        patients=patients,
        seed=seed,
        cache=cache,
        processes=processes,
        house=house,
        progress=progress,
    )
    shards = [folders[kind] / f"{start}.npz" for start in range(0, patients, SHARD_PATIENTS)]
    return _assembled(kind, seed, shards, patients, house)


def draw_phantoms(
    config: NetworkConfig,
    kinds: Sequence[ImageKind],
    *,
    patients: int,
    seed: int,
    cache: Path,
    processes: int = 1,
    house: str = FIRST,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[ImageKind, Path]:
    """Fill the cache and return the folder of each kind; a patient is drawn once for all kinds."""
    ways = [Preprocessing.of(config, kind) for kind in kinds]
    folders = [cache / f"{how.kind.lower()}-{_digest(how, seed, house)}" for how in ways]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, patients, SHARD_PATIENTS)
    missing = [start for start in starts if not all((folder / f"{start}.npz").exists() for folder in folders)]
    ready = patients - len(missing) * SHARD_PATIENTS
    for _ in _drawn(missing, partial(_draw_shard, folders, ways, seed, house), processes):
        ready += SHARD_PATIENTS
        progress(min(patients, max(0, ready)))
    return dict(zip(kinds, folders, strict=True))


def _drawn(missing: Sequence[int], draw: Callable[[int], None], processes: int) -> Iterator[None]:
    """Yields as each shard is there. One process is this one: a script without a guarded main module, or a notebook,
    cannot start another."""
    if processes <= 1 or len(missing) <= 1:
        yield from map(draw, missing)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(draw, start) for start in missing]):
            yield done.result()


def _assembled(kind: ImageKind, seed: int, shards: Sequence[Path], patients: int, house: str) -> StudySet:
    images, views, who, reports = [], [], [], []
    for path in shards:
        shard, notes = read_shard(path), read_notes(path)
        number = np.array(notes["patients"], np.int64)
        keep = number < patients
        images.append(shard.images[keep])
        views.append(shard.views[keep])
        who.append(number[keep])
        reports += [text for text, kept in zip(notes["reports"], keep, strict=True) if kept]
    people, mix = np.concatenate(who), HOUSES[house].mix
    truth = {int(index): true_items(draw_patient(seed, int(index), mix)[1], kind) for index in np.unique(people)}
    return StudySet(
        kind=kind,
        images=np.concatenate(images),
        views=np.concatenate(views),
        patients=people,
        reports=tuple(reports),
        said=mined(reports, kind),
        true=tuple(truth[int(index)] for index in people),
    )


def _draw_shard(folders: Sequence[Path], ways: Sequence[Preprocessing], seed: int, house: str, start: int) -> None:
    kinds = frozenset(how.kind for how in ways)
    studies = [_sample(kinds, seed, index, house) for index in range(start, start + SHARD_PATIENTS)]
    for folder, how in zip(folders, ways, strict=True):
        if not (folder / f"{start}.npz").exists():
            _write_shard(folder / f"{start}.npz", studies, how)


def _write_shard(path: Path, studies: Sequence[PhantomStudy], how: Preprocessing) -> None:
    """Images of one kind, their views, patients and reports."""
    taken = [
        (study, volume)
        for study in studies
        for volume in _volumes(study, how.kind, lateral=study.index % LATERAL_EVERY == 0)
    ]
    reports = [study.ct_report if how.kind is ImageKind.CT else study.radiograph_report for study, _ in taken]
    shard = Shard(
        images=np.stack([preprocess(volume, how) for _, volume in taken]).astype(np.float16),
        views=np.array([view_index(volume.kind, volume.view) for _, volume in taken], np.int64),
    )
    write_shard(path, shard, {"patients": [study.index for study, _ in taken], "reports": reports})


def _sample(kinds: frozenset[ImageKind], seed: int, index: int, house: str) -> PhantomStudy:
    radiographs, ct = ImageKind.CXR in kinds, ImageKind.CT in kinds
    return sample(seed, index, size=SIZES["small"], radiographs=radiographs, ct=ct, house=house)


def _volumes(study: PhantomStudy, kind: ImageKind, *, lateral: bool) -> list[Volume]:
    """The study's images as the service would receive them."""

    def volume(voxels: F32, spacing_mm: tuple[float, float, float], view: View | None) -> Volume:
        uids = tuple(f"2.25.{study.index}.{i}" for i in range(len(voxels)))
        return Volume(
            kind=kind,
            voxels=voxels,
            spacing_mm=spacing_mm,
            affine=np.eye(4),
            study_uid=f"2.25.{study.index}",
            series_uid=f"2.25.{study.index}.0",
            sop_instance_uids=uids,
            view=view,
        )

    if kind is ImageKind.CT:
        return [volume(study.ct, study.ct_spacing_mm, None)]
    frontal = volume(study.frontal, study.radiograph_spacing_mm, View.FRONTAL)
    return [frontal, volume(study.lateral, study.radiograph_spacing_mm, View.LATERAL)] if lateral else [frontal]


def _digest(how: Preprocessing, seed: int, house: str) -> str:
    """What a shard depends on."""
    named = json.dumps([LOOK, how.to_json(), seed, SHARD_PATIENTS, LATERAL_EVERY, *([] if house == FIRST else [house])])
    return hashlib.sha256(named.encode()).hexdigest()[:12]
