"""From cases to a data set: mine, propagate to parent regions, group, write lists, matrices and a page of
statistics."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from radir_pacs import anatomy
from radir_pacs.errors import BadInput
from radir_pacs.printable import counted
from radir_pacs.reports import PARSER, Finding, ItemSimilarity, Miner, findings_to_json, similarity_items
from radir_pacs.reports.mining import is_blank
from radir_pacs.reports.pairs import RegionItems, region_items, top_lists, write_table
from radir_pacs.reports.similarity import Item
from radir_pacs.reports.tables import BadRow

from ..data.retrieval_set import PATH_COLUMN, write_lines, write_list
from .sources import SPLITS, Case
from .statistics import RegionStatistics, page, table_statistics

MATRIX_ROWS = 20_000  # more rows than this (400 MB) get top lists
TOP = 100
Progress = Callable[[str, int, int], None]


@dataclass(kw_only=True)
class Built:
    """What was written, by split."""

    images: dict[str, int] = field(default_factory=dict)
    regions: dict[str, dict[str, RegionStatistics]] = field(default_factory=dict)
    concepts: Counter[str] = field(default_factory=Counter)
    silent: int = 0  # reports in which nothing was found
    blank: int = 0  # reports without text
    largest: int = 0  # images of the region with most of them in one split
    bad_rows: list[BadRow] = field(default_factory=list)

    def why_no_region(self, least_images: int) -> str | None:
        """The reason why no split has a region; None where one has."""
        if any(self.regions.values()):
            return None
        images = sum(self.images.values())
        if self.blank == images:
            return f"no region was written: the texts of all {counted(images, 'report')} are empty"
        if self.silent == images:
            return f"no region was written: no finding was read in {counted(images, 'report')} ({self.blank} are empty)"
        return (
            f"no region was written: --least-images asks for {counted(least_images, 'image')} of a region in one "
            f"split, and the most there are is {self.largest} ({self.blank} of {images} reports are empty)"
        )


def build(
    cases: Iterable[Case | BadRow],
    out: Path,
    *,
    source: str,
    least_images: int = 20,
    matrix_rows: int = MATRIX_ROWS,
    progress: Progress | None = None,
) -> Built:
    """Write the data set of ``cases`` to ``out``; regions with fewer images than ``least_images`` get no files.

    Finished matrices are kept when the same build is started again, unfinished ones are continued. Raises BadInput if
    a patient is in two splits.
    """
    built = Built()
    miner, similarity = Miner(), ItemSimilarity()
    by_split: dict[str, list[tuple[Case, tuple[Finding, ...]]]] = {split: [] for split in SPLITS}
    split_of_patient: dict[str, str] = {}
    seen = 0
    for case in cases:
        if isinstance(case, BadRow):
            built.bad_rows.append(case)
            continue
        if split_of_patient.setdefault(case.patient, case.split) != case.split:
            raise BadInput(f"the patient of {case.path} is in two splits")
        built.blank += is_blank(case.text, miner.lexicon)
        by_split[case.split].append((case, miner.mine(case.text, case.kind).findings))
        seen += 1
        if progress and seen % 500 == 0:
            progress("reports mined", seen, 0)
    out.mkdir(parents=True, exist_ok=True)
    for split, mined in by_split.items():
        if mined:
            _write_split(out, split, mined, similarity, built, least_images, matrix_rows, progress)
    if not built.images:
        raise BadInput("the source has no report")
    note = {"source": source, "parser": PARSER, "images": built.images, "silent_reports": built.silent}
    (out / "dataset.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    (out / "statistics.html").write_text(
        page(source, built.images, built.regions, built.concepts, built.silent), encoding="utf-8"
    )
    return built


def _write_split(
    out: Path,
    split: str,
    mined: list[tuple[Case, tuple[Finding, ...]]],
    similarity: ItemSimilarity,
    built: Built,
    least_images: int,
    matrix_rows: int,
    progress: Progress | None,
) -> None:
    built.images[split] = len(mined)
    items = [similarity_items(findings) for _, findings in mined]
    built.silent += sum(not found for found in items)
    built.concepts.update(
        concept for _, findings in mined for concept in {finding.concept for finding in findings if finding.asserted}
    )
    spoken = [i for i, found in enumerate(items) if found]
    captions = [{PATH_COLUMN: mined[i][0].path, "Caption": mined[i][0].text} for i in spoken]
    write_list(out / f"{split}_caption.csv", captions, (PATH_COLUMN, "Caption"))
    write_lines(out / f"{split}.jsonl", captions)
    write_lines(
        out / f"{split}_findings.jsonl",
        ({PATH_COLUMN: case.path, "findings": findings_to_json(findings)} for case, findings in mined),
    )
    counts = Counter(region for found in items for region in found)
    regions = [region.key for region in anatomy.regions() if counts[region.key] >= least_images]
    built.largest = max(built.largest, *counts.values(), 0)
    statistics = built.regions.setdefault(split, {})
    for number, region in enumerate(regions):
        group = region_items(region, items)
        name = anatomy.region(region).name
        write_list(
            out / f"{split}_entity" / f"{name}.csv",
            (
                {PATH_COLUMN: mined[index][0].path, "Entity": phrase(group.sets[row])}
                for index, row in zip(group.reports, group.set_of, strict=True)
            ),
            (PATH_COLUMN, "Entity"),
        )
        folder = out / f"{split}_ratescore"
        statistics[region] = _write_relevance(group, similarity, folder, name, matrix_rows)
        if progress:
            progress(f"{split} regions", number + 1, len(regions))
    if anatomy.ROOT in counts:
        _write_relevance(region_items(anatomy.ROOT, items), similarity, out, f"{split}_ratescore", matrix_rows)


def _write_relevance(
    group: RegionItems, similarity: ItemSimilarity, folder: Path, name: str, matrix_rows: int
) -> RegionStatistics:
    """Write the matrix, or the top lists of a large region; returns its statistics."""
    folder.mkdir(parents=True, exist_ok=True)
    path, note = folder / f"{name}.npy", folder / f".{name}.fingerprint"
    fingerprint = group.fingerprint(similarity)
    if len(group.reports) <= matrix_rows:
        if not path.is_file() or not note.is_file() or note.read_text() != fingerprint:
            write_table(group, similarity, path)
            note.write_text(fingerprint)
        return table_statistics(np.load(path, mmap_mode="r"), len(group.sets))
    k = min(TOP, len(group.reports) - 1)
    position = {int(report): row for row, report in enumerate(group.reports)}
    rows = np.zeros((len(position), k), np.int64)
    scores = np.zeros((len(position), k), np.uint8)
    for report, others, values in top_lists(group, similarity, k):
        rows[position[report]] = [position[int(other)] for other in others]
        scores[position[report]] = values
    np.savez_compressed(folder / f"{name}.top.npz", rows=rows, scores=scores)
    return table_statistics(scores, len(group.sets))


def phrase(items: Iterable[Item]) -> str:
    """The items of a region in words: "no pleural effusion; moderate atelectasis, left lower lobe"."""
    words = []
    for item in items:
        name = item.concept.replace("_", " ")
        if not item.present:
            words.append("normal" if item.concept == "abnormality" else f"no {name}")
            continue
        grade = ("minimal ", "mild ", "moderate ", "severe ")[item.severity] if item.severity >= 0 else ""
        doubt = "" if item.certain else "possible "
        words.append(f"{doubt}{grade}{name}, {anatomy.region(item.region).name}")
    return "; ".join(words)
