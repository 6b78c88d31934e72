"""The page of ``real_zones``; every figure is the JSON's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

GRADE_COLUMNS, LABEL_COLUMNS = ("NDCG@10", "difference of the first 3"), ("NDCG@10", "Recall@5")


def page(result: Mapping[str, Any]) -> str:
    cohen, nih = (result["zones"][name] for name in ("cxr_cohen", "cxr_nih_more"))
    parts = [
        "# Real chest X-rays, by lung zone and by label",
        "Written by `python -m benchmarks.experiments.real_zones`, which says how each figure is made. Intervals "
        f"(95 %) are drawn over patients. Models: {', '.join(f'{n} is {i}' for n, i in result['bundles'].items())}. "
        f"{result['processor_s']} s of processor time.",
        "## Severity in six lung zones",
        f"{_counted(cohen)} of cxr_cohen and {_counted(nih)} of cxr_nih_more, the starter's backbone being measured "
        "(without labels) by other patients of the latter. Each zone was graded 0 (clear) to 3 (dense) once, on "
        "screen, by a general vision-language model: no radiologist has checked the grades, which have errors of "
        "their own (`benchmarks/experiments/zone_grades.csv`). A network that does not know a zone answers for the "
        "lobe there. The X-rays of both collections were looked at while the share, the regions and the kind of the "
        "backbone were chosen; no weight was learned from either collection. These figures serve development and are "
        "not comparable with those of readings by radiologists.",
    ]
    for name, found in result["zones"].items():
        parts += [f"### {name}", _table(found["models"], GRADE_COLUMNS), _better(found["models"], GRADE_COLUMNS[0])]
    parts += [
        "## Labels",
        f"{_counted(next(iter(result['labels'].values())))} of cxr_nih_more; labels were mined from reports by others "
        "and name no place. Only images of the same view are compared: AP images are of iller or of healthier people "
        "than PA ones, and finding the view would look like finding the disease. Queries have a label of the region.",
    ]
    for key, found in result["labels"].items():
        parts += [f"### {key}", _table(found["models"], LABEL_COLUMNS), _better(found["models"], LABEL_COLUMNS[0])]
    hospital, views = result["same hospital"], result["same view"]
    names = list(hospital["models"])
    rows = [
        f"| ranking by | same hospital, zones | {' | '.join(f'same view, {key}' for key in views)} |",
        "|---" * (2 + len(views)) + "|",
    ]
    for name in names:
        cells = [_cell(one["models"][name]["share"]) for one in (hospital, *views.values())]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    parts += [
        "## What should not matter",
        "The share of the first ten that come from the query's own collection, both graded collections being the "
        "gallery, and that have the query's view (AP or PA), in cxr_nih_more. What lies above the random order is "
        "found by the hospital or by the view, beside the finding or in its place: severity differs between the two "
        "collections, and findings between the two views. Tubes could not be tested: neither collection says which "
        "images show any.",
        "\n".join(rows),
        "## What disturbs a ranking",
        "NDCG@10 of zones in cxr_nih_more where the image that asks is disturbed and the gallery is not.",
        _disturbed(result["disturbed"]),
    ]
    return "\n\n".join(parts) + "\n"


def _counted(found: Mapping[str, Any]) -> str:
    return f"{found['images']} frontal X-rays of {found['patients']} patients"


def _cell(figure: Mapping[str, Any]) -> str:
    low, high = figure["interval_95"]
    return f"{figure['value']:.3f} ({low:.3f}–{high:.3f})"


def _table(figures: Mapping[str, Any], columns: Sequence[str]) -> str:
    rows = [f"| ranking by | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    rows += [
        f"| {name} | {' | '.join(_cell(found[column]) for column in columns)} |" for name, found in figures.items()
    ]
    return "\n".join(rows)


def _better(figures: Mapping[str, Any], column: str) -> str:
    """Which models stand above which others with the whole interval of the difference."""
    said = []
    for name, found in figures.items():
        beaten = [other for other, edges in found[column]["minus"].items() if min(edges) > 0]
        if beaten:
            said.append(f"- {name}: above {', '.join(beaten)}")
    listed = "\n".join(said) or "- none"
    return f"{column} above another with the whole interval of the difference:\n\n{listed}"


def _disturbed(table: Mapping[str, Mapping[str, float]]) -> str:
    kinds = list(next(iter(table.values())))
    rows = [f"| ranking by | {' | '.join(kinds)} |", "|---" * (1 + len(kinds)) + "|"]
    rows += [f"| {name} | {' | '.join(f'{found[kind]:.3f}' for kind in kinds)} |" for name, found in table.items()]
    return "\n".join(rows)
