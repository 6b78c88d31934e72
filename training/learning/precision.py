"""Where a training computes in half precision."""

from __future__ import annotations

import torch

# What `torch.cpu.get_capabilities` calls the instructions, on x86 and on ARM.
_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")


def autocast(device: torch.device, *, wanted: bool) -> torch.autocast:
    """bfloat16 where it is wanted and the device has instructions for it; else float32 throughout.

    A processor without them computes in bfloat16 all the same, fifteen times as long as in float32.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and has_bfloat16(device))


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 by itself; a GPU that does not still saves memory by it."""
    if device.type != "cpu":
        return True
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is None:  # an older torch than we pin cannot say
        return True
    told = capabilities()
    return any(told.get(name) for name in _BFLOAT16)
