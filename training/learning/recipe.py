"""How to train: one frozen table of settings, and the named recipes that the comparison sets against each other."""

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
    """``losses``: weight of each; what is not named is not computed. ``minutes`` ends a training early, with the
    learning rate brought down in time; 0 sets no limit, and only then is the outcome the same for the same seed."""

    losses: dict[Loss, float] = field(
        default_factory=lambda: {
            "contrast": 0.3,
            "whole": 0.1,  # the contrast of the chest once more by itself: its share of all regions' is small
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
    muon: bool = True  # False: AdamW moves all weights
    warm_up: float = 0.05  # share of the training
    contrast_ramp: float = 0.4  # share over which losses on vectors come in; findings must be seen first
    conditional: bool = True  # False: one vector an image, asked of the whole chest
    hierarchy: bool = True  # False: a region is said to hold only what was said of itself, not of what lies below
    hard_negatives: float = 0.0  # share of a batch drawn from the model's own top lists
    hard_top: int = 30
    report_every: int = 2  # steps; reading a report costs as much as looking at its image
    phrases: int = 8  # "finding in region" queries a step
    average: float = 0.998  # of the weights that are kept; 0 keeps the last ones
    augment: bool = True  # slows learning of fine details much: ``radir train`` leaves it off for synthetic patients
    half_precision: bool = True  # bfloat16 autocast
    accumulate: int = 1  # parts a batch is looked at in, one held in memory at a time; the losses are the whole batch's
    stages: Literal["joint", "published"] = "joint"  # published: half the time the encoders, then decoder and heads
    withheld: tuple[str, ...] = ()  # region keys and concepts that are never asked about, to judge what is asked anyway


OURS = Recipe()


def _but(*names: Loss) -> dict[Loss, float]:
    """The losses of ours without some."""
    return {loss: weight for loss, weight in OURS.losses.items() if loss not in names}


RECIPES: dict[str, Recipe] = {
    "ours": OURS,
    # image-report contrast alone, one vector an image: the recipe of CT-CLIP
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
# ours with one thing taken away or added, for the ablation table
ABLATIONS: dict[str, Recipe] = {
    "ours-without-conditioning": replace(OURS, conditional=False, losses=_but("whole")),  # the contrast is the chest's
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
    """What is asked for in each stage.

    As published, the encoders first learn from image-report contrast and image triplets of the whole chest; then they
    stand still. The whole chest's vector comes from the decoder here: the report loss, where asked for, holds it in
    place. Raises BadInput where the second stage would have nothing to learn.
    """
    if recipe.stages == "joint":
        return (recipe,)
    then: dict[Loss, float] = {name: weight for name, weight in recipe.losses.items() if name not in IMAGE_TRIPLETS}
    if not recipe.conditional or not then.keys() - {"report"}:
        raise BadInput("this recipe asks nothing of regions: a second stage would have nothing to learn")
    ranked = next((name for name in IMAGE_TRIPLETS if name in recipe.losses), IMAGE_TRIPLETS[0])
    encoder: tuple[Loss, ...] = ("report", ranked)
    first = {name: recipe.losses.get(name, 1.0) for name in encoder}
    return replace(recipe, losses=first, conditional=False), replace(recipe, losses=then)


PLAIN_HEAD = ("unconditional", "published", "repaired")
