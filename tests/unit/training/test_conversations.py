"""Conversations as samples: what is learned of them, what is cut, and what is refused by row and field."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anneal.training.domain.errors import TrainingRefused
from anneal.training.domain.objectives import OBJECTIVES
from anneal.training.domain.packing import collate
from anneal.training.domain.prepare import prepare
from anneal.training.domain.samples import Sample
from anneal.training.domain.spec import TrainingSpec
from tests.fixtures.tiny_model import UNMARKED, chat, tokenizer

ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
REWRITING = "{% for m in messages %}{{ loop.length }}{{ m.content }}<|im_end|>{% endfor %}"
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOL = '[{"type": "function", "function": {"name": "find_function", "parameters": {}}}]'


def row(messages: list[dict[str, Any]], tools: str | None = None) -> dict[str, Any]:
    return {"id": "the-row", "messages": messages, "tools": tools}


def samples(template: str | None, messages: list[dict[str, Any]], tools: str | None = None, **how: Any) -> list[Sample]:
    objective = OBJECTIVES["instruction"](tokenizer(template), context_tokens=how.pop("context", 512), **how)
    return list(objective.samples([row(messages, tools)]))


def learned(sample: Sample) -> list[str]:
    """The text of each learned turn."""
    tok = tokenizer(UNMARKED)
    return [tok.decode(sample.token_ids[span.start : span.end]) for span in sample.spans]


@pytest.mark.parametrize(
    ("reason", "field", "template", "messages", "tools"),
    [
        ("CHAT_TEMPLATE_MISSING", "", None, chat("a", "b"), None),
        ("CHAT_TEMPLATE_REFUSES", "messages", ALTERNATING, [chat("a", "b")[0], *chat("a", "b")], None),
        ("CHAT_TEMPLATE_UNSTABLE", "messages[1]", REWRITING, chat("a", "b"), None),
        ("ROW_LEFT_OUT", "tools[0]", UNMARKED, chat("a", "b"), TOOL),
        ("ROW_MALFORMED", "tools", UNMARKED, chat("a", "b"), "{"),
        ("NO_ASSISTANT_TURN", "", UNMARKED, chat("a", "b")[:1], None),
        ("NO_ASSISTANT_TURN", "messages[0]", UNMARKED, chat("a", "b")[1:], None),
    ],
)
def test_a_row_that_cannot_be_learned_is_refused_by_name(
    reason: str, field: str, template: str | None, messages: list[dict[str, Any]], tools: str | None
) -> None:
    with pytest.raises(TrainingRefused) as caught:
        samples(template, messages, tools)
    assert caught.value.reason == reason
    assert "row the-row" in str(caught.value)
    assert caught.value.facts.get("field", "") == field


def test_a_turn_that_nothing_ends_is_refused() -> None:
    tok = tokenizer("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ")
    tok.eos_token = None
    with pytest.raises(TrainingRefused) as caught:
        list(OBJECTIVES["instruction"](tok, context_tokens=64).samples([row(chat("a", "b"))]))
    assert caught.value.reason == "STOP_TOKEN_NOT_LEARNED"


def test_what_a_template_leaves_out_is_counted_where_that_is_allowed() -> None:
    objective = OBJECTIVES["instruction"](tokenizer(UNMARKED), context_tokens=512, strict=False)
    (sample,) = objective.samples([row(chat("a", "b"), TOOL)])
    assert learned(sample) == ["b<|im_end|>"]
    assert dict(objective.counts) == {"left_out:tools": 1}


def test_each_turn_is_a_sample_of_its_own_where_the_template_rewrites_earlier_ones() -> None:
    first = [{**message} for message in chat("What is f1?", "The value of 1.")]
    first[1]["reasoning"] = "f1 returns 1"
    found = samples(THINKING, [*first, *chat("And f2?", "The value of 2.")])
    assert [learned(sample) for sample in found] == [
        ["<think>\nf1 returns 1\n</think>\n\nThe value of 1.<|im_end|>"],
        ["The value of 2.<|im_end|>"],
    ]


def test_the_weight_of_a_message_scales_its_loss_and_nothing_is_learned_at_0() -> None:
    messages = [*chat("f1?", "one"), *chat("f2?", "two"), *chat("f3?", "three")]
    messages = [dict(message) for message in messages]
    messages[1]["weight"], messages[3]["weight"] = 0.0, 0.25  # type: ignore[assignment]
    (sample,) = samples(UNMARKED, messages)
    assert learned(sample) == ["two<|im_end|>", "three<|im_end|>"]
    batch = collate([[sample]], pad_id=0)
    assert batch.weights_RL is not None
    weights = {float(w) for w, label in zip(batch.weights_RL[0], batch.labels_RL[0], strict=True) if label >= 0}
    assert weights == {0.25, 1.0}
    assert batch.weight == pytest.approx(
        sum((span.end - span.start) * w for span, w in zip(sample.spans, (0.25, 1.0), strict=True))
    )
    plain = collate([samples(UNMARKED, chat("f1?", "one"))], pad_id=0)
    assert plain.weights_RL is None
    assert plain.weight == plain.num_targets
    both = collate([[sample], samples(UNMARKED, chat("f1?", "one"))], pad_id=0)
    assert both.weights_RL is not None
    assert torch.equal(both.weights_RL[1] > 0, both.labels_RL[1] >= 0)


def test_a_conversation_that_is_too_long_keeps_its_system_turn_and_its_answer() -> None:
    system = {"role": "system", "content": "Be brief."}
    messages = [system, *chat("What is f1? " * 4, "one"), *chat("What is f2?", "The value of 2.")]
    whole = samples(UNMARKED, messages)[0]
    kept = samples(UNMARKED, messages, context=len(whole) - 1, shorten=True)
    last = kept[-1]
    assert last.is_truncated
    assert last.messages is not None
    assert [message["role"] for message in last.messages] == ["system", "user", "assistant"]
    assert learned(last) == ["The value of 2.<|im_end|>"]
    served = OBJECTIVES[
        "instruction"
    ](
        tokenizer(UNMARKED), context_tokens=8
    ).template.prompt_ids(  # type: ignore[attr-defined]
        last.messages[:2]
    )
    assert last.token_ids[: len(served)] == served


def test_even_a_question_loses_its_beginning_and_an_answer_that_does_not_fit_is_counted() -> None:
    spec = TrainingSpec(context_tokens=24, overlong="truncate_left")
    rows = [row(chat("What is f1? " * 30, "The value of 1.")), {**row(chat("f?", "value " * 60)), "id": "other"}]
    made = prepare(rows, spec, tokenizer(UNMARKED), is_needed=True)
    (sample,) = made.samples.kept
    assert len(sample) <= 24
    assert learned(sample) == ["The value of 1.<|im_end|>"]
    assert (made.samples.counts["truncated"], made.samples.counts["dropped_nothing_left"]) == (1, 1)


def test_a_raw_text_begins_as_serving_begins_it() -> None:
    tok = tokenizer(None)
    from tokenizers import processors

    tok.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tok.convert_tokens_to_ids("<|im_start|>"))]
    )
    objective = OBJECTIVES["text"](tok, context_tokens=16)
    pieces = list(objective.samples([{"id": "d", "text": "The function <|im_end|> f1. " * 6}, {"id": "e", "text": ""}]))
    begin, stop = (tok.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>"))
    assert len(pieces) > 1
    assert all(piece.token_ids[0] == begin and not piece.is_target[0] for piece in pieces)
    assert all(stop not in piece.token_ids for piece in pieces)  # what people spell stays text
    assert objective.counts["empty_rows"] == 1
