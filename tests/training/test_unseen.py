"""Withheld names, and nothing else, are left out of a training; any name can be queried in words."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.experiments import word_queries, words_measured
from benchmarks.experiments.auc import auc
from radir_pacs import anatomy
from radir_pacs.encode import Bundle
from radir_pacs.encode.external import ExternalNetwork
from radir_pacs.encode.external_config import ExternalConfig
from radir_pacs.encode.local_text import UnreadText
from radir_pacs.encode.network import RadirNetwork, spread
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind
from radir_training.data.statements import ABSENT, common_concepts, model_regions
from radir_training.data.studies import StudySet
from radir_training.evaluation.embeddings import encoded
from radir_training.evaluation.resample import Bootstrap
from radir_training.learning.checkpoints import Checkpoints
from radir_training.learning.initial_model import initial_model
from radir_training.learning.recipe import OURS
from radir_training.learning.train import Training, train
from radir_training.learning.training_set import phrase
from tests.onnx_material import onnx_toy
from tests.services import ROOT
from tests.training.toy import TOY, fingerprint, toy_set

SHORT = replace(OURS, epochs=1, batch=16, augment=False)
WITHHELD = ("left_upper_lobe", "cardiomegaly")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data() -> StudySet:
    return toy_set(600, seed=0)


@pytest.fixture(scope="module")
def bundle(data: StudySet) -> Bundle:
    return train(TOY, data, replace(SHORT, epochs=6, batch=32, learning_rate=2e-3))


def test_withheld_names_are_left_out_and_nothing_else(data: StudySet) -> None:
    whole, part = Training(TOY, data, SHORT), Training(TOY, data, replace(SHORT, withheld=WITHHELD))
    keys, kept = ([region.key for region in one.training_set.regions] for one in (whole, part))
    assert kept == [key for key in keys if key != "left_upper_lobe"] == list(part.network.regions) != keys
    concepts, kept_concepts = whole.network.findings, part.network.findings
    assert kept_concepts == tuple(one for one in concepts if one != "cardiomegaly") != concepts
    (texts, _), (kept_texts, _) = whole.training_set.phrases(), part.training_set.phrases()
    about = [text for text in texts if "left upper lobe" in text or "cardiomegaly" in text]
    assert about and kept_texts == [text for text in texts if text not in about]
    rows, columns = [keys.index(key) for key in kept], [concepts.index(one) for one in kept_concepts]
    grades = whole.training_set.labels.grades[:, rows][:, :, columns]
    np.testing.assert_array_equal(part.training_set.labels.grades, grades)
    nodule, left_lung = kept_concepts.index("nodule"), kept.index("left_lung")
    there = [any(item.region == "left_upper_lobe" and item.present for item in said["chest"]) for said in data.said]
    assert any(there) and (part.training_set.labels.grades[there, left_lung, nodule] != ABSENT).all()


def test_without_withheld_names_everything_is_asked(data: StudySet) -> None:
    initial = initial_model(TOY, data, None, None)
    assert initial.regions == model_regions(data.kind, data.said)
    assert initial.network.findings == common_concepts(data.said, 3)


@pytest.mark.parametrize("name", ["chest", "left_uper_lobe", "pneumothorax"])
def test_what_would_not_be_asked_anyway_cannot_be_withheld(name: str, data: StudySet) -> None:
    with pytest.raises(BadInput, match=f"{name} cannot be withheld"):
        Training(TOY, data, replace(SHORT, withheld=(name,)))


def test_what_lives_on_the_labels_of_a_withheld_region_goes_with_it(data: StudySet) -> None:
    """The reports mention nothing below the heart, so those names stand for the heart (``stand_ins``)."""
    whole, part = Training(TOY, data, SHORT), Training(TOY, data, replace(SHORT, withheld=("heart",)))
    gone = set(whole.network.regions) - set(part.network.regions)
    assert {"heart", "pericardium"} <= gone
    assert all(key == "heart" or "heart" in {above.key for above in anatomy.ancestors(key)} for key in gone)
    assert not any("cardiomegaly in the pericardium" in text for text in part.training_set.phrases()[0])


def test_a_finished_network_cannot_have_names_withheld(data: StudySet, bundle: Bundle) -> None:
    with pytest.raises(BadInput, match="from a new one"):
        Training(TOY, data, replace(SHORT, withheld=WITHHELD), start=bundle)


def test_what_was_withheld_stands_in_manifest_and_checkpoint(tmp_path: Path) -> None:
    few, recipe = toy_set(64, seed=3), replace(SHORT, withheld=WITHHELD)
    trained = train(TOY, few, recipe, checkpoints=Checkpoints(tmp_path / "work"))
    assert trained.save(tmp_path / "toy").training["recipe"]["withheld"] == list(WITHHELD)
    again = Training(TOY, few, recipe)
    Checkpoints(tmp_path / "work").resume(again)
    assert again.number == 4
    with pytest.raises(BadInput, match=r"recipe\.withheld was \['left_upper_lobe', 'cardiomegaly'\] and is \[\]"):
        Checkpoints(tmp_path / "work").resume(Training(TOY, few, SHORT))


def test_a_trained_name_asked_in_words_answers_as_its_row_does(data: StudySet, bundle: Bundle) -> None:
    """With the gallery's own mean and spread in the row's place, that is; the bundle itself stays as it is."""
    before = fingerprint(bundle)
    seen: list[int] = []
    found = word_queries.vectors(bundle, data, [region.name for region in bundle.regions], seen.append)
    assert fingerprint(bundle) == before and not bundle.network.training and seen[-1] == len(data)
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1, rtol=1e-5)

    centred = copy.deepcopy(bundle)
    network = centred.network
    assert isinstance(network, RadirNetwork)
    with torch.no_grad():
        tokens = network.image_tokens(
            torch.from_numpy(data.images).float(), torch.from_numpy(data.views), ImageKind.CXR
        )
        raw = network.head.project(network.decode(tokens, bundle.queries()))
        network.head.mean.copy_(raw.mean(0))
        network.head.scale.copy_(spread(raw, raw.mean(0)))
    own = encoded(centred, data)
    for number, region in enumerate(bundle.regions):
        np.testing.assert_allclose(found[:, number], own.of(region.key), atol=1e-4, err_msg=region.key)

    names = [anatomy.region(key).name for key in ("right_upper_lobe", "heart")]
    one, other = (word_queries.vectors(bundle, data, [name])[:, 0] for name in names)
    assert np.abs((one * other).sum(1)).min() < 0.9, "another name, another answer"


def test_a_phrase_tells_who_has_what_it_says(data: StudySet, bundle: Bundle) -> None:
    exam = toy_set(300, seed=9)
    pairs = [("nodule", "right_upper_lobe"), ("pleural_effusion", "left_pleura"), ("cardiomegaly", "heart")]
    texts = [phrase(concept, anatomy.region(key).name) for concept, key in pairs]
    logits = word_queries.presence(bundle, exam, texts)
    assert logits.shape == (300, 3) and logits.dtype == np.float32
    bootstrap, rows = Bootstrap(exam.patients, 0), np.arange(300)
    areas = []
    for number, (concept, key) in enumerate(pairs):
        there = np.array([any(i.present and i.concept == concept for i in said.get(key, ())) for said in exam.said])
        areas.append(float(auc(logits[:, number], there, bootstrap, rows).mean))
    assert min(areas) > 0.75, areas


def test_the_area_counts_pairs_in_the_right_order() -> None:
    scores = np.array([1, 2, 3, 4, 4], np.float32)
    there = np.array([False, True, False, True, False])
    patients = np.array([7, 8, 9, 7, 5])
    bootstrap, rows = Bootstrap(patients, 0, draws=300), np.arange(5)
    found = auc(scores, there, bootstrap, rows)
    assert found.mean == pytest.approx(3.5 / 6) and found.queries == 5
    low, high = found.interval()
    assert low < found.mean < high
    for drawn, area in zip(bootstrap.weights(rows)[:20].astype(int), found.draws, strict=False):
        assert drawn[0] == drawn[3], "a patient is drawn with all images"
        yes, no = np.repeat(scores[there], drawn[there]), np.repeat(scores[~there], drawn[~there])
        if not len(yes) or not len(no):
            assert np.isnan(area)
            continue
        ahead = np.mean([float(a > b) + float(a == b) / 2 for a in yes for b in no])
        assert area == pytest.approx(ahead, rel=1e-5)
    assert np.isnan(auc(scores, np.zeros(5, np.bool_), bootstrap, rows).mean)


def test_a_network_that_reads_no_text_is_not_asked(data: StudySet, bundle: Bundle) -> None:
    deaf = copy.deepcopy(bundle)
    assert isinstance(deaf.network, RadirNetwork)
    deaf.network.text = UnreadText()
    config = ExternalConfig(name="elsewhere", shape=(32, 32), embedding_dim=8)
    content = onnx_toy(shape=(32, 32)).SerializeToString()
    external = replace(bundle, network=ExternalNetwork(config, content, ["chest"]), model_id="cxr-elsewhere")
    for ask in (word_queries.vectors, word_queries.presence):
        with pytest.raises(BadInput, match="cxr-elsewhere is an imported model without a text encoder"):
            ask(external, data, ["trachea"])
        with pytest.raises(BadInput, match="transformers"):
            ask(deaf, data, ["trachea"])
        with pytest.raises(BadInput, match="have another shape"):
            ask(bundle, replace(data, images=data.images[..., :16]), ["trachea"])


def test_what_the_service_says_of_words_are_the_figures_of_the_pages() -> None:
    said = json.loads(words_measured.MEASURED.read_text(encoding="utf-8"))
    assert said == words_measured.beside_answers(ROOT / "docs/results")
