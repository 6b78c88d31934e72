"""A training computes in half precision where the processor has instructions for it, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from radir_pacs.encode.network import RadirNetwork
from radir_training.learning.precision import has_bfloat16
from radir_training.learning.recipe import OURS
from radir_training.learning.train import CPU, Training

from .toy import TOY, toy_set


@pytest.mark.parametrize(
    ("told", "wanted", "half"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, True, False),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, True, True),
        ({"avx2": True, "amx_bf16": True}, True, True),
        ({"bf16": True}, True, True),  # ARM
        ({"amx_bf16": True}, False, False),
    ],
)
def test_half_precision_needs_instructions_for_it(
    told: Mapping[str, bool], wanted: bool, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
    training = Training(TOY, toy_set(32, seed=0), replace(OURS, epochs=1, batch=32, half_precision=wanted))
    assert isinstance(training.network, RadirNetwork)
    kinds: list[torch.dtype] = []
    linear = next(part for part in training.network.modules() if isinstance(part, torch.nn.Linear))
    linear.register_forward_hook(lambda part, given, out: kinds.append(out.dtype))
    training.step(0.0)
    assert set(kinds) == {torch.bfloat16 if half else torch.float32}
    assert training.bundle().training["computed_in"] == ("bfloat16" if half else "float32")


def test_this_torch_tells_what_the_processor_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "avx2" in torch.cpu.get_capabilities() or "bf16" in torch.cpu.get_capabilities()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert has_bfloat16(CPU), "an older torch cannot say: as before"
