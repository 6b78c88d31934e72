"""A question in words: the cases most alike in a region, asked by the network's decoder what the words say."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch
from flask import Response

from radir_pacs.callers import AuditEvent
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.config import Settings
from radir_pacs.delivery.report import report_of
from radir_pacs.encode import Bundle, Encoder
from radir_pacs.encode.network import RadirNetwork, spread
from radir_pacs.encode.tokens import encoder_id
from radir_pacs.errors import BadInput, EngineEmptied, IndexRefused, NotReady
from radir_pacs.index import Partition
from radir_pacs.models import Registry
from radir_pacs.query import Searcher
from radir_pacs.query import words as words_module
from radir_pacs.query.partitions import Partitions
from radir_pacs.query.words import LEAST_CASES, measured
from radir_pacs.scopes import Scope
from radir_pacs.similar_cases import Filters, NoticeCode, Query, SimilarCaseList, WeightedRegion, Words, WordsOf
from radir_pacs.types import ImageKind, ImageTokens, KeptTokens
from radir_pacs.web.dicomweb.json_model import warn
from tests.catalogue_material import TESTER, add, header
from tests.integration.conftest import Web
from tests.model_material import seeded_bundle, seeded_bundle_over_a_program
from tests.services import need_module

COUNT = 30
WITHOUT = 31  # a study of which no tokens are kept
HIDDEN = (2, 3)  # of an earlier year
TEXT = "outer third of the left lung"


@dataclass(frozen=True)
class House:
    settings: Settings
    catalogue: Catalogue
    bundle: Bundle
    tokens: dict[str, np.ndarray[Any, np.dtype[np.float16]]]

    def asked(self, text: str = TEXT, of: WordsOf = WordsOf.REGION, study: int = 1, **more: Any) -> SimilarCaseList:
        with self.searcher() as searcher:
            return searcher.similar(query(text, of, study, **more), TESTER)

    @contextmanager
    def searcher(self) -> Iterator[Searcher]:
        searcher = Searcher(self.catalogue, self.settings)
        try:
            yield searcher
        finally:
            searcher.close()


def query(text: str = TEXT, of: WordsOf = WordsOf.REGION, study: int = 1, **more: Any) -> Query:
    given: dict[str, Any] = {"study_uid": f"2.25.{study}", "region": "left_lung", "words": Words(text=text, of=of)}
    return Query(**(given | more))


@pytest.fixture
def house(settings: Settings, catalogue: Catalogue, tmp_path: Path) -> House:
    return filled(seeded_bundle(ImageKind.CXR), settings, catalogue, tmp_path)


def filled(model: Bundle, settings: Settings, catalogue: Catalogue, tmp_path: Path) -> House:
    """Studies of patients of their own, each with image tokens of a network and what it decodes from them."""
    bundle = model.save(tmp_path / "bundle")
    settings = replace(settings, models=(str(tmp_path / "bundle"),))
    Registry(catalogue, settings).adopt()
    encoder, rng = Encoder(bundle, "cpu"), np.random.default_rng(0)
    grid = bundle.network.config.stems[ImageKind.CXR].grid  # type: ignore[union-attr]
    tokens = {}
    for study in range(1, COUNT + 2):
        day = date(2019 if study in HIDDEN else 2020, 1, 1)
        add(catalogue, header(study, patient_sex="FM"[study % 2], study_date=day))
        catalogue.studies.complete_now(f"2.25.{study}")
        values = rng.normal(size=(int(np.prod(grid)), bundle.network.config.width)).astype(np.float16)  # type: ignore[union-attr]
        made = ImageTokens(encoder=encoder_id(bundle) or "", kind=ImageKind.CXR, lateral=False, values=values)
        uid = f"2.25.{study}"
        kept = KeptTokens(study_uid=uid, series_uid=f"{uid}.1", sop_uid=f"{uid}.1.1", revision=1, tokens=made)
        [found] = encoder.decode([kept])
        assert not isinstance(found, Exception)
        catalogue.encodings.save(found if study == WITHOUT else replace(found, tokens=made), 1)
        if study != WITHOUT:
            tokens[uid] = values
    return House(settings, catalogue, bundle, tokens)


def raw_answers(house: House, text: str) -> dict[str, torch.Tensor]:
    """What the network answers to a text, of each study with tokens."""
    network = house.bundle.network
    assert isinstance(network, RadirNetwork)
    with torch.inference_mode():
        query = network.text(torch.tensor(house.bundle.tokenizer.batch([text])))
        return {uid: network.decode(torch.from_numpy(t).float()[None], query)[0, 0] for uid, t in house.tokens.items()}


def test_cases_are_ordered_by_the_networks_answers_to_the_words(house: House) -> None:
    answer = house.asked(limit=40)
    expected = check_order(house, answer)
    plain = house.asked(words=None, limit=40)
    assert [case.study.study_uid for case in plain.cases] != expected, "the region itself orders otherwise"
    cosines = {case.study.study_uid: case.score for case in plain.cases}
    assert all(case.by_region[0] == pytest.approx(cosines[case.study.study_uid], abs=1e-6) for case in answer.cases)


def check_order(house: House, answer: SimilarCaseList) -> list[str]:
    """Assert that cases and scores are the network's own, and return their studies in order."""
    network = house.bundle.network
    assert isinstance(network, RadirNetwork)
    answers = raw_answers(house, TEXT)
    raw = network.head.raw(torch.stack(list(answers.values()))[:, None])
    with torch.inference_mode():
        mean = raw.mean(0)
        unit = network.head.measured_from(mean, spread(raw, mean), raw)[1][:, 0].numpy()
    scores = dict(zip(answers, (unit @ unit[0]).tolist(), strict=True))
    expected = sorted((uid for uid in scores if uid != "2.25.1"), key=lambda uid: -scores[uid])
    assert [case.study.study_uid for case in answer.cases] == expected
    assert [case.score for case in answer.cases] == pytest.approx([scores[uid] for uid in expected], abs=1e-4)
    return expected


def test_a_program_from_elsewhere_is_not_opened_to_answer_words(
    settings: Settings, catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The web processes, which face the network, leave a stranger's graph to the workers."""
    onnx, onnxruntime = need_module("onnx"), need_module("onnxruntime")
    house = filled(seeded_bundle_over_a_program(), settings, catalogue, tmp_path)
    opened: list[str] = []

    def refused(*_given: object, **_more: object) -> None:
        opened.append("a stranger's graph")
        raise AssertionError("opened")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refused)
    monkeypatch.setattr(onnx, "load_model_from_string", refused)
    check_order(house, house.asked(limit=40))
    assert len(house.asked("cavity", WordsOf.FINDING, limit=40).cases) == COUNT - 1
    assert opened == []
    [program] = (house.settings.home / "models").rglob("*.onnx")
    program.write_bytes(program.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(BadInput, match="is altered or cannot be read"):
        house.asked()
    assert opened == [], "it is hashed all the same"


def test_a_finding_in_words_orders_by_how_much_each_case_shows_it(house: House) -> None:
    text = "cavity in the left lung"
    answer = house.asked(text, WordsOf.FINDING, limit=40)
    network = house.bundle.network
    assert isinstance(network, RadirNetwork)
    with torch.inference_mode():
        said = {uid: float(network.presence(one).sigmoid()) for uid, one in raw_answers(house, text).items()}
    expected = sorted((uid for uid in said if uid != "2.25.1"), key=lambda uid: -said[uid])
    assert [case.study.study_uid for case in answer.cases] == expected
    assert [case.score for case in answer.cases] == pytest.approx([said[uid] for uid in expected], abs=1e-4)


def test_every_answer_carries_what_was_measured_and_what_was_left_out(house: House) -> None:
    notices = {notice.code: notice.values for notice in house.asked().notices}
    said = notices[NoticeCode.WORDS_OF_A_REGION]
    assert said == {"words": TEXT, "count": COUNT - 1, "region": "left_lung", **measured(WordsOf.REGION)}
    assert notices[NoticeCode.WITHOUT_TOKENS] == {"count": 1}
    finding = {n.code: n.values for n in house.asked("mass", WordsOf.FINDING).notices}[NoticeCode.WORDS_OF_A_FINDING]
    assert finding["found"] == measured(WordsOf.FINDING)["found"]


def test_no_more_cases_are_looked_at_than_the_setting_says(house: House) -> None:
    few = replace(house, settings=replace(house.settings, words_cases=LEAST_CASES + 2))
    plain = [case.study.study_uid for case in house.asked(words=None, limit=LEAST_CASES + 2).cases]
    answer = few.asked(limit=40)
    assert {case.study.study_uid for case in answer.cases} == set(plain) - {f"2.25.{WITHOUT}"}
    assert not answer.exact and answer.more == 0


def test_pages_are_counted_off_by_offset(house: House) -> None:
    whole, second = house.asked(limit=20), house.asked(limit=8, offset=8)
    assert [c.study.study_uid for c in second.cases] == [c.study.study_uid for c in whole.cases[8:16]]
    assert second.cases[0].rank == 9 and second.more == COUNT - 1 - 16 and second.following is None


def test_rights_and_filters_act_before_the_words(house: House) -> None:
    answer = house.asked(filters=Filters(scope=Scope(since=date(2020, 1, 1))), limit=40)
    assert len(answer.cases) == COUNT - 1 - len(HIDDEN)
    assert not {f"2.25.{study}" for study in HIDDEN} & {case.study.study_uid for case in answer.cases}
    [said] = [notice.values for notice in answer.notices if notice.code is NoticeCode.WORDS_OF_A_REGION]
    assert said["count"] == len(answer.cases), "what is outside the scope is not counted either"
    with pytest.raises(BadInput, match=f"at least {LEAST_CASES} cases"):
        house.asked(filters=Filters(sexes=frozenset({"F"})))


def test_no_case_that_may_answer_is_no_error(house: House) -> None:
    assert house.asked(filters=Filters(sexes=frozenset({"O"}))).cases == ()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"text": "right lung"}, "trained on the right lung"),
        ({"study": WITHOUT}, "no image tokens of the study"),
        ({"text": "£"}, "no word that the model can read"),
    ],
)
def test_what_cannot_be_asked_in_words_is_refused(house: House, more: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        house.asked(**more)


def test_a_site_can_turn_words_off(house: House) -> None:
    with pytest.raises(BadInput, match="turned off"):
        replace(house, settings=replace(house.settings, words_cases=0)).asked()


def test_words_are_of_one_region_and_have_bounds() -> None:
    for wrong in ("", "  ", "x" * 201, "left\0lung", "left\x1b[2Jlung", "left\nlung", "left\u202elung"):
        with pytest.raises(ValueError, match="1 to 200 printable characters"):
            Words(text=wrong)
    with pytest.raises(ValueError, match="one region"):
        Query(study_uid="1", region="chest", also=(WeightedRegion(key="heart"),), words=Words(text=TEXT))


def test_an_answer_in_words_makes_no_structured_report(house: House) -> None:
    with pytest.raises(BadInput, match="of a region"):
        report_of(house.asked(), house.catalogue, house.settings)


def test_by_the_command(house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("radir_pacs.cli.similar.must_run", lambda settings: None)
    flags = ["--home", str(house.settings.home), "--database-url", house.settings.database_url]
    assert main(["similar", "2.25.1", "--words", TEXT, "--limit", "40", "--json", *flags]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["words"] == {"text": TEXT, "of": "region"} and said["region_answered"] == "left_lung"
    assert [case["study"] for case in said["cases"]] == [c.study.study_uid for c in house.asked(limit=40).cases]
    assert any(measured(WordsOf.REGION)["found"] in line for line in said["warnings"])


def test_over_dicomweb(house: House, serve: Callable[..., Web]) -> None:
    web = serve(models=house.settings.models, home=house.settings.home)
    ask = {"words": TEXT, "limit": "40"}
    answer = web.get("/studies/2.25.1/similar", "application/dicom+json", params=ask)
    assert answer.status_code == 200, answer.text
    assert [row["0020000D"]["Value"][0] for row in answer.json()] == [
        case.study.study_uid for case in house.asked(limit=40).cases
    ], "the region is the one that the words name"
    said = answer.headers["Warning"]
    assert f"'{TEXT}'" in said and measured(WordsOf.REGION)["found"] in said
    finding = {**ask, "words": "cavity", "wordsof": "finding", "anatomy": "left lung"}
    assert web.get("/studies/2.25.1/similar", "application/dicom+json", params=finding).status_code == 200
    unfit = {"words": "outer\0\v\x1b third"}
    for wrong in ({"wordsof": "mood"}, {"words": "x" * 201}, unfit, {"anatomy": "heart,left lung"}):
        refused = web.get("/studies/2.25.1/similar", "application/dicom+json", params={**ask, **wrong})
        assert refused.status_code == 400, wrong


def test_what_is_of_a_region_is_refused_before_anything_is_searched(house: House, serve: Callable[..., Web]) -> None:
    web = serve(models=house.settings.models, home=house.settings.home)
    ask = {"words": TEXT}
    answers = [
        web.get("/studies/2.25.1/similar", "application/dicom", params=ask),
        requests.post(f"{web.base}/studies/2.25.1/similar", params=ask, timeout=30),
        requests.get(f"{web.root}/api/studies/2.25.1/similar", params=ask, timeout=30),
        requests.post(f"{web.root}/api/studies/2.25.1/report", params=ask, timeout=30),
    ]
    assert [answer.status_code for answer in answers] == [400] * 4
    assert all("in words" in answer.text for answer in answers)
    assert house.catalogue.audit.events(event=AuditEvent.ASKED) == (), "nobody was shown a case"


def test_the_trail_tells_a_question_in_words_from_one_about_the_region(house: House) -> None:
    house.asked()
    house.asked("mass", WordsOf.FINDING)
    house.asked(words=None)
    details = [event.detail for event in house.catalogue.audit.events(event=AuditEvent.ASKED)]
    assert [detail.get("words_of") for detail in details] == [None, "finding", "region"]
    assert TEXT not in json.dumps([dict(detail) for detail in details]), "what was typed may name somebody"


def test_no_control_character_reaches_a_warning() -> None:
    response = Response()
    warn(response, "http://here", "a\0b\x1bc\x7fd\r\ne\x85f")
    assert response.headers["Warning"] == "299 http://here: a b c d  e?f"


def test_a_bundle_that_was_altered_is_not_told_as_missing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    real = Bundle.load

    def load(folder: Path, **how: bool) -> Bundle:
        read.append(folder)
        return real(folder, **how)

    monkeypatch.setattr(Bundle, "load", load)
    [weights] = (house.settings.home / "models").rglob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x7f" * 4)
    with house.searcher() as searcher:
        for _ in range(2):
            with pytest.raises(BadInput, match="is altered or cannot be read"):
                searcher.similar(query(), TESTER)
    assert len(read) == 1, "a large file is not hashed for every question"


def test_few_kept_tokens_are_no_fault_of_the_filters(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words_module, "LEAST_CASES", COUNT)
    with pytest.raises(BadInput, match=f"kept of {COUNT - 1} of the {COUNT} here: ask for a region"):
        house.asked()


def test_a_machine_without_the_bundle_says_so(house: House) -> None:
    shutil.rmtree(house.settings.home / "models")
    with pytest.raises(BadInput, match="is not on this machine"):
        house.asked()
    plain = house.asked(words=None)
    assert len(plain.cases) == 10, "a region needs no network"


class Held:
    """Readings of image tokens, which wait for ``go``. ``read``: how many cases each asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, catalogue: Catalogue) -> None:
        self.began, self.go, self.read = threading.Event(), threading.Event(), list[int]()
        self._real = catalogue.image_tokens.of_encodings
        monkeypatch.setattr(catalogue.image_tokens, "of_encodings", self._of_encodings)

    def _of_encodings(self, encoder: str, ids: Sequence[int]) -> dict[int, KeptTokens]:
        self.read.append(len(ids))
        self.began.set()
        assert self.go.wait(60)
        return self._real(encoder, ids)


def test_a_second_question_in_words_is_not_kept_waiting(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words_module, "WAIT_S", 0.05)
    monkeypatch.setattr(words_module, "BATCH", 8)
    threads: list[tuple[int, str]] = []
    monkeypatch.setattr(torch, "set_num_threads", lambda n: threads.append((n, threading.current_thread().name)))
    expected = house.asked(limit=40)
    held = Held(monkeypatch, house.catalogue)
    with house.searcher() as searcher, ThreadPoolExecutor(1) as other:
        first = other.submit(searcher.similar, query(limit=40), TESTER)
        assert held.began.wait(60)
        with pytest.raises(NotReady, match="other questions in words"):
            searcher.similar(query(), TESTER)
        assert searcher.similar(query(words=None), TESTER).cases, "a region is asked meanwhile"
        held.go.set()
        assert [case.study.study_uid for case in first.result(60).cases] == [c.study.study_uid for c in expected.cases]
        assert searcher.similar(query(), TESTER).cases, "and words afterwards"
    assert max(held.read) == 8, "tokens are held a batch at a time"
    assert {n for n, _ in threads} == {house.settings.torch_threads}
    assert all(name.startswith("words") for _, name in threads), "in the one thread that computes"


def test_more_than_a_few_do_not_even_wait(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words_module, "WAIT_S", 60.0)
    with house.searcher() as searcher:
        while searcher._words._places.acquire(blocking=False):
            pass
        held = Held(monkeypatch, house.catalogue)
        with pytest.raises(NotReady, match="other questions in words"):
            searcher.similar(query(), TESTER)
    assert held.read == []


def test_a_question_in_words_does_not_outlive_the_searcher(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words_module, "BATCH", 8)
    held = Held(monkeypatch, house.catalogue)
    with house.searcher() as searcher, ThreadPoolExecutor(2) as others:
        asked = others.submit(searcher.similar, query(), TESTER)
        assert held.began.wait(60)
        others.submit(searcher._words.close)
        assert searcher._words._closing.wait(60)
        held.go.set()
        with pytest.raises(NotReady, match="ends"):
            asked.result(60)
    assert held.read == [8]


def test_an_index_that_is_lost_is_filled_anew_for_words_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[IndexRefused] = []
    monkeypatch.setattr(Partitions, "lost", lambda self, partition, error: lost.append(error))

    def emptied(self: Partition, *asked: object) -> None:
        raise EngineEmptied("nothing is there", (self.model_id, self.region))

    monkeypatch.setattr(Partition, "search", emptied)
    with pytest.raises(NotReady, match="filled anew"):
        house.asked()
    assert len(lost) == 1


def test_a_study_to_which_an_image_came_late_is_still_asked_about(house: House) -> None:
    before = house.asked(limit=40)
    add(house.catalogue, header(1, number=2, patient_sex="F", study_date=date(2020, 1, 1)))
    assert house.catalogue.image_tokens.of(encoder_id(house.bundle) or "", ["2.25.1"]) == (), (
        "of the study as it is now"
    )
    after = house.asked(limit=40)
    assert [case.study.study_uid for case in after.cases] == [case.study.study_uid for case in before.cases]


def test_a_finding_is_looked_for_whether_or_not_the_studys_own_tokens_are_kept(house: House) -> None:
    assert len(house.asked("cavity", WordsOf.FINDING, WITHOUT, limit=40).cases) == COUNT
