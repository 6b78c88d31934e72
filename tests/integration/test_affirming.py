"""A finding in a query is a condition of the search: the path into stored findings agrees with the findings."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.query import Searcher
from radir_pacs.reports import PARSER, ItemSimilarity, affirming_path, findings_to_json, mine, similarity_items
from radir_pacs.reports.explain import counts_as
from radir_pacs.similar_cases import Filters, Query
from tests.catalogue_material import MODEL, TESTER, encoded, register

REPORTS = (
    "FINDINGS: Consolidation in the left lower lobe. No pneumothorax.",
    "FINDINGS: No consolidation in the left lower lobe. Consolidation in the right upper lobe.",
    "FINDINGS: Possible consolidation in the lingula. Moderate left pleural effusion.",
    "INDICATION: Evaluate for consolidation.\nFINDINGS: The lungs are clear.",
    "FINDINGS: Left lower lobe nodule of 8 mm. Stable small pleural effusion on the left.",
    "FINDINGS: History of consolidation in the left lower lobe, resolved. Cardiomegaly.",
    "FINDINGS: Bibasilar atelectasis. Left lower lobe pneumonia.",
    "FINDINGS: Left lower lobe airspace disease.",
)
ASKED = [
    (concept, region)
    for concept in ("consolidation", "pleural_effusion", "nodule", "opacity", "pneumothorax", "atelectasis")
    for region in ("chest", "left_lung", "left_lower_lobe", "lingula", "right_lung", "left_pleura", "heart")
]


def report(catalogue: Catalogue, study: int, text: str) -> None:
    catalogue.reports.add(
        f"2.25.{study}", body=text, source="test", findings=findings_to_json(mine(text).findings), parser=PARSER
    )


def affirms(text: str, concept: str, region: str) -> bool:
    """The same condition, evaluated on the findings themselves."""
    similarity = ItemSimilarity()
    items = similarity_items(mine(text).findings).get(region, ())
    return any(
        item.present and (similarity.is_kind_of(item.concept, concept) or counts_as(concept, item.concept))
        for item in items
    )


@pytest.fixture(scope="module")
def truth() -> dict[tuple[str, str], list[int]]:
    found = {
        (concept, region): [study for study, text in enumerate(REPORTS, 1) if affirms(text, concept, region)]
        for concept, region in ASKED
    }
    assert sum(map(bool, found.values())) > 8, "the reports say nothing that is asked for"
    return found


def test_the_path_finds_the_reports_that_affirm(
    catalogue: Catalogue, truth: dict[tuple[str, str], list[int]], database_url: str
) -> None:
    register(catalogue)
    ids = {encoded(catalogue, study): study for study in range(1, len(REPORTS) + 2)}
    for study, text in enumerate(REPORTS, 1):
        report(catalogue, study, text)
    for (concept, region), studies in truth.items():
        path = affirming_path(concept, region)
        labels = catalogue.cases.affirming(MODEL, path)
        assert sorted(ids[label] for label in labels.tolist()) == studies, (concept, region)
        among = np.array(sorted(ids)[:5], np.int64)
        some = catalogue.cases.affirming(MODEL, path, among)
        assert some.tolist() == [label for label in labels.tolist() if label in among]
    with psycopg.connect(database_url) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT study_uid FROM report WHERE findings @? %s::text::jsonpath",
            [affirming_path("consolidation", "left_lung")],
        ).fetchall()
    assert "report_by_finding" in str(plan)


def test_the_few_that_affirm_are_found_however_unlike(catalogue: Catalogue, settings: Settings) -> None:
    register(catalogue)
    for study in range(1, 62):
        encoded(catalogue, study)
    searcher = Searcher(catalogue, settings)
    every = searcher.similar(Query(study_uid="2.25.1", region="left_lung", limit=60), TESTER)
    least, middle = every.cases[-1].study.study_uid, every.cases[30].study.study_uid
    for uid in (least, middle):
        report(catalogue, int(uid.removeprefix("2.25.")), REPORTS[0])
    report(catalogue, int(every.cases[0].study.study_uid.removeprefix("2.25.")), REPORTS[1])
    wanted = Filters(finding="consolidation")
    answer = searcher.similar(Query(study_uid="2.25.1", region="left_lung", limit=1, filters=wanted), TESTER)
    assert [case.study.study_uid for case in answer.cases] == [middle]
    assert (answer.cases[0].rank, answer.more) == (1, 1)
    assert answer.region_answered.key == "left_lung", "few cases with a finding are no reason to ask another region"
    rest = searcher.similar(Query(study_uid="2.25.1", region="left_lung", limit=5, offset=1, filters=wanted), TESTER)
    assert [case.study.study_uid for case in rest.cases] == [least]
    assert rest.cases[0].score == pytest.approx(every.cases[-1].score, abs=1e-6)


def test_a_finding_that_is_none_is_refused(catalogue: Catalogue) -> None:
    for text in ('x" || true', "", "no_such_finding"):
        with pytest.raises(BadInput, match="there is no finding"):
            affirming_path(text, "chest")
