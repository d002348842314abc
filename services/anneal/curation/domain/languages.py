"""The language of texts, by py3langid's model (Lui and Baldwin 2012, "langid.py", retrained).

The model comes in the wheel: nothing is downloaded. py3langid asks it a byte at a time in Python; here a kernel does,
with the same verdicts, for many texts at once and without the interpreter's lock.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anneal.curation.domain.texts import bytes_of

UNKNOWN = "und"
"""BCP 47's `undetermined`."""
MIN_PROBABILITY = 0.9
MIN_LETTERS = 20
"""A text of fewer letters says too little."""
_CHARACTERS = 2_000


class _Model(NamedTuple):
    names: Sequence[str]
    moves: NDArray[np.uint32]
    bases: NDArray[np.int64]
    features: NDArray[np.int32]
    weights: NDArray[np.float32]
    priors: NDArray[np.float32]
    aliases: NDArray[np.int64]


def languages_of(texts: Sequence[str]) -> list[tuple[str, float]]:
    """The most likely language of each text, in the model's ISO 639 codes, and how sure the model is, 0 to 1."""
    from anneal.curation.domain.kernels.languages import likeliest

    model = _model()
    octets, offsets = bytes_of(pa.array([_plain(text) for text in texts], pa.large_string()))
    longest = int(np.diff(offsets).max(initial=0))
    logs = np.log1p(np.arange(longest + 1, dtype=np.float32))
    best, sure = likeliest(octets, offsets, *model[1:-1], logs, model.aliases)
    return [(model.names[one], probability) for one, probability in zip(best.tolist(), sure.tolist(), strict=True)]


def count_languages(texts: Sequence[str]) -> Counter[str]:
    """How many texts begin in which language, by its ISO 639 code; `und` where that cannot be told."""
    shown = [text[:_CHARACTERS] for text in texts]
    told = languages_of(shown)
    return Counter(
        code if probability >= MIN_PROBABILITY and sum(map(str.isalpha, text)) >= MIN_LETTERS else UNKNOWN
        for text, (code, probability) in zip(shown, told, strict=True)
    )


def _plain(text: str) -> str:
    """As the model was trained: composed, and not in capitals only."""
    return unicodedata.normalize("NFC", text.lower() if text.isupper() else text)


@cache
def _model() -> _Model:
    """The model. It is read when the first text is asked about: whoever only checks settings does without."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    read = LanguageIdentifier.from_model_file(MODEL_FILE)
    first = {name: column for column, name in reversed(list(enumerate(read.nb_classes)))}
    aliases = [(first[name], column) for column, name in enumerate(read.nb_classes) if first[name] != column]
    return _Model(
        tuple(read.nb_classes),
        np.array(read.tk_nextmove, dtype=np.uint32),
        np.array(read.tk_row, dtype=np.int64) << 8,
        np.array(read.tk_output, dtype=np.int32),
        read.nb_ptc.astype(np.float32),
        np.array(read.nb_pc, dtype=np.float32),
        np.array(aliases, dtype=np.int64).reshape(-1, 2),
    )
