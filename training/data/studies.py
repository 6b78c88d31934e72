"""Studies in memory, for training and evaluation: network inputs, patients, reports and their statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from radir_pacs.encode.network import view_index
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind, Region, View

from .statements import Mask, Said

F16 = npt.NDArray[np.float16]
I64 = npt.NDArray[np.int64]
LEAST_PATIENTS = 16
SYNTHETIC, LOCAL = "synthetic", "local"  # where studies come from, as written in a manifest


@dataclass(frozen=True, kw_only=True)
class StudySet:
    """One image per row.

    images: float16 [n, 1, *shape], preprocessed. views: int64 [n], rows of the modality embedding. patients: int64
    [n]. reports: the text of each, "" where there is none. said: the statements of the report; true: the true findings,
    known for synthetic patients only. encoded: images are image tokens [n, tokens, width] of a frozen encoder.
    features: images are features [n, places, channels] of a program from elsewhere. names: the patient of each image as
    the folder names them, which may identify somebody and stays in memory; empty for synthetic patients.
    """

    kind: ImageKind
    images: F16
    views: I64
    patients: I64
    reports: tuple[str, ...]
    said: tuple[Said, ...]
    true: tuple[Said, ...] | None = None
    names: tuple[str, ...] = field(default=(), repr=False)
    encoded: bool = False
    features: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, rows: npt.NDArray[np.generic]) -> StudySet:
        """``rows``: indices, or a mask."""
        chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return replace(
            self,
            images=self.images[chosen],
            views=self.views[chosen],
            patients=self.patients[chosen],
            reports=tuple(self.reports[i] for i in chosen),
            said=tuple(self.said[i] for i in chosen),
            true=None if self.true is None else tuple(self.true[i] for i in chosen),
            names=tuple(self.names[i] for i in chosen) if self.names else (),
        )

    def seen(self, regions: Sequence[Region]) -> Mask:
        """[n, regions]: whether the view shows the region separately from its counterpart on the other side."""
        sided = np.array([region.laterality is not None for region in regions])
        lateral = self.views == view_index(ImageKind.CXR, View.LATERAL)
        seen: Mask = ~(lateral[:, None] & sided[None])
        return seen


def check_usable(data: StudySet) -> None:
    """Raise BadInput where nothing can be learned: too few patients, identical images, no statements, no findings."""
    people = len(np.unique(data.patients))
    if people < LEAST_PATIENTS:
        raise BadInput(f"too few patients to learn from ({people}): at least {LEAST_PATIENTS} are needed")
    first = data.images[0]
    if all(np.array_equal(image, first) for image in data.images):
        raise BadInput("all images are the same")
    if not any(study for study in data.said):
        raise BadInput("no report has a statement that was understood: there is no pair to learn from")
    if not any(item.present for study in data.said for items in study.values() for item in items):
        raise BadInput("no report has a finding: all pairs are equally similar")
