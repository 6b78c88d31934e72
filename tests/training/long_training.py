"""A toy training in its own process: ``python -m tests.training.long_training FOLDER``, to be killed or shared.

Each step is printed; under ``torchrun`` each process leaves what it ended with in FOLDER.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from radir_training.learning.batch_sharding import process_group
from radir_training.learning.checkpoints import Checkpoints
from radir_training.learning.recipe import OURS
from radir_training.learning.train import Step, train
from tests.training.toy import TOY, fingerprint, toy_set

STUDIES = 96
RECIPE = replace(OURS, epochs=3, batch=16, seed=5, hard_negatives=0.25)
# one process and two agree up to rounding; Muon would scale up the directions of rounding errors, too
EXACT: dict[str, Any] = {"half_precision": False, "muon": False}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    losses: list[float] = []

    def tell(step: Step) -> None:
        losses.append(step.losses["findings"])
        print(step.number, flush=True)

    with process_group() as ranks:
        checkpoints = Checkpoints(folder, every_s=0) if ranks.count == 1 else None
        recipe = RECIPE if ranks.count == 1 else replace(RECIPE, **EXACT)
        bundle = train(TOY, toy_set(STUDIES, seed=2), recipe, ranks=ranks, checkpoints=checkpoints, tell=tell)
        ended = {"weights": fingerprint(bundle), "losses": losses, "processes": ranks.count}
        (folder / f"{ranks.number}.json").write_text(json.dumps(ended))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
