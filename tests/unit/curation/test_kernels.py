from __future__ import annotations

import random
import re
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anneal.curation.domain.candidates import Bands, signatures
from anneal.curation.domain.kernels.base import INT, kernel
from anneal.curation.domain.kernels.digests import collapse
from anneal.curation.domain.kernels.scan import hash_words
from anneal.curation.domain.kernels.table import KeyTable
from anneal.curation.domain.texts import bytes_of, digests_of, normalized
from anneal.curation.domain.words import Ragged, fingerprints_of, ngrams_of, shingle_sets, word_table, words_of
from anneal.kit.records import document, to_table

# Anything, and what is often found together: words, rare white space, letters that grow or shrink when lowered.
LETTERS = st.one_of(
    st.sampled_from("abAB01_ .\n\té世ßΣς😀İȺK\u2028\x85\x1cﬁ\x00"), st.characters(exclude_categories=["Cs"])
)
TEXTS = st.lists(st.text(LETTERS, max_size=150), max_size=12)
# Few words, so that n-grams meet again.
WORDY = st.lists(st.lists(st.sampled_from(["a", "b", "Ab", "é"]), max_size=14).map(" ".join), max_size=12)
MASK = (1 << 64) - 1


def large(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


def slow_words(text: str) -> list[str]:
    lowered = "".join(pc.utf8_lower(pa.scalar(letter, pa.large_string())).as_py() for letter in text)
    return re.findall(r"\w+", lowered)


def slow_ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = slow_words(text)
    return [tuple(words[i : i + n]) for i in range(max(len(words) - n + 1, 1))] if words else []


def same_partition(hashes: list[Any], things: list[Any]) -> bool:
    """Whether hashes are equal exactly where the things are."""
    return len(hashes) == len(things) and len(set(zip(hashes, things, strict=True))) == len(set(hashes)) == len(
        set(things)
    )


@given(TEXTS)
def test_words_are_those_of_re_in_any_script(texts: list[str]) -> None:
    words = words_of(large(texts))
    expected = [slow_words(text) for text in texts]
    assert words.lengths.tolist() == [len(row) for row in expected]
    assert same_partition(words.values.tolist(), [word for row in expected for word in row])


@pytest.mark.parametrize("size", [1, 7, 8, 9, 62, 63, 64, 65, 127, 128, 129, 1000])
@pytest.mark.parametrize("letter", ["x", "Ⱥ"])
def test_words_at_the_edges_of_blocks(size: int, letter: str) -> None:
    texts = ["." * size + "End", letter * size, letter * size + " b", "é" + "." * size + "end"]
    words = words_of(large(texts))
    assert words.lengths.tolist() == [1, 1, 2, 2]
    assert words.row(0)[0] == words.row(3)[1]
    assert words.row(1)[0] == words.row(2)[0] == words_of(large([letter.lower() * size])).values[0]


def test_a_word_hash_by_hand() -> None:
    def mixed(value: int) -> int:
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
        value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
        return value ^ value >> 31

    golden = 0x9E3779B97F4A7C15
    short = mixed(2 * golden & MASK ^ int.from_bytes(b"ab", "little"))
    first = (mixed(9 * golden & MASK ^ int.from_bytes(b"abcdefgh", "little")) + golden) & MASK
    assert words_of(large(["Ab abcdefghI"])).values.tolist() == [short, mixed(first ^ ord("i"))]


def test_no_code_point_outgrows_its_room() -> None:
    table = word_table()
    points = np.flatnonzero(table)
    width = 1 + np.sum(points[:, None] >= [0x80, 0x800, 0x10000], axis=1)
    lowered = 1 + np.sum(table[points][:, None] >= [0x80, 0x800, 0x10000], axis=1)
    assert (2 * lowered <= 3 * width).all()


@pytest.mark.parametrize("octets", [b"a\xff\xff\xff\xffb", b"word \xf0", b"\xf7\xbf\xbf\xbf", b"\x80\xe2\x82", b"\xc3"])
def test_what_is_not_utf8_harms_nothing(octets: bytes) -> None:
    data = np.frombuffer(octets, dtype=np.uint8)
    values, bounds = hash_words(data, np.array([0, len(data)]), word_table())
    assert len(values) == bounds[-1] <= len(octets)


@given(WORDY, st.integers(1, 6))
def test_ngrams_are_runs_of_words(texts: list[str], n: int) -> None:
    grams = ngrams_of(words_of(large(texts)), n, short_rows=True)
    expected = [slow_ngrams(text, n) for text in texts]
    assert grams.lengths.tolist() == [len(row) for row in expected]
    assert same_partition(grams.values.tolist(), [gram for row in expected for gram in row])
    whole = ngrams_of(words_of(large(texts)), n, short_rows=False)
    assert whole.lengths.tolist() == [
        len(row) if len(slow_words(text)) >= n else 0 for row, text in zip(expected, texts, strict=True)
    ]


@given(WORDY)
def test_fingerprints_are_equal_where_the_words_are(texts: list[str]) -> None:
    prints = fingerprints_of(words_of(large(texts)))
    words = [tuple(slow_words(text)) for text in texts]
    for lane in (0, 1):
        assert same_partition(prints[:, lane].tolist(), words)


def test_fingerprints_tell_thue_morse_words_apart() -> None:
    # The words that collide in any polynomial hash modulo 2^64.
    bits = [bin(i).count("1") % 2 for i in range(1 << 12)]
    prints = fingerprints_of(words_of(large([" ".join("ab"[bit ^ flip] for bit in bits) for flip in (0, 1)])))
    assert (prints[0] != prints[1]).all()


@given(TEXTS, st.integers(1, 6), st.sampled_from([0.3, 0.8, 1.0]))
def test_one_pass_equals_its_parts(texts: list[str], n: int, threshold: float) -> None:
    bands = Bands.for_threshold(threshold)
    # A slice, as batches often are.
    column = large(["ahead", *texts, "behind"])[1:-1]
    signed = signatures(column, n, bands)
    words = words_of(column)
    grams = ngrams_of(words, n, short_rows=True)
    assert (signed.words == words.lengths).all()
    assert (signed.prints == fingerprints_of(words)).all()
    assert (signed.keys == bands.keys_of(grams)).all()
    assert signed.keys.shape == (bands.count, len(texts))
    sets = shingle_sets(column, n)
    for row in range(len(texts)):
        assert sets.row(row).tolist() == sorted(set(grams.row(row).tolist()))


@given(WORDY.filter(bool), st.randoms())
def test_band_keys_depend_on_the_set_alone(texts: list[str], chance: random.Random) -> None:
    bands = Bands(24, 5)
    sets = shingle_sets(large(texts), 2)
    keys = bands.keys_of(sets)
    for row in range(len(texts)):
        values = sets.row(row).tolist()
        twice = values + values[:1]
        chance.shuffle(twice)
        again = bands.keys_of(Ragged(np.array(twice, dtype=np.uint64), np.array([0, len(twice)])))
        assert (again[:, 0] == keys[:, row]).all()


def test_threads_change_nothing() -> None:
    rng = random.Random(1)
    columns = [large([" ".join(rng.choices("abcdé", k=50)) for _ in range(200)]) for _ in range(16)]
    alone = [signatures(column, 5, Bands(24, 5)).keys for column in columns]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda column: signatures(column, 5, Bands(24, 5)).keys, columns))
    assert all((left == right).all() for left, right in zip(alone, together, strict=True))


def documents(texts: list[str]) -> pa.RecordBatch:
    table = to_table("document", [document(text, uri="a.txt") for text in texts])
    return table.combine_chunks().to_batches()[0] if texts else pa.RecordBatch.from_pylist([], schema=table.schema)


def slow_normal(text: str) -> str:
    lowered = pc.utf8_lower(pa.scalar(unicodedata.normalize("NFKC", text), pa.large_string())).as_py()
    return " ".join(lowered.split())


def slow_digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16, person=b"part").digest()


@given(TEXTS)
def test_digests_are_blake2b_of_normal_texts(texts: list[str]) -> None:
    # In one batch with others, and alone: by either path.
    digests = digests_of(documents(texts), "conversation", normalize=True)
    raw = digests_of(documents(texts), "conversation", normalize=False)
    for row, text in enumerate(texts):
        assert digests[row].tobytes() == slow_digest(slow_normal(text))
        assert digests_of(documents([text]), "conversation", normalize=True)[0].tobytes() == digests[row].tobytes()
        assert raw[row].tobytes() == slow_digest(text)
    assert normalized(large(texts)).to_pylist() == [slow_normal(text) for text in texts]


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 255, 256, 257, 10_000])
def test_digests_at_the_edges_of_blocks(size: int) -> None:
    texts = ["x" * size, " " * size + "X" * size + "\n", "é" * size]
    digests = digests_of(documents(texts), "conversation", normalize=True)
    assert digests[0].tobytes() == digests[1].tobytes() == slow_digest("x" * size)
    assert digests[2].tobytes() == slow_digest("é" * size)


def test_every_ascii_character_is_lowered_and_spaced_as_str_does() -> None:
    texts = [f"{chr(code)}x{chr(code)}{chr(code)}Y{chr(code)}" for code in range(128)]
    octets, bounds = collapse(*bytes_of(large(texts)))
    found = [octets[bounds[row] : bounds[row + 1]].tobytes().decode() for row in range(128)]
    assert found == [" ".join(text.lower().split()) for text in texts]


KEYS = st.one_of(st.integers(0, MASK), st.integers(0, 300), st.sampled_from([0, MASK]))


@given(st.dictionaries(KEYS, st.integers(0, 1 << 62), max_size=300), st.lists(KEYS, max_size=100))
def test_a_key_table_is_a_dict(known: dict[int, int], asked: list[int]) -> None:
    keys = np.array(sorted(known), dtype=np.uint64)
    table = KeyTable(keys, np.array([known[key] for key in sorted(known)], dtype=np.int64))
    wanted = [*asked, *known]
    assert table.find(np.array(wanted, dtype=np.uint64)).tolist() == [known.get(key, -1) for key in wanted]
    for kind, top in ((np.uint64, MASK), (np.uint32, (1 << 32) - 1)):
        some = [key for key in wanted if key <= top]
        places, values = table.hits(np.array(some, dtype=kind))
        hits = [(place, known[key]) for place, key in enumerate(some) if key in known]
        assert list(zip(places.tolist(), values.tolist(), strict=True)) == hits


@settings(max_examples=20)
@given(
    st.sampled_from([(4, 1, 0), (8, 1, 1), (8, 2, 0), (12, 2, 1), (16, 2, 2), (20, 3, 2), (24, 3, 3), (24, 6, 0)]),
    st.integers(0, 1 << 32),
)
def test_short_rows_meet_at_the_threshold(sizes: tuple[int, int, int], seed: int) -> None:
    # 20,000 pairs of Jaccard similarity 0.8, of 4 to 30 shingles: fewer than 1 in 1,000 may share no band.
    common, left, right = sizes
    count, rng = 20_000, np.random.default_rng(seed)
    shared = rng.integers(0, 1 << 64, (count, common), dtype=np.uint64)
    keys = []
    for extra in (left, right):
        own = rng.integers(0, 1 << 64, (count, extra), dtype=np.uint64)
        rows = np.concatenate((shared, own), axis=1)
        keys.append(Bands.for_threshold(0.8).keys_of(Ragged(rows.ravel(), np.arange(count + 1) * rows.shape[1])))
    assert np.mean(~(keys[0] == keys[1]).any(axis=0)) < 1e-3


def test_bins_agree_as_often_as_rows_are_similar() -> None:
    # One bin per band: the share of equal keys estimates the similarity, empty bins or not.
    for common, own in ((2, 1), (20, 10), (400, 200)):
        count, rng = 4_000, np.random.default_rng(7)
        shared = rng.integers(0, 1 << 64, (count, common), dtype=np.uint64)
        keys = []
        for _ in range(2):
            rows = np.concatenate((shared, rng.integers(0, 1 << 64, (count, own), dtype=np.uint64)), axis=1)
            keys.append(Bands(120, 1).keys_of(Ragged(rows.ravel(), np.arange(count + 1) * rows.shape[1])))
        agreed = (keys[0] == keys[1]).mean()
        # 4,000 rows with at least one independent bin each: 4 standard errors of a share of one half.
        assert abs(agreed - common / (common + 2 * own)) < 4 * 0.5 / count**0.5


def test_a_kernel_without_a_cache_folder_still_compiles() -> None:
    names: dict[str, Any] = {}
    # What comes from no file has no cache.
    exec("def add(a, b):\n    return a + b\n", names)
    assert kernel(INT, INT)(names["add"])(2, 3) == 5


def test_what_needs_no_kernel_imports_no_compiler() -> None:
    code = (
        "import sys, anneal.curation.jobs, anneal.curation.domain.contamination\n"
        "from anneal.curation.domain.steps import STEPS\n"
        "from anneal.kit.records import document, to_table\n"
        "batch = to_table('document', [document('a b', uri='a')]).to_batches()[0]\n"
        "assert STEPS['length'](min_answer_characters=9).judge(batch)\n"
        "assert 'numba' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
