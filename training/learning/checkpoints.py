"""A training's state in one file, replaced atomically: a training killed at any moment resumes from the last one.

Tensors are stored as safetensors, numbers as JSON in its header; the file contains no code.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from radir_pacs import durable
from radir_pacs.errors import BadInput

NAME = "checkpoint.safetensors"
HEADER = "radir"
EVERY_S = 300.0


class Resumable(Protocol):
    """What a checkpoint can hold: a training between two steps."""

    identity: dict[str, Any]  # what identifies this training, as JSON

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None: ...


class Checkpoints:
    """Keeps one in ``folder``, written at most every ``every_s`` seconds and after each epoch. ``notes`` (JSON) are
    saved with it and restored with it."""

    def __init__(self, folder: Path, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self.every_s, self.clock = folder / NAME, every_s, clock
        self.notes: dict[str, Any] = {}
        self.last = clock()

    def resume(self, training: Resumable) -> None:
        """Restore ``training`` from the checkpoint, if there is one.

        Raises BadInput when the checkpoint cannot be read or belongs to a training with other settings.
        """
        if not self.path.exists():
            return
        try:
            with safe_open(self.path, framework="pt", device="cpu") as file:
                told = json.loads(file.metadata()[HEADER])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"the checkpoint {self.path} cannot be read ({error}): remove it to start again") from None
        wanted = json.loads(json.dumps(training.identity))
        if others := list(differences(told["identity"], wanted)):
            raise BadInput(
                f"{self.path.parent} holds a training with other settings ({', '.join(others[:4])}): "
                "use the same settings, or start again with --fresh"
            )
        training.restore(tensors, told["numbers"])
        self.notes = told["notes"]

    def keep(self, training: Resumable, *, now: bool) -> None:
        """Write one if ``now`` is set or one is due. Raises OSError."""
        if not now and self.clock() - self.last < self.every_s:
            return
        tensors, numbers = training.state()
        header = {"identity": training.identity, "numbers": numbers, "notes": self.notes}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with durable.replacing(self.path) as partial:
            save_file(on_cpu, partial, metadata={HEADER: json.dumps(header)})
        self.last = self.clock()

    def remove(self) -> None:
        """Remove it, after a training or to start again."""
        self.path.unlink(missing_ok=True)
        for partial in self.path.parent.glob(f".{self.path.name}.*.partial"):  # left by a training that was killed
            partial.unlink(missing_ok=True)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()


def tensors_under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """What differs between two JSON values, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield f"{name} was {old} and is {new}"
