"""What 1, 10 and 100 million studies need of each engine, from the slopes that vector_engines measured.

    python -m benchmarks.experiments.vector_sizing docs/results/vector-engines.json

Bytes per vector are the difference between the largest and the smallest size over the difference in vectors, so that
what does not grow falls out. Memory of a process: the columns of the filters, a byte for each label of an open region
(pgvector, Milvus) or the mapped files (local). Every figure is a straight line through what was measured at 50,000
vectors; no installation of that size was run. Writes docs/results/vector-sizing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import results

STUDIES = (1_000_000, 10_000_000, 100_000_000)
REGIONS = 16  # that are asked about, of one model
QUERY_BYTES = 31  # columns of the filters (`query.case_table`), a label of each study
_GB = 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path)
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    measured = json.loads(arguments.measured.read_text())
    engines = {name: slopes(measured["rows"], name) for name in dict.fromkeys(r["engine"] for r in measured["rows"])}
    table = {name: {count: needs(slope, count) for count in STUDIES} for name, slope in engines.items()}
    text = page(engines, table, measured["dim"], arguments.measured.stem)
    results.write(arguments.results, "vector-sizing", {"slopes": engines, "needs": table}, text)


def slopes(rows: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Bytes per vector, held by the engine and by each process, and microseconds to fill it in."""
    of = sorted((row for row in rows if row["engine"] == name), key=lambda row: int(row["count"]))
    small, large = of[0], of[-1]

    def slope(what: str, per_vector: bool) -> float:
        if large is small:
            return float(large[what] if per_vector else large[what] / large["count"])
        low = small[what] * (small["count"] if per_vector else 1)
        high = large[what] * (large["count"] if per_vector else 1)
        return float((high - low) / (large["count"] - small["count"]))

    return {
        "held": slope("held_bytes", True),
        "process": slope("process_bytes", True),
        "fill_us": 1e6 * max(0.0, slope("fill_s", False)),
    }


def needs(slope: dict[str, float], studies: int) -> dict[str, float]:
    """GB held by the engine, GB in each searching process, hours to fill, for REGIONS regions of each study."""
    vectors = studies * REGIONS
    return {
        "held_gb": vectors * slope["held"] / _GB,
        "process_gb": (studies * QUERY_BYTES + vectors * slope["process"]) / _GB,
        "fill_h": vectors * slope["fill_us"] / 1e6 / 3600,
    }


def page(
    engines: dict[str, dict[str, float]], table: dict[str, dict[int, dict[str, float]]], dim: int, source: str
) -> str:
    lines = [
        "# What engines need at 1, 10 and 100 million studies",
        "",
        f"{REGIONS} regions that are asked about, {dim} numbers per vector, one model: straight lines through what was"
        f" [measured at up to 50,000 vectors]({source}.md), on a busy machine; nothing of this size was run. Filling is"
        " by one indexer, slowed by the load of that hour; a large graph grows more slowly. Local files are mapped:"
        " what is held is shared by the processes of a machine. Milvus is milvus-lite, one process that holds all"
        " in its own memory: its line shows that it is no choice for such sizes, and nothing about a cluster. An engine"
        " measured at one size only has what does not grow in its bytes.",
        "",
        f"| engine | bytes per vector | {' | '.join(f'{n // 1_000_000} M: held, process, fill' for n in STUDIES)} |",
        "|---" * (2 + len(STUDIES)) + "|",
    ]
    for name, by_count in table.items():
        cells = [name, f"{engines[name]['held']:,.0f}"]
        for count in STUDIES:
            of = by_count[count]
            cells.append(f"{of['held_gb']:,.0f} GB, {of['process_gb']:,.1f} GB, {of['fill_h']:,.0f} h")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
