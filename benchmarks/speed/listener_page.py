"""The page of `benchmarks.speed.listener`: what was received, and what bounds it."""

from __future__ import annotations

import os
import statistics


def table(rows: list[dict[str, object]], kind: str) -> list[list[str]]:
    """A line per receiver: the median rate at each number of associations, ours also as a multiple of Orthanc's."""
    chosen = [row for row in rows if row["kind"] == kind]
    lines = [["receiver", *(f"{n} assoc." for n in dict.fromkeys(row["associations"] for row in chosen))]]
    for name in dict.fromkeys(str(row["receiver"]) for row in chosen):
        cells = [name]
        for row in (row for row in chosen if row["receiver"] == name):
            rate = statistics.median(row["per_second"])  # type: ignore[arg-type]
            peer = [r for r in chosen if r["receiver"] == "Orthanc" and r["associations"] == row["associations"]]
            pairs = zip(row["per_second"], peer[0]["per_second"], strict=True) if peer else ()  # type: ignore[call-overload]
            times = [ours / theirs for ours, theirs in pairs]
            beside = f" (x {statistics.median(times):.2f})" if times and name != "Orthanc" else ""
            cells.append(f"{rate:.0f}{beside}")
        lines.append(cells)
    return lines


def processor_table(rows: list[dict[str, object]], kind: str) -> list[list[str]]:
    """A line per receiver: median processor milliseconds an instance, of the receiver + its database + the sender."""
    chosen = [row for row in rows if row["kind"] == kind]
    lines = [["receiver", *(f"{n} assoc." for n in dict.fromkeys(row["associations"] for row in chosen))]]
    for name in dict.fromkeys(str(row["receiver"]) for row in chosen):
        cells = [name]
        for row in (row for row in chosen if row["receiver"] == name):
            spent: list[tuple[float, float, float]] = row["processor_ms"]  # type: ignore[assignment]
            own, database, sender = (statistics.median(part) for part in zip(*spent, strict=True))
            cells.append(f"{own:.2f} + {database:.2f} + {sender:.2f}" if database else f"{own:.2f} + {sender:.2f}")
        lines.append(cells)
    return lines


def what_bounds(rows: list[dict[str, object]], kind: str) -> str:
    """The rate that the processors leave, and the one that 1.2 times Orthanc would be, in words."""
    cores, said = os.cpu_count() or 1, []
    for row in (row for row in rows if row["kind"] == kind and row["receiver"] == "RadIR-PACS"):
        peer = [
            r for r in rows if (r["kind"], r["associations"], r["receiver"]) == (kind, row["associations"], "Orthanc")
        ]
        if not peer:
            continue
        wanted = 1.2 * statistics.median(peer[0]["per_second"])  # type: ignore[arg-type]
        most_ms, used_ms = 1000 * cores / wanted, statistics.median(map(sum, row["processor_ms"]))  # type: ignore[call-overload]
        rate = statistics.median(row["per_second"])  # type: ignore[arg-type]
        said.append(
            f"{row['associations']} associations: {used_ms:.1f} ms of processor an instance, so at most "
            f"{1000 * cores / used_ms:.0f} a second, of which {rate:.0f} were reached; 1.2 times Orthanc would be "
            f"{wanted:.0f}, for which an instance may take {most_ms:.1f} ms"
        )
    return "What bounds RadIR-PACS on " + f"{cores} cores, sender included. " + "; ".join(said) + "."


def page(
    rows: list[dict[str, object]], held: list[dict[str, object]], kinds: list[str], *, rounds: int, small_px: int
) -> str:
    """The result page in Markdown."""
    text = [
        "# Receiving by C-STORE",
        "Written by `python -m benchmarks.speed.listener`, which says how it is measured: instances per second, the "
        f"median of {rounds} rounds in which the receivers take turns, sender on the same machine; in brackets "
        "the median of the ratio to Orthanc in the same round.",
    ]
    for kind in kinds:
        text += [f"## {kind}", _markdown(table(rows, kind))]
        text += ["Processor milliseconds an instance: receiver (+ database) + sender, medians."]
        text += [_markdown(processor_table(rows, kind)), what_bounds(rows, kind)]
    if held:
        lines = [["instances received", "resident MiB of each listener process"]]
        lines += [[f"{row['instances']:,}", ", ".join(map(str, row["resident_mib"]))] for row in held]  # type: ignore[call-overload]
        text += [f"## Memory, slices of {small_px} x {small_px}, 4 associations", _markdown(lines)]
    return "\n\n".join(text)


def _markdown(lines: list[list[str]]) -> str:
    head, *body = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *body])
