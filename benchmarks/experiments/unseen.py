"""Zero-shot queries in words: withheld regions, findings, and findings in regions.

    OMP_NUM_THREADS=1 python -m benchmarks.experiments.unseen --work DIR [--patients 4000] [--epochs 6]
        [--out docs/results]

Trains one network on radiographs of synthetic patients with everything and one with the names below withheld (finished
bundles in DIR are kept, and interrupted trainings resume from their checkpoint), and evaluates both on patients of
another seed. Writes unseen.json and unseen.md, and what the service says of them. All figures come from these runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results
from radir_pacs import anatomy
from radir_pacs.cli.output import bars
from radir_pacs.encode import CONFIGS, Bundle
from radir_pacs.types import ImageKind
from radir_training.commands.train import DEFAULT_CACHE
from radir_training.data.phantom_set import phantom_set
from radir_training.data.statements import Labels, Mask, Relevance
from radir_training.data.studies import StudySet
from radir_training.evaluation.embeddings import encoded
from radir_training.evaluation.quick import abnormal_recall
from radir_training.evaluation.resample import Bootstrap, Resampled
from radir_training.learning.checkpoints import Checkpoints
from radir_training.learning.recipe import OURS, Recipe
from radir_training.learning.train import Step, Training, measured, train
from radir_training.learning.training_set import phrase

from . import word_queries, words_measured
from .auc import auc

KIND, CONFIG = ImageKind.CXR, CONFIGS["tiny"]
REGIONS = ("left_upper_lobe", "right_lower_lobe", "right_pleura", "aortic_arch", "trachea")
BELOW = ("carina",)  # tubes are all that reports mention of the trachea: it is withheld too
CONCEPTS = ("pneumothorax", "mass")
TRAIN_SEED, EXAM_SEED, EXAM_PATIENTS = 1, 2, 800
LEAST_IMAGES = 20  # images of which a phrase must be true
K = 5
JUDGES = {"mined": "by reports", "true": "by true findings"}
NAME, ABOVE, FULL = "name", "above", "trained"
TITLES = {NAME: "never trained, by its name", ABOVE: "nearest trained region above", FULL: "trained"}
COLUMNS = " | ".join(TITLES.values())


def patients(count: int, seed: int) -> StudySet:
    """Synthetic patients, from the cache or newly drawn."""
    with bars() as start_bar:
        advance = start_bar(f"patients of seed {seed}", count)
        cache = DEFAULT_CACHE.expanduser()
        return phantom_set(CONFIG, KIND, patients=count, seed=seed, cache=cache, progress=advance)


def trained(out: Path, data: StudySet, recipe: Recipe) -> Bundle:
    """The bundle in ``out``, trained if there is none yet."""
    if (out / "manifest.json").is_file():
        bundle = Bundle.load(out)
        wanted = {"recipe": json.loads(json.dumps(asdict(recipe))), "images": len(data)}
        if any(bundle.training[name] != value for name, value in wanted.items()):
            raise SystemExit(f"{out} holds a training with other settings: remove it, or name another --work")
        return bundle
    checkpoints = Checkpoints(out / ".checkpoint")
    moves = []
    with bars() as start_bar:

        def begin(training: Training) -> None:
            moves.append(start_bar(f"training {out.name}", training.steps))

        def tell(step: Step) -> None:
            moves[-1](step.number)

        def look(epoch: int, bundle: Bundle) -> None:
            print(f"{out.name}: epoch {epoch + 1} of {recipe.epochs}, {bundle.training['minutes']} min", flush=True)

        bundle = train(CONFIG, data, recipe, checkpoints=checkpoints, begin=begin, tell=tell, look=look)
    said = {"data": "synthetic patients (radir phantom)", "intended_use": "a benchmark; not fit for clinical use"}
    saved = measured(bundle, {}, said).save(out)
    checkpoints.remove()
    return saved


def by_region(partial: Bundle, full: Bundle, exam: StudySet) -> dict[str, dict[str, Any]]:
    """By judge and model: Recall@K of queries whose withheld region is abnormal (``abnormal_recall``)."""
    regions = [anatomy.region(key) for key in REGIONS]
    with bars() as start_bar:
        above = encoded(partial, exam, start_bar("regions above", len(exam)), keys=REGIONS)
        own = encoded(full, exam, start_bar("trained regions", len(exam)), keys=REGIONS)
        named = word_queries.vectors(
            partial, exam, [region.name for region in regions], start_bar("by name", len(exam))
        )
    answers = {
        NAME: named,
        ABOVE: np.stack([above.of(key) for key in REGIONS], axis=1),
        FULL: np.stack([own.of(key) for key in REGIONS], axis=1),
    }
    found: dict[str, dict[str, Any]] = {}
    for source, said in {"mined": exam.said, "true": exam.true or ()}.items():
        relevance = Relevance.of(said, REGIONS)
        found[source] = {who: abnormal_recall(given, exam, relevance, regions, k=K) for who, given in answers.items()}
    return found


@dataclass(frozen=True)
class Phrase:
    """A query for a finding in a region, at least one of them withheld; ``instead``: the nearest trained region
    above."""

    concept: str
    region: str
    instead: str

    @property
    def text(self) -> str:
        return phrase(self.concept, anatomy.region(self.region).name)

    @property
    def stand_in(self) -> str:
        return phrase(self.concept, anatomy.region(self.instead).name)

    @property
    def withheld(self) -> str:
        """Which part of it."""
        if self.concept not in CONCEPTS:
            return "the region"
        return "both" if self.region in REGIONS else "the finding"


def phrases(partial: Bundle, full: Bundle, exam: StudySet) -> Iterator[Phrase]:
    """Those that are true often enough, in the order of the anatomy."""
    trained_keys = {region.key for region in partial.regions}
    for region in full.regions:
        if region.key in BELOW:
            continue
        instead = _nearest(region.key, trained_keys)
        for concept in full.network.findings:
            new = concept in CONCEPTS or region.key in REGIONS
            if new and there(exam, concept, region.key).sum() >= LEAST_IMAGES:
                yield Phrase(concept, region.key, instead)


def _nearest(key: str, trained_keys: Collection[str]) -> str:
    """The region itself, or the nearest trained one above it."""
    return next(own for own in (key, *(above.key for above in anatomy.ancestors(key))) if own in trained_keys)


def there(exam: StudySet, concept: str, key: str) -> Mask:
    """Bool [n], by the true findings, of images that can show the region."""
    true = [any(item.present and item.concept == concept for item in said.get(key, ())) for said in exam.true or ()]
    return np.array(true, np.bool_) & exam.seen([anatomy.region(key)])[:, 0]


def by_phrase(partial: Bundle, full: Bundle, exam: StudySet) -> list[dict[str, Any]]:
    """One row per phrase, then one for the mean of each kind of phrase: areas under the ROC curve."""
    wanted = list(phrases(partial, full, exam))
    texts, instead = [one.text for one in wanted], [one.stand_in for one in wanted]
    with bars() as start_bar:
        logits = {
            NAME: word_queries.presence(partial, exam, texts, start_bar("phrases", len(exam))),
            ABOVE: word_queries.presence(partial, exam, instead, start_bar("phrases above", len(exam))),
            FULL: word_queries.presence(full, exam, texts, start_bar("trained phrases", len(exam))),
        }
    bootstrap = Bootstrap(exam.patients, 0)
    spreads: dict[str, list[dict[str, Resampled]]] = {}
    rows = []
    for number, one in enumerate(wanted):
        shown = np.flatnonzero(exam.seen([anatomy.region(one.region)])[:, 0])
        truth = there(exam, one.concept, one.region)[shown]
        found = {
            who: auc(given[shown, number], truth, bootstrap, shown)
            for who, given in logits.items()
            if who != ABOVE or one.withheld == "the region"  # the replacement must have been trained
        }
        spreads.setdefault(one.withheld, []).append(found)
        rows.append({"withheld": one.withheld, "phrase": one.text, "images": int(truth.sum()), **_figures(found)})
    for withheld, parts in spreads.items():
        mean = {who: Resampled.average([part[who] for part in parts]) for who in parts[0]}
        rows.append({"withheld": withheld, "phrase": "mean", "phrases": len(parts), **_figures(mean)})
    return rows


def _figures(found: Mapping[str, Resampled]) -> dict[str, Any]:
    return {
        who: {
            "value": round(float(resampled.mean), 4),
            "interval_95": [round(float(edge), 4) for edge in resampled.interval()],
        }
        for who, resampled in found.items()
    }


def written(found: Mapping[str, Any]) -> str:
    """The Markdown page."""
    names = _words((*REGIONS, *BELOW))
    above = {key: _nearest(key, found["trained_regions"]) for key in REGIONS}
    lines = [
        "# Asked in words, never trained on",
        "",
        f"Two networks of the same recipe, {found['epochs']} passes over radiographs of {found['patients']} synthetic "
        f"patients (seed {TRAIN_SEED}): one trained with everything, one never asked about {names}, nor about "
        f"{' and '.join(CONCEPTS)} anywhere. Judged on {EXAM_PATIENTS} others (seed {EXAM_SEED}). "
        "Intervals are of 95 %, bootstrap over patients; a random order is exact. "
        "Decision support, not diagnosis.",
        "",
        "Withheld means: no name, no phrase and no label of it was trained. It does not mean: never met. Reports were "
        "read whole, the relevance that vectors learn from knows every finding, what is found at a withheld region "
        "was a finding of the regions above it, and other names share its words."
        " Each network was trained once: a difference between the two holds what two trainings differ in anyway.",
        "",
        *_in_short(found["regions"]["true"]),
        "## A region by its name",
        "",
        "The name is read by the text encoder, and the answers are centred on the mean and spread that the judged "
        "images have under it. Beside it what the service answers for a region without vectors of its own: the nearest "
        "trained region above.",
        "",
    ]
    for source, title in JUDGES.items():
        lines += _region_table(found["regions"][source], title, above)
    lines += [
        "## A finding in a region",
        "",
        "Area under the ROC curve of what the network says to the phrase, by true findings; chance is 0.5. Phrases "
        f"that are true of at least {LEAST_IMAGES} images that show the region. Where only the region was withheld: "
        "beside it the same finding in the nearest trained region above. A trained phrase was drawn about "
        f"{found['draws_a_phrase']:.0f} times in all: its column is no ceiling.",
        "",
        *_phrase_table(found["phrases"]),
    ]
    return "\n".join(lines)


def _in_short(answers: Mapping[str, Any]) -> list[str]:
    name, above, full = (answers[who] for who in TITLES)
    if name["recall"] is None:
        return []
    (low, high), (least, most) = name["interval_95"], above["interval_95"]
    apart = high < least or most < low
    better = "finds more than" if name["recall"] > above["recall"] else "falls short of"
    return [
        "In short, by true findings and in the mean over the withheld regions: the name finds "
        f"{_cell(name, 'recall')}, the region above {_cell(above, 'recall')}, a network trained on the name "
        f"{_cell(full, 'recall')}, a random order {name['random']:.3f}. Here asking by name "
        f"{better if apart else 'is within the noise of'} falling back to the region above.",
        "",
    ]


def _region_table(answers: Mapping[str, Any], title: str, above: Mapping[str, str]) -> list[str]:
    regions = list(answers[NAME]["regions"])
    lines = [f"### Recall@{K} of abnormal queries, judged {title}", ""]
    if not regions:
        return [*lines, "Too few abnormal queries to judge a region.", ""]
    lines += [f"| region (nearest trained one) | queries | random | {COLUMNS} |", "|---" * 6 + "|"]
    for key in regions:
        own = answers[NAME]["regions"][key]
        cells = " | ".join(_cell(answers[who]["regions"][key], "recall") for who in TITLES)
        name = f"{anatomy.region(key).name} ({anatomy.region(above[key]).name})"
        lines.append(f"| {name} | {own['queries']} | {own['random']:.3f} | {cells} |")
    means = " | ".join(_cell(answers[who], "recall") for who in TITLES)
    lines.append(f"| mean |  | {answers[NAME]['random']:.3f} | {means} |")

    def count(better: str) -> int:
        own, other = answers[NAME]["regions"], answers[better]["regions"]
        return sum(own[key]["recall"] > other[key]["recall"] for key in regions)

    sure = sum(entry["interval_95"][0] > entry["random"] for entry in answers[NAME]["regions"].values())
    return [
        *lines,
        "",
        f"Of {len(regions)} names never trained, {sure} lie above the random line with their whole interval, "
        f"{count(ABOVE)} find more than the region above them, {count(FULL)} more than the trained region.",
        "",
    ]


def _phrase_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [f"| withheld | phrase | images | {COLUMNS} |", "|---" * 6 + "|"]
    for withheld in dict.fromkeys(row["withheld"] for row in rows):
        for row in rows:
            if row["withheld"] == withheld:
                cells = " | ".join(_cell(row[who], "value") if who in row else "–" for who in TITLES)
                lines.append(f"| {withheld} | {row['phrase']} | {row.get('images', '')} | {cells} |")
    single = [row for row in rows if "images" in row]
    sure = sum(row[NAME]["interval_95"][0] > 0.5 for row in single)
    below = sum(row[NAME]["interval_95"][1] < 0.5 for row in single)
    beside = [row for row in single if ABOVE in row]
    more = sum(row[NAME]["value"] > row[ABOVE]["value"] for row in beside)
    full = sum(row[NAME]["value"] > row[FULL]["value"] for row in single)
    return [
        *lines,
        "",
        f"Of {len(single)} phrases never trained, {sure} lie above chance with their whole interval and {below} below "
        f"it; {full} tell more than the trained phrase does; {more} of {len(beside)} more than the same finding in the "
        "region above.",
    ]


def _cell(figure: Mapping[str, Any], name: str) -> str:
    low, high = figure["interval_95"]
    return f"{figure[name]:.3f} [{low:.3f}, {high:.3f}]"


def _words(keys: Sequence[str]) -> str:
    return ", ".join(anatomy.region(key).name for key in keys)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the trained bundles")
    parser.add_argument("--patients", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    data = patients(args.patients, TRAIN_SEED)
    recipe = replace(OURS, epochs=args.epochs, seed=TRAIN_SEED, augment=False)
    partial = trained(args.work / "withheld", data, replace(recipe, withheld=(*REGIONS, *BELOW, *CONCEPTS)))
    full = trained(args.work / "full", data, recipe)
    trained_keys = [region.key for region in partial.regions]
    if below := [key for key in trained_keys if {above.key for above in anatomy.ancestors(key)} & set(REGIONS)]:
        raise SystemExit(f"{_words(below)} would reveal the regions withheld above: withhold them, too")
    named = Labels.of(data.said, [anatomy.region(region.key) for region in full.regions], full.network.findings)
    exam = patients(EXAM_PATIENTS, EXAM_SEED)
    found = {
        "patients": args.patients,
        "epochs": args.epochs,
        "withheld": {"regions": (*REGIONS, *BELOW), "concepts": CONCEPTS},
        "trained_regions": trained_keys,
        "draws_a_phrase": recipe.phrases * full.training["steps"] / int(named.possible.sum()),
        "models": {"withheld": partial.model_id, "full": full.model_id},
        "regions": by_region(partial, full, exam),
        "phrases": by_phrase(partial, full, exam),
    }
    print(f"{results.write(args.out, 'unseen', found, written(found))} written")
    words_measured.renew(args.out)


if __name__ == "__main__":
    main()
