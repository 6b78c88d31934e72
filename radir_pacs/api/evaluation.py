"""How well a model finds similar cases. The package of training computes it, which this one does not import."""

from __future__ import annotations

from importlib.metadata import entry_points
from os import PathLike
from typing import Any

from radir_pacs.errors import BadInput

_GROUP = "radir.functions"


def evaluate(
    model: str | PathLike[str],
    *,
    data: str | PathLike[str] | None = None,
    phantoms: int | None = None,
    kind: str = "both",
    held_out: bool = False,
    regions: str | None = None,
    seed: int = 2,
) -> dict[str, Any]:
    """What ``radir evaluate MODEL --json`` prints (docs/reference/evaluation.md), as a dict.

    ``data``: a folder of DICOM files with reports, or a data set; else ``phantoms`` synthetic patients are drawn.
    Raises BadInput, BundleRefused, OSError.
    """
    for point in entry_points(group=_GROUP):
        if point.name == "evaluate":
            found: dict[str, Any] = point.load()(
                str(model),
                data=None if data is None else str(data),
                phantoms=phantoms,
                kind=kind,
                held_out=held_out,
                regions=regions,
                seed=seed,
            )
            return found
    raise BadInput("evaluation is not installed: install radir-pacs again")
