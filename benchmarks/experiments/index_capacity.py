"""How many studies a machine's memory holds in open partitions, from the slopes that index_partition measured.

    python -m benchmarks.experiments.index_capacity docs/results/index-partition-200000.json

Bytes per vector: mapped files, counted once for all processes, plus private memory, counted per process. Half of the
memory is left to Postgres, the network and the system. What is not in memory is read from the disk when a question
needs it. Writes docs/results/index-capacity.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import results

MEMORY_GIB = (16, 64, 256)
REGIONS = (1, 16, 64, 142)
PROCESSES = 4
QUERY_BYTES = 17  # columns of the filters (`query.case_table`)
SHARE = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path)
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    measured = json.loads(arguments.measured.read_text())
    row = measured["rows"][0]
    each = row["file_bytes"] + PROCESSES * (row["private_bytes"] + QUERY_BYTES)
    lines = [
        "# What a machine holds in memory",
        "",
        f"Studies whose regions are all open at once, {measured['dim']} numbers per vector, {PROCESSES} processes that "
        f"answer: {row['file_bytes']:.0f} bytes per vector in mapped files, and {row['private_bytes']:.0f} and "
        f"{QUERY_BYTES} for the columns of the filters in each process ([measured]({arguments.measured.stem}.md)). "
        f"{SHARE:.0%} of the memory is left to the rest of the machine. Regions that nobody asks about take none.",
        "",
        f"| memory | {' | '.join(f'{n} region' + 's' * (n > 1) for n in REGIONS)} |",
        "|---" * (len(REGIONS) + 1) + "|",
    ]
    table = {}
    for gib in MEMORY_GIB:
        held = [int(SHARE * (gib << 30) / (each * regions)) for regions in REGIONS]
        table[gib] = dict(zip(REGIONS, held, strict=True))
        lines.append(f"| {gib} GiB | {' | '.join(f'{count:,}' for count in held)} |")
    figures = {"bytes_each": each, "studies": table}
    results.write(arguments.results, "index-capacity", figures, "\n".join(lines))


if __name__ == "__main__":
    main()
