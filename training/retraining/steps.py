"""The steps of a run, in their order."""

from __future__ import annotations

from enum import StrEnum


class StepName(StrEnum):
    PREFLIGHT = "preflight"  # is there enough of everything
    SNAPSHOT = "snapshot"  # which studies and reports; who is held out
    DATA = "data"  # tokens or pixels; reports mined
    TRAIN = "train"
    EXAMINE = "examine"
    GATES = "gates"
    EVIDENCE = "evidence"  # the record, and the challenger's registration


STEPS = tuple(StepName)
