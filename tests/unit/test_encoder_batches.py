"""The encoder on batches: the same vectors, one failure for one image, less memory when there is little."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from radir_pacs.encode import Encoder, EncoderInput, choose_device
from radir_pacs.encode import encoder as encoder_module
from radir_pacs.encode.batch_size import LONGEST_PASS_S, BatchSize
from radir_pacs.encode.devices import is_out_of_memory
from radir_pacs.errors import BadInput, Quarantined
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import F32, Encoding, ImageKind, KeptTokens, View
from tests.model_material import seeded_bundle
from tests.unit.test_network import picture, radiograph

IMAGE_BYTES = 1 << 20


def inputs(encoder: Encoder, count: int) -> list[EncoderInput]:
    return [encoder.prepare(picture(encoder.kind, seed)) for seed in range(count)]


def encodings(found: Sequence[Encoding | Exception]) -> list[Encoding]:
    assert all(isinstance(one, Encoding) for one in found), found
    return [one for one in found if isinstance(one, Encoding)]


@pytest.mark.parametrize("kind", list(ImageKind))
def test_an_image_has_the_same_vectors_in_any_batch(kind: ImageKind) -> None:
    encoder = Encoder(seeded_bundle(kind), device="cpu")
    some = inputs(encoder, 3)
    if kind is ImageKind.CXR:
        some.append(encoder.prepare(radiograph(np.random.default_rng(9).random((90, 90)), View.LATERAL)))
    together = encodings(encoder.encode_batch(some))
    for one, found in zip(some, together, strict=True):
        [alone] = encodings(encoder.encode_batch([one]))
        assert (found.regions, found.sop_uid, found.warnings) == (alone.regions, alone.sop_uid, alone.warnings)
        np.testing.assert_allclose(found.vectors, alone.vectors, atol=1e-4)


@pytest.mark.parametrize("kind", list(ImageKind))
def test_half_precision_says_the_same(kind: ImageKind) -> None:
    full, mixed = (Encoder(seeded_bundle(kind), device="cpu", mixed=mixed) for mixed in (False, True))
    some = inputs(full, 3)
    pairs = list(zip(encodings(full.encode_batch(some)), encodings(mixed.encode_batch(some)), strict=True))
    assert any((one.vectors != other.vectors).any() for one, other in pairs), "it is another precision"
    for one, other in pairs:
        assert (one.vectors * other.vectors).sum(1).min() > 0.999


def test_an_image_without_an_answer_fails_alone() -> None:
    encoder = Encoder(seeded_bundle(ImageKind.CXR), device="cpu")
    some = inputs(encoder, 5)
    some[3].image[:] = np.nan
    found = encoder.encode_batch(some)
    assert isinstance(found[3], Quarantined)
    encodings([*found[:3], found[4]])


def test_an_image_that_breaks_the_network_fails_alone() -> None:
    bundle = seeded_bundle(ImageKind.CXR)
    encoder = Encoder(bundle, device="cpu")
    some = inputs(encoder, 5)
    some[1].image[:] = 7777.0

    def breaks(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if (given[0] == 7777.0).flatten(1).all(1).any():
            raise RuntimeError("a kernel gave up")

    bundle.network.register_forward_pre_hook(breaks)
    found = encoder.encode_batch(some)
    assert isinstance(found[1], RuntimeError)
    encodings([found[0], *found[2:]])


def test_lack_of_memory_halves_the_batch_and_fails_no_image() -> None:
    """A device that holds three images at a time: the batch of five ends in passes of two and three."""
    bundle = seeded_bundle(ImageKind.CXR)
    encoder = Encoder(bundle, device="cpu")
    passes: list[int] = []

    def too_small(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        passes.append(len(given[0]))
        if passes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = bundle.network.register_forward_pre_hook(too_small)
    some = inputs(encoder, 5)
    encodings(encoder.encode_batch(some))
    assert passes == [5, 2, 3]
    assert encoder.batch_limit <= 2, "what was too many is not tried again"
    hook.remove()

    def full(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        raise torch.OutOfMemoryError("none left")

    bundle.network.register_forward_pre_hook(full)
    found = encoder.encode_batch(some)
    assert [getattr(one, "reason_code", None) for one in found] == [ReasonCode.OUT_OF_RESOURCES] * 5


def test_what_is_no_lack_of_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_a_batch_grows_with_what_is_known_and_shrinks_for_lack_of_memory() -> None:
    size = BatchSize(64)
    assert size.limit() == 1, "nothing is known"
    size.passed(1, 0.01, peak_bytes=1 << 20)
    assert size.limit() == 64
    assert size.limit(free_bytes=10 << 20) == 8, "a fifth is kept back"
    assert size.limit(free_bytes=0) == 1
    size.too_many(64)
    assert size.limit() == 32
    size.passed(32, 0.32, peak_bytes=32 << 20)
    assert size.limit() == 32, "it does not grow back at once"
    slow = BatchSize(64)
    slow.passed(1, LONGEST_PASS_S / 4)
    assert slow.limit() == 4
    slow.passed(4, 100 * LONGEST_PASS_S)
    assert slow.limit() == 1


def test_a_lack_of_memory_that_is_over_does_not_halve_batches_for_years() -> None:
    size = BatchSize(8)
    size.passed(1, 0.01)
    size.too_many(8)
    size.too_many(4)
    limits = []
    for _ in range(1000):
        size.passed(size.limit(), 0.01 * size.limit())
        limits.append(size.limit())
    assert limits[50] == 2 and sorted(limits) == limits and limits[-1] == 8
    size = BatchSize(8)
    size.passed(1, 0.01)
    size.too_many(8)
    for _ in range(1000):
        size.passed(1, 0.01)
    assert size.limit() == 4, "smaller batches tell nothing about larger ones"


def test_a_memory_that_stays_small_is_tried_ever_more_seldom() -> None:
    fit, size = 31, BatchSize(64)
    size.passed(1, 0.001)
    failed, done = 0, 0
    for _ in range(3000):
        if (images := size.limit()) > fit:
            size.too_many(images)
            failed += 1
        else:
            size.passed(images, 0.001 * images)
            done += images
    assert failed <= 7 and done > 3000 * 0.75 * fit


class FakeGpu:
    """Memory of a device, in images; it counts the peak of all threads together, as CUDA does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, holds: int) -> None:
        self._holds, self._allocated, self._peak = holds, 0, 0
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: self._reset())
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: self._allocated * IMAGE_BYTES)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: self._peak * IMAGE_BYTES)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: self._allocated * IMAGE_BYTES)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40 * IMAGE_BYTES, 40 * IMAGE_BYTES))
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(encoder_module, "time", SimpleNamespace(perf_counter=lambda: 0.0))  # only memory limits

    def _reset(self) -> None:
        self._peak = self._allocated

    def encoder(self, monkeypatch: pytest.MonkeyPatch, begins: Callable[[], object]) -> Encoder:
        """One on this device, whose network calls ``begins`` while it holds the memory of its batch."""
        encoder = Encoder(seeded_bundle(ImageKind.CXR), device="cpu")
        encoder.device = torch.device("cuda")

        def vectors(inputs: Sequence[EncoderInput], *, mixed: bool) -> tuple[F32, None]:
            if self._allocated + len(inputs) > self._holds:
                begins()
                raise torch.OutOfMemoryError("CUDA out of memory")
            self._allocated += len(inputs)
            self._peak = max(self._peak, self._allocated)
            begins()
            self._allocated -= len(inputs)
            return np.full((len(inputs), len(encoder.regions), 4), 0.5, np.float32), None

        monkeypatch.setattr(encoder, "_vectors", vectors)
        return encoder


@pytest.mark.parametrize("holds", [100, 32])
def test_a_batch_beside_another_on_one_gpu_teaches_neither_a_wrong_size(
    monkeypatch: pytest.MonkeyPatch, holds: int
) -> None:
    """Where both were at work at once, the peak of one would hold the memory of both, or there would be too little."""
    gpu, first_works, both_work = FakeGpu(monkeypatch, holds), threading.Event(), threading.Event()

    def waits() -> None:
        first_works.set()
        both_work.wait(0.5)  # for what must not come

    one, beside = gpu.encoder(monkeypatch, waits), gpu.encoder(monkeypatch, both_work.set)
    some = inputs(one, 1)
    with ThreadPoolExecutor(1) as pool:
        alone = pool.submit(one.encode_batch, some)
        assert first_works.wait(10)
        encodings(beside.encode_batch(some * 32))
        encodings(alone.result(10))
    assert (one.batch_limit, beside.batch_limit) == (32, 32), "four fifths of the 40 images that memory holds"


def test_workers_spread_over_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arithmetic alone: no GPU is asked for anything."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(choose_device("auto", worker)) for worker in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [str(choose_device(name, 1)) for name in ("cuda", "cuda:1", "cpu")] == ["cuda:0", "cuda:1", "cpu"]
    with pytest.raises(BadInput, match="cuda:0 to cuda:1"):
        choose_device("cuda:2")


def test_lack_of_memory_halves_a_batch_of_kept_tokens_too() -> None:
    encoder = Encoder(seeded_bundle(ImageKind.CXR), device="cpu", keep_tokens=True)
    some = inputs(encoder, 5)
    wanted = encodings(encoder.encode_batch(some))
    kept = [
        KeptTokens(study_uid=one.study_uid, series_uid="2.25.1", sop_uid="2.25.1.1", revision=1, tokens=one.tokens)
        for one in wanted
        if one.tokens is not None
    ]
    passes: list[int] = []

    def too_small(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        passes.append(len(given[0]))
        if passes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    encoder.bundle.network.get_submodule("head").register_forward_pre_hook(too_small)
    found = encodings(encoder.encode_batch(kept))
    assert passes == [5, 2, 3] and encoder.batch_limit <= 2
    for own, one in zip(wanted, found, strict=True):
        np.testing.assert_allclose(one.vectors, own.vectors, atol=2e-3)
