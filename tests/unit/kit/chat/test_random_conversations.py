"""Random conversations: each is refused by name, or what is learned of it is right."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anneal.kit.chat.conversation import ChatTemplate
from anneal.kit.chat.errors import ChatError
from anneal.serving.adapters.prompts import Prompts
from anneal.serving.domain.answers import ChatPrompt, Continuation
from tests.fixtures.families.oracle import chat_template, tokenizer_of
from tests.fixtures.families.table import FAMILIES, Family

NAMES = (
    "ChatML",
    "Phi-3",
    "Phi-4",
    "Gemma 4, revision 5",
    "GLM 4.5",
    "GPT-OSS",
    "Granite",
    "LFM2.5, revision 2",
    "Llama 2",
    "Mistral v7",
    "Nemotron 3 Nano",
    "Qwen 3",
    "Command R7B",
    "alpaca",
)
"""One of each kind of tokenizer and of each way to write a turn."""
CONTROL = [
    *(
        "<|im_end|>",
        "<|im_start|>",
        "<|endoftext|>",
        "</s>",
        "<s>",
        "[INST]",
        "[/INST]",
        "<end_of_turn>",
        "<turn|>",
        "<|end|>",
    ),
    *("<|return|>", "<|start|>", "<|user|>", "<|assistant|>", "<|eot_id|>", "<think>", "</think>", "<tool_call>"),
    *("<|end_of_text|>", "<|END_OF_TURN_TOKEN|>", "<|END_RESPONSE|>", "<|tool_response>"),
]
ALPHABET = "ab z.\n\t'\"{}\\é中日한🙂\u0301\u00a0\u200d\u200f\ue000\uf0b7\U00100000\U0010fffd\x00<|>"
PIECES = st.one_of(
    st.text(ALPHABET, max_size=12),
    st.sampled_from(CONTROL),
    st.sampled_from(
        ["naïve", "Cafe\u0301", "한국어", "\u1100\u1161", "  ", "\n\n", "ﬁ", "👩‍👩‍👧", "<|im_end", "\\ue000", "&lt;"]
    ),
)
TEXT = st.lists(PIECES, max_size=5).map("".join)
FULL = TEXT.filter(lambda text: text.strip() != "")
JSON = st.recursive(
    st.one_of(TEXT, st.integers(-10_000, 10_000), st.booleans(), st.none(), st.floats(-1e3, 1e3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["place", "day", "è"]), inner, max_size=2)
    ),
    max_leaves=4,
)
WORD = st.lists(st.one_of(st.sampled_from(CONTROL), st.text("ab é中🙂-", min_size=1, max_size=6)), min_size=1).map(
    "".join
)
CALL = st.builds(
    lambda named, arguments: {"id": "aB3dE6gH9", "name": named, "arguments": json.dumps(arguments)},
    st.sampled_from(["tide_table", "depth"]),
    st.dictionaries(st.sampled_from(["harbour", "day", "depth_m"]), st.one_of(JSON, WORD, WORD), max_size=3),
)
ASSISTANT = st.builds(
    lambda content, reasoning, weight: {
        "role": "assistant",
        "content": content,
        "reasoning": reasoning,
        "weight": weight,
    },
    TEXT,
    st.one_of(st.none(), FULL),
    st.sampled_from([None, 0.0, 0.5, 1.0]),
)
CALLING = st.builds(
    lambda content, calls: {"role": "assistant", "content": content, "tool_calls": calls},
    st.one_of(st.just(""), TEXT),
    st.lists(CALL, min_size=1, max_size=2),
)
OTHER = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "user", "user", "system", "tool"]),
    TEXT,
)
LIKELY = st.builds(
    lambda question, answer, more: [{"role": "user", "content": question}, answer, *more],
    FULL,
    ASSISTANT,
    st.lists(st.one_of(OTHER, ASSISTANT), max_size=3),
)
CALLED = st.builds(
    lambda question, call, result, answer: [
        {"role": "user", "content": question},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": result, "tool_call_id": "aB3dE6gH9", "name": call["name"]},
        answer,
    ],
    FULL,
    CALL,
    FULL,
    ASSISTANT,
)
MESSAGES = st.one_of(LIKELY, CALLED, st.lists(st.one_of(OTHER, OTHER, ASSISTANT, CALLING), min_size=1, max_size=6))
QUICK = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@cache
def known(name: str) -> tuple[Family, ChatTemplate, Any]:
    family = next(family for family in FAMILIES if family.name == name)
    return family, chat_template(family), tokenizer_of(family)


def normal(text: str) -> str:
    """A text without what tokenizers do not keep: white space at edges and before control tokens, and other forms."""
    return unicodedata.normalize("NFD", "".join(text.split()))


def written(template: ChatTemplate, ids: list[int]) -> list[int]:
    return [number for number in ids if number in template.encoder.special]


def plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of the same shape without a control token in it."""

    def bare(value: Any) -> Any:
        if isinstance(value, str):
            return "word" if value.strip() else value
        if isinstance(value, dict):
            return {key: bare(item) for key, item in value.items()}
        return [bare(item) for item in value] if isinstance(value, list) else value

    made = {**message, **{key: bare(message[key]) for key in ("content", "reasoning") if message.get(key)}}
    if message.get("tool_calls"):
        made["tool_calls"] = [
            {**c, "arguments": json.dumps(bare(json.loads(c["arguments"])))} for c in message["tool_calls"]
        ]
    return made


@pytest.mark.parametrize("name", NAMES)
@QUICK
@given(messages=MESSAGES)
def test_a_turn_is_refused_by_name_or_right(name: str, messages: list[dict[str, Any]]) -> None:
    _, template, tokenizer = known(name)
    fields = ["messages"]
    for index in (i for i, message in enumerate(messages) if message["role"] == "assistant"):
        try:
            turn = template.turn(messages, index)
        except ChatError as error:
            fields.append(error.field)
            continue
        message = messages[index]
        assert turn.target_ids[-1] in template.stop_ids
        assert not template.stop_ids & set(turn.target_ids[:-1])
        served = template.prompt_ids(messages[:index])
        assert served == turn.prompt_ids
        shown, said = tokenizer.decode(turn.prompt_ids), tokenizer.decode(turn.target_ids)
        content = message["content"]
        if not content.lstrip().startswith("<think>"):
            assert normal(content) in normal(said)
            assert normal(message.get("reasoning") or "") in normal(said)
        for earlier in messages[:index]:
            if earlier["role"] != "assistant" and name not in ("GPT-OSS", "Command R7B", "Granite"):
                assert normal(earlier["content"]) in normal(shown)
        for call in message.get("tool_calls") or ():
            words = [word for word in json.loads(call["arguments"]).values() if isinstance(word, str)]
            assert [
                word for word in words if set(word).isdisjoint("\"\\'\n\t\x00") and normal(word) not in normal(said)
            ] == []
        # The same conversation in plain words has the same control tokens: no text became one.
        try:
            same = template.turn([plain(m) for m in messages], index)
        except ChatError:
            continue
        assert written(template, same.prompt_ids) == written(template, turn.prompt_ids)
        assert written(template, same.target_ids) == written(template, turn.target_ids)
    assert all(fields)


@pytest.mark.parametrize("name", ["ChatML", "Qwen 3", "Mistral v7", "GPT-OSS", "Gemma 4, revision 5"])
@settings(QUICK, max_examples=15)
@given(messages=LIKELY)
def test_serving_renders_what_training_learned(
    name: str, messages: list[dict[str, Any]], tmp_path_factory: Any
) -> None:
    family, template, tokenizer = known(name)
    folder = tmp_path_factory.mktemp("base")
    stops = tokenizer.convert_tokens_to_ids(family.listed.split())
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}))
    (folder / "anneal_chat.json").write_text(json.dumps({"template_kwargs": dict(family.kwargs)}))
    prompts = Prompts(folder, tokenizer)
    question, answer = messages[:1], {"role": "assistant", "content": messages[1]["content"]}
    try:
        turn = template.turn([*question, answer], 1)
    except ChatError:
        return
    rendered = prompts.render(ChatPrompt(tuple(question)), None)
    assert rendered.ids == turn.prompt_ids
    assert set(rendered.stops) == template.stop_ids
    sequence, count = prompts.sequence(ChatPrompt(tuple(question)), Continuation(text=answer["content"]), None)
    assert (sequence, count) == ([*turn.prompt_ids, *turn.target_ids], len(turn.prompt_ids))


@pytest.mark.parametrize("name", NAMES)
@settings(QUICK, max_examples=25)
@given(text=TEXT)
def test_a_raw_text_becomes_no_control_token(name: str, text: str) -> None:
    _, template, tokenizer = known(name)
    ids = template.text_ids(text)
    begin = template.text_ids("")
    assert ids[: len(begin)] == begin
    control = [i for i in ids[len(begin) :] if i in template.encoder.control and template.encoder.control[i].strip()]
    assert control == []
    assert normal(text) == normal(tokenizer.decode(ids[len(begin) :]))


def test_a_very_long_conversation() -> None:
    _, template, tokenizer = known("ChatML")
    messages = [
        m
        for n in range(200)
        for m in ({"role": "user", "content": f"{n} <|im_end|> " * 40}, {"role": "assistant", "content": f"answer {n}"})
    ]
    turn = template.turn(messages, len(messages) - 1)
    assert tokenizer.decode(turn.target_ids) == "answer 199<|im_end|>"
    assert turn.prompt_ids.count(tokenizer.eos_token_id) == len(messages) - 1
