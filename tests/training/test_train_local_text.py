"""A network trained with a local BERT-family folder as its text tower is saved and serves without the folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from radir_pacs.encode import Bundle, NetworkConfig
from radir_pacs.encode.config import StemConfig
from radir_pacs.encode.local_text import LocalTextEncoder
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind
from radir_training.data.statements import mined
from radir_training.data.studies import StudySet
from radir_training.learning.recipe import OURS
from radir_training.learning.train import train
from tests.unit.test_local_text import bert_folder

TOY = NetworkConfig(
    name="toy",
    stems={ImageKind.CXR: StemConfig(shape=(16, 16), patch=(4, 4), first_width=8)},
    width=24,
    blocks=1,
    heads=2,
    decoder_blocks=1,
    text_blocks=1,
    embedding_dim=16,
)
REPORTS = ("Right pleural effusion. The heart is normal.", "The lungs are clear. Cardiomegaly.", "Normal chest.")


def studies(number: int = 32) -> StudySet:
    images = np.random.default_rng(2).standard_normal((number, 1, 16, 16)).astype(np.float16)
    reports = tuple(REPORTS[i % len(REPORTS)] for i in range(number))
    return StudySet(
        kind=ImageKind.CXR,
        images=images,
        views=np.zeros(number, np.int64),
        patients=np.arange(number),
        reports=reports,
        said=mined(reports, ImageKind.CXR),
    )


def test_the_text_model_is_trained_with_saved_and_served(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "bert")
    recipe = replace(OURS, epochs=1, batch=16)
    bundle = train(TOY, studies(), recipe, text_model=folder)
    network = bundle.network
    assert isinstance(network, RadirNetwork) and isinstance(network.text, LocalTextEncoder)
    bundle.save(tmp_path / "model")
    shutil.rmtree(folder)
    loaded = Bundle.load(tmp_path / "model")
    assert torch.equal(loaded.queries(), bundle.queries())
    assert isinstance(loaded.network, RadirNetwork)
    with torch.no_grad():
        ids = torch.tensor(loaded.tokenizer.batch(list(REPORTS), limit=128))
        assert loaded.network.report_vectors(ids).shape == (len(REPORTS), TOY.embedding_dim)


def test_a_folder_that_is_none_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"config\.json is missing"):
        train(TOY, studies(64), OURS, text_model=tmp_path / "nowhere")
