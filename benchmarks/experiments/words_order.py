"""What is lost where the service orders by words only the cases most alike in the region above.

    OMP_NUM_THREADS=1 python -m benchmarks.experiments.words_order [--patients 550] [--out docs/results]

Judges the starter of radiographs on synthetic patients: each region by its own vectors, by those of the region above,
and by words, read by the text encoder: its name and other words, over all cases and, as at serving, over those most
alike in the region above. Writes words-order.json, words-order.md, and what the service says of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import results
from radir_pacs import anatomy
from radir_pacs.cli.output import bars
from radir_pacs.config import Settings
from radir_pacs.encode import Bundle, default_bundles
from radir_pacs.encode.words import centred, reader_of
from radir_pacs.types import F32, ImageKind
from radir_training.commands.train import DEFAULT_CACHE
from radir_training.data.phantom_set import phantom_set
from radir_training.data.statements import UNDEFINED, Relevance
from radir_training.data.studies import StudySet
from radir_training.evaluation.embeddings import batches
from radir_training.evaluation.measures import KS, Question, lines, score
from radir_training.evaluation.resample import Bootstrap, Resampled

from . import words_measured

SEED, K = 2, 5
CASES = Settings().words_cases


@dataclass(frozen=True)
class Asked:
    """A region, the trained one above it, and words for it that are none of its names."""

    region: str
    above: str
    words: str


ASKED = (
    Asked("left_upper_lobe", "left_lung", "upper part of the lung on the left"),
    Asked("right_lower_lobe", "right_lung", "bottom of the lung on the right"),
    Asked("right_pleura", "pleura", "lining around the right lung"),
    Asked("aortic_arch", "thoracic_aorta", "curve of the great vessel"),
    Asked("trachea", "airways", "windpipe"),
)
OWN, ABOVE, NAME_ALL, NAME, WORDS = "own", "above", "name_all", "name", "words"
TITLES = {
    ABOVE: "the region above",
    NAME_ALL: "its name, over all cases",
    NAME: f"its name, over the first {CASES}",
    WORDS: f"other words, over the first {CASES}",
    OWN: "its own vectors",
}


@torch.inference_mode()
def answers(bundle: Bundle, exam: StudySet) -> tuple[F32, torch.Tensor, torch.Tensor]:
    """Vectors [n, regions, dim]; raw answers [n, asked, dim - 1] to the names, and to the other words."""
    network = reader_of(bundle)
    rows = torch.arange(len(bundle.regions))
    names = [anatomy.region(one.region).name for one in ASKED]
    texts = network.text(torch.tensor(bundle.tokenizer.batch([*names, *(one.words for one in ASKED)])))
    vectors, raw = [], []
    with bars() as start_bar:
        for images, views in batches(exam, start_bar("images", len(exam))):
            tokens = network.kept_tokens(images, views, exam.kind)
            vectors.append(network.from_kept(tokens, bundle.queries(), rows).vectors.float().numpy())
            raw.append(network.head.raw(network.decode(tokens, texts)))
    said = torch.cat(raw)
    return np.concatenate(vectors), said[:, : len(ASKED)], said[:, len(ASKED) :]


def judged(bundle: Bundle, exam: StudySet) -> dict[str, Any]:
    """By region and way: Recall@K of abnormal queries by true findings, as ``abnormal_recall`` has it."""
    vectors, names, words = answers(bundle, exam)
    network = reader_of(bundle)
    keys = [region.key for region in bundle.regions]
    regions = [anatomy.region(one.region) for one in ASKED]
    relevance = Relevance.of(exam.true or (), [one.region for one in ASKED])
    seen, everyone = exam.seen(regions), np.arange(len(exam))
    apart = exam.patients[:, None] != exam.patients[None]
    bootstrap, parts = Bootstrap(exam.patients, 0), dict[str, list[Resampled]]()
    found: dict[str, Any] = {"regions": {}}
    for number, one in enumerate(ASKED):
        rows = everyone[relevance.abnormal[:, number] & seen[:, number]]
        may = apart[rows] & seen[None, :, number]
        table = relevance.pairs(number, rows, everyone)
        table[~may] = UNDEFINED
        question = Question.by_relevance(table)
        above = _cosines(vectors[:, keys.index(one.above)], rows)
        first = np.where(may, above, -np.inf).argsort(axis=1)[:, ::-1][:, :CASES]
        ways = {
            OWN: _cosines(vectors[:, keys.index(one.region)], rows),
            ABOVE: above,
            NAME_ALL: _cosines(centred(network, names[:, number : number + 1])[:, 0].numpy(), rows),
            NAME: _among(network, names[:, number], rows, first),
            WORDS: _among(network, words[:, number], rows, first),
        }
        figures: dict[str, Any] = {
            "queries": int((question.sought > 0).sum()),
            "asked_as": one.words,
            "under": one.above,
        }
        figures["random"] = round(float(np.nanmean(lines(question).random[:, 0], axis=0)[KS.index(K)]), 4)
        for way, scores in ways.items():
            resampled = bootstrap.resampled(score(question, scores)[:, :1, KS.index(K)], rows)
            parts.setdefault(way, []).append(resampled)
            figures[way] = _figure(resampled)
        found["regions"][one.region] = figures
    found["mean"] = {way: _figure(Resampled.average(resampled)) for way, resampled in parts.items()}
    found["mean"]["random"] = round(float(np.mean([one["random"] for one in found["regions"].values()])), 4)
    return found


def _cosines(vectors: F32, rows: np.ndarray[Any, Any]) -> F32:
    alike: F32 = vectors[rows] @ vectors.T
    return alike


def _among(network: Any, raw: torch.Tensor, rows: np.ndarray[Any, Any], first: np.ndarray[Any, Any]) -> F32:
    """As the service orders: only the first cases of each query, centred on these and the query."""
    found = np.full((len(rows), len(raw)), -2, np.float32)
    for at, (row, cases) in enumerate(zip(rows, first, strict=True)):
        unit = centred(network, raw[[row, *cases]][:, None])[:, 0].numpy()
        found[at, cases] = unit[1:] @ unit[0]
    return found


def _figure(resampled: Resampled) -> dict[str, Any]:
    low, high = resampled.interval()
    return {
        "recall": round(float(resampled.mean[0]), 4),
        "interval_95": [round(float(low[0]), 4), round(float(high[0]), 4)],
    }


def written(found: Mapping[str, Any]) -> str:
    """The Markdown page."""
    lines = [
        "# Asked in words: what ordering the first cases costs",
        "",
        f"The service orders by words only the {CASES} cases most alike in the trained region above "
        "([ADR 0048](../adr/0048-asked-in-any-words.md)); how much is lost by that, apart from what a name costs that "
        f"was [never trained](unseen.md), is judged here: {found['model']} on {found['images']} radiographs of "
        f"{found['patients']} synthetic patients (seed {SEED}). Recall@{K} of abnormal queries by true findings, other "
        "patients only; intervals of 95 %, bootstrap over patients. This network was trained on these regions and "
        "their names; the other words are none of the names, though its reports hold some of them.",
        "",
        f"| region (above; other words) | queries | random | {' | '.join(TITLES.values())} |",
        "|---" * (3 + len(TITLES)) + "|",
    ]
    for key, row in found["regions"].items():
        about = f"{anatomy.region(key).name} ({anatomy.region(row['under']).name}; “{row['asked_as']}”)"
        lines.append(f"| {about} | {row['queries']} | {row['random']:.3f} | {_cells(row)} |")
    lines.append(f"| mean | | {found['mean']['random']:.3f} | {_cells(found['mean'])} |")
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> str:
    figures = [row[way] for way in TITLES]
    return " | ".join(f"{f['recall']:.3f} [{f['interval_95'][0]:.3f}, {f['interval_95'][1]:.3f}]" for f in figures)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=550)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args(arguments)
    bundle = Bundle.load(default_bundles()[ImageKind.CXR])
    network = reader_of(bundle)
    cache = DEFAULT_CACHE.expanduser()
    exam = phantom_set(network.config, ImageKind.CXR, patients=args.patients, seed=SEED, cache=cache)
    found = {"model": bundle.model_id, "patients": args.patients, "images": len(exam), **judged(bundle, exam)}
    print(f"{results.write(args.out, 'words-order', found, written(found))} written")
    words_measured.renew(args.out)


if __name__ == "__main__":
    main()
