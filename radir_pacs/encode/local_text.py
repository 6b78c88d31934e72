"""A BERT-family model from a local folder in place of our text encoder, with the folder's own tokenizer.

Its body is frozen: the learning rate of a new network would destroy a trained one. The first token's vector
goes through a linear map that is trained, as in the RadIR paper. Nothing is fetched, no code of the folder is run, and
weights are safetensors. A bundle carries weights, configuration and tokenizer, and the vectors of its regions' names,
so that serving needs ``transformers`` only for free text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from radir_pacs.errors import BadInput, BundleRefused

from .config import MOST_BLOCKS, MOST_WIDTH
from .tokenizer import PAD, SPECIAL

MISSING = "a local text model needs the extra 'transformers': pip install -e '.[transformers]' in the clone"
FAMILY = frozenset({"bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"})
MOST_WORDS, MOST_FEED_WIDTH, MOST_POSITIONS = 300_000, 4 * 2 * MOST_WIDTH, 8192
MOST_TOKENIZER_CHARACTERS = 6_000_000  # it travels in the manifest
_NOT_KEPT = frozenset({"_name_or_path", "architectures", "auto_map", "transformers_version", "quantization_config"})


class LocalTokenizer:
    """Words to integers as the folder's ``tokenizer.json`` has it (``stored``), but for padding, which is always PAD:
    the family's own ``pad`` and PAD change places, here and back in ``LocalTextEncoder``."""

    vocabulary = SPECIAL  # everything else is in ``stored``

    def __init__(self, stored: Mapping[str, Any], pad: int, longest: int) -> None:
        """Raises BadInput where it cannot be read, BundleRefused where the extra is missing."""
        try:
            from tokenizers import Tokenizer as Reader
        except ImportError:
            raise BundleRefused(MISSING) from None
        self.stored, self.pad, self.longest = stored, pad, longest
        try:
            self._reader: Any = Reader.from_str(json.dumps(stored))
        except Exception as error:  # the library's errors have no narrower base
            raise BadInput(f"the text model's tokenizer cannot be read: {error}") from None
        self._reader.no_padding()

    def batch(self, texts: Sequence[str], limit: int = 64) -> list[list[int]]:
        """Rows of equal length, padded at the end; long texts end with the closing token of the family."""
        self._reader.enable_truncation(min(limit, self.longest))
        rows = [encoding.ids or [self.pad] for encoding in self._reader.encode_batch(list(texts))]
        swap = {self.pad: PAD, PAD: self.pad}
        longest = max(map(len, rows))
        return [[swap.get(token, token) for token in row] + [PAD] * (longest - len(row)) for row in rows]


class LocalTextEncoder(nn.Module):
    """The contract of ``TextEncoder``: token ids [texts, length] to [texts, width]."""

    def __init__(self, body: nn.Module, description: Mapping[str, Any], width: int) -> None:
        super().__init__()
        if hasattr(body, "pooler"):
            setattr(body, "pooler", None)  # noqa: B010  # read by nobody
        self.body = body.requires_grad_(False).eval()
        self.description = dict(description)
        self.pad = int(description["pad_token_id"] or 0)
        self.project = nn.Sequential(nn.Linear(int(description["hidden_size"]), width), nn.LayerNorm(width))

    def train(self, mode: bool = True) -> LocalTextEncoder:
        super().train(mode)
        self.body.eval()  # and its dropout
        return self

    def forward(self, ids: Tensor) -> Tensor:
        keep = ids != PAD
        own = torch.where(keep, torch.where(ids == self.pad, PAD, ids), self.pad)
        with torch.no_grad():
            first = self.body(input_ids=own, attention_mask=keep.long()).last_hidden_state[:, 0]
        out: Tensor = self.project(first)
        return out


class UnreadText(nn.Module):
    """Takes the place of the text model when ``transformers`` is not installed: listed regions need no reading."""

    def forward(self, ids: Tensor) -> Tensor:
        raise BadInput(f"this model cannot be queried by free text here: {MISSING}")


def from_folder(folder: Path, width: int) -> tuple[LocalTextEncoder, LocalTokenizer]:
    """Text encoder and tokenizer of a folder. Raises BadInput with what is wrong, BundleRefused without the extra."""
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder}: no folder of a text model (config.json is missing); nothing is fetched by name")
    if not any(folder.glob("*.safetensors")):
        raise BadInput(
            f"{folder}: no weights in safetensors; files that hold pickles are not opened, convert them first"
        )
    transformers = _transformers()
    offline = {"local_files_only": True, "trust_remote_code": False}
    try:
        description = _checked(json.loads((folder / "config.json").read_bytes()))
        body, report = transformers.AutoModel.from_pretrained(
            str(folder), use_safetensors=True, output_loading_info=True, dtype=torch.float32, **offline
        )
        reader = transformers.AutoTokenizer.from_pretrained(str(folder), **offline)
        stored = json.loads(reader.backend_tokenizer.to_str())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise BadInput(f"{folder}: the text model cannot be read: {_one_line(error)}") from None
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise BadInput(f"{folder}: weights are missing, such as {missing[0]}")
    if len(json.dumps(stored)) > MOST_TOKENIZER_CHARACTERS:
        raise BadInput(f"{folder}: the tokenizer is too large to travel in a bundle")
    description = _checked({**body.config.to_dict(), "pad_token_id": reader.pad_token_id or 0})
    if len(reader) > int(description["vocab_size"]):
        raise BadInput(f"{folder}: the tokenizer has more words than the model")
    encoder = LocalTextEncoder(body, description, width)
    return encoder, LocalTokenizer(stored, encoder.pad, longest_text(description))


def from_description(description: Mapping[str, Any], width: int) -> LocalTextEncoder | UnreadText:
    """The text encoder that a bundle describes, its weights still to be filled in. Raises ValueError."""
    known = _checked(description)
    try:
        transformers = _transformers()
    except BundleRefused:
        return UnreadText()
    settings = {key: value for key, value in known.items() if key != "model_type"}
    config = transformers.AutoConfig.for_model(known["model_type"], **settings)
    return LocalTextEncoder(transformers.AutoModel.from_config(config, trust_remote_code=False), known, width)


def stored(encoder: LocalTextEncoder, tokenizer: LocalTokenizer) -> dict[str, Any]:
    """What a manifest holds beside the weights."""
    return {"model": encoder.description, "tokenizer": tokenizer.stored}


def restored(value: Mapping[str, Any], width: int) -> tuple[LocalTextEncoder | UnreadText, LocalTokenizer | None]:
    """The text encoder without its weights, and the tokenizer; neither reads where the extra is missing.

    Raises ValueError, KeyError, TypeError, BadInput.
    """
    encoder = from_description(value["model"], width)
    if isinstance(encoder, UnreadText):
        return encoder, None
    return encoder, LocalTokenizer(value["tokenizer"], encoder.pad, longest_text(encoder.description))


def longest_text(description: Mapping[str, Any]) -> int:
    """Tokens that the model has positions for; RoBERTa and its kin keep the first of them for padding."""
    return int(description["max_position_embeddings"]) - (2 if "roberta" in description["model_type"] else 0)


def _checked(description: Mapping[str, Any]) -> dict[str, Any]:
    """What builds the model, within bounds. Raises ValueError, KeyError, TypeError."""
    known = {key: value for key, value in description.items() if key not in _NOT_KEPT}
    if known["model_type"] not in FAMILY:
        raise ValueError(f"a model of type {str(known['model_type'])[:40]!r} is none of {', '.join(sorted(FAMILY))}")
    if known["model_type"] == "distilbert":  # it has names of its own for the same sizes
        known |= {"hidden_size": known["dim"], "num_hidden_layers": known["n_layers"]}
        known |= {"intermediate_size": known["hidden_dim"], "num_attention_heads": known["n_heads"]}
    for name, most in (
        ("hidden_size", 2 * MOST_WIDTH),
        ("intermediate_size", MOST_FEED_WIDTH),
        ("num_hidden_layers", MOST_BLOCKS),
        ("num_attention_heads", MOST_BLOCKS),
        ("vocab_size", MOST_WORDS),
        ("max_position_embeddings", MOST_POSITIONS),
    ):
        if not 1 <= int(known[name]) <= most:
            raise ValueError(f"{name} is {known[name]}, not between 1 and {most}")
    return known


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise BundleRefused(MISSING) from None
    return transformers


def _one_line(error: Exception) -> str:
    return "".join(c for c in " ".join(str(error).split()) if c.isprintable())[:300]
