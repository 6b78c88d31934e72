"""The encoder: images in, one unit vector per region and image out, all regions and a batch of images in one pass."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import numpy as np
import torch

from radir_pacs.errors import BadInput, Quarantined, RadirError
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import F32, Encoding, ImageKind, Volume

from .batch_size import BatchSize
from .bundle import Bundle
from .devices import choose_device, free_bytes, is_out_of_memory
from .external import ExternalNetwork
from .inputs import EncoderInput, encoder_input
from .network import view_index

MOST_IMAGES = 64  # of a pass: beyond it even a large GPU gains little, and its results come later


class Encoder:
    """A bundle made ready to serve. ``threads`` (0: torch's choice) holds for the whole process. Not thread-safe.

    mixed: whether a pass computes in half precision where that loses nothing that matters; None means on CUDA.
    worker: the number of this worker on its machine, as in ``choose_device``.
    """

    def __init__(
        self, bundle: Bundle, device: str = "auto", threads: int = 0, *, mixed: bool | None = None, worker: int = 0
    ) -> None:
        if threads > 0:
            torch.set_num_threads(threads)
            if isinstance(bundle.network, ExternalNetwork):
                bundle.network.use_threads(threads)
        self.device = choose_device(device, worker)
        self.bundle = bundle
        self.model_id: str = bundle.model_id
        self.kind: ImageKind = bundle.kind
        self.regions: tuple[str, ...] = tuple(region.key for region in bundle.regions)
        self._mixed = self.device.type == "cuda" if mixed is None else mixed
        self._queries = bundle.queries().to(self.device)
        self._rows = torch.arange(len(self.regions), device=self.device)
        self._network = bundle.network.to(self.device).eval()
        if self.kind is ImageKind.CXR:  # its convolutions are a sixth faster so
            self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._size = BatchSize(MOST_IMAGES)

    @property
    def batch_limit(self) -> int:
        """How many images the next batch may have."""
        return self._size.limit(free_bytes(self.device))

    def encode(self, volume: Volume) -> Encoding:
        """Vectors of every region the image can show; a lateral view cannot tell sides, so sided regions are left out.

        Raises BadInput for the other kind of image, Quarantined when the image shows nothing.
        """
        [found] = self.encode_batch([self.prepare(volume)])
        if isinstance(found, Exception):
            raise found
        return found

    def prepare(self, volume: Volume) -> EncoderInput:
        """The first half of ``encode``. Raises as ``encode``."""
        if volume.kind is not self.kind:
            raise BadInput(f"{self.model_id} encodes {self.kind}, not {volume.kind}")
        return encoder_input(volume, self.bundle.preprocessing)

    def encode_batch(self, inputs: Sequence[EncoderInput]) -> list[Encoding | Exception]:
        """The second half of ``encode``, for several images: the encoding of each, or why it has none.

        A batch that fails is divided, down to the image that fails alone: for lack of memory or for any other reason.
        """
        failure: Exception | None = None
        try:
            vectors = self._pass(inputs)
        except Exception as error:  # whatever torch raises: one image must not take the others along
            failure = error.with_traceback(None)  # which would keep the tensors of the pass
        if failure is None:
            return [self._encoding(one, found) for one, found in zip(inputs, vectors, strict=True)]
        if is_out_of_memory(failure):
            self._make_room(len(inputs))
            failure = RadirError("the network needs more memory than there is", reason_code=ReasonCode.OUT_OF_RESOURCES)
        if len(inputs) == 1:
            return [failure]
        half = len(inputs) // 2
        return self.encode_batch(inputs[:half]) + self.encode_batch(inputs[half:])

    def _make_room(self, images: int) -> None:
        self._size.too_many(images)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _pass(self, inputs: Sequence[EncoderInput]) -> F32:
        """Vectors [images, regions, dim]."""
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device) if cuda else 0
        began = time.perf_counter()
        vectors = self._vectors(inputs, mixed=self._mixed)
        odd = [row for row, found in enumerate(vectors) if not np.isfinite(found).all()]
        if odd and self._mixed:  # the range of half precision is small
            vectors[odd] = self._vectors([inputs[row] for row in odd], mixed=False)
        peak = torch.cuda.max_memory_allocated(self.device) - before if cuda else 0
        self._size.passed(len(inputs), time.perf_counter() - began, peak)
        return vectors

    @torch.inference_mode()
    def _vectors(self, inputs: Sequence[EncoderInput], *, mixed: bool) -> F32:
        images = torch.from_numpy(np.stack([one.image for one in inputs]))
        views = torch.tensor([view_index(one.kind, one.view) for one in inputs])
        if self.device.type == "cuda":
            images = images.pin_memory()
        with self._precision() if mixed else contextlib.nullcontext():
            found = self._network(
                images.to(self.device, non_blocking=True), views.to(self.device), self.kind, self._queries, self._rows
            ).vectors
        return np.ascontiguousarray(found.float().cpu().numpy())

    def _precision(self) -> torch.autocast:
        half = torch.float16 if self.device.type == "cuda" and not torch.cuda.is_bf16_supported() else torch.bfloat16
        return torch.autocast(self.device.type, dtype=half)

    def _encoding(self, one: EncoderInput, vectors: F32) -> Encoding | Exception:
        rows = [i for i, region in enumerate(self.bundle.regions) if not (one.is_lateral and region.sided)]
        found = vectors[rows]
        if not np.isfinite(found).all():
            return Quarantined(
                f"{self.model_id} answers no finite number for this image", reason_code=ReasonCode.NO_VECTOR
            )
        return Encoding(
            study_uid=one.study_uid,
            series_uid=one.series_uid,
            sop_uid=one.sop_uid,
            model_id=self.model_id,
            regions=tuple(self.regions[i] for i in rows),
            vectors=found,
            slices=one.slices,
            warnings=one.warnings,
        )
