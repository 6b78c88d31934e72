"""A BERT-family folder becomes the text tower: read offline, from safetensors alone, frozen."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from radir_pacs.encode import Bundle, Encoder
from radir_pacs.encode.folder import CARD, MANIFEST, manifest_hash, model_id_of
from radir_pacs.encode.local_text import LocalTextEncoder, LocalTokenizer, UnreadText, from_description, from_folder
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.errors import BadInput, BundleRefused
from radir_pacs.types import ImageKind
from tests.model_material import seeded_bundle
from tests.services import need_module
from tests.unit.test_network import picture

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "right",
    "left",
    "lung",
    "heart",
    "pleur",
    "##al",
    "effusion",
    "in",
]
WIDTH = 24


def bert_folder(folder: Path, kind: str = "bert", *, safe: bool = True) -> Path:
    """A tiny random model as it would come from elsewhere; without the library, which takes seconds, the test skips."""
    transformers = need_module("transformers")
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(
        vocab=str(folder / "vocab.txt"), vocab_file=str(folder / "vocab.txt")
    ).save_pretrained(folder)
    sizes: dict[str, Any] = {"vocab_size": len(WORDS), "max_position_embeddings": 20, "pad_token_id": 0}
    if kind == "distilbert":
        config = transformers.DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=32, **sizes)
    else:
        config = transformers.AutoConfig.for_model(
            kind, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, **sizes
        )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = transformers.AutoModel.from_config(config)
    if safe:
        model.save_pretrained(folder)
    else:
        config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def test_padding_is_the_same_number_for_every_family(tmp_path: Path) -> None:
    """RoBERTa pads with 1 and begins with 0; callers of our networks always pad with 0."""
    encoder, tokenizer = from_folder(bert_folder(tmp_path / "bert"), WIDTH)
    other = LocalTokenizer(tokenizer.stored, pad=WORDS.index("heart"), longest=20)
    assert tokenizer.batch(["heart", "right lung"]) == [[2, 8, 3, 0], [2, 5, 7, 3]]
    assert other.batch(["heart", "right lung"]) == [[2, 0, 3, 0], [2, 5, 7, 3]]
    seen: list[torch.Tensor] = []
    encoder.body.register_forward_pre_hook(lambda _, given, named: seen.append(named["input_ids"]), with_kwargs=True)
    encoder.pad = WORDS.index("heart")
    encoder(torch.tensor([[2, 5, 8, 0]]))
    assert seen[0].tolist() == [[2, 5, 0, 8]]


@pytest.mark.parametrize("kind", ["bert", "electra", "distilbert"])
def test_a_folder_reads_texts_of_any_length(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    encoder, tokenizer = from_folder(bert_folder(tmp_path / "bert", kind), WIDTH)
    texts = ["right lung", "pleural effusion in left lung", "heart " * 100, ""]
    rows = tokenizer.batch(texts)
    assert len({len(row) for row in rows}) == 1 and len(rows[0]) == 20, "cut at what the model has positions for"
    assert rows[0][:4] == [WORDS.index(word) for word in ("[CLS]", "right", "lung", "[SEP]")]
    vectors = encoder(torch.tensor(rows))
    assert vectors.shape == (4, WIDTH) and bool(torch.isfinite(vectors).all())
    alone = encoder(torch.tensor(tokenizer.batch(texts[:1])))
    assert torch.allclose(alone, vectors[:1], atol=1e-5), "padding does not matter"
    assert not torch.allclose(vectors[0], vectors[1], atol=1e-3)


def test_its_body_is_frozen_and_its_map_is_trained(tmp_path: Path) -> None:
    encoder, tokenizer = from_folder(bert_folder(tmp_path / "bert"), WIDTH)
    ids = torch.tensor(tokenizer.batch(["right lung", "heart"]))
    encoder.train()
    assert torch.equal(encoder(ids), encoder(ids)), "no dropout inside"
    encoder(ids).square().sum().backward()
    assert all(parameter.grad is None for parameter in encoder.body.parameters())
    assert all(parameter.grad is not None for parameter in encoder.project.parameters())


def test_it_is_built_again_from_what_a_bundle_holds(tmp_path: Path) -> None:
    encoder, tokenizer = from_folder(bert_folder(tmp_path / "bert"), WIDTH)
    description = json.loads(json.dumps(encoder.description))
    again = from_description(description, WIDTH)
    assert isinstance(again, LocalTextEncoder)
    again.load_state_dict(encoder.state_dict(), strict=True)
    ids = torch.tensor(tokenizer.batch(["right lung"]))
    assert torch.equal(again.eval()(ids), encoder.eval()(ids))


def test_without_the_extra_free_text_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, _ = from_folder(bert_folder(tmp_path / "bert"), WIDTH)
    monkeypatch.setitem(sys.modules, "transformers", None)
    stand_in = from_description(encoder.description, WIDTH)
    assert isinstance(stand_in, UnreadText)
    with pytest.raises(BadInput, match=r"\[transformers\]"):
        stand_in(torch.ones(1, 1, dtype=torch.int64))


def test_pickled_weights_are_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="safetensors"):
        from_folder(bert_folder(tmp_path / "bert", safe=False), WIDTH)


def test_a_name_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing is fetched"):
        from_folder(Path("bert-base-uncased"), WIDTH)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"hidden_size": 1 << 30}, "hidden_size"),
        ({"num_hidden_layers": 10_000}, "num_hidden_layers"),
        ({"vocab_size": 5}, "cannot be read|more words"),
        ({"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"}, "evil"),
    ],
)
def test_a_folder_that_is_not_fit_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'was_here')!r}, 'w')")
    with pytest.raises(BadInput, match=said) as caught:
        from_folder(folder, WIDTH)
    assert "\n" not in str(caught.value) and not (tmp_path / "was_here").exists()


def bundle_of(folder: Path) -> Bundle:
    plain = seeded_bundle(ImageKind.CXR)
    own = plain.network
    assert isinstance(own, RadirNetwork)
    encoder, tokenizer = from_folder(folder, own.config.width)
    network = RadirNetwork(
        own.config, vocabulary_size=2, regions=own.regions, findings=own.findings, text=encoder
    ).eval()
    return Bundle(**{**vars(plain), "network": network, "tokenizer": tokenizer})


def test_a_bundle_carries_the_text_model(tmp_path: Path) -> None:
    before = bundle_of(bert_folder(tmp_path / "bert"))
    before.save(tmp_path / "model")
    shutil.rmtree(tmp_path / "bert")
    after = Bundle.load(tmp_path / "model")
    assert "read by a local bert model" in (tmp_path / "model" / CARD).read_text()
    assert torch.equal(after.queries(), before.queries())
    ids = after.tokenizer.batch(["pleural effusion in left lung"])
    assert ids == before.tokenizer.batch(["pleural effusion in left lung"])
    assert isinstance(after.network, RadirNetwork) and isinstance(before.network, RadirNetwork)
    with torch.no_grad():
        assert torch.equal(after.network.text(torch.tensor(ids)), before.network.text(torch.tensor(ids)))
    assert after.save(tmp_path / "again").model_id == after.model_id


def test_serving_regions_needs_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = bundle_of(bert_folder(tmp_path / "bert")).save(tmp_path / "model")
    expected = Encoder(saved, device="cpu").encode(picture(ImageKind.CXR))
    for name in ("transformers", "tokenizers"):
        monkeypatch.setitem(sys.modules, name, None)
    bundle = Bundle.load(tmp_path / "model")
    assert isinstance(bundle.network, RadirNetwork) and isinstance(bundle.network.text, UnreadText)
    found = Encoder(bundle, device="cpu").encode(picture(ImageKind.CXR))
    assert found.model_id == expected.model_id and torch.equal(*map(torch.tensor, (found.vectors, expected.vectors)))
    with pytest.raises(BadInput, match="free text"):
        bundle.network.report_vectors(torch.tensor(bundle.tokenizer.batch(["heart"])))
    with pytest.raises(BundleRefused, match="extra"):
        bundle.save(tmp_path / "copy")


def test_an_altered_text_model_is_refused(tmp_path: Path) -> None:
    bundle_of(bert_folder(tmp_path / "bert")).save(tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / MANIFEST).read_text())
    for change in ({"hidden_size": 1 << 30}, {"model_type": "gpt2"}, {"num_hidden_layers": 1}):
        altered = {**manifest, "text_tower": {**manifest["text_tower"]}}
        altered["text_tower"]["model"] = {**manifest["text_tower"]["model"], **change}
        altered["model_id"] = model_id_of(altered)
        altered["manifest_sha256"] = manifest_hash(altered)
        (tmp_path / "model" / MANIFEST).write_text(json.dumps(altered))
        assert altered["model_id"] != manifest["model_id"]
        with pytest.raises(BundleRefused):
            Bundle.load(tmp_path / "model")
