"""What a training starts from: a network, its tokenizer, and the regions it has vectors for."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from radir_pacs import anatomy
from radir_pacs.encode import Bundle, NetworkConfig
from radir_pacs.encode.local_text import MISSING, LocalTextEncoder, UnreadText, from_folder
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.encode.report_text import body
from radir_pacs.encode.tokenizer import TextTokenizer, Tokenizer
from radir_pacs.errors import BadInput
from radir_pacs.types import Region

from ..data.program_features import spread
from ..data.statements import Said, common_concepts, model_regions, stand_ins
from ..data.studies import StudySet
from .training_set import phrase

LEAST_STUDIES_A_CONCEPT = 0.003  # share of the studies; rarer findings get no column of their own
VOCABULARY = 4096


@dataclass(frozen=True)
class InitialModel:
    network: RadirNetwork
    tokenizer: TextTokenizer
    regions: tuple[Region, ...]


def initial_model(
    config: NetworkConfig,
    data: StudySet,
    start: Bundle | None,
    text_model: Path | None,
    withheld: Collection[str] = (),
    program: bytes = b"",
) -> InitialModel:
    """A new network for ``data``, or a copy of the one in ``start``. Raises BadInput.

    ``program``: the ONNX file whose features the data hold, where the configuration has one in place of a stem.

    ``withheld``: regions without a row and concepts without a column in the network, so that no name, phrase or label
    teaches them; regions below that would take on their labels are withheld too. A finding at a withheld region still
    counts at the regions above it, and relevance and whole reports still cover everything.
    """
    if start is not None:
        if withheld:
            raise BadInput("a network that is trained further already knows the names: withhold them from a new one")
        return _of_bundle(start, data)
    regions = model_regions(data.kind, data.said)
    least = max(3, math.ceil(LEAST_STUDIES_A_CONCEPT * len(data)))
    concepts = common_concepts(data.said, least)
    if not concepts:
        raise BadInput(f"no finding is reported in {least} studies: there is too little to learn from")
    regions, concepts = _without(withheld, regions, concepts, data.said)
    text: LocalTextEncoder | None = None
    tokenizer: TextTokenizer
    if text_model is not None:
        text, tokenizer = from_folder(text_model, config.width)
    else:
        tokenizer = Tokenizer.fitted(vocabulary_texts(regions, concepts, data.reports), VOCABULARY)
    network = RadirNetwork(
        config.only(data.kind),
        vocabulary_size=len(tokenizer.vocabulary),
        regions=[region.key for region in regions],
        findings=concepts,
        text=text,
        program=program,
    )
    if network.program is not None and data.features:
        network.program.measure(*spread(data))
    return InitialModel(network, tokenizer, regions)


def _without(
    withheld: Collection[str], regions: tuple[Region, ...], concepts: tuple[str, ...], said: Sequence[Said]
) -> tuple[tuple[Region, ...], tuple[str, ...]]:
    """A region that would take on the labels of a withheld one (``stand_ins``) is withheld with it."""
    known = {region.key for region in regions if region.key != anatomy.ROOT} | set(concepts)
    if others := [name for name in withheld if name not in known]:
        raise BadInput(
            f"{', '.join(others)} cannot be withheld: they are not among the regions and findings of these data"
        )
    spoken = zip(regions, stand_ins(said, regions), strict=True)
    return (
        tuple(region for region, key in spoken if region.key not in withheld and key not in withheld),
        tuple(concept for concept in concepts if concept not in withheld),
    )


def _of_bundle(start: Bundle, data: StudySet) -> InitialModel:
    if not isinstance(start.network, RadirNetwork):
        raise BadInput(
            f"{start.model_id} is an imported model: only networks that radir train made can be trained further"
        )
    if isinstance(start.network.text, UnreadText):
        raise BadInput(MISSING)
    if start.kind is not data.kind:
        raise BadInput(f"{start.model_id} encodes {start.kind}, not {data.kind}")
    network = copy.deepcopy(start.network)
    for name, part in network.named_children():
        if name not in (
            "text",
            "appearance",
        ):  # a local model decides which of its weights are trained; a backbone's rest
            part.requires_grad_(True)
    return InitialModel(network, start.tokenizer, tuple(anatomy.region(region.key) for region in start.regions))


def vocabulary_texts(regions: Sequence[Region], concepts: Sequence[str], reports: Sequence[str]) -> list[str]:
    """The words that are tokens of their own: names of regions and findings first, then the words of the reports.

    A word of few reports is left out of the manifest: it could be somebody's name.
    """
    names = [name for region in regions for name in (region.name, *region.synonyms)]
    own = [*names, *(phrase(concept, "") for concept in concepts), "mild moderate severe small large no left right"]
    seen: dict[str, set[str]] = {}
    for text in dict.fromkeys(reports):
        for word in set(body(text).lower().split()):
            seen.setdefault(word.strip(".,;:()"), set()).add(text[:64])
    shared = [word for word, texts in seen.items() if len(texts) >= 5 and word.isalpha()]
    return [*own, *sorted(shared)]
