"""How soon the similar cases say what a report says now: reports before images, correction, merge, cancellation.

``python -m benchmarks.speed.report_story [--runs 3]`` writes docs/results/report-story.md. `radir up` as an
administrator starts it, on a synthetic hospital; messages by MLLP, questions as a sidebar asks them, every 20 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks import results
from tests.conftest import free_port
from tests.hl7_material import Peer
from tests.report_story import Story
from tests.stack import running_stack

_FOLDER = Path(__file__).parents[2] / "docs" / "results"
BOUND_S = 2.0


def story(folder: Path, hospital: Path) -> dict[str, float]:
    """Seconds of each step, in a new installation in ``folder``."""
    port = free_port()
    studies = json.loads((hospital / "truth.json").read_text())["studies"]
    with running_stack(folder / "home", hl7_port=str(port), min_cases="1") as stack, Peer(port, timeout_s=60) as ris:
        return dict(Story(stack, ris, (hospital, studies), folder / "images").tell())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=_FOLDER)
    args = parser.parse_args()
    took: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="radir-story-") as folder:
        hospital = Path(folder) / "hospital"
        phantom = [sys.executable, "-m", "radir_pacs.cli", "phantom", "--out", str(hospital)]
        subprocess.run([*phantom, "--patients", "6", "--seed", "3"], check=True, capture_output=True)
        for run in range(args.runs):
            (Path(folder) / str(run)).mkdir()
            for step, seconds in story(Path(folder) / str(run), hospital).items():
                took[step].append(seconds)
    worst_s = max(max(times) for times in took.values())
    lines = [
        "# From a message to the explanations",
        "",
        f"Seconds from the acknowledgement of a message to the first answer in which the similar cases say what holds"
        f" now, {args.runs} runs; of the first step, from the first answer that has the case at all. Asked for are"
        f" {BOUND_S:.0f} s; the longest was {worst_s:.2f} s.",
        "",
        "| step | median, s | longest, s |",
        "|---|---|---|",
        *(f"| {step} | {statistics.median(times):.2f} | {max(times):.2f} |" for step, times in took.items()),
    ]
    figures = {step: [round(seconds, 3) for seconds in times] for step, times in took.items()}
    print(results.write(args.out, "report-story", figures, "\n".join(lines)).read_text())


if __name__ == "__main__":
    main()
