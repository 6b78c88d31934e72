"""The check of a new segment in a process of its own: `python -P -m radir_pacs.index.verify FOLDER`.

Loading a damaged graph can crash; it crashes here. Prints one JSON object: the graph's recall at 10 against exact
search. Exit status 1, the reason on stderr, when the segment is refused.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from radir_pacs.errors import IndexRefused
from radir_pacs.index.exact import best, cosines, exact_search
from radir_pacs.index.files import check_folder, read_manifest_file
from radir_pacs.index.generation import map_segment
from radir_pacs.index.manifest import SegmentManifest
from radir_pacs.index.segment import Segment

_SAMPLE = 64
_RECALL_AT = 10
_TIMEOUT_S = 1800
_ROUNDING = 1e-6


def verify_in_child(folder: Path) -> float:
    """Recall of the graph in ``folder``, its manifest written. Raises IndexRefused, also when the child crashes."""
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-m", "radir_pacs.index.verify", str(folder)]
    try:
        child = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise IndexRefused("the check of the new index segment did not end") from error
    if child.returncode < 0:
        raise IndexRefused(f"loading the new index segment crashed (signal {-child.returncode})")
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise IndexRefused(f"the new index segment failed its check: {last}")
    recall: float = json.loads(child.stdout)["recall"]
    return recall


def measure_recall(segment: Segment) -> float:
    """Share of the true ten best that the graph finds, for stored vectors spread over the segment as queries.

    Counted by score, so that of equal vectors any may stand for another.
    """
    graph = segment.graph
    if graph is None:
        raise IndexRefused("the index segment has no graph to check")
    found = wanted = 0
    for row in np.unique(np.linspace(0, len(segment) - 1, _SAMPLE).astype(np.intp)):
        query = segment.vectors[row]
        _, truth = exact_search(segment.vectors, segment.labels, query, _RECALL_AT)
        rows = graph.search(query, _RECALL_AT)
        _, scores = best(segment.labels[rows], cosines(segment.vectors[rows], query), _RECALL_AT)
        found += int(np.count_nonzero(scores >= truth[-1] - _ROUNDING))
        wanted += len(truth)
    return found / wanted


def check(folder: Path) -> float:
    """Recall of the graph of the segment in ``folder``, after a check of every byte. Raises IndexRefused."""
    manifest = SegmentManifest.from_bytes(read_manifest_file(folder))
    check_folder(folder, manifest.files)
    segment = map_segment(folder, manifest)
    if segment.graph is not None:
        segment.graph.check_links()
    return measure_recall(segment)


def main() -> int:
    try:
        print(json.dumps({"recall": check(Path(sys.argv[1]))}))
    except IndexRefused as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
