"""Ranking reports under a region: our relevance, its peers on the same reports, and nDCG against human codes.

The gold standard is the overlap of MeSH codes: a code counts as itself and all its prefixes ("Opacity", "Opacity/lung",
"Opacity/lung/base", ...), and relevance is the Jaccard index of two such sets, of the codes that lie at the region or
below it. All it shares with our similarity is the region of a code.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from radir_pacs import anatomy
from radir_pacs.reports import Item, ItemSimilarity
from radir_pacs.reports.lexicon import Lexicon
from radir_pacs.reports.pairs import SetScores, region_items

from .mesh import read_code

F32 = npt.NDArray[np.float32]
_WORD = re.compile(r"[a-z]{2,}|\d+")
_K1, _B = 1.2, 0.75  # BM25's usual constants

# Regions of codes that name no place and are not compared by mesh.py.
_HEAD_REGIONS = {
    "Bone Diseases, Metabolic": "bones",
    "Bullous Emphysema": "lungs",
    "Cardiac Shadow": "heart",
    "Cardiomegaly": "heart",
    "Diaphragmatic Eventration": "diaphragm",
    "Emphysema": "lungs",
    "Hernia, Hiatal": "esophageal_hiatus",
    "Lung": "lungs",
    "Lung Diseases, Interstitial": "lungs",
    "Lung, Hyperlucent": "lungs",
    "Pulmonary Congestion": "pulmonary_vasculature",
    "Pulmonary Disease, Chronic Obstructive": "lungs",
    "Mediastinum": "mediastinum",
}


def code_overlap(codes: Sequence[Sequence[str]], region: str, lexicon: Lexicon) -> F32:
    """Jaccard overlap of the codes under ``region``, float32 [n, n]; 0 where a report has none."""
    number: dict[str, int] = {}
    rows = [
        sorted({number.setdefault(part, len(number)) for code in report for part in _beginnings(code, region, lexicon)})
        for report in codes
    ]
    indicator = _indicator(rows, len(number))
    shared = (indicator @ indicator.T).toarray()
    sizes = np.asarray([len(row) for row in rows], np.float32)
    union = sizes[:, None] + sizes[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), np.float32)


def _beginnings(code: str, region: str, lexicon: Lexicon) -> list[str]:
    if not any(region == place or region in _above(place) for place in _regions_of(code, lexicon)):
        return []
    words = code.split("/")
    return ["/".join(words[: end + 1]) for end in range(len(words))]


def _regions_of(code: str, lexicon: Lexicon) -> set[str]:
    head = code.split("/")[0].strip()
    if head in _HEAD_REGIONS:
        return {_HEAD_REGIONS[head]}
    read = read_code(code, lexicon)
    if read is None:
        return set()
    if read.places:
        return {min(place, key=lambda key: (len(_above(key)), key)) for place in read.places}
    return {lexicon.concepts[min(read.concepts, key=lambda key: len(lexicon.ancestors[key]))].at}


def _above(region: str) -> set[str]:
    return {item.key for item in anatomy.ancestors(region)}


def our_scores(items: Sequence[Mapping[str, tuple[Item, ...]]], region: str, similarity: ItemSimilarity) -> F32:
    """Our relevance, float32 [n, n]; -1 where it is undefined, so that reports without statements rank last."""
    group = region_items(region, items)
    scores = SetScores(group.sets, similarity)
    whole = slice(0, scores.count)
    small = scores.block(whole, whole)
    table = np.full((len(items), len(items)), -1, np.float32)
    table[np.ix_(group.reports, group.reports)] = small[np.ix_(group.set_of, group.set_of)]
    return table


def ratescore_scores(
    items: Sequence[Mapping[str, tuple[Item, ...]]],
    region: str,
    similarity: ItemSimilarity,
    weights_file: Path,
    lexicon: Lexicon,
) -> F32:
    """RaTEScore's published weights on our items: best match by concept and place, then its weight and penalty.

    An item gives a finding (ABNORMALITY or DISEASE, with NON- where denied) and an ANATOMY entity; the two are matched
    as one here, the weight being that of the finding types. Undefined is -1.
    """
    weights = json.loads(weights_file.read_text())
    penalty = float(weights.pop("neg_weight"))
    group = region_items(region, items)
    vocabulary = sorted({item for found in group.sets for item in found})
    number = {item: i for i, item in enumerate(vocabulary)}
    alike = np.asarray(
        [
            [similarity.concepts(a.concept, b.concept) * similarity.regions(a.region, b.region) for b in vocabulary]
            for a in vocabulary
        ],
        np.float32,
    )
    types = [_type(item, lexicon) for item in vocabulary]
    kinds = np.asarray([[weights[f"{a}_{b}"] for b in types] for a in types], np.float32)
    flips = np.asarray([[a.present != b.present for b in vocabulary] for a in vocabulary])
    total = np.zeros((len(vocabulary), len(group.sets)), np.float32)
    gained = np.zeros_like(total)
    everyone = np.arange(len(vocabulary))
    for column, found in enumerate(group.sets):
        members = np.asarray([number[item] for item in found])
        best = members[np.argmax(alike[:, members], axis=1)]
        total[:, column] = kinds[everyone, best]
        gained[:, column] = total[:, column] * alike[everyone, best] * np.where(flips[everyone, best], penalty, 1)
    indicator = _indicator([sorted(number[item] for item in found) for found in group.sets], len(vocabulary))
    forth = np.asarray(indicator @ gained) / np.maximum(np.asarray(indicator @ total), 1e-9)
    small = 2 * forth * forth.T / np.maximum(forth + forth.T, 1e-9)
    table = np.full((len(items), len(items)), -1, np.float32)
    table[np.ix_(group.reports, group.reports)] = small[np.ix_(group.set_of, group.set_of)]
    return table


def _type(item: Item, lexicon: Lexicon) -> str:
    kind = "disease" if lexicon.concepts[item.concept].kind == "disease" else "abnormality"
    return kind if item.present else f"non-{kind}"


def tfidf_scores(texts: Sequence[str]) -> F32:
    """Cosine of TF-IDF vectors of whole texts, float32 [n, n]."""
    counts, document_frequency = _counts(texts)
    inverse = np.log((1 + len(texts)) / (1 + document_frequency)) + 1
    weighted = counts.multiply(inverse[None, :]).tocsr()
    norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1))).ravel()
    scaled = weighted.multiply(1 / np.maximum(norms, 1e-9)[:, None]).tocsr()
    return np.asarray((scaled @ scaled.T).toarray(), np.float32)


def bm25_scores(texts: Sequence[str]) -> F32:
    """BM25 of each text as a query against each text, float32 [query, text]."""
    counts, document_frequency = _counts(texts)
    inverse = np.log1p((len(texts) - document_frequency + 0.5) / (document_frequency + 0.5))
    lengths = np.asarray(counts.sum(axis=1)).ravel()
    scale = _K1 * (1 - _B + _B * lengths / lengths.mean())
    saturated = counts.copy()
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    saturated.data = counts.data * (_K1 + 1) / (counts.data + scale[rows]) * inverse[counts.indices]
    present = counts.copy()
    present.data = np.ones_like(counts.data)
    return np.asarray((present @ saturated.T).toarray(), np.float32)


def _counts(texts: Sequence[str]) -> tuple[csr_matrix, npt.NDArray[np.float64]]:
    number: dict[str, int] = {}
    data, columns, starts = [], [], [0]
    for text in texts:
        for word, count in Counter(_WORD.findall(text.lower())).items():
            columns.append(number.setdefault(word, len(number)))
            data.append(float(count))
        starts.append(len(columns))
    counts = csr_matrix((data, columns, starts), shape=(len(texts), len(number)))
    return counts, np.bincount(counts.indices, minlength=len(number)).astype(np.float64)


def _indicator(rows: Sequence[Sequence[int]], width: int) -> csr_matrix:
    columns = [column for row in rows for column in row]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=(len(rows), width))


def ndcg(scores: F32, gains: F32, k: int = 10) -> tuple[float, int]:
    """(mean nDCG@k, queries): linear gain, log2 discount, self left out, over the queries that have any gain.

    Ties in the scores count as the mean over their orders (by a small fixed jitter, the same for every method).
    """
    n = len(scores)
    jitter = np.random.default_rng(0).random((1, n), np.float32) * 1e-6
    ranked = np.asarray(scores + jitter, np.float32)
    np.fill_diagonal(ranked, -np.inf)
    gains = gains.copy()
    np.fill_diagonal(gains, 0)
    discount = 1 / np.log2(np.arange(2, k + 2))
    top = np.argsort(-ranked, axis=1, kind="stable")[:, :k]
    got = (np.take_along_axis(gains, top, axis=1) * discount).sum(axis=1)
    best = (-np.sort(-gains, axis=1)[:, :k] * discount).sum(axis=1)
    asked = best > 0
    return (float((got[asked] / best[asked]).mean()) if asked.any() else float("nan")), int(asked.sum())
