from __future__ import annotations

from typing import Any

import pytest

from anneal.gateway.domain.errors import Unsupported
from anneal.gateway.domain.openai import read_chat, read_completion
from anneal.kit.errors import Invalid

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TEXT: dict[str, Any] = {"model": "m", "prompt": "hi"}


def test_messages_become_pairs() -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "tool_calls": [], "refusal": None},
    ]
    request = read_chat({**CHAT, "messages": messages})
    assert [message.pair() for message in request.messages] == [
        ("system", "be brief"),
        ("user", "ab"),
        ("assistant", "c"),
    ]


def test_limits_logprobs_and_schema_are_read() -> None:
    request = read_chat(
        {
            **CHAT,
            "max_completion_tokens": 7,
            "logprobs": True,
            "top_logprobs": 2,
            "stop": "x",
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
            "stream_options": {"include_usage": True},
        }
    )
    assert (request.token_limit, request.logprob_count, request.stops) == (7, 2, ["x"])
    assert (request.json_schema, request.json_object, request.wants_usage) == ('{"type": "object"}', False, True)
    assert read_chat(CHAT).logprob_count is None
    assert read_chat({**CHAT, "response_format": {"type": "json_object"}}).json_object


def test_a_text_completion_has_openais_default_length() -> None:
    assert read_completion(TEXT).token_limit == 16
    assert read_completion({**TEXT, "prompt": ["a", "b"]}).prompts == ["a", "b"]


@pytest.mark.parametrize(
    "extra",
    [
        {"n": 1},
        {"n": None},
        {"logit_bias": {}},
        {"tool_choice": "auto"},
        {"modalities": ["text"]},
        {"store": False},
        {"metadata": {"a": "b"}, "safety_identifier": "u", "prompt_cache_key": "k"},
        {"service_tier": "auto"},
    ],
)
def test_what_changes_nothing_is_accepted(extra: dict[str, Any]) -> None:
    read_chat({**CHAT, **extra})


@pytest.mark.parametrize(
    ("extra", "parameter"),
    [
        ({"n": 2}, "n"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"store": True}, "store"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"functions": [{}]}, "functions"),
        ({"audio": {}}, "audio"),
    ],
)
def test_what_would_change_the_answer_is_refused(extra: dict[str, Any], parameter: str) -> None:
    with pytest.raises(Unsupported) as caught:
        read_chat({**CHAT, **extra})
    assert caught.value.violations[0][0] == parameter


@pytest.mark.parametrize("extra", [{"echo": True}, {"best_of": 2}, {"suffix": "x"}, {"n": 3}])
def test_what_a_text_completion_cannot_do_is_refused(extra: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        read_completion({**TEXT, **extra})
    with pytest.raises(Unsupported):
        read_completion({**TEXT, "prompt": ["a", "b"], "stream": True})


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ([], "body"),
        ({"messages": CHAT["messages"]}, "model"),
        ({"model": "m"}, "messages"),
        ({**CHAT, "messages": []}, "messages"),
        ({**CHAT, "messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({**CHAT, "messages": [{"role": "user"}]}, "messages[0].content"),
        ({**CHAT, "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({**CHAT, "messages": [{"role": "user", "content": "x", "name": "Ann"}]}, "messages[0].name"),
        ({**CHAT, "temperature": "hot"}, "temperature"),
        ({**CHAT, "stream": "yes"}, "stream"),
        ({**CHAT, "max_tokens": 0}, "max_tokens"),
        ({**CHAT, "max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({**CHAT, "temprature": 1}, "temprature"),
        ({**CHAT, "top_logprobs": 2}, "top_logprobs"),
        ({**CHAT, "response_format": {"type": "json_schema"}}, "response_format"),
    ],
)
def test_wrong_requests_name_their_parameter(body: Any, parameter: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_chat(body)
    assert caught.value.violations[0][0] == parameter


def test_no_prompts_and_too_many_are_refused() -> None:
    for prompts in ([], ["x"] * 65):
        with pytest.raises(Invalid) as caught:
            read_completion({**TEXT, "prompt": prompts})
        assert caught.value.violations[0][0] == "prompt"
