"""How often do the gates on regions and groups refuse a challenger that harms nobody, and how much harm do they see?

    python -m benchmarks.experiments.gate_refusals --answers FILE [FILE ...] [--out docs/results]

FILE is what `retraining_real` (``DIR/NAME-ORDER.npz``) or `retraining_curve` kept of a real examination: the answers of
champion and challenger to the same questions. Examinations of harmless challengers are made from it: patients are drawn
with replacement, and of each it is decided at random whose answers are called the challenger's. So neither is better
anywhere, and regions hang together as they do. Harm and gain are then put in by changing answers at random. Judged by
the gate as it is, and by the one before it: no region's or group's whole 95 % interval below zero.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import results
from radir_training.evaluation.measures import F64, I64
from radir_training.evaluation.resample import Bootstrap, Resampled
from radir_training.retraining.chance import Part, by_chance
from radir_training.retraining.examination import Judged
from radir_training.retraining.plan import GatePlan

PATIENTS = (60, 120, 250, 500)
GROUPS = (2, 3, 2)  # sexes, age groups, scanners
GAIN = 0.05
GAINS = (0.02, GAIN)
UNEVEN = 0.1  # how far a region's gain may lie from the mean of all
LOSSES = (0.1, 0.2, 0.3)  # of one region, while the others gain
LIMITS = (0.05, 0.1, 0.2)
DRAWS = 1000  # exchanges of an examination: fewer than in a real one, for speed


@dataclass(frozen=True)
class Answers:
    """Hits [q] of champion and challenger on the same questions, with the patient and the region of each."""

    patients: I64
    regions: npt.NDArray[np.str_]
    champion: F64
    challenger: F64

    @classmethod
    def of(cls, judged: Sequence[Judged], patients: I64) -> Answers:
        """``patients`` [n]: whose each row of the exam is. Questions without a case to find are left out."""
        found = cls(
            np.concatenate([patients[one.rows] for one in judged]),
            np.concatenate([np.full(len(one.rows), one.key) for one in judged]),
            np.concatenate([one.champion for one in judged]),
            np.concatenate([one.challenger for one in judged]),
        )
        known = np.isfinite(found.champion) & np.isfinite(found.challenger)
        return cls(*(column[known] for column in vars(found).values()))

    def save(self, path: Path) -> None:
        np.savez_compressed(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Answers:
        with np.load(path) as found:
            return cls(**found)

    def counted(self) -> dict[str, int]:
        told = {"questions": self.patients, "patients": np.unique(self.patients), "regions": np.unique(self.regions)}
        return {name: len(values) for name, values in told.items()}

    def harmless(self, patients: int, rng: np.random.Generator) -> Answers:
        """Of so many patients, drawn with replacement; each one's answers exchanged or not."""
        rows = [np.flatnonzero(self.patients == one) for one in np.unique(self.patients)]
        drawn = [rows[one] for one in rng.integers(0, len(rows), patients)]
        took = np.concatenate(drawn)
        whose = np.repeat(np.arange(patients), [len(one) for one in drawn])
        swap = rng.random(patients)[whose] < 0.5
        ours, theirs = self.champion[took], self.challenger[took]
        return Answers(whose, self.regions[took], np.where(swap, theirs, ours), np.where(swap, ours, theirs))

    def changed(self, by: float, mine: npt.NDArray[np.bool_], rng: np.random.Generator) -> Answers:
        """The challenger hits more often, or less often, at ``mine`` [q], by so much in the mean."""
        room = mine & ((self.challenger < 1) if by > 0 else (self.challenger > 0))
        share = abs(by) * mine.sum() / max(1, room.sum())
        turned = room & (rng.random(len(mine)) < share)
        return replace(self, challenger=np.where(turned, float(by > 0), self.challenger))


@dataclass(frozen=True)
class Verdict:
    """Whether an interval refuses, the least chance of a loss, and how many regions and groups were judged.

    ``better``: whether the whole 95 % interval of the difference lies above zero, by what the mean is taken over.
    """

    intervals: bool
    chance: float
    judged: int
    better: dict[str, bool]


def judged(answers: Answers, seed: int) -> Verdict:
    rule, rng = GatePlan(), np.random.default_rng(seed)
    people = int(answers.patients.max()) + 1
    rows = np.arange(len(answers.patients))
    parts = [rows[answers.regions == key] for key in np.unique(answers.regions)]
    regions = [part for part in parts if len(part) >= rule.least_queries]
    for groups in GROUPS:
        of = rng.integers(0, groups, people)[answers.patients]
        parts += [rows[of == group] for group in range(groups)]
    parts = [part for part in parts if len(part) >= rule.least_queries]
    difference = answers.challenger - answers.champion
    bootstrap = Bootstrap(answers.patients, seed)
    means = {
        "regions": Resampled.average([bootstrap.resampled(difference[part][:, None], part) for part in regions]),
        "queries": bootstrap.resampled(difference[(one := np.concatenate(regions))][:, None], one),
    }
    highs = [float(bootstrap.resampled(difference[part][:, None], part).interval()[1][0]) for part in parts]
    chances = by_chance(answers.patients, [Part(part, difference[part]) for part in parts], seed, DRAWS)
    lost = np.array([difference[part].mean() < 0 for part in parts])
    return Verdict(
        intervals=any(high < 0 for high in highs),
        chance=float(np.where(lost, chances, 1.0).min()),
        judged=len(parts),
        better={name: float(mean.interval()[0][0]) > 0 for name, mean in means.items()},
    )


def examined(answers: Answers, patients: int, times: int) -> Iterator[dict[str, Any]]:
    """A row for each kind of challenger: the share of examinations in which each rule refuses it."""
    names, counts = np.unique(answers.regions, return_counts=True)
    large = names[counts * patients / len(np.unique(answers.patients)) >= GatePlan().least_queries]
    kinds: list[tuple[str, float]] = [("as good everywhere", 0.0)]
    kinds += [(f"better by {gain} everywhere", gain) for gain in GAINS]
    kinds += [(f"better by {gain}, by {UNEVEN} more or less at each region", gain) for gain in GAINS]
    kinds += [(f"better by {GAIN}, but one region loses {loss}", -loss) for loss in LOSSES]
    for kind, by in kinds:
        told = []
        for number in range(times):
            rng = np.random.default_rng([patients, number])
            made = answers.harmless(patients, rng)
            if by < 0:
                region = str(large[number % len(large)])
                made = made.changed(by, made.regions == region, rng).changed(GAIN, made.regions != region, rng)
            elif "more or less" in kind:
                sides = rng.permutation(np.resize([-1, 1], len(names)))
                for name, side in zip(names, sides, strict=True):
                    made = made.changed(by + side * UNEVEN, made.regions == name, rng)
            elif by > 0:
                made = made.changed(by, np.ones(len(made.regions), np.bool_), rng)
            told.append(judged(made, number))
        yield {
            "patients": patients,
            "challenger": kind,
            "judged": float(np.mean([one.judged for one in told])),
            "intervals": float(np.mean([one.intervals for one in told])),
            "better": {of: float(np.mean([one.better[of] for one in told])) for of in told[0].better},
            "chance": {str(limit): float(np.mean([one.chance < limit for one in told])) for limit in LIMITS},
        }


def page(told: dict[str, Any]) -> str:
    limit = GatePlan().false_refusal
    assert limit is not None
    parts = [
        "# How often the gates refuse a harmless challenger",
        "The gates on regions and groups, tried on challengers of whom it is known what they are. "
        "Examinations are made from the answers of a real one: patients are drawn with replacement, and of each it is "
        "decided at random whose answers are called the challenger's. So neither model is better anywhere. Harm and "
        f"gain are put in by changing answers at random. {told['times']} examinations a row: a share is known to about "
        f"{100 * 1.96 * 0.5 / told['times'] ** 0.5:.0f} points at most.",
        "*Intervals*: refused where the whole 95 % interval of any region or group lies below zero, as it was once. "
        "*Chance*, as it is: refused where chance would show such a loss, at any of them, in less than so many "
        f"examinations; {100 * limit:.0f} % unless the plan says otherwise (`gates.false_refusal`). "
        "*Better by regions*, *by queries*: how often the whole 95 % interval of the mean difference lies above zero, "
        "as the gate on the whole asks; the mean of the regions counts each region once, that of the queries each "
        "query.",
    ]
    for name, source in told["sources"].items():
        limits = " | ".join(f"chance below {100 * limit:.0f} %" for limit in LIMITS)
        table = [
            f"| held-out patients | challenger | regions and groups judged | refused by intervals | {limits} "
            "| better by regions | better by queries |",
            "|" + "---|" * (6 + len(LIMITS)),
        ]
        for row in source["rows"]:
            shares = (row["intervals"], *row["chance"].values(), *row["better"].values())
            told_shares = " | ".join(f"{100 * share:.0f} %" for share in shares)
            table.append(f"| {row['patients']} | {row['challenger']} | {row['judged']:.0f} | {told_shares} |")
        about = (
            f"{source['questions']} questions of {source['patients']} held-out patients at {source['regions']} regions."
        )
        parts += [f"## Answers of {name}", about, "\n".join(table)]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--times", type=int, default=500, help="examinations a row")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the page is written, such as docs/results")
    args = parser.parse_args(arguments)
    told: dict[str, Any] = {"times": args.times, "sources": {}}
    for path in args.answers:
        answers = Answers.load(path)
        rows: list[dict[str, Any]] = []
        told["sources"][path.stem] = {**answers.counted(), "rows": rows}
        for patients in PATIENTS:
            for row in examined(answers, patients, args.times):
                rows.append(row)
                print(path.stem, row, flush=True)
    if args.out:
        print(results.write(args.out, "gate-refusals", told, page(told)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
