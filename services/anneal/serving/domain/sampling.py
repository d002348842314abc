"""How tokens may be chosen, and which JSON schemas the engine can follow."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    temperature = 1.0 if temperature is None else temperature
    top_p = 1.0 if top_p is None else top_p
    wrong = [
        (f"sampling.{name}", rule)
        for name, good, rule in (
            ("max_tokens", max_tokens >= 0, "must not be below 0"),
            ("temperature", _within(temperature, 0.0, 2.0), "must be from 0 to 2"),
            ("top_p", _within(top_p, 0.0, 1.0) and top_p > 0.0, "must be above 0 and at most 1"),
            ("top_k", top_k >= 0, "must not be below 0"),
            ("stop", len(stop) <= MAX_STOPS, f"must be at most {MAX_STOPS} texts"),
            (
                "stop",
                all(0 < len(text) <= MAX_STOP_CHARACTERS for text in stop),
                f"must each have 1 to {MAX_STOP_CHARACTERS} characters",
            ),
            ("seed", seed is None or -(2**63) <= seed < 2**63, "must fit in 64 bits"),
            ("presence_penalty", _within(presence_penalty, -2.0, 2.0), "must be from -2 to 2"),
            ("frequency_penalty", _within(frequency_penalty, -2.0, 2.0), "must be from -2 to 2"),
            ("logprobs", logprobs is None or 0 <= logprobs <= MAX_LOGPROBS, f"must be from 0 to {MAX_LOGPROBS}"),
            ("json_object", not (json_object and json_schema), "must not stand beside json_schema"),
        )
        if not good
    ]
    schema: Mapping[str, Any] | None = None
    if json_schema:
        try:
            schema = read_schema(json_schema)
        except ValueError as error:
            wrong.append(("sampling.json_schema", str(error)))
    if wrong:
        raise Invalid("; ".join(f"{path} {rule}" for path, rule in wrong), violations=wrong)
    return Sampling(
        max_tokens=max_tokens or DEFAULT_MAX_TOKENS,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        stop=tuple(stop),
        seed=seed,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        schema=schema,
        json_object=json_object,
        logprobs=logprobs,
    )


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
