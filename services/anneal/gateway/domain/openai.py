"""Requests of the OpenAI protocol: what is understood, what changes nothing, what is refused.

Source: OpenAI's OpenAPI description 2.3.0, `CreateChatCompletionRequest` and `CreateCompletionRequest`. Different from
it: `top_k` and `developer` as another word for `system`, as vLLM has them; no images, no audio, no parsed tool calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anneal.gateway.domain.errors import Unsupported
from anneal.kit.errors import Invalid

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "reasoning_effort": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("auto", "none"),
    "verbosity": (),
    "web_search_options": (),
}
"""Parameters without effect here -> the values besides null that ask for none, so that nothing is lost by accepting."""

_HARMLESS = frozenset(
    {"metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"}
)
"""Parameters that never change an answer."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Part):
    """A piece of text in a message."""

    type: Literal["text"]
    text: str


class Message(_Part):
    """One message. Calls of tools by the assistant are not understood, so they are refused."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart]
    tool_call_id: str | None = None
    refusal: None = None
    audio: None = None
    annotations: list[Any] | None = Field(default=None, max_length=0)
    function_call: None = None
    tool_calls: list[Any] | None = Field(default=None, max_length=0)
    name: None = None

    def pair(self) -> tuple[str, str]:
        """Role and text."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return "system" if self.role == "developer" else self.role, text


class JsonSchema(_Part):
    """A named schema."""

    name: str = ""
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(_Part):
    """Free text, any JSON object, or JSON after a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(_Part):
    """What a stream says besides the text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Common(_Part):
    model: str = Field(min_length=1, max_length=512)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    @property
    def stops(self) -> list[str]:
        """Texts that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(_Common):
    """Body of `POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[dict[str, Any]] | None = None

    @property
    def token_limit(self) -> int:
        """Longest answer; 0 leaves it to serving."""
        return self.max_completion_tokens or self.max_tokens or 0

    @property
    def logprob_count(self) -> int | None:
        """Alternatives per token; None asks for no log probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def json_schema(self) -> str:
        """The schema as text; empty without one."""
        if self.response_format is None or self.response_format.json_schema is None:
            return ""
        return json.dumps(self.response_format.json_schema.schema_)

    @property
    def json_object(self) -> bool:
        """Whether any JSON object is wanted."""
        return self.response_format is not None and self.response_format.type == "json_object"


class CompletionRequest(_Common):
    """Body of `POST /v1/completions`."""

    prompt: str | list[str]
    logprobs: int | None = Field(default=None, ge=0)

    @property
    def prompts(self) -> list[str]:
        """The texts to go on with."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def token_limit(self) -> int:
        """Longest answer; OpenAI's default is 16."""
        return self.max_tokens or 16


MAX_PROMPTS = 64

_Request = TypeVar("_Request", ChatRequest, CompletionRequest)


def read_chat(body: Any) -> ChatRequest:
    """Read a chat request.

    Raises:
        Invalid: a parameter has a wrong type or value, is unknown, or contradicts another.
        Unsupported: a parameter asks for what this endpoint does not do.
    """
    request = _read(ChatRequest, body)
    limits = (request.max_tokens, request.max_completion_tokens)
    if None not in limits and limits[0] != limits[1]:
        raise Invalid.field("max_tokens", "contradicts max_completion_tokens")
    if request.top_logprobs is not None and not request.logprobs:
        raise Invalid.field("top_logprobs", "needs logprobs to be true")
    wanted = request.response_format
    if wanted is not None and (wanted.type == "json_schema") != (wanted.json_schema is not None):
        raise Invalid.field("response_format", "json_schema and its type need each other")
    return request


def read_completion(body: Any) -> CompletionRequest:
    """Read a completion request. Raises as `read_chat`."""
    request = _read(CompletionRequest, body)
    if not 1 <= len(request.prompts) <= MAX_PROMPTS:
        raise Invalid.field("prompt", f"must be 1 to {MAX_PROMPTS} texts")
    if request.stream and len(request.prompts) > 1:
        raise Unsupported.parameter("prompt", "a stream answers one prompt")
    return request


def _read(kind: type[_Request], body: Any) -> _Request:
    if not isinstance(body, dict):
        raise Invalid.field("body", "is no JSON object")
    kept = {}
    for key, value in body.items():
        if key in _HARMLESS or (key in _NEUTRAL and (value is None or value in _NEUTRAL[key])):
            continue
        if key in _NEUTRAL:
            raise Unsupported.parameter(key, f"{json.dumps(value)[:80]} is not supported here")
        kept[key] = value
    try:
        return kind.model_validate(kept)
    except ValidationError as error:
        violations = [
            (_path(item["loc"]), item["msg"]) for item in error.errors(include_url=False, include_input=False)
        ]
        raise Invalid("; ".join(f"{path}: {why}" for path, why in violations[:5]), violations=violations) from None


def _path(place: tuple[int | str, ...]) -> str:
    """`messages[0].content` of a place in the body; pydantic's names of union members are left out."""
    path = ""
    for part in place:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and part not in ("str", "int"):
            path += f".{part}" if path else part
    return path
