"""Texts into topics: clusters with the words that tell them apart, their middle and their edge, and a map of all.

Vectors are centred and reduced by PCA, then clustered by k-means; those of a hashing encoder, which are mostly zeros,
first get the inverse document frequency of each bucket. A topic's words are those of the highest class-based
TF-IDF: Grootendorst 2022 (BERTopic), arXiv:2203.05794, section 3.3; here with the square root of the term frequency
(the option `reduce_frequent_words` of BERTopic), and without words that are in more than a quarter of the texts of most
topics. The map is t-SNE (van der Maaten and Hinton 2008, JMLR 9) from the reduced vectors: what is near is alike,
what is far apart need not be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anneal.curation.domain.encoders import normalised

MAX_TOPICS = 50
AUTOMATIC_TOPICS = 24
TOPIC_WORDS = 8
SHOWN_ROWS = 3
REDUCED = 50
MAX_WORD_SHARE = 0.25
MAX_FILLED = 0.5
"""Vectors with more numbers other than zero than this share are dense."""
_MIN_MAP_ROWS = 8
# Three letters or more; two where they are not ASCII, as in Chinese.
_WORD = r"(?u)\b(?:[^\W\d_][\w'-]{2,}|[^\W\d_\x00-\x7f]\w)\b"
_SEED = 2_203_057

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A cluster.

    Attributes:
        words: the most telling first.
        rows: its rows, shape (rows,).
        middle: the rows nearest to its centre.
        edge: the rows farthest from it, the farthest first; none that is in the middle.
    """

    words: tuple[str, ...]
    rows: NDArray[np.int64]
    middle: tuple[int, ...]
    edge: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The topics of texts.

    Attributes:
        topics: the largest first.
        topic_of: place of each row's topic, -1 for a row without a vector, shape (rows,).
        similarities: cosine of each row and the centre of its topic, shape (rows,).
        reduced: the rows' reduced vectors, shape (rows, at most 50).
    """

    topics: tuple[Topic, ...]
    topic_of: NDArray[np.int64]
    similarities: F64
    reduced: F64


def find_topics(texts: Sequence[str], vectors: NDArray[np.float32], count: int = 0) -> Topics:
    """Cluster texts and name the clusters by their words.

    Args:
        texts: in an order that is a function of the rows.
        vectors: of unit length or zero, shape (texts, dimension).
        count: most topics; 0 takes a number that goes with the rows.
    """
    shown = np.flatnonzero(vectors.any(axis=1))
    topic_of = np.full(len(texts), -1, dtype=np.int64)
    similarities = np.zeros(len(texts))
    reduced = np.zeros((len(texts), 1))
    if not len(shown):
        return Topics(topics=(), topic_of=topic_of, similarities=similarities, reduced=reduced)
    low = _reduced(_weighed(vectors[shown]))
    reduced = np.zeros((len(texts), low.shape[1]))
    reduced[shown] = low
    labels, centres = _clusters(low, count or _automatic(len(shown)))
    cosines = np.einsum("ij,ij->i", low, centres[labels])
    topic_of[shown], similarities[shown] = labels, cosines
    words = _words([texts[row] for row in shown.tolist()], labels)
    topics = [_topic(topic_of, similarities, topic, words[topic]) for topic in range(len(centres))]
    return Topics(topics=tuple(topics), topic_of=topic_of, similarities=similarities, reduced=reduced)


def map_of(reduced: F64) -> F64:
    """A place from 0 to 1 for each row, shape (rows, 2)."""
    rows = len(reduced)
    if rows < _MIN_MAP_ROWS or reduced.shape[1] < 2:
        flat = np.zeros((rows, 2))
        flat[:, : reduced.shape[1]] = reduced[:, :2]
        return _to_unit(flat)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (rows - 1) / 3)
    return _to_unit(TSNE(perplexity=perplexity, init="pca", random_state=_SEED, max_iter=500).fit_transform(reduced))


def _automatic(rows: int) -> int:
    return int(min(AUTOMATIC_TOPICS, max(1, round(rows**0.5 / 3))))


def _weighed(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sparse vectors by what is rare in them; others as they are."""
    present = (vectors != 0).sum(axis=0)
    if present.sum() > MAX_FILLED * vectors.size:
        return vectors
    return normalised(vectors * np.log((len(vectors) + 1) / (present + 1)).astype(np.float32))


def _reduced(vectors: NDArray[np.float32]) -> F64:
    from sklearn.decomposition import PCA

    size = min(REDUCED, vectors.shape[1], len(vectors) - 1)
    different = len(np.unique(vectors[:1_000], axis=0))
    if size < 1 or different < 2:
        return np.ones((len(vectors), 1))
    low = PCA(n_components=size, random_state=_SEED).fit_transform(vectors).astype(np.float64)
    lengths = np.linalg.norm(low, axis=1, keepdims=True)
    made: F64 = np.divide(low, lengths, out=np.zeros_like(low), where=lengths > 1e-9)
    return made


def _clusters(low: F64, count: int) -> tuple[NDArray[np.int64], F64]:
    """The cluster of each row, numbered from the largest, and the centres, of unit length."""
    from sklearn.cluster import KMeans

    wanted = min(count, len(np.unique(low, axis=0)))
    labels = KMeans(wanted, n_init=4, random_state=_SEED).fit_predict(low)
    # The largest first; of equals the one of the first row.
    present, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    renamed = np.empty(len(present), dtype=np.int64)
    renamed[order] = np.arange(len(present))
    labels = renamed[np.searchsorted(present, labels)]
    centres = np.stack([low[labels == one].mean(axis=0) for one in range(len(present))])
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    return labels, np.divide(centres, lengths, out=np.zeros_like(centres), where=lengths > 0)


def _words(texts: Sequence[str], labels: NDArray[np.int64]) -> list[tuple[str, ...]]:
    """The most telling words of each cluster."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

    clusters = int(labels.max()) + 1
    counter = CountVectorizer(token_pattern=_WORD, min_df=2 if len(texts) > 50 else 1, max_features=30_000)
    try:
        counts = counter.fit_transform(texts)
    except ValueError:  # no text has a word that is in enough of them
        return [()] * clusters
    names = counter.get_feature_names_out()
    per_class, common = np.zeros((clusters, len(names))), np.zeros(len(names))
    for cluster in range(clusters):
        mine = counts[np.flatnonzero(labels == cluster)]
        per_class[cluster] = np.asarray(mine.sum(axis=0)).reshape(-1)
        common += np.asarray((mine > 0).sum(axis=0)).reshape(-1) > MAX_WORD_SHARE * mine.shape[0]
    dropped = np.array([name in ENGLISH_STOP_WORDS for name in names])
    if clusters > 1:
        dropped |= common > clusters / 2
    totals = per_class.sum(axis=0)
    share = per_class / np.maximum(per_class.sum(axis=1, keepdims=True), 1)
    scores = np.sqrt(share) * np.log1p(per_class.sum() / clusters / np.maximum(totals, 1))
    scores[:, dropped] = 0
    best = np.argsort(-scores, axis=1, kind="stable")[:, : 2 * TOPIC_WORDS]
    return [_different([str(names[word]) for word in best[c] if scores[c, word] > 0]) for c in range(clusters)]


def _different(words: Sequence[str]) -> tuple[str, ...]:
    """The first words, without those that are an earlier one with or without an s."""
    found: dict[str, str] = {}
    for word in words:
        found.setdefault(word.rstrip("s"), word)
    return tuple(found.values())[:TOPIC_WORDS]


def _topic(topic_of: NDArray[np.int64], similarities: F64, topic: int, words: tuple[str, ...]) -> Topic:
    rows = np.flatnonzero(topic_of == topic)
    nearest = rows[np.argsort(-similarities[rows], kind="stable")]
    middle = nearest[:SHOWN_ROWS]
    edge = nearest[SHOWN_ROWS:][::-1][:SHOWN_ROWS]
    return Topic(words=words, rows=rows, middle=tuple(middle.tolist()), edge=tuple(edge.tolist()))


def _to_unit(places: NDArray[np.floating]) -> F64:
    spread = np.ptp(places, axis=0, keepdims=True) if len(places) else np.ones((1, 2))
    low = places.min(axis=0, keepdims=True) if len(places) else np.zeros((1, 2))
    made: F64 = np.divide(places - low, spread, out=np.full(places.shape, 0.5), where=spread > 0)
    return made
