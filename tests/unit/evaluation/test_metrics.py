"""Each metric against published or hand-computed cases, and its bounds."""

from __future__ import annotations

import random
from math import exp, log
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.evaluation.domain import metrics as metrics_package
from anneal.evaluation.domain import suites as suites_package
from anneal.evaluation.domain.estimates import estimate
from anneal.evaluation.domain.metric import Metric
from anneal.evaluation.domain.metrics import METRICS
from anneal.evaluation.domain.metrics.exact_match import ExactMatch
from anneal.evaluation.domain.metrics.latency import Latency
from anneal.evaluation.domain.metrics.length import Length
from anneal.evaluation.domain.metrics.perplexity import Perplexity
from anneal.evaluation.domain.metrics.rouge_l import RougeL
from anneal.evaluation.domain.metrics.token_f1 import TokenF1
from anneal.evaluation.domain.normalisation import normalise
from anneal.evaluation.domain.samples import AnswerFormat, Sample
from anneal.evaluation.domain.suites import SUITES


def sample(answer: str | None, reference: str = "", **rest: object) -> Sample:
    return Sample(id="r", answer=answer, reference=reference, **rest)  # type: ignore[arg-type]


def value(metric: Metric, one: Sample) -> float | None:
    score = metric.score(one)
    return None if score is None else score.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Denver Broncos!", "denver broncos"),
        ("a  an the", ""),
        ("theatre", "theatre"),
        ("Saint-Denis", "saintdenis"),
        ("$1,000.50", "100050"),
        ("an apple\n a day", "apple day"),
    ],
)
def test_squad_normalisation(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("answer_format", "answer", "reference", "expected"),
    [
        ("text", "the Denver Broncos.", "Denver Broncos", 1),
        ("text", "Broncos", "Denver Broncos", 0),
        ("text", "", "Denver Broncos", 0),
        ("json", '["a","b"]', '[ "a", "b" ]', 1),
        ("json", '["b","a"]', '["a","b"]', 0),
        ("json", '{"x": 1, "y": 2}', '{"y": 2, "x": 1}', 1),
        ("json", "[1]", "[true]", 0),
        ("json", "[1.0]", "[1]", 1),
        ("json", '["a"', '["a"]', 0),
        ("json", "null", "null", 1),
        ("json", "[" * 100_000, "[]", 0),
        ("json", "[]", "not json", None),
    ],
)
def test_exact_match(answer_format: AnswerFormat, answer: str, reference: str, expected: float | None) -> None:
    assert value(ExactMatch(), sample(answer, reference, answer_format=answer_format)) == expected


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        # Overlap, none, no word on one side, none on both, and words that repeat.
        ("Denver Broncos won", "the Denver Broncos", 2 * (2 / 3) * 1 / (2 / 3 + 1)),
        ("Carolina Panthers", "Denver Broncos", 0),
        ("", "Denver Broncos", 0),
        ("the", "", 1),
        ("b b c", "b c c", 2 / 3),
    ],
)
def test_token_f1(answer: str, reference: str, expected: float) -> None:
    assert value(TokenF1(), sample(answer, reference)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        # Lin 2004, section 3.1, the worked example: S1 "police killed the gunman", S2 and S3 (beta = 1).
        ("police kill the gunman", "police killed the gunman", 3 / 4),
        ("the gunman kill police", "police killed the gunman", 2 / 4),
        # S4 there: again two words in order.
        ("the gunman police killed", "police killed the gunman", 2 / 4),
        ("", "police", 0),
        ("→", "→", None),
    ],
)
def test_rouge_l(answer: str, reference: str, expected: float | None) -> None:
    assert value(RougeL(), sample(answer, reference)) == expected


def test_perplexity_is_weighted_by_tokens() -> None:
    # A uniform guess among 4 for 3 tokens and among 16 for 1: exp((3 log 4 + log 16) / 4) = 2 ** 2.5
    rows = [
        sample(None, reference_logprobs=(-log(4),) * 3),
        sample(None, reference_logprobs=(-log(16),)),
        sample(None),
    ]
    result = estimate(map(Perplexity().score, rows), link=Perplexity.link)
    assert result.value == pytest.approx(2**2.5)
    assert (result.scored, result.unscored) == (2, 1)


def test_a_uniform_model_has_its_vocabulary_as_perplexity() -> None:
    rows = [sample(None, reference_logprobs=(-log(512),) * n) for n in (1, 5, 9)]
    result = estimate(map(Perplexity().score, rows), link=Perplexity.link)
    assert result.value == pytest.approx(512)
    assert result.stderr == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("logprobs", [None, (), (float("-inf"),), (float("nan"), -1.0)])
def test_perplexity_without_finite_logprobs_is_unscored(logprobs: tuple[float, ...] | None) -> None:
    assert Perplexity().score(sample("x", reference_logprobs=logprobs)) is None


def test_delta_method_agrees_with_the_bootstrap() -> None:
    """The delta method's error bar against a seeded bootstrap over rows (Efron 1979), within a tenth."""
    rng = random.Random(1)
    rows = [
        Perplexity().score(
            sample(None, reference_logprobs=tuple(-rng.expovariate(0.5) for _ in range(rng.randint(2, 30))))
        )
        for _ in range(200)
    ]
    result = estimate(rows, link=Perplexity.link)
    scored = [row for row in rows if row is not None]
    replicas = []
    for _ in range(1000):
        draw = rng.choices(scored, k=len(scored))
        replicas.append(exp(sum(s.value * s.weight for s in draw) / sum(s.weight for s in draw)))
    mean = sum(replicas) / len(replicas)
    spread = (sum((x - mean) ** 2 for x in replicas) / (len(replicas) - 1)) ** 0.5
    assert result.stderr == pytest.approx(spread, rel=0.1)


def test_length_and_latency() -> None:
    assert value(Length(), sample("x y", answer_tokens=7)) == 7
    assert value(Length(), sample("x y")) is None
    assert value(Latency(), sample("x", latency_s=0.25)) == 0.25
    assert value(Latency(), sample(None, latency_s=0.25)) is None


@pytest.mark.parametrize("name", sorted(METRICS))
def test_no_answer_is_unscored(name: str) -> None:
    assert METRICS[name].score(sample(None, "reference")) is None


@given(st.text(), st.text())
def test_shares_stay_between_zero_and_one_and_are_symmetric(answer: str, reference: str) -> None:
    there, back = sample(answer, reference), sample(reference, answer)
    metrics: tuple[Metric, ...] = (ExactMatch(), TokenF1(), RougeL())
    for metric in metrics:
        score = value(metric, there)
        assert score is None or 0 <= score <= 1
    assert value(TokenF1(), there) == value(TokenF1(), back)
    assert value(ExactMatch(), there) == value(ExactMatch(), back)


@given(st.text(min_size=1))
def test_the_reference_itself_scores_one(text: str) -> None:
    metrics: tuple[Metric, ...] = (ExactMatch(), TokenF1(), RougeL())
    for metric in metrics:
        assert value(metric, sample(text, text)) in (1, None)


@pytest.mark.parametrize(("package", "table"), [(metrics_package, METRICS), (suites_package, SUITES)])
def test_every_file_is_in_its_table(package: object, table: dict[str, object]) -> None:
    folder = Path(package.__file__).parent  # type: ignore[attr-defined]
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(table)


def test_suites_name_metrics_that_exist() -> None:
    assert all(set(suite.metrics) <= set(METRICS) for suite in SUITES.values())
