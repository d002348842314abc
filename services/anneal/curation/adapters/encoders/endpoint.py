"""An encoder behind any OpenAI-compatible `/v1/embeddings`."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import openai
from numpy.typing import NDArray

from anneal.curation.adapters.away import ask_until_back
from anneal.curation.domain.encoders import Endpoint, normalised
from anneal.curation.domain.errors import EncoderAway, EncoderChanged, EncoderUnusable

NO_KEY = "unused"
"""What goes out where the endpoint wants no key; the client refuses an empty one."""
_SAID_CHARACTERS = 300


@dataclass(slots=True)
class EndpointEncoder:
    """Asks in batches; a busy or broken answer is asked again as the endpoint's Retry-After says, else with backoff.

    Attributes:
        spec: what the order names.
        timeout_s: longest wait for one answer.
        attempts: attempts per request, the first included.
        away_s: longest that an endpoint is asked again that does not answer, or is busy, after all attempts.
    """

    spec: Endpoint
    timeout_s: float = 60.0
    attempts: int = 6
    away_s: float = 0.0
    _dimension: int = 0
    _client: Any = None
    _lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._dimension = self.spec.dimension
        self._key()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process connects by itself and reads the key there."""
        return EndpointEncoder, (self.spec, self.timeout_s, self.attempts, self.away_s, self._dimension)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.spec.model

    @property
    def dimension(self) -> int:
        """Numbers per vector; where the order says none, the endpoint is asked."""
        if not self._dimension:
            self._ask(["dimension"])
        return self._dimension

    @property
    def key(self) -> str:
        """Endpoint, model, what is sent of a text, and the dimension."""
        spec = self.spec
        return f"endpoint:{spec.base_url}:{spec.model}:{spec.prefix!r}:{spec.max_characters}:{self.dimension}"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length, shape (texts, dimension); zeros for empty texts, which are not sent.

        Raises:
            EncoderAway: no answer, or a busy endpoint, after all attempts and for `away_s`.
            EncoderUnusable: the endpoint refuses the request, or its answer is no embedding.
            EncoderChanged: another dimension than the order says, or than before.
        """
        filled = [row for row, text in enumerate(texts) if text.strip()]
        sent = [self.spec.prefix + texts[row][: self.spec.max_characters] for row in filled]
        size = self.spec.request_rows
        found = [self._ask(sent[first : first + size]) for first in range(0, len(sent), size)]
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        if found:
            vectors[filled] = normalised(np.concatenate(found))
        return vectors

    def _ask(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return ask_until_back(lambda: self._ask_once(texts), self.away_s)

    def _ask_once(self, texts: Sequence[str]) -> NDArray[np.float32]:
        try:
            answer = self._connected().embeddings.create(
                model=self.spec.model, input=list(texts), encoding_format="float"
            )
            vectors = _read(answer, len(texts))
        except openai.APIStatusError as error:
            raise self._refused(error) from error
        except openai.APIConnectionError as error:
            raise EncoderAway(f"{self.spec.base_url} does not answer: {error}", endpoint=self.spec.base_url) from error
        except (openai.APIError, ValueError, TypeError, AttributeError) as error:
            raise EncoderUnusable(
                f"{self.spec.base_url} gives no embeddings: {str(error)[:_SAID_CHARACTERS]}",
                endpoint=self.spec.base_url,
            ) from error
        self._check(vectors.shape[1])
        return vectors

    def _check(self, dimension: int) -> None:
        with self._lock:
            if not self._dimension:
                self._dimension = dimension
        if dimension != self._dimension:
            raise EncoderChanged(
                f"{self.spec.model} at {self.spec.base_url} gives vectors of {dimension} numbers, not "
                f"{self._dimension}: set the dimension it has, or name the model that gave the earlier ones",
                dimension=str(dimension),
                expected=str(self._dimension),
            )

    def _refused(self, error: openai.APIStatusError) -> Exception:
        text = f"{self.spec.base_url} answered {error.status_code}: {error.message[:_SAID_CHARACTERS]}"
        is_passing = error.status_code in (408, 409, 429) or error.status_code >= 500
        kind = EncoderAway if is_passing else EncoderUnusable
        return kind(text, endpoint=self.spec.base_url, status=str(error.status_code))

    def _connected(self) -> openai.OpenAI:
        with self._lock:
            if self._client is None:
                self._client = openai.OpenAI(
                    base_url=self.spec.base_url,
                    api_key=self._key(),
                    timeout=self.timeout_s,
                    max_retries=self.attempts - 1,
                    # A redirect could lead to a host that the operator does not allow.
                    http_client=openai.DefaultHttpxClient(follow_redirects=False),
                )
            client: openai.OpenAI = self._client
        return client

    def _key(self) -> str:
        name = self.spec.api_key_env
        key = os.environ.get(name, "") if name else NO_KEY
        if not key:
            raise EncoderUnusable(f"the variable {name} is not set where the job runs", variable=name)
        return key


def _read(answer: Any, rows: int) -> NDArray[np.float32]:
    """The vectors in the order of the texts; the client does not check what an endpoint sends, so this does."""
    ordered = sorted(answer.data, key=lambda one: int(one.index))
    if [one.index for one in ordered] != list(range(rows)):
        raise ValueError(f"{len(ordered)} vectors for {rows} texts")
    vectors = np.array([one.embedding for one in ordered], dtype=np.float32)
    if vectors.ndim != 2 or not vectors.shape[1] or not np.isfinite(vectors).all():
        raise ValueError("what it calls embeddings are no vectors of numbers")
    return vectors
