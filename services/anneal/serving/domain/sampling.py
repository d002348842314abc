"""How tokens may be chosen, and which JSON schemas the engine can follow."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from anneal.kit.errors import Invalid

DEFAULT_MAX_TOKENS = 1024
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
MAX_LOGPROBS = 20
"""OpenAI's limit, and vLLM's default one."""
MAX_SCHEMA_CHARACTERS = 65_536
MAX_SCHEMA_DEPTH = 64

_STRING_LIMITS = frozenset({"minLength", "maxLength", "pattern"})
_MAPS_OF_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_VALUES = frozenset({"enum", "const", "default", "examples"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Choices of one request, all checked.

    Attributes:
        max_tokens: longest answer; the context may end it earlier.
        temperature: 0 is greedy.
        top_p: share of probability kept, above 0 to 1.
        top_k: candidates kept; 0 keeps all.
        stop: texts that end the answer and are not part of it.
        seed: None draws anew for every request.
        presence_penalty: -2 to 2.
        frequency_penalty: -2 to 2.
        schema: JSON schema for the engine, without limits on strings; None is free text.
        json_object: any JSON object.
        logprobs: alternatives per token; None returns no log probabilities.
    """

    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    schema: Mapping[str, Any] | None = None
    json_object: bool = False
    logprobs: int | None = None


def check_sampling(
    *,
    max_tokens: int = 0,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int = 0,
    stop: Sequence[str] = (),
    seed: int | None = None,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    json_schema: str = "",
    json_object: bool = False,
    logprobs: int | None = None,
) -> Sampling:
    """Check a request's choices and fill in what it left out.

    Raises:
        Invalid: at least one is out of its range; every violation is named.
    """
    asked = Sampling(
        max_tokens=max_tokens,
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        top_k=top_k,
        stop=tuple(stop),
        seed=seed,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        json_object=json_object,
        logprobs=logprobs,
    )
    wrong = [(f"sampling.{name}", rule) for name, rule in _out_of_range(asked)]
    if json_object and json_schema:
        wrong.append(("sampling.json_object", "must not stand beside json_schema"))
    schema: Mapping[str, Any] | None = None
    if json_schema:
        try:
            schema = read_schema(json_schema)
        except ValueError as error:
            wrong.append(("sampling.json_schema", str(error)))
    if wrong:
        raise Invalid("; ".join(f"{path} {rule}" for path, rule in wrong), violations=wrong)
    return replace(asked, max_tokens=max_tokens or DEFAULT_MAX_TOKENS, schema=schema)


def _out_of_range(asked: Sampling) -> Iterator[tuple[str, str]]:
    """The choices that break a rule, each with the rule."""
    if asked.max_tokens < 0:
        yield "max_tokens", "must not be below 0"
    if not _within(asked.temperature, 0.0, 2.0):
        yield "temperature", "must be from 0 to 2"
    if not (_within(asked.top_p, 0.0, 1.0) and asked.top_p > 0.0):
        yield "top_p", "must be above 0 and at most 1"
    if asked.top_k < 0:
        yield "top_k", "must not be below 0"
    if len(asked.stop) > MAX_STOPS:
        yield "stop", f"must be at most {MAX_STOPS} texts"
    if not all(0 < len(text) <= MAX_STOP_CHARACTERS for text in asked.stop):
        yield "stop", f"must each have 1 to {MAX_STOP_CHARACTERS} characters"
    if asked.seed is not None and not -(2**63) <= asked.seed < 2**63:
        yield "seed", "must fit in 64 bits"
    if not _within(asked.presence_penalty, -2.0, 2.0):
        yield "presence_penalty", "must be from -2 to 2"
    if not _within(asked.frequency_penalty, -2.0, 2.0):
        yield "frequency_penalty", "must be from -2 to 2"
    if asked.logprobs is not None and not 0 <= asked.logprobs <= MAX_LOGPROBS:
        yield "logprobs", f"must be from 0 to {MAX_LOGPROBS}"


def _within(value: float, low: float, high: float) -> bool:
    return math.isfinite(value) and low <= value <= high


def read_schema(text: str) -> dict[str, Any]:
    """Parse a JSON schema into the one that goes to the engine.

    The limits of strings are left out: xgrammar 0.2.8 forbids every escape inside a bounded string, so that no quote
    and no new line could be written (mlc-ai/xgrammar issue 800). The caller checks them on the finished answer.

    Raises:
        ValueError: the text is no JSON object, too long or too deep.
    """
    if len(text) > MAX_SCHEMA_CHARACTERS:
        raise ValueError(f"must have at most {MAX_SCHEMA_CHARACTERS} characters")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"must be JSON: {error}") from None
    if not isinstance(schema, dict):
        raise ValueError("must be a JSON object")
    return without_string_limits(schema)


def without_string_limits(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without `minLength`, `maxLength` and `pattern`, wherever they are keywords and not names or values.

    Raises:
        ValueError: it is nested deeper than `MAX_SCHEMA_DEPTH`.
    """
    cleaned = _clean(schema, depth=0, names=False)
    assert isinstance(cleaned, dict)
    return cleaned


def _clean(node: Any, *, depth: int, names: bool) -> Any:
    """Clean one node; `names` is true when the keys of `node` are names that the caller chose."""
    if depth > MAX_SCHEMA_DEPTH:
        raise ValueError(f"must be nested at most {MAX_SCHEMA_DEPTH} deep")
    if isinstance(node, list):
        return [_clean(item, depth=depth + 1, names=False) for item in node]
    if not isinstance(node, Mapping):
        return node
    cleaned = {}
    for key, value in node.items():
        if names or key not in _STRING_LIMITS:
            kept = key in _VALUES and not names
            inner_names = key in _MAPS_OF_SCHEMAS and not names
            cleaned[key] = value if kept else _clean(value, depth=depth + 1, names=inner_names)
    return cleaned
