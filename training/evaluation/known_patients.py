"""Which patients of an evaluation a model was trained on: the warning, and the images of all others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from radir_pacs.errors import BadInput

from ..data.people import KNOWN_PATIENTS, KnownPatients
from ..data.statements import Mask
from ..data.studies import LOCAL
from .measures import I64
from .models import Model


def unseen_rows(models: Sequence[Model], names: Sequence[str], patients: I64) -> Mask:
    """Bool [n]: images of patients that no model was trained on. ``names`` [n] and ``patients`` [n]: the patient of
    each; images of one patient stay together, whatever names the patient has. Raises BadInput where no model has a
    filter."""
    if not any(known_patient_filters(model) for model in models):
        raise BadInput(
            "--held-out: no model says which patients it was trained on (bundles that radir train makes of a folder do)"
        )
    if not names:
        raise BadInput("--held-out: these data do not name their patients")
    known = np.zeros(len(names), np.bool_)
    for model in models:
        known |= known_rows(model, names)
    return ~np.isin(patients, patients[known])


def known_rows(model: Model, names: Sequence[str]) -> Mask:
    """Bool [n]: images of patients that the model's trainings may have seen."""
    known = {name: any(name in one for one in known_patient_filters(model)) for name in set(names)}
    return np.array([known[name] for name in names], np.bool_)


def warnings(models: Sequence[Model], names: Sequence[str]) -> Iterator[str]:
    """A line per model that knows more of the patients than its filter's errors explain, or that cannot tell."""
    people = sorted(set(names))
    for model in models:
        if any(
            bundle.training.get("source") == LOCAL for bundle in model.bundles.values()
        ) and not known_patient_filters(model):
            yield f"{model.name} was trained on a folder and does not say which patients: it may know these"
        found = int(known_rows(model, people).sum())
        by_chance = len(people) * min(1.0, sum(one.false_positives for one in known_patient_filters(model)))
        if found > by_chance + 3 * math.sqrt(by_chance):
            about = max(1, round(found - by_chance))
            yield (
                f"{model.name} was trained on about {about} of these {len(people)} patients, so its figures are too "
                "good: --held-out judges by the others"
            )


def known_patient_filters(model: Model) -> list[KnownPatients]:
    """The filters in the manifests of the model's bundles, including those of earlier trainings of the same network."""
    told = (bundle.training.get(KNOWN_PATIENTS) for bundle in model.bundles.values())
    read = (KnownPatients.from_json(one) for listed in told if isinstance(listed, list) for one in listed)
    return [one for one in read if one is not None]
