"""The encoder: a Volume in, one unit vector per region out, all regions in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from radir_pacs.dicom.lung_landmarks import slice_stack
from radir_pacs.errors import BadInput, Quarantined
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import F32, Encoding, ImageKind, View, Volume

from .bundle import Bundle
from .external import ExternalNetwork
from .network import view_index
from .preprocess import preprocess

LEAST_CT_MM = 120.0  # a shorter chest CT misses whole lobes


def choose_device(wanted: str = "auto") -> torch.device:
    """The device of this name; ``auto`` takes CUDA, else MPS, else the CPU. Raises BadInput when it is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available.get(wanted, False):
        raise BadInput(f"this machine has no device {wanted!r} that torch can use")
    return torch.device(wanted)


class Encoder:
    """A bundle made ready to serve. ``threads`` (0: torch's choice) holds for the whole process. Not thread-safe."""

    def __init__(self, bundle: Bundle, device: str = "auto", threads: int = 0) -> None:
        if threads > 0:
            torch.set_num_threads(threads)
            if isinstance(bundle.network, ExternalNetwork):
                bundle.network.use_threads(threads)
        self.device = choose_device(device)
        self.bundle = bundle
        self.model_id: str = bundle.model_id
        self.kind: ImageKind = bundle.kind
        self.regions: tuple[str, ...] = tuple(region.key for region in bundle.regions)
        self._queries = bundle.queries().to(self.device)
        self._network = bundle.network.to(self.device).eval()

    def encode(self, volume: Volume) -> Encoding:
        """Vectors of every region the image can show; a lateral view cannot tell sides, so sided regions are left out.

        Raises BadInput for the other kind of image, Quarantined when the image shows nothing.
        """
        return self.prepare(volume)()

    def prepare(self, volume: Volume) -> Callable[[], Encoding]:
        """The first half of ``encode``; the answer is the second, and keeps the network's input, not the voxels.

        May run in a thread of its own while the network works. Raises as ``encode``.
        """
        if volume.kind is not self.kind:
            raise BadInput(f"{self.model_id} encodes {self.kind}, not {volume.kind}")
        image = preprocess(volume, self.bundle.preprocessing)
        lateral = volume.kind is ImageKind.CXR and volume.view is View.LATERAL
        uids = volume.sop_instance_uids
        encoding = partial(
            Encoding,
            study_uid=volume.study_uid,
            series_uid=volume.series_uid,
            sop_uid=uids[len(uids) // 2],
            model_id=self.model_id,
            slices=slice_stack(volume),
            warnings=volume.warnings + _coverage_warnings(volume, lateral=lateral),
        )
        view = view_index(volume.kind, volume.view)

        def finish() -> Encoding:
            rows = [i for i, region in enumerate(self.bundle.regions) if not (lateral and region.sided)]
            return encoding(regions=tuple(self.regions[i] for i in rows), vectors=self._vectors(image, view, rows))

        return finish

    @torch.inference_mode()
    def _vectors(self, image: F32, view: int, rows: Sequence[int]) -> F32:
        pixels = torch.from_numpy(image)[None].to(self.device)
        views, chosen = torch.tensor([view], device=self.device), torch.tensor(rows, device=self.device)
        vectors = self._network(pixels, views, self.kind, self._queries[chosen], chosen).vectors[0]
        found = np.ascontiguousarray(vectors.float().cpu().numpy())
        if not np.isfinite(found).all():
            raise Quarantined(
                f"{self.model_id} answers no finite number for this image", reason_code=ReasonCode.NO_VECTOR
            )
        return found


def _coverage_warnings(volume: Volume, *, lateral: bool) -> tuple[str, ...]:
    if lateral:
        return ("a lateral view: regions of one side are left out",)
    covered_mm = volume.voxels.shape[0] * volume.spacing_mm[0]
    if volume.kind is ImageKind.CT and covered_mm < LEAST_CT_MM:
        return (f"the series covers {covered_mm:.0f} mm from feet to head, less than a chest",)
    return ()
