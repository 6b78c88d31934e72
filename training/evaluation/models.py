"""Models as a command line names them: bundles, precomputed vectors, or baselines that need neither."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radir_pacs.encode import Bundle
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

from .baselines import BASELINES, RANDOM

GLOBAL = "global:"  # before a path: the whole-image vector is used for every region


@dataclass(frozen=True, kw_only=True)
class Model:
    """``bundles`` and ``files`` by kind of image, or a baseline by its name. ``unconditional``: one vector per
    image."""

    name: str
    baseline: str | None = None
    bundles: Mapping[ImageKind, Bundle]
    files: Mapping[ImageKind, Path]
    unconditional: bool = False

    @property
    def kinds(self) -> frozenset[ImageKind]:
        return frozenset(ImageKind) if self.baseline else frozenset({*self.bundles, *self.files})


def read(word: str, kinds: Iterable[ImageKind]) -> Model:
    """``[NAME=][global:]PATH[,PATH]``, or the name of a baseline. A path is a bundle, a folder of bundles or a .npz
    file.

    Raises BadInput, BundleRefused.
    """
    name, equals, rest = word.partition("=")
    if not equals:
        name, rest = "", word
    unconditional = rest.startswith(GLOBAL)
    rest = rest.removeprefix(GLOBAL)
    if rest == RANDOM or rest in BASELINES:
        return Model(name=name or rest, baseline=rest, bundles={}, files={})
    paths = [Path(part) for part in rest.split(",") if part]
    if not paths:
        raise BadInput(f"{word!r} names no model")
    bundles: dict[ImageKind, Bundle] = {}
    files: dict[ImageKind, Path] = {}
    for path in paths:
        if path.suffix == ".npz":
            if not path.is_file():
                raise BadInput(f"there is no {path.name}")
            files |= dict.fromkeys(_kinds_of(path, kinds), path)
            continue
        for bundle in (Bundle.load(folder) for folder in _folders(path)):
            if bundle.kind in bundles:
                raise BadInput(f"{word!r} names two bundles for {bundle.kind}")
            bundles[bundle.kind] = bundle
    return Model(name=name or paths[0].stem, bundles=bundles, files=files, unconditional=unconditional)


def _folders(path: Path) -> list[Path]:
    """The bundle at ``path``, or those directly below."""
    if (path / "manifest.json").is_file():
        return [path]
    found = sorted(manifest.parent for manifest in path.glob("*/manifest.json"))
    if not found:
        raise BadInput(
            f"{path.name or path} is no bundle, no folder of bundles, and none of {', '.join((RANDOM, *BASELINES))}"
        )
    return found


def _kinds_of(path: Path, kinds: Iterable[ImageKind]) -> list[ImageKind]:
    """The kind that the file names, else the only one wanted."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "kind" in archive.files:
                return [ImageKind(str(archive["kind"]).upper())]
    except (OSError, ValueError) as error:
        raise BadInput(f"{path.name} is no archive of arrays: {type(error).__name__}") from None
    known = list(kinds)
    if len(known) != 1:
        raise BadInput(f"{path.name} does not name the kind of image of its vectors ('kind')")
    return known
