"""The languages of texts: the kernel against py3langid itself, which asks the same model in Python."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from anneal.curation.domain.languages import languages_of
from anneal.curation.domain.steps.language import LANGUAGES

TEXTS = {
    "en": "The weather was fine and the children went to the beach with their parents.",
    "de": "Das Wetter war schön und die Kinder gingen mit ihren Eltern an den Strand.",
    "fr": "Il faisait beau et les enfants sont allés à la plage avec leurs parents.",
    "sr": "Време је било лепо и деца су отишла на плажу са својим родитељима.",  # noqa: RUF001
    "ja": "天気がよかったので、子供たちは両親と一緒に海へ行きました。",
    "el": "Ο καιρός ήταν καλός και τα παιδιά πήγαν στην παραλία με τους γονείς τους.",  # noqa: RUF001
}
Classify = Callable[[str], tuple[str, float]]


@pytest.fixture(scope="module")
def classify() -> Classify:
    identifier: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    made: Classify = identifier.classify
    return made


def agrees(texts: list[str], classify: Classify) -> None:
    """The sums of a long text are large, and both are of single precision."""
    for text, (code, probability) in zip(texts, languages_of(texts), strict=True):
        expected, sure = classify(text)
        assert probability == pytest.approx(sure, abs=1e-3), text
        assert code == expected or sure < 0.5, text


@pytest.mark.parametrize("code", TEXTS)
def test_a_language_is_told(code: str) -> None:
    ((told, probability),) = languages_of([TEXTS[code]])
    assert told == code
    assert probability > 0.9


def test_verdicts_are_those_of_py3langid(classify: Classify) -> None:
    texts = list(TEXTS.values())
    long = [" ".join(texts), texts[0] * 200, texts[4] * 50]
    agrees([*texts, *map(str.upper, texts), *long, "", " ", "1", "\x00", "😀😀", "a" * 10_000], classify)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), max_size=5))
@settings(max_examples=60, deadline=None)
def test_verdicts_are_those_of_py3langid_for_any_text(classify: Classify, texts: list[str]) -> None:
    agrees(texts, classify)


def test_a_text_is_told_alone_as_among_others() -> None:
    texts = [*TEXTS.values(), ""]
    assert languages_of(texts) == [languages_of([text])[0] for text in texts]


def test_capitals_and_parted_accents_tell_the_same() -> None:
    text = TEXTS["fr"]
    assert languages_of([unicodedata.normalize("NFD", text)]) == languages_of([text])
    assert languages_of([text.upper()]) == languages_of([text.lower()])


def test_all_languages_of_the_model_can_be_named() -> None:
    identifier: Any = LanguageIdentifier.from_model_file(MODEL_FILE)
    assert set(identifier.labels) - {"zxx"} == LANGUAGES
