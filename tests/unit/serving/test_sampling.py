from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.kit.errors import Invalid
from anneal.serving.domain.sampling import (
    DEFAULT_MAX_TOKENS,
    MAX_SCHEMA_DEPTH,
    check_sampling,
    read_schema,
    without_string_limits,
)


def test_what_is_left_out_gets_its_default() -> None:
    sampling = check_sampling()
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (DEFAULT_MAX_TOKENS, 1.0, 1.0)
    assert (sampling.schema, sampling.logprobs, sampling.seed) == (None, None, None)


def test_zero_is_a_value_where_it_was_given() -> None:
    sampling = check_sampling(temperature=0.0, logprobs=0, seed=0)
    assert (sampling.temperature, sampling.logprobs, sampling.seed) == (0.0, 0, 0)


@pytest.mark.parametrize(
    ("choices", "field"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ["x" * 257]}, "stop"),
        ({"seed": 2**63}, "seed"),
        ({"presence_penalty": -2.1}, "presence_penalty"),
        ({"frequency_penalty": 2.1}, "frequency_penalty"),
        ({"logprobs": 21}, "logprobs"),
        ({"json_object": True, "json_schema": "{}"}, "json_object"),
        ({"json_schema": "[]"}, "json_schema"),
        ({"json_schema": "{"}, "json_schema"),
    ],
)
def test_each_choice_out_of_its_range_is_named(choices: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_sampling(**choices)
    assert [path for path, _ in caught.value.violations] == [f"sampling.{field}"]


def test_every_violation_is_told_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        check_sampling(temperature=9, top_p=9)
    assert len(caught.value.violations) == 2


def test_limits_of_strings_do_not_reach_the_engine() -> None:
    schema = {
        "type": "object",
        "properties": {
            "pattern": {"type": "string", "pattern": "a+", "maxLength": 3},
            "n": {"type": "integer", "minimum": 1},
            "list": {"type": "array", "minItems": 2, "items": {"type": "string", "minLength": 1}},
            "enum": {"enum": [{"maxLength": 1}]},
        },
        "$defs": {"maxLength": {"anyOf": [{"type": "string", "maxLength": 9}]}},
        "required": ["pattern"],
    }
    assert without_string_limits(schema) == {
        "type": "object",
        "properties": {
            "pattern": {"type": "string"},
            "n": {"type": "integer", "minimum": 1},
            "list": {"type": "array", "minItems": 2, "items": {"type": "string"}},
            "enum": {"enum": [{"maxLength": 1}]},
        },
        "$defs": {"maxLength": {"anyOf": [{"type": "string"}]}},
        "required": ["pattern"],
    }


def nested(depth: int) -> str:
    return '{"items":' * depth + "{}" + "}" * depth


def test_both_sides_of_the_deepest_schema() -> None:
    read_schema(nested(MAX_SCHEMA_DEPTH))
    with pytest.raises(ValueError, match="deep"):
        read_schema(nested(MAX_SCHEMA_DEPTH + 1))


def test_a_bomb_of_brackets_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        read_schema('{"a":' + "[" * 30_000)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_values_in_a_schema_stay_as_they_are(value: Any) -> None:
    schema = {"const": value}
    assert without_string_limits(json.loads(json.dumps(schema))) == schema
