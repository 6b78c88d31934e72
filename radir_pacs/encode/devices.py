"""The device that a worker's network runs on."""

from __future__ import annotations

import gc

import torch

from radir_pacs.errors import BadInput


def choose_device(wanted: str = "auto", worker: int = 0) -> torch.device:
    """The device of this name, ``cuda:1`` being the second GPU.

    ``auto`` takes CUDA, else MPS, else the CPU; the workers of a machine, numbered from 0 as ``worker``, take its GPUs
    in turn. Raises BadInput when the device is not there.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        if gpus:
            return torch.device("cuda", worker % gpus)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    name, _, index = wanted.partition(":")
    there = {"cuda": gpus, "mps": int(torch.backends.mps.is_available()), "cpu": 1}.get(name, 0)
    if not there:
        raise BadInput(f"this machine has no device {wanted!r} that torch can use")
    if name != "cuda":
        return torch.device(name)
    if int(index or 0) >= there:
        raise BadInput(f"this machine has no device {wanted!r}: its GPUs are cuda:0 to cuda:{there - 1}")
    return torch.device("cuda", int(index or 0))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch raised this because a device's memory, or the machine's, did not suffice."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # the CPU's, a plain RuntimeError


def free_bytes(device: torch.device) -> int | None:
    """Memory that a pass may take there; None where the device does not say."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def free_memory() -> None:
    """Give back what a network that is gone has left: to the system, and on a GPU to other processes."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
