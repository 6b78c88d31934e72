"""How to train: one frozen table of settings, and the named recipes that the comparison compares."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from radir_pacs.errors import BadInput

Loss = Literal[
    "contrast",
    "whole",
    "smooth_ap",
    "triplet",
    "faulty_triplet",
    "image_triplet",
    "faulty_image_triplet",
    "report",
    "findings",
    "described",
    "asked",
]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """``losses``: the weight of each; losses that are not named are not computed. ``minutes`` ends a training early,
    with the learning rate schedule fitted to that time; 0 sets no limit, and only then is a seed reproducible."""

    losses: dict[Loss, float] = field(
        default_factory=lambda: {
            "contrast": 0.3,
            "whole": 0.1,  # the contrastive loss of the whole chest once more: its share among all regions is small
            "findings": 8.0,
            "described": 0.1,
            "report": 1.0,
            "asked": 0.1,
        }
    )
    epochs: int = 30
    minutes: float = 0.0
    seed: int = 0
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    muon: bool = True  # False: AdamW for all weights
    warm_up: float = 0.05  # share of the training
    contrast_ramp: float = 0.4  # share over which the losses on vectors are ramped up; findings must be learned first
    conditional: bool = True  # False: one vector per image, that of the whole chest
    hierarchy: bool = True  # False: a region has only its own statements, not those of the regions below it
    hard_negatives: float = 0.0  # share of a batch drawn from the network's own top lists
    hard_top: int = 30
    report_every: int = 2  # steps; encoding a report costs as much as encoding its image
    phrases: int = 8  # "finding in region" queries per step
    average: float = 0.998  # decay of the average of the weights that is kept; 0 keeps the last weights
    augment: bool = (
        True  # much slows the learning of fine details: ``radir train`` leaves it off for synthetic patients
    )
    half_precision: bool = True  # bfloat16, where the device has instructions for it
    accumulate: int = 1  # parts of a batch, one held in memory at a time; the losses are those of the whole batch
    stages: Literal["joint", "published"] = "joint"  # published: the encoders for half the time, then decoder and heads
    withheld: tuple[
        str, ...
    ] = ()  # region keys and concepts that are never trained, to judge zero-shot queries for them


OURS = Recipe()


def _but(*names: Loss) -> dict[Loss, float]:
    """The losses of our recipe without some of them."""
    return {loss: weight for loss, weight in OURS.losses.items() if loss not in names}


RECIPES: dict[str, Recipe] = {
    "ours": OURS,
    # image-report contrast alone, one vector per image: the recipe of CT-CLIP
    "unconditional": replace(OURS, losses={"report": 1.0}, conditional=False, report_every=1, contrast_ramp=0.0),
    # RadIR as published (arXiv 2503.04653), with and without the faults of its code
    "published": replace(
        OURS,
        losses={"report": 1.0, "faulty_image_triplet": 1.0, "faulty_triplet": 1.0},
        report_every=1,
        contrast_ramp=0.0,
    ),
    "repaired": replace(
        OURS, losses={"report": 1.0, "image_triplet": 1.0, "triplet": 1.0}, report_every=1, contrast_ramp=0.0
    ),
}
RECIPES["published-staged"] = replace(RECIPES["published"], stages="published")  # in its own two stages
# ours with one part removed or added, for the ablation table
ABLATIONS: dict[str, Recipe] = {
    "ours-without-conditioning": replace(
        OURS, conditional=False, losses=_but("whole")
    ),  # the contrastive loss is that of the whole chest
    "ours-without-contrast": replace(OURS, losses=_but("contrast", "whole")),
    "ours-without-whole": replace(OURS, losses=_but("whole")),
    "ours-without-findings": replace(OURS, losses=_but("findings")),
    "ours-without-phrases": replace(OURS, losses=_but("asked")),
    "ours-without-reports": replace(OURS, losses=_but("report")),
    "ours-without-hierarchy": replace(OURS, hierarchy=False),
    "ours-without-muon": replace(OURS, muon=False),
    "ours-with-hard-negatives": replace(OURS, hard_negatives=0.25),
    "ours-with-smooth-ap": replace(OURS, losses={**_but("contrast", "whole"), "smooth_ap": 0.3}),
}
RECIPES |= ABLATIONS
IMAGE_TRIPLETS: tuple[Loss, ...] = ("image_triplet", "faulty_image_triplet")


def stages(recipe: Recipe) -> tuple[Recipe, ...]:
    """The recipe of each stage.

    As published, the encoders first learn from image-report contrast and image triplets of the whole chest; then they
    are frozen. Here the vector of the whole chest comes from the decoder: the report loss, where used, keeps it in
    place. Raises BadInput where the second stage would have nothing to learn.
    """
    if recipe.stages == "joint":
        return (recipe,)
    then: dict[Loss, float] = {name: weight for name, weight in recipe.losses.items() if name not in IMAGE_TRIPLETS}
    if not recipe.conditional or not then.keys() - {"report"}:
        raise BadInput("this recipe has no loss on regions: a second stage would have nothing to learn")
    ranked = next((name for name in IMAGE_TRIPLETS if name in recipe.losses), IMAGE_TRIPLETS[0])
    encoder: tuple[Loss, ...] = ("report", ranked)
    first = {name: recipe.losses.get(name, 1.0) for name in encoder}
    return replace(recipe, losses=first, conditional=False), replace(recipe, losses=then)


PLAIN_HEAD = ("unconditional", "published", "published-staged", "repaired")
