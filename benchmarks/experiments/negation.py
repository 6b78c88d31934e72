"""Negation scope and sentence splitting: ours beside medspaCy's ConText and pySBD, where they are installed.

    python -m benchmarks.experiments.negation [--data ../shared/data]

The spans of findings are ours in every row; a peer only decides which of them are negated, uncertain or historical
(ConText), or where sentences end (pySBD). Judged by label F1 on the reporting half. Peers: pip install medspacy pysbd.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import results
from radir_pacs.reports import Certainty, Finding, FindingKind, Miner, Polarity
from radir_pacs.reports.labels import label_set
from radir_pacs.reports.reading import read_sentence, shifted
from radir_pacs.reports.sections import split_sections

from .corpora import Half, LabelledReport, read_ct_rate_sample, read_open_i
from .label_measures import LabelScore

Read = Callable[[LabelledReport], tuple[Finding, ...]]


def ours(report: LabelledReport, miner: Miner) -> tuple[Finding, ...]:
    return miner.mine(report.text, report.kind).findings


def with_context(nlp: Any, report: LabelledReport, miner: Miner) -> tuple[Finding, ...]:
    """Our findings with ConText's assertion for each: every sentence is one document, our spans its entities."""
    decided: list[Finding] = []
    by_sentence: dict[tuple[int, int], list[Finding]] = {}
    for finding in ours(report, miner):
        by_sentence.setdefault(finding.sentence, []).append(finding)
    for (start, end), findings in by_sentence.items():
        document = nlp.make_doc(report.text[start:end])
        for token in document:
            token.is_sent_start = token.i == 0
        spans: dict[Any, Finding] = {}
        for finding in findings:
            span = document.char_span(finding.span[0] - start, finding.span[1] - start, alignment_mode="expand")
            if span is not None and not any(span.start < other.end and other.start < span.end for other in spans):
                spans[span] = finding
        document.ents = [type(span)(document, span.start, span.end, label="FINDING") for span in spans]
        document = nlp.get_pipe("medspacy_context")(document)
        entities = {(entity.start, entity.end): entity for entity in document.ents}
        decided += [finding for finding in findings if finding not in spans.values()]
        for span, finding in spans.items():
            decided.append(_judged(finding, entities[span.start, span.end]._))
    return tuple(decided)


def _judged(finding: Finding, verdict: Any) -> Finding:
    if finding.kind is FindingKind.NORMAL and finding.concept == "abnormality" and not verdict.is_negated:
        return finding  # "lungs are clear" holds no negation word: ConText does not assess it
    certainty = Certainty.CERTAIN
    if verdict.is_hypothetical:
        certainty = Certainty.HYPOTHETICAL
    elif verdict.is_historical:
        certainty = Certainty.HISTORICAL
    elif verdict.is_uncertain:
        certainty = Certainty.POSSIBLE
    return finding._replace(polarity=Polarity.ABSENT if verdict.is_negated else Polarity.PRESENT, certainty=certainty)


def with_pysbd(segmenter: Any, report: LabelledReport, miner: Miner) -> tuple[Finding, ...]:
    found: list[Finding] = []
    for section in split_sections(report.text, miner.lexicon.headings):
        if section.name not in miner.lexicon.mined_sections:
            continue
        for span in segmenter.segment(report.text[section.start : section.end]):
            begin = section.start + span.start
            for finding in read_sentence(span.sent, miner.lexicon).findings:
                found.append(shifted(finding, begin, (begin, begin + len(span.sent)), section.name, False, None))
    return tuple(found)


def readers(miner: Miner) -> Iterator[tuple[str, Read]]:
    yield "ours", lambda report: ours(report, miner)
    if importlib.util.find_spec("medspacy"):
        import medspacy
        import spacy

        nlp = spacy.blank("en")
        nlp.add_pipe("medspacy_context")
        yield f"medspaCy {medspacy.__version__} ConText", lambda report: with_context(nlp, report, miner)
    if importlib.util.find_spec("pysbd"):
        import pysbd

        segmenter = pysbd.Segmenter(language="en", clean=False, char_span=True)
        yield "pySBD sentences", lambda report: with_pysbd(segmenter, report, miner)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    args = arguments.parse_args()
    reports = [
        report
        for report in chain(read_open_i(args.data / "reports_iu"), read_ct_rate_sample(args.data / "reports_ct"))
        if report.half is Half.REPORTING and report.labels
    ]
    miner = Miner(remember=0)
    names = ("gold14", "findings95", "ct18")
    table = Table(title=f"reporting half, {len(reports)} reports; micro-F1 by label set")
    for column in ("reader", *names, "reports/s"):
        table.add_column(column, justify="left" if column == "reader" else "right")
    for reader, read in readers(miner):
        scores = {name: LabelScore() for name in names}
        began = time.process_time()
        readings = [(report, read(report)) for report in reports]
        seconds = time.process_time() - began
        for report, findings in readings:
            for name, gold in report.labels.items():
                scores[name].add(label_set(name, miner.lexicon).of(findings), gold)
        table.add_row(reader, *(f"{scores[name].micro.f1:.3f}" for name in names), f"{len(reports) / seconds:,.0f}")
    console = Console()
    console.print(results.origin(results.made()), soft_wrap=True)
    console.print(table)


if __name__ == "__main__":
    main()
