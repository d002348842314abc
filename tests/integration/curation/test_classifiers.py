"""Reward models and classifiers: small random models, saved and loaded, against transformers itself."""

from __future__ import annotations

import builtins
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BloomConfig,
    BloomForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from anneal.curation.adapters.judges import scorer_of
from anneal.curation.domain.errors import ModelUnfit, NotInstalled
from anneal.curation.domain.model_settings import Classifier
from anneal.curation.domain.scores import CountedScorer
from anneal.curation.domain.steps.base import Scores
from anneal.curation.domain.steps.quality_classifier import QualityClassifier
from anneal.curation.domain.steps.reward_model import RewardModel
from anneal.curation.settings import JudgeOptions
from tests.fixtures.tiny_model import tokenizer
from tests.unit.curation.rows import Row, asked, batch_of, said

CONTEXT = 96


def save_llama(folder: Path, *, labels: int = 1, pad: bool = True, template: bool = True, head: bool = True) -> Path:
    made = tokenizer() if template else tokenizer(None)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(made),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=made.pad_token_id if pad else None,
        initializer_range=0.2,
        num_labels=labels,
    )
    (LlamaForSequenceClassification if head else LlamaForCausalLM)(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def save_bert(folder: Path, labels: list[str], **more: Any) -> Path:
    made = tokenizer(None)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(made),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        pad_token_id=made.pad_token_id,
        initializer_range=0.4,
        id2label=dict(enumerate(labels)),
        label2id={label: place for place, label in enumerate(labels)},
        **more,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def scorer(step: RewardModel | QualityClassifier, folder: Path) -> CountedScorer:
    return scorer_of(step, folder, JudgeOptions(), check=lambda: None, count=lambda *_, **__: None)


def values(scores: Scores) -> list[float | None]:
    (array,) = scores.values.values()
    found: list[float | None] = array.to_pylist()
    return found


def direct(folder: Path, tokens: list[int]) -> Any:
    """The outputs for one row, asked of transformers."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(input_ids=torch.tensor([tokens])).logits[0].double()


def row_of(number: int) -> Row:
    return said(("user", f"What is f{number}?"), ("assistant", "It is the value. " * (number % 4 + 1)))


def templated(row: Row) -> list[int]:
    tokens: list[int] = tokenizer().apply_chat_template(row["messages"], return_dict=False)
    return tokens


@pytest.mark.parametrize(("pad", "batch_rows"), [(True, 1), (True, 4), (True, 64), (False, 8)])
def test_a_reward_is_the_logit_of_the_templated_conversation(tmp_path: Path, pad: bool, batch_rows: int) -> None:
    folder = save_llama(tmp_path / "model", pad=pad)
    rows = [row_of(n) for n in range(10)]
    step = RewardModel(model=Classifier(name=str(folder), batch_rows=batch_rows))
    found = scorer(step, tmp_path).score(batch_of(rows))
    expected = [float(direct(folder, templated(row))[0]) for row in rows]
    assert values(found) == pytest.approx(expected, abs=1e-4)
    assert len({round(value, 3) for value in expected}) == 10
    assert found.causes == [None] * 10
    assert list(found.values) == ["reward"]


def test_the_same_rows_get_the_same_scores(tmp_path: Path) -> None:
    step = RewardModel(model=Classifier(name=str(save_llama(tmp_path / "model"))))
    rows = [row_of(n) for n in range(12)]
    first, second = (scorer(step, tmp_path).score(batch_of(rows)) for _ in range(2))
    cut = [values(scorer(step, tmp_path).score(batch_of([row])))[0] for row in rows]
    assert values(first) == values(second) == cut


def test_a_conversation_that_is_too_long_or_has_no_answer_stays_unscored(tmp_path: Path) -> None:
    step = RewardModel(model=Classifier(name=str(save_llama(tmp_path / "model"))))
    fits = asked("Q", "a")
    while len(templated(fits)) < CONTEXT:
        fits = asked("Q", fits["messages"][1]["content"] + "\u00e9")
        if len(templated(fits)) > CONTEXT:
            fits = asked("Q", fits["messages"][1]["content"][:-1] + "a")
    over = asked("Q", fits["messages"][1]["content"] + "a")
    assert (len(templated(fits)), len(templated(over))) == (CONTEXT, CONTEXT + 1)
    rows = [fits, over, said(("user", "Q")), said(), asked("Q", "x" * 1_000_000)]
    found = scorer(step, tmp_path).score(batch_of(rows))
    assert found.causes == [None, "too_long", "no_answer", "no_answer", "too_long"]
    assert [value is None for value in values(found)] == [False, True, True, True, True]


def test_a_limit_below_the_models_own_counts(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model")
    length = len(templated(asked("Q", "a")))
    causes: list[str | None] = []
    for limit in (length, length - 1):
        step = RewardModel(model=Classifier(name=str(folder), max_tokens=limit))
        causes += scorer(step, tmp_path).score(batch_of([asked("Q", "a")])).causes
    assert causes == [None, "too_long"]


def test_what_a_template_refuses_stays_unscored(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model")
    template = "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(template + "{{ m['content'] }}{% endfor %}")
    bad_tools = asked("Q", "a")
    bad_tools["tools"] = "{"
    rows = [said(("system", "s"), ("user", "Q"), ("assistant", "a")), bad_tools, asked("Q", "a")]
    found = scorer(RewardModel(model=Classifier(name=str(folder))), tmp_path).score(batch_of(rows))
    assert found.causes == ["template_refused", "template_refused", None]


def test_an_output_that_is_no_number_is_no_score(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model")
    model = LlamaForSequenceClassification.from_pretrained(folder)
    torch.nn.init.constant_(model.score.weight, math.nan)
    model.save_pretrained(folder)
    found = scorer(RewardModel(model=Classifier(name=str(folder))), tmp_path).score(batch_of([asked("Q", "a")]))
    assert (values(found), found.causes) == ([None], ["not_finite"])


TEXTS = ["The function returns.", "an error", "raises " * 5, "value 7"]


def test_a_class_has_its_probability(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "model", ["bad", "fair", "good"])
    rows = [asked("Q", text) for text in TEXTS]
    for place, label in enumerate(("bad", "fair", "good")):
        step = QualityClassifier(model=Classifier(name=str(folder)), label=label)
        found = scorer(step, tmp_path).score(batch_of(rows))
        expected = [torch.softmax(direct(folder, tokenizer(None)(text)["input_ids"]), -1)[place] for text in TEXTS]
        assert values(found) == pytest.approx([float(one) for one in expected], abs=1e-4)


def test_labels_that_exclude_nothing_have_probabilities_of_their_own(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "model", ["clear", "true"], problem_type="multi_label_classification")
    step = QualityClassifier(model=Classifier(name=str(folder)), label="true", part="prompt")
    found = scorer(step, tmp_path).score(batch_of([asked(text, "a") for text in TEXTS]))
    expected = [torch.sigmoid(direct(folder, tokenizer(None)(text)["input_ids"]))[1] for text in TEXTS]
    assert values(found) == pytest.approx([float(one) for one in expected], abs=1e-4)


def test_a_regression_has_its_output_over_the_beginning_of_a_long_text(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "model", ["LABEL_0"])
    long = "value of f7 " * 100_000
    found = {
        long_texts: scorer(
            QualityClassifier(model=Classifier(name=str(folder)), long_texts=long_texts), tmp_path
        ).score(batch_of([asked("Q", TEXTS[0]), asked("Q", long), asked("Q", " \n"), said(("user", "Q"))]))
        for long_texts in ("truncate", "unscored")
    }
    tokens = tokenizer(None)(long[:5_000])["input_ids"][:CONTEXT]
    short, cut = (float(direct(folder, one)[0]) for one in (tokenizer(None)(TEXTS[0])["input_ids"], tokens))
    assert values(found["truncate"]) == [pytest.approx(short, abs=1e-4), pytest.approx(cut, abs=1e-4), None, None]
    assert values(found["unscored"]) == [pytest.approx(short, abs=1e-4), None, None, None]
    assert found["truncate"].causes == [None, None, "no_text", "no_text"]
    assert found["unscored"].causes == [None, "too_long", "no_text", "no_text"]


def test_a_model_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    """Transformers would make one up, and its numbers would look like scores."""
    folder = save_llama(tmp_path / "model", head=False)
    with pytest.raises(ModelUnfit, match=r"no trained head: score\.weight"):
        scorer(RewardModel(model=Classifier(name=str(folder))), tmp_path)


@pytest.mark.parametrize(
    ("labels", "template", "match"), [(3, True, "has 3 outputs"), (1, False, "has no chat template")]
)
def test_a_model_that_gives_no_reward_is_refused(tmp_path: Path, labels: int, template: bool, match: str) -> None:
    folder = save_llama(tmp_path / "model", labels=labels, template=template)
    with pytest.raises(ModelUnfit, match=match):
        scorer(RewardModel(model=Classifier(name=str(folder))), tmp_path)


@pytest.mark.parametrize(
    ("labels", "label", "match"),
    [
        (["bad", "good"], None, "set label to one of bad, good"),
        (["bad", "good"], "best", "knows only bad, good"),
        (["LABEL_0"], "LABEL_0", "is a regression: leave label out"),
    ],
)
def test_a_label_must_be_the_models(tmp_path: Path, labels: list[str], label: str | None, match: str) -> None:
    folder = save_bert(tmp_path / "model", labels)
    with pytest.raises(ModelUnfit, match=match):
        scorer(QualityClassifier(model=Classifier(name=str(folder)), label=label), tmp_path)


def test_a_limit_beyond_the_models_own_is_refused(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model")
    with pytest.raises(ModelUnfit, match=f"takes {CONTEXT} tokens, not {CONTEXT + 1}"):
        scorer(RewardModel(model=Classifier(name=str(folder), max_tokens=CONTEXT + 1)), tmp_path)


def test_a_model_that_does_not_say_its_limit_needs_one(tmp_path: Path) -> None:
    """Bloom's positions have no end."""
    made = tokenizer()
    shape = {"vocab_size": len(made), "hidden_size": 32, "n_layer": 1, "n_head": 2, "num_labels": 1}
    BloomForSequenceClassification(BloomConfig(**shape)).save_pretrained(tmp_path / "model")
    made.save_pretrained(tmp_path / "model")
    name = str(tmp_path / "model")
    with pytest.raises(ModelUnfit, match="set max_tokens"):
        scorer(RewardModel(model=Classifier(name=name)), tmp_path)
    step = RewardModel(model=Classifier(name=name, max_tokens=50))
    assert scorer(step, tmp_path).score(batch_of([asked("Q", "a")])).causes == [None]


@pytest.mark.parametrize("content", [None, "empty", "pickled", "cut off", "wrong config"])
def test_what_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "model"
    if content == "empty":
        folder.mkdir()
    if content == "pickled":
        save_llama(folder)
        (folder / "model.safetensors").unlink()
        torch.save({}, folder / "pytorch_model.bin")
    if content == "cut off":
        weights = save_llama(folder) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1_000])
    if content == "wrong config":
        config = json.loads((save_llama(folder) / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": None}))
    with pytest.raises(ModelUnfit, match=f"{folder} cannot be read as a classifier"):
        scorer(RewardModel(model=Classifier(name=str(folder))), tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model")
    with pytest.raises(ModelUnfit, match="no GPU"):
        scorer(RewardModel(model=Classifier(name=str(folder), device="cuda")), tmp_path)


@pytest.mark.parametrize("absent", ["torch", "transformers"])
def test_a_library_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name == absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NotInstalled, match=f"quality_classifier needs torch and transformers, and {absent} is not"):
        scorer(QualityClassifier(model=Classifier(name="any")), tmp_path)
