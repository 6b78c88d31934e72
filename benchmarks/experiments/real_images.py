"""Real chest X-rays: how well a network trained on synthetic patients does on them, and what local images add.

    OMP_NUM_THREADS=1 python -m benchmarks.experiments.real_images [--bundle DIR] [--zero-shot] [--out docs/results]

Judged on cxr_cohen (183 X-rays whose notes are mined), which only the local training sees. Compared: a random
order, the pixels, those of the region, the starter as it is served, the same without its backbone, that with its
regions centred on real images (cxr_hannover and cxr_nih, without labels), trained further with cxr_nih's labels and
synthetic patients, and that one fine-tuned on cxr_cohen itself: five folds by patient, so that no query was trained on.
A query's own images are not in its gallery. --zero-shot skips the trainings. Writes real-images.json and
real-images.md.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import results
from benchmarks.experiments.real_rankings import cosines, joined, of_pixels
from radir_pacs.anatomy import ROOT
from radir_pacs.encode import CONFIGS, Bundle, NetworkConfig, default_bundles
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.types import ImageKind
from radir_training.data.folder_set import folder_set
from radir_training.data.phantom_set import phantom_set
from radir_training.data.statements import UNDEFINED, Mask
from radir_training.data.studies import StudySet
from radir_training.evaluation.baselines import pixels
from radir_training.evaluation.embeddings import Embeddings, encoded
from radir_training.evaluation.exam import IMAGE_TO_IMAGE, Exam, region_name
from radir_training.evaluation.measures import F32, F64, I64, KS, Question, lines, ranked, score
from radir_training.evaluation.resample import Bootstrap, Resampled
from radir_training.learning.backbone import without_backbone
from radir_training.learning.recipe import Recipe
from radir_training.learning.train import train

TINY, CXR = CONFIGS["tiny"], ImageKind.CXR
FOLDS, SHARED_K = 5, 5
LEARNING_RATE = 3e-4
LEAST_QUERIES, LEAST_PATIENTS = 20, 8  # of a region, and of a recall in it
COLUMNS = ("Recall@1", "Recall@5", "Recall@10", "NDCG@10", "same finding in 5")
RECALLS = [KS.index(k) for k in (1, 5, 10)]
PAGE = "real-images"


# The only call of the trainer.
def trained_on(bundle: Bundle, data: StudySet, *, epochs: int, seed: int, batch: int) -> Bundle:
    """A fine-tuned copy of the bundle: with a low learning rate and AdamW, as ``radir train --start`` does, to keep
    what it knows, and without an average of the weights, which would lag behind in so short a training."""
    recipe = Recipe(epochs=epochs, seed=seed, batch=batch, learning_rate=LEARNING_RATE, average=0.0, muon=False)
    start = replace(bundle, network=copy.deepcopy(bundle.network))
    assert isinstance(start.network.config, NetworkConfig), "only our own networks are trained on"
    return train(start.network.config, data, recipe, start=start)


@torch.inference_mode()
def centred_on(bundle: Bundle, data: StudySet, seed: int, batch: int = 64) -> Bundle:
    """The same network with each region's mean and scale taken over ``data``, which removes what real images share."""
    network = copy.deepcopy(bundle.network)
    assert isinstance(network, RadirNetwork), "an imported model has no region means to replace"
    network.eval()
    network.head.train()
    network.head.seen.zero_()
    queries, rows = bundle.queries(), torch.arange(len(bundle.regions))
    order = np.random.default_rng(seed).permutation(len(data))
    for chosen in np.array_split(order, max(1, len(order) // batch)):
        images = torch.from_numpy(data.images[chosen].astype(np.float32))
        network(images, torch.from_numpy(data.views[chosen]), data.kind, queries, rows)
    network.eval()
    return replace(bundle, network=network)


@dataclass(frozen=True)
class EvaluationData:
    """The judged collection, the other two together, and the exam at the regions with enough statements."""

    cohen: StudySet
    cohen_for_starter: StudySet  # at the size of the starter that is served
    real: StudySet
    exam: Exam
    regions: tuple[str, ...]

    @classmethod
    def read(cls, data: Path, cache: Path, console: Console, shape: tuple[int, ...]) -> EvaluationData:
        def collection(name: str, config: NetworkConfig = TINY) -> StudySet:
            return folder_set(config, CXR, data / name, cache=cache, tell=lambda line: console.print(f"{name}: {line}"))

        cohen = collection("cxr_cohen")
        served = replace(TINY.only(CXR), stems={CXR: replace(TINY.stems[CXR], shape=shape)})
        exam = Exam.of(cohen)
        everyone = np.ones(len(cohen), np.bool_)
        asked = {key: _abnormal(exam, key) & exam.seen.get(key, everyone) for key in exam.keys if key != ROOT}
        regions = tuple(key for key, rows in asked.items() if _enough(exam, rows))
        real = joined(collection("cxr_hannover"), collection("cxr_nih"))
        return cls(cohen, collection("cxr_cohen", served), real, exam, (ROOT, *regions))


def _abnormal(exam: Exam, key: str) -> Mask:
    rows = exam.sources[0].abnormal(key)
    assert rows is not None, "statements always tell what is abnormal"
    return rows


def _enough(exam: Exam, rows: Mask) -> bool:
    return int(rows.sum()) >= LEAST_QUERIES and len(np.unique(exam.patients[rows])) >= LEAST_PATIENTS


Scores = Callable[[str], F32]  # region key -> [n, n] cosines, a row asks


def scores_of(vectors: Embeddings) -> Scores:
    return lambda key: np.asarray(vectors.of(key) @ vectors.of(key).T, np.float32)


def fold_scores(parts: Sequence[tuple[Mask, Embeddings]]) -> Scores:
    """Each row by the model that was not trained on its patient."""

    def scores(key: str) -> F32:
        out = np.zeros((len(parts[0][0]),) * 2, np.float32)
        for asks, vectors in parts:
            out[asks] = (vectors.of(key) @ vectors.of(key).T)[asks]
        return out

    return scores


def folds(patients: I64, seed: int) -> list[Mask]:
    """Rows held out in each fold; a patient is in one fold."""
    people = np.random.default_rng(seed).permutation(np.unique(patients))
    return [np.isin(patients, people[number::FOLDS]) for number in range(FOLDS)]


@dataclass(frozen=True)
class Marks:
    """Every model's figures [columns] in every region and, under "mean", over the regions below the whole chest."""

    queries: Mapping[str, tuple[int, int]]  # abnormal ones, and those of them that a recall has a match for
    spreads: Mapping[str, Mapping[str, Resampled]]  # by model, then by region


def judged(material: EvaluationData, models: Mapping[str, Scores | None]) -> Marks:
    """None is the expectation of a random order."""
    bootstrap = Bootstrap(material.exam.patients, seed=0)
    queries: dict[str, tuple[int, int]] = {}
    spreads: dict[str, dict[str, Resampled]] = {name: {} for name in models}
    for key in material.regions:
        question, _ = material.exam.question(material.exam.sources[0], IMAGE_TO_IMAGE, key)
        abnormal = _abnormal(material.exam, key)
        rows = np.flatnonzero(abnormal & (question.relevance != UNDEFINED).any(axis=1))
        asked = Question(question.relevance[rows], question.matches[rows])
        with_match = asked.matches.any(axis=1)
        recall = _enough(material.exam, np.isin(np.arange(len(abnormal)), rows[with_match]))
        queries[key] = len(rows), int(with_match.sum())
        shared = _shared(material, key)[rows]
        apart = (material.exam.patients[rows, None] != material.exam.patients[None]) & _showing(material, key)[rows]
        for name, scores in models.items():
            values = _values(asked, shared, apart, None if scores is None else scores(key)[rows])
            if not recall:
                values[:, : len(RECALLS)] = np.nan
            spreads[name][key] = bootstrap.resampled(values, rows)
    for by_region in spreads.values():
        by_region["mean"] = Resampled.average([resampled for key, resampled in by_region.items() if key != ROOT])
    return Marks(queries, spreads)


def _values(asked: Question, shared: Mask, apart: Mask, scores: F32 | None) -> F64:
    """[queries, columns]. Recall and NDCG in the gallery of those whose notes speak of the region; the last column,
    the share of the first five with a finding of the query's at the region, among all images of others."""
    if scores is None:
        found = lines(asked).random
        same = (shared & apart).sum(axis=1) / np.maximum(1, apart.sum(axis=1))
    else:
        found = score(asked, scores)
        everyone = np.where(apart, np.uint8(0), np.uint8(UNDEFINED))
        first = ranked(scores, everyone, SHARED_K)
        same = np.take_along_axis(shared & apart, first, axis=1).mean(axis=1)
    return np.column_stack([found[:, 0, RECALLS], found[:, 1, KS.index(10)], same])


def _shared(material: EvaluationData, key: str) -> Mask:
    """[n, n]: both are said to show one finding at the region; what is not said counts as not there."""
    found = [{item.concept for item in said.get(key, ()) if item.present} for said in material.cohen.said]
    number = {concept: i for i, concept in enumerate(sorted(set().union(*found)))}
    table = np.zeros((len(found), len(number)), np.float32)
    for row, concepts in enumerate(found):
        table[row, [number[concept] for concept in concepts]] = 1
    return np.asarray(table @ table.T > 0)


def _showing(material: EvaluationData, key: str) -> Mask:
    """[n, n]: whether both views show the region (a lateral one tells no sides)."""
    seen = material.exam.seen.get(key, np.ones(len(material.cohen), np.bool_))
    return np.asarray(seen[:, None] & seen[None])


def models(args: argparse.Namespace, material: EvaluationData, console: Console) -> dict[str, Scores | None]:
    """The models, in the order of the page."""
    cohen, seed = material.cohen, args.seed
    starter = Bundle.load(args.bundle)
    synthetic = without_backbone(starter)
    found: dict[str, Scores | None] = {
        "random order": None,
        "pixels": scores_of(pixels(cohen)),
        "pixels of the region": cosines(of_pixels(cohen.images.astype(np.float32), zone=True)),
        "the starter": scores_of(encoded(starter, material.cohen_for_starter)),
        "synthetic": scores_of(encoded(synthetic, cohen)),
        "synthetic, centred on real": scores_of(encoded(centred_on(synthetic, material.real, seed), cohen)),
    }
    if args.zero_shot:
        return found
    spoken = material.real.subset(np.array([bool(said) for said in material.real.said]))
    phantoms = phantom_set(TINY, CXR, patients=args.patients, seed=1, cache=args.cache.expanduser())
    console.print(f"training on {len(phantoms)} synthetic and {len(spoken)} real images")
    both = trained_on(synthetic, joined(phantoms, spoken), epochs=args.epochs, seed=seed, batch=32)
    found["synthetic and real"] = scores_of(encoded(both, cohen))
    found["synthetic and real, centred on real"] = scores_of(encoded(centred_on(both, material.real, seed), cohen))
    for name, start in (("tuned locally", both), ("tuned locally, without real before", synthetic)):
        parts = []
        for number, asks in enumerate(folds(cohen.patients, seed)):
            console.print(f"{name}: fold {number + 1} of {FOLDS}")
            tuned = trained_on(start, cohen.subset(~asks), epochs=args.tune_epochs, seed=seed + number, batch=16)
            parts.append((asks, encoded(tuned, cohen)))
        found[name] = fold_scores(parts)
    return found


def as_json(args: argparse.Namespace, material: EvaluationData, marks: Marks, seconds: float) -> dict[str, Any]:
    cohen = material.cohen
    abnormal = [study for study in cohen.said if any(item.present for item in study.get(ROOT, ()))]
    reference = "random order"

    def figures(name: str, key: str) -> dict[str, Any]:
        resampled, chance = marks.spreads[name][key], marks.spreads[reference][key]
        low, high = resampled.interval()
        gains = Resampled(resampled.mean - chance.mean, resampled.draws - chance.draws, resampled.queries).interval()
        return {
            column: None
            if np.isnan(resampled.mean[i])
            else {
                "value": _rounded(resampled.mean[i]),
                "interval_95": [_rounded(low[i]), _rounded(high[i])],
                "above_random_95": [_rounded(gains[0][i]), _rounded(gains[1][i])],
            }
            for i, column in enumerate(COLUMNS)
        }

    return {
        "judged_on": {
            "collection": "cxr_cohen",
            "images": len(cohen),
            "patients": len(np.unique(cohen.patients)),
            "notes_that_say_something": sum(bool(said) for said in cohen.said),
            "notes_with_a_finding": len(abnormal),
        },
        "settings": {
            "bundle": Bundle.load(args.bundle).model_id,
            "seed": args.seed,
            "zero_shot": args.zero_shot,
            "synthetic_patients": args.patients,
            "epochs": args.epochs,
            "tune_epochs": args.tune_epochs,
        },
        "seconds": round(seconds),
        "regions": {
            key: {"abnormal_queries": asked, "queries_with_match": matched}
            for key, (asked, matched) in marks.queries.items()
        },
        "models": {name: {key: figures(name, key) for key in (*marks.queries, "mean")} for name in marks.spreads},
    }


def _rounded(value: np.floating[Any]) -> float:
    return round(float(value), 4)


def page(result: Mapping[str, Any]) -> str:
    """The markdown page; every figure is the JSON's."""
    on, settings = result["judged_on"], result["settings"]
    regions = [key for key in result["regions"] if key != ROOT]
    recalled = [region_name(key) for key in regions if result["models"]["random order"][key][COLUMNS[0]] is not None]
    parts = [
        "# Real chest X-rays",
        f"Judged on cxr_cohen: {on['images']} X-rays of {on['patients']} patients. Its clinical notes are free text "
        f"about the case rather than reports of the image; mined, {on['notes_that_say_something']} of them say "
        f"something about a region and {on['notes_with_a_finding']} tell of a finding. Queries are images whose "
        "region is abnormal by their notes. No image of the query's patient is in the gallery; intervals (95 %) are "
        "drawn over patients. Recall@k counts a case as found when its relevance, mined from the notes, is above 0.9; "
        "NDCG@10 takes the relevance as gain, both among images whose notes speak of the region. *Same finding in 5* "
        "is the share of the first five, among all images, with a finding of the query's at that region: what a note "
        "does not say counts as not there.",
        "## Mean over regions",
        f"Regions with at least {LEAST_QUERIES} abnormal images of {LEAST_PATIENTS} patients: "
        f"{', '.join(region_name(key) for key in regions)}. Recall has enough queries only at: "
        f"{', '.join(recalled) or 'none of them'}.",
        _table(result, "mean"),
        "A figure in bold is above the random line with its whole interval of the difference.",
        "## Whole chest",
        _table(result, ROOT),
        "## Region by region: NDCG@10 and same finding in 5",
        _by_region(result, regions),
        "## What the rows are",
        f"- *the starter*: {settings['bundle']} as it is served, with its backbone.\n"
        "- *synthetic*: the same without its backbone, which has learned findings from synthetic patients only.\n"
        "- *centred on real*: the same weights; each region's mean and scale are taken over cxr_hannover and cxr_nih. "
        "Nothing is labelled for it. It is all that cxr_hannover can serve for here: that collection has neither "
        "reports nor labels of what is seen.",
    ]
    if not settings["zero_shot"]:
        parts.append(
            f"- *synthetic and real*: trained on for {settings['epochs']} epochs with {settings['synthetic_patients']} "
            "synthetic patients and cxr_nih, its labels taken as findings without a place.\n"
            f"- *tuned locally*: trained on for {settings['tune_epochs']} epochs with cxr_cohen itself, five folds by "
            "patient: whoever asks was never trained on, the gallery partly was, as in an archive that a network was "
            "tuned on."
        )
    parts.append(
        "cxr_cohen may be used for development only; no shipped weights have seen it. "
        f"Seed {settings['seed']}, {result['seconds']} s on this machine."
    )
    return "\n\n".join(parts) + "\n"


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    low, high = figure["interval_95"]
    text = f"{figure['value']:.3f}"
    text = f"**{text}**" if figure["above_random_95"][0] > 0 else text
    return f"{text} ({low:.2f}–{high:.2f})"


def _table(result: Mapping[str, Any], key: str) -> str:
    rows = [f"| model | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
    for name, by_region in result["models"].items():
        rows.append(f"| {name} | " + " | ".join(_cell(by_region[key][column]) for column in COLUMNS) + " |")
    return "\n".join(rows)


def _by_region(result: Mapping[str, Any], regions: Sequence[str]) -> str:
    names = list(result["models"])
    rows = [f"| region (abnormal) | measure | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for key in regions:
        for column in COLUMNS[-2:]:
            cells = [_cell(result["models"][name][key][column]) for name in names]
            asked = result["regions"][key]["abnormal_queries"]
            rows.append(f"| {region_name(key)} ({asked}) | {column} | {' | '.join(cells)} |")
    return "\n".join(rows)


def show(result: Mapping[str, Any], console: Console) -> None:
    for key, title in (("mean", "mean over regions"), (ROOT, "whole chest")):
        table = Table(title=f"cxr_cohen, abnormal queries, {title}")
        for column in ("model", *COLUMNS):
            table.add_column(column, justify="left" if column == "model" else "right")
        for name, by_region in result["models"].items():
            table.add_row(name, *(_cell(by_region[key][column]).replace("**", "") for column in COLUMNS))
        console.print(table)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--bundle", type=Path, default=default_bundles()[CXR], help="trained on synthetic patients")
    arguments.add_argument("--zero-shot", action="store_true", help="train nothing")
    arguments.add_argument("--patients", type=int, default=600, help="synthetic patients to train with, beside cxr_nih")
    arguments.add_argument("--epochs", type=int, default=8)
    arguments.add_argument("--tune-epochs", type=int, default=15)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--cache", type=Path, default=Path("~/.cache/radir/training"))
    arguments.add_argument("--out", type=Path, default=Path("docs/results"))
    args = arguments.parse_args()
    console, began = Console(width=140), time.monotonic()
    shape = Bundle.load(args.bundle).preprocessing.shape
    material = EvaluationData.read(args.data, args.cache.expanduser(), console, shape)
    marks = judged(material, models(args, material, console))
    result = as_json(args, material, marks, time.monotonic() - began)
    show(result, console)
    results.write(args.out, PAGE, result, page(result))


if __name__ == "__main__":
    main()
