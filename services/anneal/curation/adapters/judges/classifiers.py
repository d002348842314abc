"""Reward models and quality classifiers, over rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.adapters.judges.sequence_classifier import SequenceClassifier
from anneal.curation.domain.errors import ModelUnfit
from anneal.curation.domain.judges import NO_ANSWER, TOO_LONG
from anneal.curation.domain.steps.base import Scores
from anneal.curation.domain.steps.quality_classifier import QualityClassifier
from anneal.curation.domain.steps.reward_model import RewardModel
from anneal.curation.domain.texts import Messages, text_of

DECIMALS = 4
NOT_FINITE, NO_TEXT = "not_finite", "no_text"
TEMPLATE_REFUSED = "template_refused"


class RewardScoring:
    """A `RewardModel` with its model."""

    def __init__(self, step: RewardModel) -> None:
        """Load the model.

        Raises:
            NotInstalled, ModelUnfit: see `SequenceClassifier`; also one of several outputs or without a chat template.
        """
        self._step, self._model = step, SequenceClassifier("reward_model", step.model)
        name, outputs = step.model.name, len(self._model.labels)
        if outputs != 1:
            raise ModelUnfit(f"{name} has {outputs} outputs; a reward model has 1", model=name)
        if not self._model.tokenizer.chat_template:
            raise ModelUnfit(f"the tokenizer of {name} has no chat template", model=name)

    def score(self, batch: pa.RecordBatch) -> Scores:
        """The reward of each conversation that ends with an answer."""
        messages = Messages(batch)
        lengths = pc.utf8_length(messages.contents).to_numpy(zero_copy_only=False)
        totals = np.diff(np.concatenate(([0], np.cumsum(lengths)))[messages.offsets])
        answered = messages.answered
        causes: list[str | None] = [
            None if answers and total <= self._model.max_characters else TOO_LONG if answers else NO_ANSWER
            for answers, total in zip(answered.tolist(), totals.tolist(), strict=True)
        ]
        texts: dict[int, str] = {}
        tools = batch.column("tools").to_pylist()
        for row in [row for row, cause in enumerate(causes) if cause is None]:
            start, end = messages.offsets[row], messages.offsets[row + 1]
            roles, contents = messages.roles[start:end].to_pylist(), messages.contents[start:end].to_pylist()
            turns = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
            text = self._templated(turns, tools[row])
            if not text:
                causes[row] = TEMPLATE_REFUSED
            else:
                texts[row] = text
        outputs = self._model.outputs(list(texts.values()), special_tokens=False, truncate=False)
        return _scores(self._step.score_name, causes, dict(zip(texts, outputs, strict=True)), lambda output: output[0])

    def _templated(self, turns: Sequence[dict[str, str]], tools: str | None) -> str | None:
        from jinja2 import TemplateError

        try:
            listed = json.loads(tools) if tools else None
            text: str = self._model.tokenizer.apply_chat_template(list(turns), tools=listed, tokenize=False)
        except (TemplateError, ValueError, TypeError):
            return None
        return text


class ClassifierScoring:
    """A `QualityClassifier` with its model."""

    def __init__(self, step: QualityClassifier) -> None:
        """Load the model.

        Raises:
            NotInstalled, ModelUnfit: see `SequenceClassifier`; also one that has no such label.
        """
        self._step, self._model = step, SequenceClassifier("quality_classifier", step.model)
        labels, name = self._model.labels, step.model.name
        known = ", ".join(labels)
        if step.label is None and len(labels) != 1:
            raise ModelUnfit(f"{name} has several outputs: set label to one of {known}", model=name)
        if step.label is not None and (len(labels) == 1 or step.label not in labels):
            what = "is a regression: leave label out" if len(labels) == 1 else f"knows only {known}"
            raise ModelUnfit(f"{name} has no label {step.label!r}; it {what}", model=name)

    def score(self, batch: pa.RecordBatch) -> Scores:
        """The probability of the label, or the regression's output, for each text."""
        texts = text_of(batch, self._step.part)
        truncate = self._step.long_texts == "truncate"
        blank = pc.invert(pc.match_substring_regex(texts, r"[^\s\p{Z}]")).to_pylist()
        causes: list[str | None] = [NO_TEXT if empty else None for empty in blank]
        rows = [row for row, cause in enumerate(causes) if cause is None]
        # Cut before it is copied: of a text of many megabytes only the beginning can count.
        cut = pc.utf8_slice_codeunits(texts, 0, self._model.max_characters + 1)
        outputs = self._model.outputs([cut[row].as_py() for row in rows], special_tokens=True, truncate=truncate)
        return _scores(self._step.score_name, causes, dict(zip(rows, outputs, strict=True)), self._value)

    def _value(self, output: NDArray[np.float64]) -> float:
        if self._step.label is None:
            return float(output[0])
        place = self._model.labels.index(self._step.label)
        if self._model.is_multi_label:
            return float(1 / (1 + np.exp(-output[place])))
        powers = np.exp(output - output.max())
        return float(powers[place] / powers.sum())


def _scores(
    name: str,
    causes: list[str | None],
    outputs: dict[int, NDArray[np.float64] | None],
    value_of: Callable[[NDArray[np.float64]], Any],
) -> Scores:
    """Outputs by row as scores; a row that was read and has none was too long."""
    values: list[float | None] = [None] * len(causes)
    for row, output in outputs.items():
        if output is None:
            causes[row] = TOO_LONG
            continue
        value = float(value_of(output)) if np.isfinite(output).all() else float("nan")
        if np.isfinite(value):
            values[row] = round(value, DECIMALS)
        else:
            causes[row] = NOT_FINITE
    return Scores(values={name: pa.array(values, pa.float64())}, causes=causes)
