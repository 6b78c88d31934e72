"""The challenger: the champion trained further on everybody who is not held out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from radir_pacs.encode import Bundle
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.errors import BadInput, BundleRefused
from radir_pacs.models.run_files import LOSSES

from ..data.judgements import Judgements
from ..data.people import KNOWN_PATIENTS, KnownPatients
from ..data.studies import LOCAL, StudySet
from ..learning.checkpoints import Checkpoints
from ..learning.recipe import OURS, Recipe
from ..learning.train import Step, Training, measured, train
from ..runs.session import PROGRAM
from .losses import Losses
from .material import Material
from .plan import Plan

CHECKPOINT_S = 60.0


def recipe_of(plan: Plan, images: int) -> Recipe:
    """Ours, as for any training that goes on from a trained network: AdamW, gently."""
    batch = min(plan.recipe.batch, images)
    return replace(
        OURS,
        epochs=plan.recipe.epochs,
        batch=batch,
        learning_rate=plan.recipe.learning_rate,
        seed=plan.recipe.seed,
        muon=False,  # its weight decay would erode what the network knows
        augment=plan.depth == "full",
    )


def challenger(
    material: Material,
    champion: Bundle,
    plan: Plan,
    *,
    work: Path,
    out: Path,
    device: torch.device,
    say: Callable[[float, str], None],
    run_id: int,
    plan_sha256: str,
    judged: Judgements | None = None,
) -> Bundle:
    """Train, resuming from the checkpoint in ``work``, and write the bundle ``out``. Raises BadInput, OSError.

    ``judged``: of pairs of rows that are trained on. A bundle of this plan that stands in ``out`` is complete, and is
    not trained again.
    """
    with contextlib.suppress(BundleRefused):
        done = Bundle.load(out)
        if done.training.get("plan_sha256") == plan_sha256 and done.training.get("run") == run_id:
            return done
    data = material.data.subset(~material.held_out)
    network = champion.network
    assert isinstance(network, RadirNetwork)

    curves: list[Losses] = []

    def tell(step: Step) -> None:
        curves[-1].add(step.number, step.losses)
        losses = ", ".join(f"{name} {loss:.3f}" for name, loss in step.losses.items())
        say(step.done, f"epoch {step.epoch + 1} of {plan.recipe.epochs}: {losses}")

    def trained() -> Bundle:
        return train(
            network.config,
            data,
            recipe_of(plan, len(data)),
            start=champion,
            device=device,
            checkpoints=checkpoints,
            begin=begin,
            tell=tell,
            judgements=judged,
        )

    def begin(training: Training) -> None:
        curves.append(Losses(out.parent / LOSSES, training.steps, training.number))
        say(training.number / training.steps, f"step {training.number} of {training.steps}")

    checkpoints = Checkpoints(work, every_s=CHECKPOINT_S)
    try:
        bundle = trained()
    except BadInput:
        if not checkpoints.path.exists():
            raise
        checkpoints.remove()  # of a training on other data: a study was deleted meanwhile, or its report corrected
        bundle = trained()
    for curve in curves[-1:]:  # none where the checkpoint was that of the last step
        curve.write()
    return measured(bundle, {}, _provenance(data, champion, plan, run_id, plan_sha256)).save(out)


def _provenance(data: StudySet, champion: Bundle, plan: Plan, run_id: int, plan_sha256: str) -> dict[str, object]:
    earlier, program = champion.training.get(KNOWN_PATIENTS), champion.training.get(PROGRAM)
    known = [*(earlier if isinstance(earlier, list) else []), KnownPatients.of(data.names).as_json()]
    return {
        "source": LOCAL,
        "data": "studies of this installation with their reports; a fifth of all patients is held out in every run",
        "licence": "that of the local data; to be stated before the bundle is given away",
        "intended_use": "finding similar cases where it was trained; not fit for diagnosis",
        "began_with": champion.model_id,
        "depth": plan.depth,
        "run": run_id,
        "plan_sha256": plan_sha256,
        KNOWN_PATIENTS: known,
        **({} if program is None else {PROGRAM: program}),
    }
