"""The contract of an objective."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

from transformers import PreTrainedTokenizerBase

from anneal.training.domain.samples import Sample


class Objective(Protocol):
    """Turns rows into samples."""

    record: ClassVar[str]
    """Kind of row it reads: `document` or `conversation`."""
    needs_stop: ClassVar[bool]
    """Whether every target run must end in a stop token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, context_tokens: int) -> None: ...

    def samples(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
        """Yield the samples of each row, in order."""
        ...
