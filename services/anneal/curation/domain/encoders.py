"""Encoders: texts become vectors whose cosine says how alike they are; which one is a setting."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from anneal.curation.domain.needs import need

MIN_DIMENSION, MAX_DIMENSION = 16, 8_192
MAX_ENCODER_TOKENS = 32_768
MAX_REQUEST_ROWS = 2_048
"""Most texts in one request to an endpoint: the limit of OpenAI's own."""
KEY_VARIABLE = re.compile(r"ANNEAL_ENCODER_KEY_[A-Z0-9_]{1,64}")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")

# Pydantic reads it: a setting that no encoder knows is refused, as in steps.
_STRICT: dict[str, Any] = {"extra": "forbid"}


class Encoder(Protocol):
    """Turns texts into vectors. What it says of a text never depends on other texts. Any thread may call it."""

    @property
    def name(self) -> str:
        """For people: the model's name."""
        ...

    @property
    def dimension(self) -> int:
        """Numbers per vector."""
        ...

    @property
    def key(self) -> str:
        """Tells it from every encoder that would give other vectors: model and settings; for manifests and memos."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length, shape (texts, dimension); a row of zeros for a text that says nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashing:
    """Hashed words and character n-grams: no model, no download, the same on every machine.

    It sees wording, not meaning: a paraphrase in other words is far away.

    Attributes:
        dimension: numbers per vector, 16 to 8,192.

    Raises:
        WrongSetting: the dimension is outside its limits.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    kind: Literal["hashing"] = "hashing"
    dimension: int = 512

    def __post_init__(self) -> None:
        _need_dimension(self.dimension)


@dataclass(frozen=True, slots=True, kw_only=True)
class HuggingFace:
    """An encoder in the job's own process, by `transformers`: mean of the last layer over the tokens.

    Attributes:
        model: `owner/name` at the Hub, or a folder below one of those that the operator allows.
        revision: at the Hub; a commit makes the result repeatable.
        prefix: put before each text, where the model wants one (`query: `).
        max_tokens: what is read of a text, 8 to 32,768.
        dimension: what the model must give; 0 takes what it gives.

    Raises:
        WrongSetting: a setting is outside its limits.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    kind: Literal["huggingface"] = "huggingface"
    model: str
    revision: str = "main"
    prefix: str = ""
    max_tokens: int = 512
    dimension: int = 0

    def __post_init__(self) -> None:
        named = self.is_folder or (bool(HUB_ID.fullmatch(self.model)) and ".." not in self.model)
        need(named, "model", f"{self.model[:200]!r} is neither `owner/name` nor the full path of a folder")
        need(bool(re.fullmatch(r"[\w./-]{1,200}", self.revision)), "revision", "is no name of a revision")
        fits = 8 <= self.max_tokens <= MAX_ENCODER_TOKENS
        need(fits, "max_tokens", f"{self.max_tokens} is not within 8 and {MAX_ENCODER_TOKENS}")
        _need_dimension(self.dimension, or_any=True)

    @property
    def is_folder(self) -> bool:
        """Whether the model is a folder, not at the Hub."""
        return self.model.startswith("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An encoder behind any OpenAI-compatible `/v1/embeddings`.

    Attributes:
        base_url: such as `https://api.example.com/v1`; its host must be one that the operator allows.
        model: name that is sent along.
        api_key_env: name of the variable that holds the key where the job runs, `ANNEAL_ENCODER_KEY_...`; empty sends
            none. The key itself is never part of an order.
        prefix: put before each text.
        max_characters: what is sent of a text; endpoints refuse longer ones than their model reads.
        dimension: what the endpoint must give; 0 takes what it gives first.
        request_rows: texts per request, 1 to 2,048.

    Raises:
        WrongSetting: a setting is outside its limits.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    kind: Literal["endpoint"] = "endpoint"
    base_url: str
    model: str
    api_key_env: str = ""
    prefix: str = ""
    max_characters: int = 8_000
    dimension: int = 0
    request_rows: int = 128

    def __post_init__(self) -> None:
        need(bool(self.model.strip()), "model", "is empty")
        # It is kept with the dataset, so nothing secret may stand in it.
        need(not set("@?#") & set(self.base_url), "base_url", "holds a user, a query or a fragment")
        named = not self.api_key_env or bool(KEY_VARIABLE.fullmatch(self.api_key_env))
        need(named, "api_key_env", f"does not follow `{KEY_VARIABLE.pattern}`")
        need(self.max_characters >= 1, "max_characters", f"{self.max_characters} is not at least 1")
        fits = 1 <= self.request_rows <= MAX_REQUEST_ROWS
        need(fits, "request_rows", f"{self.request_rows} is not within 1 and {MAX_REQUEST_ROWS}")
        _need_dimension(self.dimension, or_any=True)


EncoderSpec = Annotated[Hashing | HuggingFace | Endpoint, Field(discriminator="kind")]
"""How an order names its encoder: `{"kind": "hashing", ...}`."""


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length 1, shape (rows, dimension); zeros and what is not finite become zeros."""
    finite = np.where(np.isfinite(vectors), vectors, 0).astype(np.float32)
    lengths = np.linalg.norm(finite, axis=1, keepdims=True)
    made: NDArray[np.float32] = np.divide(finite, lengths, out=np.zeros_like(finite), where=lengths > 0)
    return made


def _need_dimension(dimension: int, *, or_any: bool = False) -> None:
    fits = MIN_DIMENSION <= dimension <= MAX_DIMENSION or (or_any and dimension == 0)
    need(fits, "dimension", f"{dimension} is not within {MIN_DIMENSION} and {MAX_DIMENSION}")
