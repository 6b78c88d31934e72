"""The encoder: images in, one unit vector per region and image out, all regions and a batch of images in one pass."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np
import torch

from radir_pacs import metrics
from radir_pacs.errors import BadInput, Quarantined, RadirError
from radir_pacs.image_notes import ImageNote
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import F16, F32, Encoding, ImageKind, ImageTokens, KeptTokens, SliceStack, Volume

from .batch_size import BatchSize
from .bundle import Bundle
from .devices import choose_device, free_bytes, is_out_of_memory
from .inputs import EncoderInput, encoder_input
from .network import RadirNetwork, view_index
from .tokens import encoder_id


class Encoded(Protocol):
    """What an encoding says of its image, whether that was seen as pixels or as tokens."""

    @property
    def study_uid(self) -> str: ...
    @property
    def series_uid(self) -> str: ...
    @property
    def sop_uid(self) -> str: ...
    @property
    def slices(self) -> SliceStack | None: ...
    @property
    def warnings(self) -> tuple[ImageNote, ...]: ...
    @property
    def is_lateral(self) -> bool: ...


Given = TypeVar("Given", EncoderInput, KeptTokens)
MOST_IMAGES = 64  # of a pass: beyond it even a large GPU gains little, and its results come later
# One pass at a time: the peak of memory is that of a whole device, and what a pass is found to take, or not to fit
# into, is remembered for good. Passes of two threads would take turns there anyway, in torch's one stream of work.
_GPU = threading.Lock()


class Encoder:
    """A bundle made ready to serve. ``threads`` (0: torch's choice) holds for the whole process. Not thread-safe.

    mixed: whether a pass computes in half precision where that loses nothing that matters; None means on CUDA.
    worker: the number of this worker on its machine, as in ``choose_device``. keep_tokens: whether encodings carry the
    image tokens they were decoded from; a network from elsewhere has none.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "auto",
        threads: int = 0,
        *,
        mixed: bool | None = None,
        worker: int = 0,
        keep_tokens: bool = False,
    ) -> None:
        if threads > 0:
            torch.set_num_threads(threads)
            bundle.network.use_threads(threads)
        self.device = choose_device(device, worker)
        self.bundle = bundle
        self.model_id: str = bundle.model_id
        self.kind: ImageKind = bundle.kind
        self.regions: tuple[str, ...] = tuple(region.key for region in bundle.regions)
        self._mixed = self.device.type == "cuda" if mixed is None else mixed
        self._queries = bundle.queries().to(self.device)
        self._rows = torch.arange(len(self.regions), device=self.device)
        self.encoder_id = encoder_id(bundle)
        self._keep_tokens = keep_tokens and self.encoder_id is not None
        self._network = bundle.network.to(self.device).eval()
        if self.kind is ImageKind.CXR:  # its convolutions are a sixth faster so
            self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._size = BatchSize(MOST_IMAGES)

    @property
    def batch_limit(self) -> int:
        """How many images the next batch may have."""
        free = free_bytes(self.device)
        if free is not None:
            metrics.GPU_FREE_BYTES.labels(str(self.device)).set(free)
        return self._size.limit(free)

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

    def encode_batch(self, inputs: Sequence[EncoderInput | KeptTokens]) -> list[Encoding | Exception]:
        """The second half of ``encode``, for several images: the encoding of each, or why it has none.

        An image whose tokens of this encoder are kept may come as those. Raises BadInput for tokens of another.
        """
        kept = [one for one in inputs if isinstance(one, KeptTokens)]
        images = [one for one in inputs if not isinstance(one, KeptTokens)]
        decoded = iter(self.decode(kept) if kept else ())
        encoded = iter(self._divided(self._encoded, images) if images else ())
        return [next(decoded if isinstance(one, KeptTokens) else encoded) for one in inputs]

    def _encoded(self, inputs: Sequence[EncoderInput]) -> list[Encoding | Exception]:
        """From pixels."""
        vectors, tokens = self._pass(inputs)
        kept = [None] * len(inputs) if tokens is None else tokens
        return [self._encoding(*of_one) for of_one in zip(inputs, vectors, kept, strict=True)]

    def _divided(
        self, act: Callable[[Sequence[Given]], list[Encoding | Exception]], inputs: Sequence[Given]
    ) -> list[Encoding | Exception]:
        """``act`` on a batch.

        One that fails is divided, down to the image that fails alone: for lack of memory or for any other reason.
        """
        failure: Exception | None = None
        with _GPU if self.device.type == "cuda" else contextlib.nullcontext():
            try:
                return act(inputs)
            except Exception as error:  # whatever torch raises: one image must not take the others along
                failure = error.with_traceback(None)  # which would keep the tensors of the pass
        if is_out_of_memory(failure):
            self._make_room(len(inputs))
            failure = RadirError("the network needs more memory than there is", reason_code=ReasonCode.OUT_OF_RESOURCES)
        if len(inputs) == 1:
            return [failure]
        half = len(inputs) // 2
        return self._divided(act, inputs[:half]) + self._divided(act, inputs[half:])

    def _make_room(self, images: int) -> None:
        self._size.too_many(images)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def decode(self, kept: Sequence[KeptTokens]) -> list[Encoding | Exception]:
        """As ``encode_batch``, from tokens that this encoder made earlier, without the images.

        Raises BadInput for tokens of another encoder.
        """
        if self.encoder_id is None or any(one.tokens.encoder != self.encoder_id for one in kept):
            raise BadInput(f"these are not image tokens of {self.model_id}'s encoder")
        return self._divided(self._decoded, kept)

    def _decoded(self, kept: Sequence[KeptTokens]) -> list[Encoding | Exception]:
        tokens = torch.from_numpy(np.stack([one.tokens.values for one in kept])).to(self.device).float()
        with torch.inference_mode():
            found = self._answer(tokens).float().cpu().numpy()
        return [self._encoding(one, vectors, None) for one, vectors in zip(kept, found, strict=True)]

    def _answer(self, tokens: torch.Tensor) -> torch.Tensor:
        """Vectors [images, regions, dim] of image tokens."""
        network = self._network
        assert isinstance(network, RadirNetwork)
        return network.from_kept(tokens, self._queries, self._rows).vectors

    def _pass(self, inputs: Sequence[EncoderInput]) -> tuple[F32, F16 | None]:
        """Vectors [images, regions, dim], and the image tokens where they are kept."""
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device) if cuda else 0
        began = time.perf_counter()
        vectors, tokens = self._vectors(inputs, mixed=self._mixed)
        odd = [row for row, found in enumerate(vectors) if not np.isfinite(found).all()]
        if odd and self._mixed:  # the range of half precision is small
            vectors[odd], again = self._vectors([inputs[row] for row in odd], mixed=False)
            if tokens is not None and again is not None:
                tokens[odd] = again
        peak = torch.cuda.max_memory_allocated(self.device) - before if cuda else 0
        self._size.passed(len(inputs), time.perf_counter() - began, peak)
        return vectors, tokens

    @torch.inference_mode()
    def _vectors(self, inputs: Sequence[EncoderInput], *, mixed: bool) -> tuple[F32, F16 | None]:
        images = torch.from_numpy(np.stack([one.image for one in inputs]))
        views = torch.tensor([view_index(one.kind, one.view) for one in inputs])
        if self.device.type == "cuda":
            images = images.pin_memory()
        shown = images.to(self.device, non_blocking=True), views.to(self.device), self.kind
        tokens = None
        with self._precision() if mixed else contextlib.nullcontext():
            if self._keep_tokens and isinstance(self._network, RadirNetwork):
                tokens = self._network.kept_tokens(*shown)
                found = self._answer(tokens)
            else:
                found = self._network(*shown, self._queries, self._rows).vectors
        kept = None if tokens is None else tokens.half().cpu().numpy()
        return np.ascontiguousarray(found.float().cpu().numpy()), kept

    def _precision(self) -> torch.autocast:
        half = torch.float16 if self.device.type == "cuda" and not torch.cuda.is_bf16_supported() else torch.bfloat16
        return torch.autocast(self.device.type, dtype=half)

    def _encoding(self, one: Encoded, vectors: F32, tokens: F16 | None) -> Encoding | Exception:
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
            tokens=self._kept(one, tokens),
        )

    def _kept(self, one: Encoded, tokens: F16 | None) -> ImageTokens | None:
        """None where they are not kept, or half precision cannot hold them."""
        if tokens is None or self.encoder_id is None or not np.isfinite(tokens).all():
            return None
        return ImageTokens(encoder=self.encoder_id, kind=self.kind, lateral=one.is_lateral, values=tokens)
